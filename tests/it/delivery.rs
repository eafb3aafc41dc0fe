//! Trouble on the way, and what comes of it.

use std::time::Duration;

use crate::support::client::{Client, id_of, submit, text};
use crate::support::site::{Server, Site, wait_for};
use crate::support::upstream::Upstream;

/// One tenant behind one listener.
fn site(port: u16, more: &str, tenant: &str) -> Site {
    let site = Site::usual(&format!(
        "[[listener]]\nname = \"fixed\"\naddress = \"127.0.0.1:0\"\ntenant = \"acme\"\n{more}"
    ));
    site.tenant(
        "acme",
        &format!(
            "{}{tenant}",
            crate::support::site::smtp_tenant("acme", port, "")
        ),
    );
    site
}

fn send(server: &Server, to: &[&str], subject: &str) -> String {
    submit(
        server.port("fixed"),
        None,
        "app@localhost",
        to,
        &text(subject),
    )
}

fn state_of(site: &Site, id: &str) -> String {
    let shown: serde_json::Value =
        serde_json::from_str(&site.output(&["queue", "show", id, "--json"])).expect("json");
    shown["state"].as_str().expect("state").to_owned()
}

/// A port on which nothing listens, now and while the test goes on: below those that the kernel
/// gives to whoever asks for any.
fn free_port() -> u16 {
    let start = (std::process::id() * 7 % 10_000) as u16;
    (0..10_000)
        .map(|step| 20_000 + (start + step) % 10_000)
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

#[test]
fn an_outage_loses_nothing_and_keeps_the_order() {
    let port = free_port();
    let site = site(port, "", "connections = 1\n");
    let server = site.start();
    for n in 0..10 {
        send(&server, &["x@else.example"], &format!("number {n}"));
    }
    server.wait_log("event=route-failing");
    let waiting = site.queue();
    assert_eq!(waiting.len(), 10);
    assert!(
        waiting.iter().all(|m| m["state"] == "deferred"
            && m["reason"].as_str().is_some_and(|r| r.contains("connect"))),
        "{waiting:?}"
    );
    server.kill();
    let upstream = Upstream::on(port, &["PIPELINING"], None);
    let _server = site.start();
    let subjects: Vec<String> = upstream.wait(10).iter().map(|m| m.subject()).collect();
    assert_eq!(
        subjects,
        (0..10).map(|n| format!("number {n}")).collect::<Vec<_>>()
    );
}

#[test]
fn a_refused_login_suspends_and_a_corrected_password_releases() {
    let upstream = Upstream::with_login("acme", "right");
    let site = site(
        upstream.port,
        "",
        "username = \"acme\"\npassword = { vault = \"acme\" }\n",
    );
    assert!(
        site.command_with(&["vault", "set", "acme"], b"wrong\n")
            .status
            .success()
    );
    // Long intervals: what is released is released by the correction.
    site.operator(
        &std::fs::read_to_string(site.config())
            .expect("read")
            .replace(
                "first = \"1s\"\nmaximum = \"1s\"",
                "first = \"1h\"\nmaximum = \"2h\"",
            ),
    );
    let server = site.start();
    for n in 0..5 {
        send(&server, &["x@else.example"], &format!("number {n}"));
    }
    server.wait_log("event=route-suspended");
    wait_for("all suspended", || {
        (site
            .queue()
            .iter()
            .filter(|m| m["state"] == "suspended")
            .count()
            == 5)
            .then_some(())
    });
    // A probe failed once; nothing hammers.
    assert!(upstream.logins() <= 2, "{} logins", upstream.logins());
    assert!(server.get("/readyz").0.contains("200"));
    assert!(server.get("/readyz").1.contains("suspended: own/acme"));
    assert!(
        site.command_with(&["vault", "set", "acme"], b"right\n")
            .status
            .success()
    );
    let subjects: Vec<String> = upstream.wait(5).iter().map(|m| m.subject()).collect();
    assert_eq!(subjects[0], "number 0", "the oldest leads");
    wait_for("an empty queue", || site.queue().is_empty().then_some(()));
    server.wait_log("event=route-works-again");
    let log = server.log().join("\n");
    assert!(
        !log.contains("wrong") && !log.contains("right"),
        "a password is in the log"
    );
}

#[test]
fn a_permanent_refusal_bounces_with_the_upstreams_words() {
    let upstream = Upstream::start();
    let site = site(upstream.port, "", "");
    let server = site.start();
    let id = send(
        &server,
        &["reject@else.example", "good@else.example"],
        "half",
    );
    let received = upstream.wait(2);
    let bounce = received
        .iter()
        .find(|m| m.mail_from.is_empty())
        .expect("a bounce");
    assert_eq!(bounce.rcpts, ["office@acme.example"]);
    let content = bounce.text();
    for piece in [
        "multipart/report; report-type=delivery-status",
        "Auto-Submitted: auto-replied",
        "Final-Recipient: rfc822; reject@else.example",
        "Action: failed",
        "Status: 5.1.1",
        "Diagnostic-Code: smtp; 550 5.1.1 no such user here",
        "Reporting-MTA: dns; postbote.test",
        "Subject: half",
    ] {
        assert!(content.contains(piece), "{piece} is not in {content}");
    }
    assert!(
        !content.contains("good@else.example"),
        "other recipients are nobody's business"
    );
    let good = received
        .iter()
        .find(|m| !m.mail_from.is_empty())
        .expect("the message");
    assert_eq!(good.rcpts, ["good@else.example"]);
    assert_eq!(state_of(&site, &id), "failed");
    // What failed can be tried again; what was taken is not sent twice.
    site.output(&["queue", "retry", "--state", "failed"]);
    server.wait_log_count("event=bounced to=reject@else.example", 2);
    assert_eq!(
        upstream
            .received()
            .iter()
            .filter(|m| m.rcpts.contains(&"good@else.example".to_owned()))
            .count(),
        1
    );
}

#[test]
fn every_recipient_has_its_own_fate_even_over_a_restart() {
    let upstream = Upstream::start();
    let site = site(upstream.port, "", "");
    let server = site.start();
    let id = send(
        &server,
        &[
            "a@else.example",
            "reject@else.example",
            "c@else.example",
            "tempfail@else.example",
        ],
        "mixed",
    );
    server.wait_log("event=deferred to=tempfail@else.example");
    server.kill();
    let server = site.start();
    server.wait_log(&format!("id={id} event=deferred to=tempfail@else.example"));
    let shown: serde_json::Value =
        serde_json::from_str(&site.output(&["queue", "show", &id, "--json"])).expect("json");
    let states: Vec<&str> = shown["to"]
        .as_array()
        .expect("to")
        .iter()
        .filter_map(|r| r["state"].as_str())
        .collect();
    assert_eq!(states, ["sent", "bounced", "sent", "deferred"]);
    let for_a = upstream
        .received()
        .iter()
        .filter(|m| m.rcpts.contains(&"a@else.example".to_owned()))
        .count();
    assert_eq!(for_a, 1);
}

#[test]
fn a_lost_answer_is_uncertain() {
    let upstream = Upstream::start();
    let retrying = site(upstream.port, "", "");
    let server = retrying.start();
    send(&server, &["drop-after-dot-1@else.example"], "retried");
    let received = upstream.wait(2);
    assert_eq!(
        received[0].header("Message-ID"),
        received[1].header("Message-ID")
    );
    drop(server);

    let holding = site(upstream.port, "", "");
    holding.operator(
        &std::fs::read_to_string(holding.config())
            .expect("read")
            .replace("maximum = \"1s\"", "maximum = \"1s\"\nuncertain = \"hold\""),
    );
    let server = holding.start();
    let id = send(&server, &["drop-after-dot-2@else.example"], "held");
    wait_for("uncertain", || {
        (state_of(&holding, &id) == "uncertain").then_some(())
    });
    assert_eq!(upstream.wait(3).len(), 3, "nothing more is tried");
    holding.output(&["queue", "retry", &id]);
    upstream.wait(4);
}

#[test]
fn quotas_pause_and_refused_senders_fail_once() {
    let upstream = Upstream::start();
    let site = site(upstream.port, "", "");
    let server = site.start();
    let denied = send(&server, &["sendas@else.example"], "denied");
    wait_for("failed", || {
        (state_of(&site, &denied) == "failed").then_some(())
    });
    let bounce = upstream.wait(1).remove(0).text();
    assert!(bounce.contains("5.7.60"), "{bounce}");
    let paused = send(&server, &["quota@else.example"], "paused");
    wait_for("deferred", || {
        (state_of(&site, &paused) == "deferred").then_some(())
    });
    let shown: serde_json::Value =
        serde_json::from_str(&site.output(&["queue", "show", &paused, "--json"])).expect("json");
    assert_eq!(shown["attempts"], 0, "a quota does not count");
    let log = server.log();
    assert!(
        log.iter()
            .any(|l| l.contains("event=deferred") && l.contains("SubmissionQuotaExceeded"))
    );
    assert!(
        !log.iter()
            .any(|l| l.contains(&paused) && l.contains("event=bounced"))
    );
}

#[test]
fn a_crash_between_taking_and_dot_repeats_nothing_lost() {
    let upstream = Upstream::start();
    let site = site(upstream.port, "", "");
    let server = site.start();
    send(
        &server,
        &["drop-before-dot@else.example"],
        "broken before the dot",
    );
    let received = upstream.wait(1);
    assert_eq!(received.len(), 1);
    server.wait_log("event=deferred");
}

#[test]
fn the_system_relay_helps_out_only_as_allowed() {
    let relay = Upstream::start();
    let dead = free_port();
    let system = format!(
        "[system]\nemail = \"noreply@provider.example\"\nname = \"Provider\"\n[system.upstream]\nhost = \"127.0.0.1\"\nport = {}\nencryption = \"none\"\n",
        relay.port
    );
    let site = site(
        dead,
        &format!(
            "{system}[tenants.acme]\nsystem_relay = \"on-failure\"\nfallback_after = \"1s\"\n[tenants.never]\nsystem_relay = \"never\"\n[tenants.bare]\nsystem_relay = \"when-unconfigured\"\n"
        ),
        "",
    );
    site.smtp_tenant(
        "never",
        dead,
        "[[user]]\nlogin = \"never\"\npassword = \"never-pw\"\n",
    );
    site.tenant("bare", "name = \"Bare\"\nemail = \"office@bare.example\"\n[[user]]\nlogin = \"bare\"\npassword = \"bare-pw\"\n");
    let server = site.start();
    send(&server, &["x@else.example"], "fallback");
    submit(
        server.port("in"),
        Some("never:never-pw"),
        "a@b.example",
        &["x@else.example"],
        &text("never"),
    );
    submit(
        server.port("in"),
        Some("bare:bare-pw"),
        "a@b.example",
        &["x@else.example"],
        &text("bare"),
    );
    let received = relay.wait(2);
    let fallback = received
        .iter()
        .find(|m| m.subject() == "fallback")
        .expect("fallback");
    assert_eq!(fallback.mail_from, "noreply@provider.example");
    assert_eq!(
        fallback.header("From").as_deref(),
        Some("Provider <noreply@provider.example>")
    );
    assert_eq!(
        fallback.header("Reply-To").as_deref(),
        Some("office@acme.example")
    );
    assert!(
        fallback
            .header("X-Postbote-Route")
            .is_some_and(|h| h.contains("system-relay") && h.contains("failing"))
    );
    server.wait_log("event=sent route=system-fallback");
    let bare = received
        .iter()
        .find(|m| m.subject() == "bare")
        .expect("bare");
    assert_eq!(
        bare.header("X-Postbote-Route").as_deref(),
        Some("system-relay")
    );
    let waiting = site.queue();
    assert!(
        waiting.len() == 1 && waiting[0]["tenant"] == "never",
        "{waiting:?}"
    );
}

#[test]
fn a_rejection_is_never_taken_elsewhere() {
    let (own, relay) = (Upstream::start(), Upstream::start());
    let system = format!(
        "[system]\nemail = \"noreply@provider.example\"\n[system.upstream]\nhost = \"127.0.0.1\"\nport = {}\nencryption = \"none\"\n",
        relay.port
    );
    let site = site(
        own.port,
        &format!(
            "{system}[tenant_defaults]\nsystem_relay = \"on-failure\"\nfallback_after = \"0s\"\n"
        ),
        "",
    );
    let server = site.start();
    send(&server, &["dot-reject@else.example"], "refused");
    send(&server, &["drop-after-dot@else.example"], "lost answer");
    server.wait_log("event=bounced to=dot-reject@else.example");
    own.wait_until("the lost one twice", |r| {
        r.iter().filter(|m| m.subject() == "lost answer").count() == 2
    });
    assert!(
        relay
            .received()
            .iter()
            .all(|m| m.subject() != "refused" && m.subject() != "lost answer"),
        "{:?}",
        relay.received()
    );
}

#[test]
fn giving_up_bounces_and_keeps_the_reason() {
    let upstream = Upstream::start();
    let site = site(upstream.port, "", "");
    site.operator(
        &std::fs::read_to_string(site.config())
            .expect("read")
            .replace(
                "maximum = \"1s\"",
                "maximum = \"1s\"\ngive_up_after = \"3s\"\nwarn_after = \"0s\"",
            ),
    );
    let server = site.start();
    let id = send(&server, &["tempfail@else.example"], "too late");
    let bounce = upstream.wait(1).remove(0).text();
    assert!(
        bounce.contains("Status: 4.4.7") || bounce.contains("Status: 5.4.7"),
        "{bounce}"
    );
    assert_eq!(state_of(&site, &id), "failed");
    server.wait_log("event=bounced to=tempfail@else.example");
}

#[test]
fn many_bounces_become_a_digest() {
    let upstream = Upstream::start();
    let site = site(upstream.port, "", "");
    let server = site.start();
    let mut client = Client::connect(server.port("fixed"));
    client.expect("EHLO test", "250");
    for n in 0..40 {
        let reply = client.message(
            "a@b.example",
            &["reject@else.example"],
            &text(&format!("number {n}")),
        );
        assert!(reply.starts_with("250"), "{reply}");
    }
    server.wait_log_count("event=bounced", 40);
    let bounces = upstream.wait(10);
    assert!(bounces.len() <= 11, "{} bounces", bounces.len());
}

#[test]
fn relayed_answers_with_the_verdict() {
    let upstream = Upstream::start();
    let site = Site::usual(
        "[[listener]]\nname = \"direct\"\naddress = \"127.0.0.1:0\"\ntenant = \"acme\"\nanswer = \"relayed\"\nanswer_within = \"2s\"\n",
    );
    site.smtp_tenant("acme", upstream.port, "");
    let server = site.start();
    let mut client = Client::connect(server.port("direct"));
    client.expect("EHLO test", "250");
    let reply = client.message("a@b.example", &["x@else.example"], &text("good"));
    assert!(reply.starts_with("250 2.0.0 OK, relayed"), "{reply}");
    assert_eq!(upstream.received().len(), 1, "the verdict came first");
    let reply = client.message("a@b.example", &["reject@else.example"], &text("bad"));
    assert!(reply.starts_with("550 5.1.1"), "{reply}");
    upstream.hold(true);
    let reply = client.message("a@b.example", &["x@else.example"], &text("slow"));
    assert!(reply.starts_with("250 2.0.0 OK: queued as"), "{reply}");
    upstream.hold(false);
    let received = upstream.wait(2);
    assert!(
        received.iter().all(|m| !m.mail_from.is_empty()),
        "who was told gets no bounce"
    );
}

#[test]
fn the_master_switch() {
    let upstream = Upstream::start();
    let site = site(upstream.port, "", "");
    let usual = std::fs::read_to_string(site.config()).expect("read");
    site.operator(&usual.replace("drain =", "sending = \"hold\"\ndrain ="));
    let server = site.start();
    let id = send(&server, &["x@else.example"], "kept");
    assert_eq!(state_of(&site, &id), "held");
    site.operator(&usual.replace("drain =", "sending = \"off\"\ndrain ="));
    server.wait_log("event=reloaded");
    let mut client = Client::connect(server.port("fixed"));
    client.expect("EHLO test", "250");
    client.expect("MAIL FROM:<a@b.example>", "550 5.3.2");
    assert!(upstream.received().is_empty());
    site.operator(&usual);
    upstream.wait(1);
}

#[test]
fn a_graceful_end_waits_for_running_deliveries() {
    let upstream = Upstream::start();
    let site = site(upstream.port, "", "");
    let server = site.start();
    upstream.hold(true);
    send(&server, &["x@else.example"], "in flight");
    wait_for("a connection", || {
        (upstream.connections() > 0).then_some(())
    });
    let ending = std::thread::spawn(move || server.stop());
    wait_for("no more connections taken", || {
        site.command(&["queue", "list"])
            .status
            .success()
            .then_some(())
    });
    upstream.hold(false);
    let (code, log) = ending.join().expect("thread");
    assert_eq!(code, Some(0), "{log:?}");
    assert_eq!(upstream.received().len(), 1);
    assert!(site.queue().is_empty(), "its result was recorded");
}

#[test]
fn a_repeat_after_a_lost_answer_is_taken_once() {
    let upstream = Upstream::start();
    let site = site(upstream.port, "", "");
    let server = site.start();
    let message = text("receipt");
    // The client hangs up without reading our answer.
    let mut client = Client::connect(server.port("fixed"));
    client.expect("EHLO till", "250");
    client.expect("MAIL FROM:<a@b.example>", "250");
    client.expect("RCPT TO:<x@else.example>", "250");
    client.expect("DATA", "354");
    client.raw(format!("{message}.\r\n").as_bytes());
    drop(client);
    let first = server.wait_log("event=accepted");
    let again = submit(
        server.port("fixed"),
        None,
        "a@b.example",
        &["x@else.example"],
        &message,
    );
    assert!(first.contains(&format!("id={again} ")), "{first} {again}");
    server.wait_log("event=duplicate");
    // After an answer that was read, the same again is a new message.
    let other = submit(
        server.port("fixed"),
        None,
        "a@b.example",
        &["x@else.example"],
        &message,
    );
    assert_ne!(other, again);
    assert_eq!(upstream.wait(2).len(), 2);
}

/// The next message behind the dot does not hide that nobody has read the answer.
#[test]
fn a_client_that_goes_away_in_its_next_message_may_repeat_the_first() {
    let upstream = Upstream::start();
    let site = site(upstream.port, "", "");
    let server = site.start();
    let message = text("receipt");
    let mut client = Client::connect(server.port("fixed"));
    client.expect("EHLO till", "250");
    let envelope = "MAIL FROM:<a@b.example>\r\nRCPT TO:<x@else.example>\r\nDATA\r\n";
    client.raw(format!("{envelope}{message}.\r\n{envelope}Subject: half").as_bytes());
    drop(client);
    let first = server.wait_log("event=accepted");
    let again = submit(
        server.port("fixed"),
        None,
        "a@b.example",
        &["x@else.example"],
        &message,
    );
    assert!(first.contains(&format!("id={again} ")), "{first} {again}");
    upstream.wait(1);
    assert!(site.queue().is_empty());
    assert_eq!(upstream.received().len(), 1);
}

/// Only a lost answer makes a repeat: equal mail of several tills, of clients that half-close, or
/// that stay connected, is all delivered.
#[test]
fn equal_mail_that_was_answered_is_all_delivered() {
    use std::io::{Read as _, Write as _};
    let upstream = Upstream::start();
    let site = site(upstream.port, "", "");
    let server = site.start();
    let message = text("the same");
    let mut idle = Client::connect(server.port("fixed"));
    idle.expect("EHLO till", "250");
    let mut ids = vec![id_of(&idle.message(
        "a@b.example",
        &["x@else.example"],
        &message,
    ))];
    for _ in 0..2 {
        ids.push(submit(
            server.port("fixed"),
            None,
            "a@b.example",
            &["x@else.example"],
            &message,
        ));
    }
    for _ in 0..2 {
        // `printf … | nc -N`
        let mut stream =
            std::net::TcpStream::connect(("127.0.0.1", server.port("fixed"))).expect("connect");
        write!(stream, "EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@else.example>\r\nDATA\r\n{message}.\r\nQUIT\r\n").expect("write");
        stream
            .shutdown(std::net::Shutdown::Write)
            .expect("shutdown");
        let mut all = String::new();
        stream.read_to_string(&mut all).expect("read");
        let reply = all
            .lines()
            .find(|l| l.contains("queued as"))
            .expect("an id")
            .to_owned();
        ids.push(id_of(&reply));
    }
    let total = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), total, "{ids:?}");
    assert_eq!(upstream.wait(total).len(), total);
}

