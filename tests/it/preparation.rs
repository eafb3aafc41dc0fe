//! What leaves: sender, trace, encodings, signatures.

use crate::support::client::{Client, submit, text};
use crate::support::site::{Server, Site, smtp_tenant};
use crate::support::upstream::{Received, Upstream};

fn site(port: u16, more: &str) -> Site {
    let site = Site::usual(
        "[[listener]]\nname = \"fixed\"\naddress = \"127.0.0.1:0\"\ntenant = \"acme\"\n",
    );
    site.tenant("acme", &format!("{}{more}", smtp_tenant("acme", port, "")));
    site
}

fn relay(upstream: &Upstream, server: &Server, message: &str) -> Received {
    let before = upstream.received().len();
    submit(
        server.port("fixed"),
        None,
        "app@localhost",
        &["x@else.example"],
        message,
    );
    upstream.wait(before + 1).pop().expect("one")
}

#[test]
fn the_sender_is_the_tenants_whatever_the_application_wrote() {
    let upstream = Upstream::start();
    let site = site(
        upstream.port,
        "[sender]\naddress = \"rechnung@acme.example\"\nname = \"ACME, Inc. \\\"Süd\\\"\"\nreturn_path = \"bounces@acme.example\"\n",
    );
    let server = site.start();
    let from = "=?utf-8?b?QUNNRSwgSW5jLiAiU8O8ZCI=?= <rechnung@acme.example>";
    for (given, original) in [
        ("From: ERP <erp@localhost>\r\n", Some("erp@localhost")),
        ("", None),
        ("From: a@t.example\r\nFrom: b@evil.example\r\n", None),
        ("From: a@t.example, b@evil.example\r\n", None),
        ("From: undisclosed:;\r\n", None),
        (
            "From: <@a,@b:admin@victim.example>\r\n",
            None, // a source route: which of them a reader shows is anybody's guess
        ),
        ("From: \"x\"<a@t.example><b@v.example>\r\n", None),
        ("From : a@t.example\r\n", Some("a@t.example")),
    ] {
        let got = relay(
            &upstream,
            &server,
            &format!(
                "{given}Sender: boss@evil.example\r\nTo: x@else.example\r\nSubject: s\r\nBcc: hidden@else.example\r\nResent-Bcc: h@else.example\r\nReturn-Path: <r@x.example>\r\n\r\nx\r\n"
            ),
        );
        assert_eq!(got.header("From").as_deref(), Some(from), "{given}");
        assert_eq!(
            (
                got.count("From"),
                got.count("Bcc"),
                got.count("Resent-Bcc"),
                got.count("Return-Path")
            ),
            (1, 0, 0, 0),
            "{given}"
        );
        assert_eq!(
            got.header("Sender").as_deref(),
            Some("rechnung@acme.example")
        );
        assert_eq!(
            got.header("Reply-To").as_deref(),
            Some("office@acme.example")
        );
        assert_eq!(
            got.header("X-Original-From").as_deref(),
            original,
            "{given}"
        );
        assert_eq!(got.mail_from, "bounces@acme.example");
        assert!(
            got.header("Date").is_some()
                && got
                    .header("Message-ID")
                    .is_some_and(|id| id.ends_with("@acme.example>"))
        );
    }
}

#[test]
fn reply_to_as_configured() {
    let upstream = Upstream::start();
    let server_for = |rule: &str| {
        let site = site(upstream.port, &format!("[sender]\n{rule}\n"));
        let server = site.start();
        (site, server)
    };
    let message = "From: Max <max@acme.example>\r\nReply-To: sales@acme.example\r\nReply-To: second@acme.example\r\nSubject: s\r\n\r\nx\r\n";
    for (rule, expected) in [
        ("", "sales@acme.example"),
        ("reply_to = \"fix@acme.example\"", "fix@acme.example"),
        ("reply_to = \"original\"", "Max <max@acme.example>"),
    ] {
        let (_site, server) = server_for(rule);
        let got = relay(&upstream, &server, message);
        assert_eq!(got.header("Reply-To").as_deref(), Some(expected), "{rule}");
        assert_eq!(got.count("Reply-To"), 1);
    }
}

#[test]
fn authorized_senders_stay_byte_for_byte() {
    let upstream = Upstream::start();
    let site = site(
        upstream.port,
        "[sender]\napplication_from = \"keep-authorized\"\n",
    );
    let server = site.start();
    let got = relay(
        &upstream,
        &server,
        "From:  \"Office\"   <office@acme.example>\r\nSubject: kept\r\n\r\nx\r\n",
    );
    assert!(
        got.text()
            .contains("\r\nFrom:  \"Office\"   <office@acme.example>\r\n"),
        "{}",
        got.text()
    );
    let got = relay(
        &upstream,
        &server,
        "From: other@acme.example\r\nSubject: replaced\r\n\r\nx\r\n",
    );
    assert_eq!(
        got.header("From").as_deref(),
        Some("Tenant acme <office@acme.example>")
    );
}

