//! Signatures in any message: everything else stays, an attachment octet for octet, and a second
//! time nothing is added.
#![no_main]
use libfuzzer_sys::fuzz_target;
use postbote::message::header::Header;
use postbote::prepare::signature::insert;

const TEXTS: [&str; 3] = ["Erika", "Mit freundlichen Grüßen\nErika <Müller> & Söhne", "-- \n日本\n> x"];

fuzz_target!(|input: (u8, &[u8])| {
    let (choice, message) = input;
    let text = TEXTS[usize::from(choice) % TEXTS.len()];
    let Ok(header) = Header::parse(message) else { return };
    let Ok(signed) = insert(message, &header, text) else { return };
    let after = Header::parse(&signed).expect("a header");
    let kept = |m: &[u8], header: &Header| -> Vec<Vec<u8>> {
        let named = |f: &&postbote::message::header::Field| {
            let name = m[f.name.clone()].to_ascii_lowercase();
            !name.starts_with(b"content-") && name != b"mime-version"
        };
        header.fields.iter().filter(named).map(|f| m[f.raw.clone()].trim_ascii_end().to_vec()).collect()
    };
    if !header.headerless {
        assert_eq!(kept(message, &header), kept(&signed, &after), "other fields changed");
    }
    // At most a few times what there was: a body that becomes quoted-printable or references.
    assert!(signed.len() <= message.len() * 8 + 4096, "{} octets became {}", message.len(), signed.len());
    if let Ok(again) = insert(&signed, &after, text) {
        assert!(again.len() <= signed.len() + 4096);
    }
});
