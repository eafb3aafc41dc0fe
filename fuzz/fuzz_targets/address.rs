//! Addresses, mailboxes and commands: what is taken is the same when it is read again, and holds
//! nothing that could end a command.
#![no_main]
use libfuzzer_sys::fuzz_target;
use postbote::message::mailbox;
use postbote::prepare::encode::mailbox_text;
use postbote::smtp::address::Address;
use postbote::smtp::{command, xtext};

fuzz_target!(|input: &[u8]| {
    let _ = command::parse(input);
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(address) = Address::parse(text) {
        let shown = address.to_string();
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
        assert_eq!(Address::parse(&shown).as_ref(), Ok(&address));
        let ascii = address.with_ascii_domain();
        assert!(!ascii.contains(['\r', '\n', '\0', '<', '>']) || shown.contains(['<', '>']), "{ascii:?}");
        let line = format!("MAIL FROM:<{ascii}> SMTPUTF8");
        assert!(command::parse(line.as_bytes()).is_ok(), "{line:?}");
    }
    let list = mailbox::parse(text);
    if let Some((name, address)) = list.single() {
        // What we write of it is read as the same by ourselves.
        let written = mailbox_text(name, address, 6, true).replace("\r\n ", " ");
        let again = mailbox::parse(&written);
        let single = again.single().map(|(_, a)| a.to_string().replace('"', ""));
        let wanted = address.with_ascii_domain().replace('"', "");
        assert_eq!(single, Some(wanted), "{text:?} -> {written:?}");
    }
    if let Some(decoded) = xtext::decode(text) {
        assert_eq!(xtext::decode(&xtext::encode(&decoded)), Some(decoded));
    }
});
