//! Real programs on both sides of Postbote: clients (Python smtplib, swaks, msmtp, curl, Postfix)
//! and upstreams (Postfix, Exim, OpenSMTPD, smtp-sink), and foreign verifiers of what we sign.
//! `tests/install` installs them.

mod programs;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use programs::{
    ClientTls, Exim, Login, OpenSmtpd, Options, Postfix, PostfixClient, ReceivedMessage, SmtpSink,
    Submission, Tls, Upstream, curl_smtp, dkimpy_verify_all, mail_dkim_verify_all, msmtp, smtplib,
    swaks,
};
use support::client::Client;
use support::site::{Server, Site};

const WITHIN: Duration = Duration::from_secs(120);

/// RSA and Ed25519 keys for a tenant, and the DNS records that verifiers are given.
fn keys(site: &Site, id: &str) -> (String, Vec<(String, String)>) {
    let made = site.output(&[
        "dkim",
        "new",
        id,
        "--domain",
        &format!("{id}.example"),
        "--selector",
        "pb1",
    ]);
    let lines: String = made
        .lines()
        .skip_while(|l| !l.starts_with("[[dkim]]"))
        .map(|l| format!("{l}\n"))
        .collect();
    (lines, Vec::new())
}

fn records(site: &Site, id: &str) -> Vec<(String, String)> {
    let list: Vec<serde_json::Value> =
        serde_json::from_str(&site.output(&["dkim", "record", id, "--json"])).expect("json");
    list.iter()
        .map(|r| {
            (
                r["name"].as_str().expect("name").to_owned(),
                r["value"].as_str().expect("value").to_owned(),
            )
        })
        .collect()
}

/// A site whose tenant `acme` leaves through this upstream text, signed twice.
fn site(upstream: &str) -> Site {
    let site = Site::usual(
        "[[listener]]\nname = \"fixed\"\naddress = \"127.0.0.1:0\"\ntenant = \"acme\"\ntls = \"starttls\"\n",
    );
    let tenant = "name = \"ACME Süd\"\nemail = \"office@acme.example\"\n[[user]]\nlogin = \"till@acme\"\npassword = \"till-password\"\n";
    site.tenant("acme", tenant);
    let (dkim, _) = keys(&site, "acme");
    site.tenant("acme", &format!("{tenant}{dkim}{upstream}"));
    site
}

fn plain(port: u16) -> String {
    format!("[upstream]\nhost = \"127.0.0.1\"\nencryption = \"none\"\nport = {port}\n")
}

fn message(subject: &str) -> Vec<u8> {
    format!("From: Shop <shop@localhost>\r\nTo: kunde@else.example\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße aus {subject}\r\n.\r\n..two dots\r\n\ttab and  blanks \r\n\r\n\r\n").into_bytes()
}

fn check(received: &[ReceivedMessage], subject: &str) -> Vec<u8> {
    let found = received
        .iter()
        .find(|m| String::from_utf8_lossy(&m.raw).contains(&format!("Subject: {subject}\r\n")))
        .unwrap_or_else(|| panic!("{subject} did not arrive"));
    let text = String::from_utf8_lossy(&found.raw).into_owned();
    assert!(
        text.contains("From: =?utf-8?b?QUNNRSBTw7xk?= <office@acme.example>"),
        "{text}"
    );
    assert_eq!(
        found.mail_from.as_deref(),
        Some("office@acme.example"),
        "{subject}"
    );
    found.raw.clone()
}

/// Every signature of every message is good for both verifiers (Mail::DKIM knows only RSA).
fn verify(raws: &[Vec<u8>], records: &[(String, String)]) {
    for (raw, results) in raws.iter().zip(dkimpy_verify_all(raws, records)) {
        assert_eq!(results.len(), 2, "two signatures");
        for result in &results {
            assert!(
                result.valid,
                "dkimpy: {} {}\n{}",
                result.algorithm,
                result.detail,
                String::from_utf8_lossy(raw)
            );
        }
    }
    for results in mail_dkim_verify_all(raws, records) {
        assert!(
            results.iter().any(|r| r.algorithm == "rsa-sha256"),
            "an RSA signature"
        );
        for result in results.iter().filter(|r| r.algorithm == "rsa-sha256") {
            assert!(result.valid, "Mail::DKIM: {}", result.detail);
        }
    }
}

