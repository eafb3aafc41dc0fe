//! Configuration: every problem at once, reloads that change nothing when they are wrong.

use crate::support::client::{submit, text};
use crate::support::site::{Site, smtp_tenant};
use crate::support::upstream::Upstream;

#[test]
fn all_problems_at_once_with_file_line_key_value_and_hint() {
    let site = Site::new(
        "[server]\nlanguage = \"fr\"\nmax_recipients = 0\nspool_limit = \"2 GB!\"\nhostnam = \"x\"\n[[listener]]\naddress = \"nonsense\"\n[retry]\nfirst = 60\n[tenants.ghost]\nsystem_relay = \"sometimes\"\n",
    );
    site.tenant("acme", "name = \"A\"\nemail = \"not an address\"\n[upstream]\nencryption = \"ssl\"\npassword = \"canary-password\"\nport = 70000\n[[user]]\nlogin = \"same\"\npassword = \"canary-two\"\n");
    site.tenant(
        "beta",
        "name = \"B\"\nemail = \"b@beta.example\"\n[[user]]\nlogin = \"same\"\npassword = 5\n",
    );
    site.tenant("Bad Name", "name = \"x\"\n");
    let output = site.command(&["check"]);
    assert_eq!(output.status.code(), Some(78));
    let text = String::from_utf8(output.stdout).expect("utf-8");
    for expected in [
        "postbote.toml:2: error: server.language: found \"fr\"; allowed: de, en",
        "postbote.toml:3: error: server.max_recipients: found 0; allowed: a whole number from 1 to 100000",
        "postbote.toml:4: error: server.spool_limit: found \"2 GB!\"",
        "postbote.toml:5: error: server.hostnam: found an unknown key",
        "did you mean hostname?",
        "postbote.toml:7: error: listener[1].address: found \"nonsense\"",
        "postbote.toml:9: error: retry.first: found 60; allowed: a time with its unit",
        "postbote.toml:11: error: tenants.ghost.system_relay: found \"sometimes\"; allowed: never, when-unconfigured, on-failure",
        "acme.toml:2: error: email: found \"not an address\"",
        "acme.toml:4: error: upstream.encryption: found \"ssl\"; allowed: none, starttls, tls",
        "acme.toml:6: error: upstream.port: found 70000",
        "upstream.host: found nothing",
        "upstream.username",
        "beta.toml:4: error: user[1].login: found \"same\"",
        "beta.toml:5: error: user[1].password: found a value (not shown)",
        "Bad Name.toml: error",
    ] {
        assert!(text.contains(expected), "{expected} is not in:\n{text}");
    }
    assert!(!text.contains("canary"), "a secret is shown:\n{text}");
    assert_eq!(site.command(&["run"]).status.code(), Some(78));
}