#[test]
fn what_need_not_change_does_not() {
    let upstream = Upstream::start();
    let site = site(upstream.port, "");
    let server = site.start();
    let fields = "X-Odd:   spaces   kept\t\r\n folded\r\nTo: \"A, B\" <x@else.example>,\r\n\ty@else.example\r\nSubject: =?iso-8859-1?q?Gr=FC=DFe?=\r\nDate: Sat, 21 Nov 2026 10:00:00 +0100\r\nMessage-ID: <own@id.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n";
    let body = "Grüße\r\n.\r\n..dots\r\n\ttabs \r\n\r\n\r\n";
    let mut client = Client::connect(server.port("fixed"));
    client.expect("EHLO x", "250");
    client.expect("MAIL FROM:<a@b.example> BODY=8BITMIME", "250");
    client.expect("RCPT TO:<x@else.example>", "250");
    assert!(
        client
            .content(&format!("From: a@b.example\r\n{fields}\r\n{body}"))
            .starts_with("250")
    );
    let got = upstream.wait(1).remove(0).text();
    assert!(got.contains(fields), "{got}");
    assert!(got.ends_with(&format!("\r\n\r\n{body}")), "{got}");
}

#[test]
fn old_applications_raw_letters_are_encoded() {
    let upstream = Upstream::start();
    let site = site(upstream.port, "");
    let server = site.start();
    let mut client = Client::connect(server.port("fixed"));
    client.expect("EHLO x", "250");
    client.expect("MAIL FROM:<a@b.example>", "250");
    client.expect("RCPT TO:<x@else.example>", "250");
    client.expect("DATA", "354");
    client.raw(b"From: a@b.example\r\nTo: M\xfcller <x@else.example>\r\nSubject: Gr\xfc\xdfe f\xfcr 5 \x80\r\n\r\nK\xe4se\r\n.\r\n");
    assert!(client.reply().starts_with("250"));
    let got = upstream.wait(1).remove(0);
    assert_eq!(
        got.header("Subject").as_deref(),
        Some("=?utf-8?b?R3LDvMOfZSBmw7xyIDUg4oKs?=")
    );
    assert_eq!(
        got.header("To").as_deref(),
        Some("=?utf-8?b?TcO8bGxlcg==?= <x@else.example>")
    );
    assert_eq!(
        got.header("Content-Type").as_deref(),
        Some("text/plain; charset=windows-1252")
    );
}

/// GMX, web.de, IONOS: no 8BITMIME, no pipelining, nothing.
#[test]
fn seven_bit_where_the_server_wants_it() {
    let upstream = Upstream::with(&["SIZE 69920427", "AUTH LOGIN PLAIN"], None);
    let site = site(upstream.port, "");
    let server = site.start();
    let got = relay(
        &upstream,
        &server,
        &format!(
            "From: a@b.example\r\nSubject: Grüße\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße\r\n{}\r\n",
            "x".repeat(3000)
        ),
    );
    assert!(got.raw.is_ascii(), "{}", got.text());
    assert_eq!(
        got.header("Content-Transfer-Encoding").as_deref(),
        Some("quoted-printable")
    );
    assert!(
        got.text().contains("Gr=C3=BC=C3=9Fe\r\n") && got.text().lines().all(|l| l.len() <= 998)
    );
    assert_eq!(got.count("Content-Transfer-Encoding"), 1);
}

#[test]
fn letters_in_addresses() {
    let upstream = Upstream::with(&["8BITMIME"], None);
    let site = site(upstream.port, "");
    let server = site.start();
    let mut client = Client::connect(server.port("fixed"));
    client.expect("EHLO x", "250");
    client.expect("MAIL FROM:<a@b.example> SMTPUTF8", "250");
    client.expect("RCPT TO:<info@müller.example>", "250");
    client.expect("RCPT TO:<grüße@else.example>", "250");
    assert!(client.content(&text("idn")).starts_with("250"));
    // The domain has an ASCII form, the other mailbox cannot be reached without SMTPUTF8: said once.
    server.wait_log("event=bounced to=grüße@else.example dsn=5.6.7");
    let received = upstream.wait(2);
    let sent = received
        .iter()
        .find(|m| !m.mail_from.is_empty())
        .expect("sent");
    assert_eq!(sent.rcpts, ["info@xn--mller-kva.example"]);
    assert!(
        received
            .iter()
            .any(|m| m.mail_from.is_empty() && m.text().contains("5.6.7"))
    );
}

#[test]
fn a_corrected_setting_heals_waiting_mail() {
    let upstream = Upstream::start();
    let site = site(upstream.port, "");
    let server = site.start();
    submit(
        server.port("fixed"),
        None,
        "a@b.example",
        &["tempfail@else.example"],
        &text("healed"),
    );
    server.wait_log("event=deferred");
    site.tenant(
        "acme",
        &smtp_tenant("acme", upstream.port, "").replace("office@acme.example", "new@acme.example"),
    );
    server.wait_log("event=reloaded concerned=1");
    server.wait_log_count("event=deferred", 2);
}

#[test]
fn without_its_key_nothing_leaves_unsigned() {
    let upstream = Upstream::start();
    let site = site(
        upstream.port,
        "[[dkim]]\ndomain = \"acme.example\"\nselector = \"pb1\"\nkey = { vault = \"acme-dkim\" }\n",
    );
    let server = site.start();
    submit(
        server.port("fixed"),
        None,
        "a@b.example",
        &["x@else.example"],
        &text("signed or not at all"),
    );
    server.wait_log("event=route-suspended");
    assert!(upstream.received().is_empty());
    let key = std::fs::read(
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/demo/dkim-ed25519.pem"),
    )
    .expect("key");
    assert!(
        site.command_with(&["vault", "set", "acme-dkim"], &key)
            .status
            .success()
    );
    let got = upstream.wait(1).remove(0);
    assert!(
        got.header("DKIM-Signature")
            .is_some_and(|s| s.contains("a=ed25519-sha256") && s.contains("d=acme.example"))
    );
}
