//! Encoded words: they decode to what they were made of, keep to their length, hold only ASCII.
#![no_main]
use libfuzzer_sys::fuzz_target;
use postbote::message::rfc2047;

fuzz_target!(|input: (u8, &str)| {
    let (used, text) = input;
    let used = usize::from(used % 100);
    let _ = rfc2047::decode_words(text);
    for (written, whole) in [
        (rfc2047::encode_words(text, used), true),
        (rfc2047::unstructured(text, used, false), false),
        (rfc2047::phrase(text, used, false), false),
    ] {
        assert!(written.is_ascii(), "{written:?}");
        for (n, line) in written.split("\r\n").enumerate() {
            assert!(n == 0 || line.starts_with([' ', '\t']), "{written:?}");
            assert!(!line.contains(['\r', '\n']) || !whole, "{written:?}");
        }
        if whole && !text.is_empty() {
            assert_eq!(rfc2047::decode_words(&written.replace("\r\n", "")), text);
            for line in written.split("\r\n") {
                assert!(line.len() <= 78, "{line:?}");
            }
        }
    }
});
