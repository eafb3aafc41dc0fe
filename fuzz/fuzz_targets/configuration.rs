//! Both files: any octets give a configuration or problems with a place, never a panic; a secret
//! is never shown.
#![no_main]
use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;

thread_local! {
    static SITE: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
}

fuzz_target!(|input: (&[u8], &[u8])| {
    SITE.with_borrow_mut(|site| {
        let site = site.get_or_insert_with(|| {
            let site = tempfile::tempdir().expect("directory");
            std::fs::create_dir(site.path().join("tenants")).expect("tenants");
            site
        });
        let path = site.path().join("postbote.toml");
        std::fs::write(&path, input.0).expect("write");
        std::fs::write(site.path().join("tenants/acme.toml"), input.1).expect("write");
        let outcome = postbote::config::load(&path);
        assert!(outcome.config.is_some() || outcome.has_errors());
        for problem in &outcome.problems {
            let text = problem.to_string();
            assert!(!text.chars().any(|c| c.is_control()), "{text:?}");
        }
    });
});