#[test]
fn operators_see_and_change_what_waits() {
    let site = site(free_port(), "", "");
    let server = site.start();
    let ids: Vec<String> = (0..3)
        .map(|n| send(&server, &["x@else.example"], &format!("number {n}")))
        .collect();
    server.wait_log("event=route-failing");
    let list = site.queue();
    for key in [
        "id", "tenant", "state", "from", "to", "reason", "attempts", "next", "accepted", "size",
    ] {
        assert!(list[0].get(key).is_some(), "{key}");
    }
    wait_for("held", || {
        site.command(&["queue", "hold", &ids[0]])
            .status
            .success()
            .then_some(())
    });
    assert_eq!(state_of(&site, &ids[0]), "held");
    wait_for("removed", || {
        site.command(&["queue", "remove", &ids[1]])
            .status
            .success()
            .then_some(())
    });
    wait_for("bounced", || {
        site.command(&["queue", "bounce", &ids[2]])
            .status
            .success()
            .then_some(())
    });
    assert_eq!(state_of(&site, &ids[2]), "failed");
    assert_eq!(state_of(&site, &ids[1]), "removed");
    drop(server);
    // The same on the spool of a stopped server.
    assert_eq!(state_of(&site, &ids[0]), "held");
    site.output(&["queue", "release", &ids[0]]);
    let released = state_of(&site, &ids[0]);
    assert_eq!(
        released, "deferred",
        "its lane is known to fail, as on the running server"
    );
    let refused = site.command(&["queue", "remove"]);
    assert_eq!(
        refused.status.code(),
        Some(64),
        "nothing is removed by accident"
    );
    assert_eq!(
        site.command(&["queue", "show", "nonsense"]).status.code(),
        Some(65)
    );
}