/// Every client hands in one message.
fn all_clients(server: &Server, name: &str) -> Vec<String> {
    let port = server.port("fixed");
    let subject = |client: &str| format!("{client} to {name}");
    let rcpts = ["kunde@else.example"];
    let ok = |client: &str, output: std::process::Output| {
        assert!(
            output.status.success(),
            "{client}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    };
    let with = |text: &[u8]| -> Submission<'static> {
        let leaked: &'static [u8] = Box::leak(text.to_vec().into_boxed_slice());
        Submission {
            port,
            from: "shop@localhost.example",
            rcpts: &["kunde@else.example"],
            message: leaked,
            ..Submission::default()
        }
    };
    ok("smtplib", smtplib(&with(&message(&subject("smtplib")))));
    ok(
        "smtplib-tls",
        smtplib(&Submission {
            tls: ClientTls::StartTls(None),
            login: Some(("till@acme", "till-password")),
            ..with(&message(&subject("smtplib-tls")))
        }),
    );
    ok("msmtp", msmtp(&with(&message(&subject("msmtp")))));
    ok(
        "msmtp-auth",
        msmtp(&Submission {
            tls: ClientTls::StartTls(None),
            login: Some(("till@acme", "till-password")),
            ..with(&message(&subject("msmtp-auth")))
        }),
    );
    ok("curl", curl_smtp(&with(&message(&subject("curl")))));
    ok(
        "curl-auth",
        curl_smtp(&Submission {
            login: Some(("till@acme", "till-password")),
            ..with(&message(&subject("curl-auth")))
        }),
    );
    let data = String::from_utf8(message(&subject("swaks"))).expect("utf-8");
    let server_arg = format!("127.0.0.1:{port}");
    ok(
        "swaks",
        swaks(&[
            "--server",
            &server_arg,
            "--from",
            "shop@localhost.example",
            "--to",
            rcpts[0],
            "--data",
            &data.replace("\r\n", "\\n"),
            "--pipeline",
        ]),
    );
    ok(
        "swaks-cram",
        swaks(&[
            "--server",
            &server_arg,
            "--from",
            "shop@localhost.example",
            "--to",
            rcpts[0],
            "--auth",
            "CRAM-MD5",
            "--auth-user",
            "till@acme",
            "--auth-password",
            "till-password",
            "--data",
            &String::from_utf8(message(&subject("swaks-cram")))
                .expect("utf-8")
                .replace("\r\n", "\\n"),
        ]),
    );
    let postfix = PostfixClient::start(port);
    ok(
        "postfix",
        postfix.submit(
            "shop@localhost.example",
            &rcpts,
            &message(&subject("postfix")),
        ),
    );
    assert!(postfix.wait_until_empty(WITHIN), "{}", postfix.log());
    [
        "smtplib",
        "smtplib-tls",
        "msmtp",
        "msmtp-auth",
        "curl",
        "curl-auth",
        "swaks",
        "swaks-cram",
        "postfix",
    ]
    .iter()
    .map(|c| subject(c))
    .collect()
}

fn through(upstream: &dyn Upstream, text: &str, name: &str) {
    let site = site(text);
    let server = site.start();
    let subjects = all_clients(&server, name);
    let received = upstream.wait_for(subjects.len(), WITHIN);
    assert_eq!(
        received.len(),
        subjects.len(),
        "{}\n{}",
        upstream.log(),
        server.log().join("\n")
    );
    let raws: Vec<Vec<u8>> = subjects.iter().map(|s| check(&received, s)).collect();
    verify(&raws, &records(&site, "acme"));
}

#[test]
fn every_client_to_postfix_with_tls_and_login() {
    let upstream = Postfix::start(Options {
        tls: Tls::FromCa,
        auth: Some(Login::new("acme", "acme-password")),
        cert_names: vec!["localhost".to_owned()],
        ..Options::default()
    });
    let ca = upstream.ca_pem().expect("ca").display().to_string();
    let text = format!(
        "[upstream]\nhost = \"localhost\"\nencryption = \"starttls\"\nport = {}\nusername = \"acme\"\npassword = \"acme-password\"\nca_file = \"{ca}\"\n",
        upstream.port()
    );
    through(&upstream, &text, "postfix-tls");
}

#[test]
fn every_client_to_exim_with_implicit_tls_and_login() {
    let upstream = Exim::start(Options {
        tls: Tls::SelfSigned,
        auth: Some(Login::new("acme", "acme-password")),
        ..Options::default()
    });
    let text = format!(
        "[upstream]\nhost = \"127.0.0.1\"\nencryption = \"tls\"\nport = {}\nusername = \"acme\"\npassword = \"acme-password\"\ncertificate = \"trust-always\"\n",
        upstream.tls_port().expect("tls port")
    );
    through(&upstream, &text, "exim-tls");
}

#[test]
fn every_client_to_opensmtpd() {
    let upstream = OpenSmtpd::start(Options {
        messages_per_connection: Some(10_000),
        ..Options::default()
    });
    through(&upstream, &plain(upstream.port()), "opensmtpd");
}

#[test]
fn every_client_to_smtp_sink() {
    let upstream = SmtpSink::start();
    let site = site(&plain(upstream.port()));
    let server = site.start();
    let subjects = all_clients(&server, "sink");
    let received = upstream.wait_for(subjects.len(), WITHIN);
    assert_eq!(received.len(), subjects.len());
}

/// A self-signed certificate is refused in words, no login leaves, nothing bounces; the pin heals.
#[test]
fn certificates_are_believed_only_as_configured() {
    let upstream = Postfix::start(Options {
        tls: Tls::SelfSigned,
        auth: Some(Login::new("acme", "acme-password")),
        ..Options::default()
    });
    let common = format!(
        "[upstream]\nhost = \"127.0.0.1\"\nencryption = \"starttls\"\nport = {}\nusername = \"acme\"\npassword = \"acme-password\"\n",
        upstream.port()
    );
    let site = site(&common);
    let output = site.command(&["test", "acme", "--to", "x@else.example"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("(tls)") && !text.contains("C: AUTH"),
        "{text}"
    );
    let server = site.start();
    support::client::submit(
        server.port("fixed"),
        None,
        "a@b.example",
        &["x@else.example"],
        &support::client::text("pinned"),
    );
    server.wait_log("event=route-suspended");
    let tenant = std::fs::read_to_string(site.path().join("tenants/acme.toml")).expect("tenant");
    site.tenant("acme", &format!("{tenant}certificate = \"trust-always\"\n"));
    upstream.wait_for(1, WITHIN);
    let output = site.command(&["test", "acme", "--to", "x@else.example"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let pin = text
        .split("sha256/")
        .nth(1)
        .map(|p| p.lines().next().unwrap_or("").to_owned())
        .expect("a pin");
    site.tenant(
        "acme",
        &format!("{tenant}certificate = \"pinned\"\npins = [\"sha256/{pin}\"]\n"),
    );
    let output = site.command(&["test", "acme", "--to", "x@else.example"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    let wrong = format!("A{}", &pin[1..]);
    let wrong = if wrong == pin {
        format!("B{}", &pin[1..])
    } else {
        wrong
    };
    site.tenant(
        "acme",
        &format!("{tenant}certificate = \"pinned\"\npins = [\"sha256/{wrong}\"]\n"),
    );
    assert_eq!(
        site.command(&["test", "acme", "--to", "x@else.example"])
            .status
            .code(),
        Some(1)
    );
}

/// 1,000 mixed messages of two tenants, each at its own upstream, with its own sender and
/// signatures that two foreign verifiers accept; over a reload and a restart.
#[test]
fn a_thousand_mixed_messages_of_two_tenants() {
    let upstreams = [
        Postfix::start(Options::default()),
        Postfix::start(Options::default()),
    ];
    let site = Site::usual("");
    let ids = ["acme", "beta"];
    for (id, upstream) in ids.iter().zip(&upstreams) {
        let tenant = format!(
            "name = \"Firma {id}\"\nemail = \"office@{id}.example\"\n[[user]]\nlogin = \"till@{id}\"\npassword = \"secret-{id}\"\n"
        );
        site.tenant(id, &tenant);
        let (dkim, _) = keys(&site, id);
        site.tenant(id, &format!("{tenant}{dkim}{}", plain(upstream.port())));
    }
    let mut server = site.start();
    for round in 0..10 {
        let mut clients: Vec<(&str, Client)> = ids
            .iter()
            .map(|id| {
                let mut client = Client::connect(server.port("in"));
                client.expect("EHLO till", "250");
                assert!(
                    client
                        .login(&format!("till@{id}"), &format!("secret-{id}"))
                        .starts_with("235")
                );
                (*id, client)
            })
            .collect();
        for n in 0..50 {
            for (id, client) in &mut clients {
                let reply = client.message(
                    "shop@localhost.example",
                    &["kunde@else.example"],
                    &odd(id, round * 50 + n),
                );
                assert!(reply.starts_with("250"), "{reply}");
            }
        }
        match round {
            3 => server.hangup(),
            6 => {
                server.kill();
                server = site.start();
            }
            _ => {}
        }
    }
    support::site::wait_for("an empty queue", || site.queue().is_empty().then_some(()));
    for (id, upstream) in ids.iter().zip(&upstreams) {
        let received = upstream.wait_for(500, WITHIN);
        let mut subjects: Vec<String> = received
            .iter()
            .map(|m| {
                String::from_utf8_lossy(&m.raw)
                    .split("X-Number: ")
                    .nth(1)
                    .and_then(|s| s.lines().next())
                    .unwrap_or("")
                    .to_owned()
            })
            .collect();
        subjects.sort();
        let total = subjects.len();
        subjects.dedup();
        assert_eq!(subjects.len(), 500, "none is missing");
        assert!(
            total - subjects.len() <= 4,
            "{} duplicates",
            total - subjects.len()
        );
        for message in &received {
            let text = String::from_utf8_lossy(&message.raw);
            assert!(
                text.contains(&format!("From: Firma {id} <office@{id}.example>\r\n"))
                    && text.contains(&format!("X-Number: {id}-")),
                "{text}"
            );
            assert_eq!(
                message.mail_from.as_deref(),
                Some(format!("office@{id}.example").as_str())
            );
        }
        let raws: Vec<Vec<u8>> = received.iter().map(|m| m.raw.clone()).collect();
        verify(&raws, &records(&site, id));
    }
}

/// Messages that differ in what signatures and rewriting are touchy about.
fn odd(id: &str, n: usize) -> String {
    let head = format!("X-Number: {id}-{n}\r\n");
    let from = [
        "From: shop@localhost.example\r\n",
        "",
        "From: \"A, B\" <a@x.example>\r\nSender: s@x.example\r\n",
        "From: a@x.example\r\nFrom: b@x.example\r\n",
        "From : =?utf-8?q?=C3=A4?= <a@x.example>\r\n",
    ][n % 5];
    let subject = [
        "Subject: short\r\n",
        "Subject: Größe\r\n",
        "Subject: a\r\n  folded\r\n\tline   here\r\n",
        "",
        "Subject:\r\n",
    ][n / 5 % 5];
    let body = [
        "plain\r\n",
        "trailing  \t \r\n\r\n\r\n",
        "ü ö ß\r\n.\r\n..\r\n",
        "\r\n",
        " \t \r\n",
        "x\tx  x   x\r\n\r\n \r\ny\r\n",
        "last line   \r\n",
    ][n % 7];
    let long = if n.is_multiple_of(11) {
        format!("{}\r\n", "long ".repeat(400))
    } else {
        String::new()
    };
    format!("{head}{from}To: kunde@else.example\r\n{subject}\r\n{body}{long}")
}
