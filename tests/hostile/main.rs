//! The catalogue of bad inputs and faults (`tests/hostile/run`), a group a test; and the checks of
//! the units for systemd and of faults at system calls, which are programs of their own as well.

use std::process::Command;

/// Runs a program of the tests; its output is the test's.
fn run(program: &str, words: &[&str]) {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let status = Command::new(root.join(program))
        .args(words)
        .env("POSTBOTE_BINARY", env!("CARGO_BIN_EXE_postbote"))
        .current_dir(root)
        .status()
        .expect(program);
    assert!(status.success(), "{program} {words:?}: {status}");
}

macro_rules! groups {
    ($($name:ident $group:literal)*) => {
        $(
            #[test]
            fn $name() {
                run("tests/hostile/run", &["--jobs", "2", $group]);
            }
        )*
    };
}

groups! {
    framing "A"
    commands "B"
    logins "C"
    tls "D"
    addresses "E"
    header "F"
    floods "G"
    upstreams "H"
    endpoints "I"
    configuration "K"
    system "L"
    isolation "N"
    tokens "O"
    senders "P"
    signatures "Q"
    series "R"
    notices "S"
    doctor "T"
}

/// A sample of the faults, another one each day; all of them: `just faults`.
#[test]
fn faults_at_system_calls() {
    let day = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |t| t.as_secs() / 86_400);
    run(
        "tests/faults",
        &["--seconds", "60", "--jobs", "2", "--seed", &day.to_string()],
    );
}

#[test]
fn units_for_systemd() {
    run("tests/systemd", &[env!("CARGO_BIN_EXE_postbote")]);
}