/// Orders for all messages of a tenant, again and again while they come in and go out: none is lost,
/// none stays behind, none goes twice.
#[test]
fn orders_in_the_midst_of_delivery() {
    const CLIENTS: usize = 4;
    const EACH: usize = 150;
    let upstream = Upstream::start();
    let site = site(upstream.port, "", "connections = 4\n");
    let server = site.start();
    let port = server.port("fixed");
    let large = "0123456789abcdef\r\n".repeat(6000);
    let order = |what: &str| site.command(&["queue", what, "--tenant", "acme"]);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let large = &large;
                scope.spawn(move || {
                    for n in 0..EACH {
                        let subject = format!("{client}-{n}");
                        let body = if n % 10 == 0 { large } else { "" };
                        let content = text(&subject) + body;
                        submit(port, None, "a@b.example", &["x@else.example"], &content);
                    }
                })
            })
            .collect();
        while clients.iter().any(|client| !client.is_finished()) {
            for what in ["hold", "release", "retry"] {
                order(what);
            }
        }
    });
    wait_for("released", || {
        order("release");
        site.queue()
            .iter()
            .all(|message| message["state"] != "held")
            .then_some(())
    });
    upstream.wait_until("all of them", |received| received.len() >= CLIENTS * EACH);
    wait_for("an empty queue", || site.queue().is_empty().then_some(()));
    let mut subjects: Vec<String> = upstream.received().iter().map(|m| m.subject()).collect();
    subjects.sort();
    let mut once = subjects.clone();
    once.dedup();
    assert_eq!(once.len(), CLIENTS * EACH, "lost");
    assert_eq!(subjects.len(), CLIENTS * EACH, "twice");
}

