//! Rewriting: what leaves is read the same by two other parsers, mail-parser and Python's `email`:
//! one From, ours; the Reply-To that we chose; the recipients that the application wrote.
#![no_main]
use std::cell::RefCell;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};

use bytes::Bytes;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use postbote::message::header::Header;
use postbote::message::{Envelope, MessageId, Recipient};
use postbote::prepare::{self, Origin, ReplyTo, Source, Utf8Headers};
use postbote::smtp::address::Address;
use postbote::smtp::capabilities::Capabilities;
use postbote::smtp::data::canonical;

/// Reads messages as hexadecimal lines, answers From, Reply-To and the number of both.
const PYTHON: &str = r#"
import sys, email, email.policy, email.utils
for line in sys.stdin:
    m = email.message_from_bytes(bytes.fromhex(line.strip()), policy=email.policy.compat32)
    out = []
    for name in ("From", "Reply-To"):
        fields = m.get_all(name, [])
        addresses = [a for _, a in email.utils.getaddresses([str(f).replace("\r\n", "") for f in fields])]
        out.append(f"{len(fields)} {'|'.join(addresses)}")
    print("\t".join(out).encode("ascii", "backslashreplace").decode(), flush=True)
"#;

struct Python {
    child: Child,
    answers: BufReader<ChildStdout>,
}

thread_local! {
    static PYTHON_EMAIL: RefCell<Option<Python>> = const { RefCell::new(None) };
}

fn python(message: &[u8]) -> String {
    PYTHON_EMAIL.with_borrow_mut(|python| {
        let python = python.get_or_insert_with(|| {
            let mut child = Command::new("python3").args(["-c", PYTHON]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3");
            let answers = BufReader::new(child.stdout.take().expect("stdout"));
            Python { child, answers }
        });
        let hex: String = message.iter().map(|b| format!("{b:02x}")).collect();
        writeln!(python.child.stdin.as_mut().expect("stdin"), "{hex}").expect("write");
        let mut answer = String::new();
        python.answers.read_line(&mut answer).expect("read");
        answer.trim_end().to_owned()
    })
}

fn address(text: &str) -> Address {
    Address::parse(text).expect("address")
}

fuzz_target!(|input: (u8, &[u8])| {
    let (options, octets) = input;
    let (message, findings) = canonical(octets);
    if findings.nul || message.len() > 20_000 || Header::parse(&message).is_err() {
        return;
    }
    let fixed = options & 1 != 0;
    let settings = prepare::Settings {
        address: address("office@acme.example"),
        name: if options & 2 != 0 { "M\u{fc}ller, \"ACME\" <GmbH>".to_owned() } else { "ACME".to_owned() },
        keep_from: false,
        reply_to: if fixed { ReplyTo::Fixed(address("answers@acme.example")) } else { ReplyTo::ApplicationElse(address("office@acme.example")) },
        return_path: None,
        utf8_headers: Utf8Headers::Auto,
        hostname: "p.test".to_owned(),
        detour: None,
        recipients_in_header: false,
        own_domains: vec!["acme.example".to_owned()],
        removed: Vec::new(),
        signature: None,
        information: None,
        notes: Vec::new(),
    };
    let envelope = Envelope {
        mail_from: Some(address("app@source.example")),
        recipients: vec![Recipient::new(address("b@else.example"))],
        smtputf8: false,
        ret_full: None,
        envid: None,
    };
    let capabilities = Capabilities { eight_bit_mime: options & 4 != 0, ..Capabilities::default() };
    let (origin, content) = (Origin::default(), Bytes::from(message));
    let source = Source { id: MessageId::fresh(), accepted: Timestamp::now(), origin: &origin, envelope: &envelope, recipients: &[0], content: &content, ours: false, null_refused: false };
    let Ok(done) = prepare::prepare(&source, &settings, &[], &capabilities) else { return };
    let Some(prepared) = done.prepared else { return };
    let head = prepared.head();
    assert!(head.is_ascii(), "8-bit header without SMTPUTF8");
    assert_eq!(head.windows(4).position(|w| w == b"\r\n\r\n"), Some(head.len() - 4), "the header ends early");
    assert!(head.split(|b| *b == b'\n').all(|line| line.len() <= 999), "an endless line");
    let whole = [head, prepared.body()].concat();

    let ours = "office@acme.example";
    let parsed = mail_parser::MessageParser::default().parse(&whole).expect("mail-parser reads it");
    let froms: Vec<_> = parsed.headers().iter().filter(|h| h.name().eq_ignore_ascii_case("from")).collect();
    assert_eq!(froms.len(), 1, "mail-parser: not one From");
    let from = parsed.from().and_then(|a| a.first()).and_then(|a| a.address());
    assert_eq!(from, Some(ours), "mail-parser: From");
    let answer = python(&whole);
    let (python_from, python_reply) = answer.split_once('\t').expect("two answers");
    assert_eq!(python_from, format!("1 {ours}"), "Python: From in {:?}", String::from_utf8_lossy(head));
    assert!(python_reply.starts_with("1 "), "Python: not one Reply-To: {python_reply}");
    if fixed {
        assert_eq!(python_reply, "1 answers@acme.example");
        let reply = parsed.reply_to().and_then(|a| a.first()).and_then(|a| a.address());
        assert_eq!(reply, Some("answers@acme.example"), "mail-parser: Reply-To");
    }
});
