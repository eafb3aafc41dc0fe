//! Whatever stands in DNS: readers hold, and a record that is told to be published is a right one.
#![no_main]
use libfuzzer_sys::fuzz_target;
use postbote::dns::{dkim, dmarc, spf};

fuzz_target!(|text: &str| {
    let _ = dkim::is_key(text);
    let _ = dkim::record_name(text, text);
    if let Some(record) = dmarc::parse(text) {
        let _ = record.with_policy(dmarc::Policy::Quarantine);
    }
    let _ = dmarc::select(&[text.to_owned(), text.to_owned()]);
    let _ = spf::select(&[text.to_owned()]);
    let _ = spf::joined(&[text.to_owned(), "v=spf1 mx ~all".to_owned()]);
    if spf::parse(text).is_ok() {
        let merged = spf::merged(Some(text), "include:spf.example.net");
        let record = spf::parse(&merged).unwrap_or_else(|e| panic!("{text:?} became {merged:?}: {e:?}"));
        drop(record);
        assert!(merged.contains("include:spf.example.net"), "{merged:?}");
    }
});