#[test]
fn pipelined_sessions_keep_their_order() {
    let upstream = Upstream::start();
    let site = site(upstream.port, "", "connections = 1\n");
    let server = site.start();
    let mut client = Client::connect(server.port("fixed"));
    client.expect("EHLO test", "250");
    for n in 0..200 {
        client.raw(
            format!("MAIL FROM:<a@b.example>\r\nRCPT TO:<x{n}@else.example>\r\nDATA\r\n")
                .as_bytes(),
        );
        assert!(client.reply().starts_with("250"));
        assert!(client.reply().starts_with("250"));
        assert!(client.reply().starts_with("354"));
        client.raw(format!("{}.\r\n", text(&format!("number {n}"))).as_bytes());
        assert!(id_of(&client.reply()).len() == 16);
    }
    let received = upstream.wait(200);
    assert!(
        received
            .iter()
            .enumerate()
            .all(|(n, m)| m.subject() == format!("number {n}"))
    );
    assert!(
        upstream.connections() <= 3,
        "{} connections for 200 messages",
        upstream.connections()
    );
}

#[test]
fn a_yes_before_the_message_is_no_yes() {
    let upstream = Upstream::start();
    let site = site(upstream.port, "", "");
    let server = site.start();
    let id = send(&server, &["early@else.example"], "out of step");
    server.wait_log(&format!("id={id} event=deferred"));
    assert!(!server.log().iter().any(|l| l.contains("event=sent")));
}

