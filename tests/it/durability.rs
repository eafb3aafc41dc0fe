//! 250 only after message and envelope are on stable storage, in this order.

use std::process::Command;

use crate::support::client::{submit, text};
use crate::support::site::{Server, Site};

/// The system calls of one acceptance, in order: the content is synced (journal, and for a
/// large one its file and directory) before "queued as" is written to the application.
fn trace(size: usize) -> String {
    let site = Site::usual(
        "[[listener]]\nname = \"fixed\"\naddress = \"127.0.0.1:0\"\ntenant = \"acme\"\n",
    );
    site.tenant(
        "acme",
        "name = \"ACME\"\nemail = \"office@acme.example\"\n[upstream]\nkind = \"capture\"\n",
    );
    let file = site.path().join("trace");
    let file_text = file.display().to_string();
    let server = Server::start(
        &site,
        &[
            "strace",
            "-f",
            "-y",
            "-s",
            "200",
            "-e",
            "trace=write,pwrite64,fsync,fdatasync,sendto,writev,openat",
            "-o",
            &file_text,
        ],
    );
    let body = format!(
        "{}{}",
        text("traced"),
        "0123456789abcdef0123456789abcdef\r\n".repeat(size / 34)
    );
    submit(
        server.port("fixed"),
        None,
        "a@b.example",
        &["x@else.example"],
        &body,
    );
    let (_, _) = stop_traced(server);
    std::fs::read_to_string(file).expect("trace")
}

/// strace passes no signal on; its child is told itself.
fn stop_traced(server: Server) -> (Option<i32>, Vec<String>) {
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", server.pid()))
        .unwrap_or_default();
    for child in children.split_whitespace() {
        let _ = Command::new("kill").args(["-TERM", child]).status();
    }
    server.wait()
}

fn position(trace: &str, words: &[&str]) -> usize {
    trace
        .lines()
        .position(|line| words.iter().all(|w| line.contains(w)))
        .unwrap_or_else(|| panic!("{words:?} is not in the trace:\n{trace}"))
}

fn last_before(trace: &str, end: usize, words: &[&str]) -> usize {
    trace
        .lines()
        .take(end)
        .collect::<Vec<_>>()
        .iter()
        .rposition(|line| words.iter().all(|w| line.contains(w)))
        .unwrap_or_else(|| panic!("{words:?} does not come before line {end}"))
}

#[test]
fn a_small_message_is_synced_before_its_250() {
    let trace = trace(100);
    let answer = position(&trace, &["queued as"]);
    let written = last_before(&trace, answer, &["pwrite64", "spool/journal-"]);
    let synced = last_before(&trace, answer, &["sync(", "spool/journal-"]);
    assert!(
        written < synced && synced < answer,
        "{written} {synced} {answer}"
    );
}

#[test]
fn a_large_message_is_synced_file_and_directory_before_its_250() {
    let trace = trace(300_000);
    let answer = position(&trace, &["queued as"]);
    let file = last_before(&trace, answer, &["fsync(", "/spool/bodies/slot-"]);
    let directory = last_before(&trace, answer, &["fsync(", "/spool/bodies>"]);
    let log = last_before(&trace, answer, &["sync(", "spool/journal-"]);
    assert!(
        file < directory && directory < log && log < answer,
        "{file} {directory} {log} {answer}"
    );
}

#[test]
fn a_second_process_is_refused_and_a_crash_leaves_no_orphans() {
    let site = Site::usual(
        "[[listener]]\nname = \"fixed\"\naddress = \"127.0.0.1:0\"\ntenant = \"acme\"\n",
    );
    site.tenant(
        "acme",
        "name = \"ACME\"\nemail = \"office@acme.example\"\n[upstream]\nkind = \"capture\"\n",
    );
    let server = site.start();
    let second = Server::spawn(&site, &[]);
    let (code, log) = second.wait();
    assert_eq!(code, Some(75), "{log:?}");
    assert!(
        log.iter().any(|l| l.contains("used by another Postbote")),
        "{log:?}"
    );
    // Content that never got its end.
    let mut client = crate::support::client::Client::connect(server.port("fixed"));
    client.expect("EHLO x", "250");
    client.expect("MAIL FROM:<a@b.example>", "250");
    client.expect("RCPT TO:<x@else.example>", "250");
    client.expect("DATA", "354");
    client.raw(
        "0123456789abcdef0123456789abcdef\r\n"
            .repeat(10_000)
            .as_bytes(),
    );
    let bodies = site.data().join("spool/bodies");
    crate::support::site::wait_for("a body file", || {
        std::fs::read_dir(&bodies).ok()?.flatten().next()
    });
    server.kill();
    let server = site.start();
    // Its file is free again: the next large message is written into it.
    let large = format!("{}{}", text("large"), "0123456789abcdef\r\n".repeat(10_000));
    submit(
        server.port("fixed"),
        None,
        "a@b.example",
        &["x@else.example"],
        &large,
    );
    server.wait_log("event=sent");
    assert_eq!(
        std::fs::read_dir(&bodies).expect("bodies").count(),
        1,
        "what was never acknowledged is gone"
    );
}