#[test]
fn broken_files_never_panic() {
    let good = std::fs::read_to_string(Site::usual("").config()).expect("read");
    let bomb = format!("x = {}1{}\n", "[".repeat(5000), "]".repeat(5000));
    for (name, text) in [
        ("syntax", "[server\nx = ="),
        ("empty key", "= 1"),
        (
            "wrong table",
            "server = 1\nlistener = 2\ntenants = []\nsystem = \"x\"\n",
        ),
        ("binary", "\u{0}\u{1}\u{2}"),
        ("bomb", bomb.as_str()),
        ("duplicate", "[server]\n[server]\n"),
        ("negative", "[server]\nmax_recipients = -1\n"),
        (
            "huge",
            "[server]\nmax_recipients = 99999999999999999999999\n",
        ),
        (
            "missing certificate",
            "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = \"implicit\"\ncertificate = \"nowhere.pem\"\nkey = \"nowhere.key\"\n",
        ),
        (
            "required relay",
            "[system]\nemail = \"a@b.example\"\nrequired = true\n",
        ),
    ] {
        let site = Site::new(text);
        let output = site.command(&["check"]);
        assert_eq!(
            output.status.code(),
            Some(78),
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(
            String::from_utf8_lossy(&output.stdout).contains("error"),
            "{name}"
        );
    }
    let site = Site::new(&good);
    std::fs::write(site.config(), vec![b'#'; 2 << 20]).expect("write");
    assert_eq!(site.command(&["check"]).status.code(), Some(78));
    assert_eq!(
        site.command(&["check", "--config", "/nonexistent/x.toml"])
            .status
            .code(),
        Some(78)
    );
    // An empty file is a slip, not a configuration; without listeners it is warned.
    let site = Site::new("");
    assert_eq!(site.command(&["check"]).status.code(), Some(78));
    let site = Site::new(
        "[server]
",
    );
    assert_eq!(site.command(&["check"]).status.code(), Some(0));
}

#[test]
fn a_broken_reload_changes_nothing_and_is_said_loudly() {
    let upstream = Upstream::start();
    let site = Site::usual(
        "[[listener]]\nname = \"fixed\"\naddress = \"127.0.0.1:0\"\ntenant = \"acme\"\n",
    );
    site.smtp_tenant("acme", upstream.port, "");
    let server = site.start();
    site.tenant("acme", "name = \"A\"\nemail = 5\n");
    server.wait_log("event=reload-refused");
    assert!(
        server
            .log()
            .iter()
            .any(|l| l.contains("event=config-problem") && l.contains("acme.toml:2"))
    );
    submit(
        server.port("fixed"),
        None,
        "a@b.example",
        &["x@else.example"],
        &text("as before"),
    );
    upstream.wait(1);
    site.tenant(
        "acme",
        &smtp_tenant("acme", upstream.port, "").replace("Tenant acme", "Renamed"),
    );
    server.wait_log("event=reloaded");
    submit(
        server.port("fixed"),
        None,
        "a@b.example",
        &["x@else.example"],
        &text("renamed"),
    );
    assert_eq!(
        upstream.wait(2)[1].header("From").as_deref(),
        Some("Renamed <office@acme.example>")
    );
    // A port that is taken: the old configuration stays as a whole.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let usual = std::fs::read_to_string(site.config()).expect("read");
    site.operator(&format!(
        "{usual}[[listener]]\naddress = \"{}\"\n",
        taken.local_addr().expect("address")
    ));
    server.wait_log_count("event=reload-refused", 2);
    site.operator(&usual);
    server.wait_log_count("event=reloaded", 2);
}

#[test]
fn a_tenant_that_vanishes_keeps_its_mail() {
    let upstream = Upstream::start();
    let site = Site::usual("[[listener]]\nname = \"fixed\"\naddress = \"127.0.0.1:0\"\n");
    site.smtp_tenant("acme", upstream.port, "networks = [\"127.0.0.0/8\"]\n");
    let server = site.start();
    submit(
        server.port("fixed"),
        None,
        "a@b.example",
        &["tempfail@else.example"],
        &text("orphan"),
    );
    server.wait_log("event=deferred");
    let file = site.path().join("tenants/acme.toml");
    let kept = std::fs::read_to_string(&file).expect("read");
    std::fs::remove_file(&file).expect("remove");
    server.wait_log("event=reloaded");
    let list = crate::support::site::wait_for("held", || {
        site.queue().into_iter().find(|m| m["state"] == "held")
    });
    assert!(
        list["reason"]
            .as_str()
            .is_some_and(|r| r.contains("no longer configured")),
        "{list}"
    );
    site.tenant("acme", &kept);
    server.wait_log_count("event=deferred", 2);
}

#[test]
fn examples_and_the_demo_are_valid() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut found = vec![root.join("postbote.toml")];
    for entry in std::fs::read_dir(root.join("examples"))
        .expect("examples")
        .flatten()
    {
        found.push(entry.path().join("postbote.toml"));
    }
    assert!(found.len() >= 4, "{found:?}");
    for file in found {
        let outcome = postbote::config::load(&file);
        assert!(
            !outcome.has_errors(),
            "{}: {:?}",
            file.display(),
            outcome.problems
        );
        assert!(
            outcome
                .config
                .is_some_and(|c| !c.directory.is_empty() && !c.listeners.is_empty()),
            "{}",
            file.display()
        );
    }
}

#[test]
fn schemas_are_printed() {
    let site = Site::new("");
    for (which, key) in [("operator", "listener"), ("tenant", "upstream")] {
        let schema: serde_json::Value =
            serde_json::from_str(&site.output(&["check", "--schema", which])).expect("json");
        assert_eq!(
            schema["$schema"],
            "https://json-schema.org/draft/2020-12/schema"
        );
        assert!(schema["properties"][key].is_object());
        assert_eq!(schema["additionalProperties"], false);
    }
}

/// Renamed and exchanged listeners, and configuration behind links, are seen for what they are.
#[test]
fn reloads_of_listeners_and_links() {
    let site = Site::usual("");
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .expect("bind")
        .local_addr()
        .expect("address")
        .port();
    let usual = std::fs::read_to_string(site.config()).expect("read");
    let with = |name: &str| {
        format!(
            "{usual}[[listener]]\nname = \"{name}\"\naddress = \"127.0.0.1:{port}\"\ntenant = \"acme\"\n"
        )
    };
    site.tenant(
        "acme",
        "name = \"A\"\nemail = \"a@acme.example\"\n[upstream]\nkind = \"capture\"\n",
    );
    // As Kubernetes mounts it: a link to a file in a directory that is replaced.
    let real = site.path().join("real");
    std::fs::create_dir(&real).expect("directory");
    std::fs::write(
        real.join("postbote.toml"),
        with("first").replace(
            "data_dir = \"data\"",
            &format!(
                "data_dir = \"{}\"\ntenants_dir = \"{}\"",
                site.data().display(),
                site.path().join("tenants").display()
            ),
        ),
    )
    .expect("write");
    std::fs::remove_file(site.config()).expect("remove");
    std::os::unix::fs::symlink(real.join("postbote.toml"), site.config()).expect("link");
    let server = site.start();
    let text_now = std::fs::read_to_string(real.join("postbote.toml")).expect("read");
    std::fs::write(
        real.join("postbote.toml"),
        text_now.replace("\"first\"", "\"second\""),
    )
    .expect("write");
    server.wait_log("event=reloaded");
    submit(
        port,
        None,
        "x@y.example",
        &["x@else.example"],
        &text("renamed"),
    );
    server.wait_log("event=accepted listener=second");
    std::fs::write(real.join("postbote.toml"), "").expect("write");
    server.wait_log("event=reload-refused");
    submit(
        port,
        None,
        "x@y.example",
        &["x@else.example"],
        &text("still there"),
    );
}