/// One message that the server cannot stand holds up no other.
#[test]
fn one_bad_message_stops_no_route() {
    let upstream = Upstream::start();
    let site = site(upstream.port, "", "connections = 1\n");
    let server = site.start();
    let poison = send(&server, &["poison@else.example"], "poison");
    for n in 0..5 {
        send(&server, &["x@else.example"], &format!("good {n}"));
    }
    assert_eq!(upstream.wait(5).len(), 5);
    assert!(["deferred", "queued"].contains(&state_of(&site, &poison).as_str()));
}

/// Retried, removed and bounced messages leave the room that they took, no more and no less.
#[test]
fn the_spools_room_is_counted_right() {
    let upstream = Upstream::start();
    let site = site(upstream.port, "", "");
    let usual = std::fs::read_to_string(site.config()).expect("read");
    site.operator(&usual.replace("drain =", "spool_limit = \"20KiB\"\ndrain ="));
    let server = site.start();
    let id = send(&server, &["sendas@else.example"], "refused");
    wait_for("failed", || {
        (state_of(&site, &id) == "failed").then_some(())
    });
    let list = site.queue();
    let failed = list
        .iter()
        .find(|m| m["id"] == id.as_str())
        .expect("listed");
    assert!(failed["size"].as_u64().is_some_and(|n| n > 50), "{failed}");
    site.output(&["queue", "retry", &id]);
    server.wait_log_count("event=bounced to=sendas@else.example", 2);
    wait_for("failed again", || {
        site.command(&["queue", "remove", &id])
            .status
            .success()
            .then_some(())
    });
    let bytes = || {
        let metrics = server.get("/metrics").1;
        let line = metrics
            .lines()
            .find(|l| l.starts_with("postbote_spool_bytes "))
            .expect("bytes")
            .to_owned();
        line.split(' ')
            .nth(1)
            .and_then(|n| n.parse::<f64>().ok())
            .expect("number")
    };
    wait_for("an empty spool", || (bytes() == 0.0).then_some(()));
    send(&server, &["x@else.example"], "taken");
}

