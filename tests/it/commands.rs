//! The command line.

use crate::support::client::{Client, text};
use crate::support::site::{Site, program, smtp_tenant};
use crate::support::upstream::Upstream;

fn site(port: u16, more: &str) -> Site {
    let site = Site::usual(
        "[[listener]]\nname = \"fixed\"\naddress = \"127.0.0.1:0\"\ntenant = \"acme\"\n",
    );
    site.tenant("acme", &format!("{}{more}", smtp_tenant("acme", port, "")));
    site
}

#[test]
fn test_prints_the_dialogue_and_the_remedy() {
    let upstream = Upstream::with_login("acme", "canary-password");
    let site = site(
        upstream.port,
        "username = \"acme\"\npassword = \"canary-password\"\n",
    );
    let output = site.command(&["test", "acme", "--to", "x@else.example"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    for piece in [
        "C: EHLO postbote.test",
        "C: AUTH PLAIN ***",
        "S: 235",
        "C: MAIL FROM:<office@acme.example>",
        "C: RCPT TO:<x@else.example>",
        "S: 250 2.0.0 taken",
        "Accepted",
    ] {
        assert!(text.contains(piece), "{piece} is not in {text}");
    }
    assert!(!text.contains("canary") && !text.contains("Y2FuYXJ5"));
    upstream.set_password("other");
    let output = site.command(&["test", "acme"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text.contains("Failed")
            && text.contains("(auth)")
            && text.contains("Cause: ")
            && text.contains("Remedy: "),
        "{text}"
    );
    assert!(
        String::from_utf8_lossy(&output.stderr)
            .contains("Warning: sender and recipient are the same")
    );
    let refused = site.command(&["test", "nobody"]);
    assert_eq!(refused.status.code(), Some(65));
    let usual = std::fs::read_to_string(site.config()).expect("read");
    site.operator(&usual.replace("language = \"en\"", "language = \"de\""));
    let output = site.command(&["test", "acme", "--to", "x@else.example"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("Ursache: ") && text.contains("Abhilfe: "),
        "{text}"
    );
}

#[test]
fn preview_shows_what_would_leave() {
    let site = site(9, "");
    let output = site.command_with(
        &["preview", "acme", "--to", "x@else.example", "--explain"],
        text("preview").as_bytes(),
    );
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        shown.contains("From: Tenant acme <office@acme.example>\r\n")
            && shown.ends_with("this is preview.\r\n"),
        "{shown}"
    );
    let explained = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        explained.contains("MAIL FROM:<office@acme.example>")
            && explained.contains("From: app@localhost replaced by office@acme.example"),
        "{explained}"
    );
}

#[test]
fn tenants_are_set_up_in_a_minute() {
    let site = Site::usual("");
    let output = site.command(&["tenant", "add", "gmx", "--email", "firma@gmx.de"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let file = std::fs::read_to_string(site.path().join("tenants/gmx.toml")).expect("file");
    assert!(
        file.contains("host = \"mail.gmx.net\"")
            && file.contains("port = 465")
            && file.contains("encryption = \"tls\""),
        "{file}"
    );
    site.output(&[
        "tenant",
        "add",
        "web",
        "--email",
        "max.muster@web.de",
        "--name",
        "Max \"M\" Muster",
    ]);
    let file = std::fs::read_to_string(site.path().join("tenants/web.toml")).expect("file");
    assert!(file.contains("username = \"max.muster\""), "{file}");
    site.output(&[
        "tenant",
        "add",
        "own",
        "--email",
        "office@unknown.invalid",
        "--host",
        "mail.unknown.invalid",
    ]);
    assert_eq!(
        site.command(&["tenant", "add", "gmx", "--email", "x@gmx.de"])
            .status
            .code(),
        Some(73)
    );
    assert_eq!(
        site.command(&["tenant", "add", "Not An Id", "--email", "x@gmx.de"])
            .status
            .code(),
        Some(65)
    );
    assert_eq!(site.command(&["check"]).status.code(), Some(0));
    let list: Vec<serde_json::Value> =
        serde_json::from_str(&site.output(&["tenant", "list", "--json"])).expect("json");
    assert_eq!(list.len(), 3);
    assert!(
        site.output(&["tenant", "show", "gmx"])
            .contains("mail.gmx.net")
    );
    site.output(&["tenant", "reset", "gmx"]);
    let file = std::fs::read_to_string(site.path().join("tenants/gmx.toml")).expect("file");
    assert!(
        !file.contains("[upstream]") && file.contains("email = \"firma@gmx.de\""),
        "{file}"
    );
}

#[test]
fn keys_and_secrets() {
    let site = site(9, "");
    let made = site.output(&[
        "dkim",
        "new",
        "acme",
        "--domain",
        "acme.example",
        "--selector",
        "pb1",
    ]);
    assert!(
        made.contains("pb1._domainkey.acme.example")
            && made.contains("v=DKIM1; k=rsa; p=")
            && made.contains("v=DKIM1; k=ed25519; p="),
        "{made}"
    );
    let lines: String = made
        .lines()
        .skip_while(|l| !l.starts_with("[[dkim]]"))
        .map(|l| format!("{l}\n"))
        .collect();
    site.tenant("acme", &format!("{}{lines}", smtp_tenant("acme", 9, "")));
    let records: Vec<serde_json::Value> =
        serde_json::from_str(&site.output(&["dkim", "record", "acme", "--json"])).expect("json");
    assert_eq!(records.len(), 2);
    assert!(records[0]["split"].as_array().is_some_and(|s| s.len() == 2));
    assert_eq!(
        site.command(&[
            "dkim",
            "new",
            "acme",
            "--domain",
            "acme.example",
            "--selector",
            "pb1"
        ])
        .status
        .code(),
        Some(73),
        "no key is overwritten"
    );
    assert!(
        site.command_with(&["vault", "set", "smtp"], b"canary-secret\n")
            .status
            .success()
    );
    assert!(site.output(&["vault", "list"]).contains("smtp\t"));
    for entry in std::fs::read_dir(site.data()).expect("data").flatten() {
        if entry.path().is_file() {
            assert!(
                !String::from_utf8_lossy(&std::fs::read(entry.path()).expect("read"))
                    .contains("canary-secret"),
                "{:?}",
                entry.path()
            );
        }
    }
    site.output(&["vault", "remove", "smtp"]);
    assert_eq!(
        site.command(&["vault", "remove", "smtp"]).status.code(),
        Some(65)
    );
}

#[test]
fn sendmail_hands_in_to_a_running_and_to_a_stopped_server() {
    let upstream = Upstream::start();
    let site = site(upstream.port, "");
    let message = b"From: app@localhost\nTo: a@else.example\nCc: \"B, C\" <b@else.example>\nBcc: hidden@else.example\nSubject: sendmail\n\nline\n.\nbehind the dot\n";
    // Stopped: straight into the spool.
    let output = site.command_with(&["sendmail", "-t"], message);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(site.queue().len(), 1);
    let server = site.start();
    let got = upstream.wait(1).remove(0);
    assert_eq!(
        got.rcpts,
        ["a@else.example", "b@else.example", "hidden@else.example"]
    );
    assert!(
        got.count("Bcc") == 0 && !got.text().contains("behind the dot"),
        "{}",
        got.text()
    );
    // Running, through a link named sendmail, -i keeps what follows the dot.
    let link = site.path().join("sendmail");
    std::os::unix::fs::symlink(program(), &link).expect("link");
    let run = |arguments: &[&str], input: &[u8]| {
        use std::io::Write as _;
        let mut child = std::process::Command::new(&link)
            .args(arguments)
            .env("POSTBOTE_CONFIG", site.config())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("spawn");
        child
            .stdin
            .take()
            .expect("stdin")
            .write_all(input)
            .expect("write");
        child.wait_with_output().expect("wait")
    };
    assert!(
        run(
            &["-oi", "-f", "x@acme.example", "--", "c@else.example"],
            message
        )
        .status
        .success()
    );
    let got = upstream.wait(2).remove(1);
    assert_eq!(got.rcpts, ["c@else.example"]);
    assert!(got.text().contains("\r\n.\r\nbehind the dot\r\n"));
    let spoken = run(&["-bs"], b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<d@else.example>\r\nDATA\r\nSubject: bs\r\n\r\nx\r\n.\r\nQUIT\r\n");
    assert!(
        String::from_utf8_lossy(&spoken.stdout).contains("queued as"),
        "{:?}",
        spoken
    );
    assert_eq!(upstream.wait(3)[2].rcpts, ["d@else.example"]);
    assert_eq!(run(&["-Z"], b"").status.code(), Some(64));
    assert_eq!(run(&[], message).status.code(), Some(64), "no recipients");
    drop(server);
    let usual = std::fs::read_to_string(site.config()).expect("read");
    site.operator(&usual.replace("tenant = \"acme\"\n", ""));
    assert_eq!(
        run(&["x@else.example"], message).status.code(),
        Some(78),
        "whose mail it is must be known"
    );
    assert_eq!(
        run(&["--tenant", "acme", "x@else.example"], message)
            .status
            .code(),
        Some(0)
    );
}

#[test]
fn health_metrics_and_the_log() {
    let upstream = Upstream::start();
    let site = site(upstream.port, "");
    let server = site.start();
    assert!(server.get("/healthz").0.contains("200") && server.get("/readyz").0.contains("200"));
    let mut client = Client::connect(server.port("fixed"));
    client.expect("EHLO x", "250");
    client.message("a@b.example", &["x@else.example"], &text("counted"));
    client.message("a@b.example", &["reject@else.example"], &text("refused"));
    client.send("FOO");
    server.wait_log("event=bounced");
    server.wait_log("event=sent to=x@else.example");
    let metrics = server.get("/metrics").1;
    for piece in [
        "postbote_messages_accepted_total{tenant=\"acme\",listener=\"fixed\"} 2",
        "postbote_deliveries_total{tenant=\"acme\",route=\"own\",outcome=\"sent\"}",
        "postbote_deliveries_total{tenant=\"acme\",route=\"own\",outcome=\"bounced\"} 1",
        "postbote_submissions_rejected_total{tenant=\"acme\",code=\"500\"} 1",
        "postbote_spool_messages{tenant=\"acme\",state=\"failed\"} 1",
        "postbote_spool_bytes",
        "postbote_delivery_seconds_bucket",
        "postbote_commit_seconds_bucket",
    ] {
        assert!(metrics.contains(piece), "{piece} is not in {metrics}");
    }
    let accepted = server.wait_log("event=accepted to=x@else.example");
    for key in [
        "id=",
        "tenant=acme",
        "from=a@b.example",
        "size=",
        "client=127.0.0.1",
    ] {
        assert!(accepted.contains(key), "{key} is not in {accepted}");
    }
    let sent = server.wait_log("event=sent to=x@else.example");
    for key in [
        "id=",
        "tenant=acme",
        "route=own",
        "relay=127.0.0.1[127.0.0.1]:",
        "attempt=1",
        "delay=",
        "dsn=2.0.0",
        "reply=\"250 2.0.0 taken as 0\"",
    ] {
        assert!(sent.contains(key), "{key} is not in {sent}");
    }
}

#[test]
fn usage_completions_manual() {
    let site = Site::new("[server]\ndata_dir = \"data\"\n");
    assert_eq!(site.command(&["nonsense"]).status.code(), Some(64));
    assert_eq!(site.command(&["--help"]).status.code(), Some(0));
    assert!(site.output(&["completions", "bash"]).contains("postbote"));
    assert!(site.output(&["man"]).contains(".TH postbote"));
    assert!(site.output(&["queue", "list", "--json"]).trim() == "[]" || !site.data().exists());
}