/// What one tenant lacks does not close the relay that all share.
#[test]
fn a_missing_key_stops_only_its_own_tenant() {
    let relay = Upstream::start();
    let site = Site::usual(&format!(
        "[system]\nemail = \"noreply@provider.example\"\nsender = \"tenant\"\n[system.upstream]\nhost = \"127.0.0.1\"\nport = {}\nencryption = \"none\"\n[tenant_defaults]\nsystem_relay = \"when-unconfigured\"\n",
        relay.port
    ));
    site.tenant("aa", "name = \"A\"\nemail = \"o@aa.example\"\n[[user]]\nlogin = \"aa\"\npassword = \"aa-password\"\n[[dkim]]\ndomain = \"aa.example\"\nselector = \"s\"\nkey = { vault = \"nowhere\" }\n");
    site.tenant("bb", "name = \"B\"\nemail = \"o@bb.example\"\n[[user]]\nlogin = \"bb\"\npassword = \"bb-password\"\n");
    let server = site.start();
    submit(
        server.port("in"),
        Some("aa:aa-password"),
        "x@y.example",
        &["x@else.example"],
        &text("waits"),
    );
    server.wait_log("tenant=aa event=deferred");
    submit(
        server.port("in"),
        Some("bb:bb-password"),
        "x@y.example",
        &["x@else.example"],
        &text("goes"),
    );
    let received = relay.wait(1);
    assert_eq!(
        (received.len(), received[0].subject().as_str()),
        (1, "goes")
    );
}

/// Side by side attempts count one failure, and the first probe comes after `retry.first`.
#[test]
fn parallel_refusals_are_one_refusal() {
    let upstream = Upstream::with_login("acme", "right");
    let site = site(
        upstream.port,
        "",
        "username = \"acme\"\npassword = \"wrong-one\"\nconnections = 8\n",
    );
    let usual = std::fs::read_to_string(site.config()).expect("read");
    site.operator(&usual.replace(
        "first = \"1s\"\nmaximum = \"1s\"",
        "first = \"2s\"\nmaximum = \"1h\"",
    ));
    let server = site.start();
    for n in 0..8 {
        send(&server, &["x@else.example"], &format!("number {n}"));
    }
    server.wait_log("event=route-suspended");
    upstream.set_password("wrong-one");
    assert_eq!(
        upstream.wait(8).len(),
        8,
        "the next probe came soon and released all"
    );
}

/// An uncertain message whose route is gone neither spins nor blocks.
#[test]
fn an_uncertain_message_waits_for_its_own_route() {
    let (own, relay) = (Upstream::start(), Upstream::start());
    let system = format!(
        "[system]\nemail = \"noreply@provider.example\"\n[system.upstream]\nhost = \"127.0.0.1\"\nport = {}\nencryption = \"none\"\n[tenant_defaults]\nsystem_relay = \"when-unconfigured\"\n",
        relay.port
    );
    let site = site(own.port, &system, "");
    let server = site.start();
    let id = send(&server, &["drop-after-dot@else.example"], "lost answer");
    own.wait(1);
    let kept = std::fs::read_to_string(site.path().join("tenants/acme.toml")).expect("tenant");
    site.tenant("acme", "name = \"ACME\"\nemail = \"office@acme.example\"\n");
    server.wait_log("event=reloaded");
    send(&server, &["x@else.example"], "another");
    assert_eq!(relay.wait(1)[0].subject(), "another");
    assert_eq!(state_of(&site, &id), "uncertain");
    site.tenant("acme", &kept);
    own.wait_until("its own route again", |r| {
        r.iter().filter(|m| m.subject() == "lost answer").count() == 2
    });
    assert_eq!(relay.received().len(), 1, "no other route for it");
}

/// A refusal that the application never heard of becomes a bounce.
#[test]
fn relayed_refusals_reach_somebody() {
    let upstream = Upstream::start();
    let site = Site::usual(
        "[[listener]]\nname = \"direct\"\naddress = \"127.0.0.1:0\"\ntenant = \"acme\"\nanswer = \"relayed\"\n",
    );
    site.smtp_tenant("acme", upstream.port, "");
    let server = site.start();
    upstream.hold(true);
    let mut client = Client::connect(server.port("direct"));
    client.expect("EHLO x", "250");
    client.expect("MAIL FROM:<a@b.example>", "250");
    client.expect("RCPT TO:<x@else.example>", "250");
    client.expect("RCPT TO:<reject@else.example>", "250");
    client.expect("DATA", "354");
    client.raw(format!("{}.\r\n", text("gone")).as_bytes());
    drop(client);
    upstream.hold(false);
    let received = upstream.wait(2);
    assert!(
        received
            .iter()
            .any(|m| m.mail_from.is_empty() && m.text().contains("reject@else.example"))
    );
    // The same content after a refusal that was heard is a new try, not a repeat.
    let mut client = Client::connect(server.port("direct"));
    client.expect("EHLO x", "250");
    for _ in 0..2 {
        let reply = client.message("a@b.example", &["reject@else.example"], &text("again"));
        assert!(reply.starts_with("550 5.1.1"), "{reply}");
    }
}

#[test]
fn success_is_told_where_the_upstream_cannot() {
    let upstream = Upstream::with(&["PIPELINING", "8BITMIME"], None);
    let site = site(upstream.port, "", "");
    let server = site.start();
    let mut client = Client::connect(server.port("fixed"));
    client.expect("EHLO x", "250");
    client.expect("MAIL FROM:<a@b.example> ENVID=abc", "250");
    client.expect(
        "RCPT TO:<x@else.example> NOTIFY=SUCCESS ORCPT=rfc822;y@else.example",
        "250",
    );
    assert!(client.content(&text("told")).starts_with("250"));
    let notice = upstream.wait(2).remove(1).text();
    for piece in [
        "Action: relayed",
        "Original-Envelope-Id: abc",
        "Original-Recipient: rfc822;y@else.example",
        "Status: 2.0.0",
    ] {
        assert!(notice.contains(piece), "{piece} is not in {notice}");
    }
}

/// One old failure is no long one: a server that works again keeps its mail.
#[test]
fn a_healthy_upstream_keeps_its_mail() {
    let relay = Upstream::start();
    let port = free_port();
    let system = format!(
        "[system]\nemail = \"noreply@provider.example\"\n[system.upstream]\nhost = \"127.0.0.1\"\nport = {}\nencryption = \"none\"\n[tenant_defaults]\nsystem_relay = \"on-failure\"\nfallback_after = \"2s\"\n",
        relay.port
    );
    let site = site(port, &system, "");
    let server = site.start();
    let first = send(&server, &["x@else.example"], "early");
    server.wait_log("event=route-failing");
    wait_for("removed", || {
        site.command(&["queue", "remove", &first])
            .status
            .success()
            .then_some(())
    });
    let own = Upstream::on(port, &["PIPELINING"], None);
    // The failure is older than `fallback_after` when the next mail comes.
    let since = std::time::Instant::now();
    wait_for("fallback_after", || {
        (since.elapsed() >= Duration::from_secs(3)).then_some(())
    });
    for n in 0..10 {
        send(&server, &["x@else.example"], &format!("burst {n}"));
    }
    assert_eq!(own.wait(10).len(), 10);
    assert!(relay.received().is_empty(), "{:?}", relay.received());
}

/// A bounce that the own route refuses goes over the relay, where that is allowed.
#[test]
fn bounces_find_another_way() {
    let (own, relay) = (Upstream::start(), Upstream::start());
    let system = format!(
        "[system]\nemail = \"noreply@provider.example\"\n[system.upstream]\nhost = \"127.0.0.1\"\nport = {}\nencryption = \"none\"\n[tenant_defaults]\nsystem_relay = \"on-failure\"\n",
        relay.port
    );
    let site = site(
        own.port,
        &system,
        "[sender]\nreturn_path = \"reject-too@acme.example\"\n",
    );
    let server = site.start();
    send(&server, &["reject@else.example"], "refused");
    server.wait_log("event=bounced to=reject@else.example");
    server.wait_log("to=reject-too@acme.example route=system");
    assert!(own.received().is_empty());
}

/// With `system.required` nobody sends while the relay does not work.
#[test]
fn a_required_relay_must_work() {
    let own = Upstream::start();
    let relay = free_port();
    let system = format!(
        "[system]\nemail = \"noreply@provider.example\"\nrequired = true\n[system.upstream]\nhost = \"127.0.0.1\"\nport = {relay}\nencryption = \"none\"\n"
    );
    let site = site(own.port, &system, "");
    let server = site.start();
    send(&server, &["x@else.example"], "waits");
    server.wait_log("event=required-relay-down");
    assert!(own.received().is_empty());
    let _relay = Upstream::on(relay, &["PIPELINING"], None);
    assert_eq!(own.wait(1)[0].subject(), "waits");
}
