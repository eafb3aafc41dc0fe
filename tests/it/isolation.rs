//! Two tenants, two upstreams: nothing crosses over, whatever happens to one of them.

use crate::support::client::{Client, submit, text};
use crate::support::site::{Site, wait_for};
use crate::support::upstream::{Received, Upstream};

const USERS: &str = "[[user]]\nlogin = \"till@{id}\"\npassword = \"secret-{id}\"\n";

fn users(id: &str) -> String {
    USERS.replace("{id}", id)
}

fn two(a: &Upstream, b: &Upstream) -> Site {
    let site = Site::usual("");
    for (id, upstream) in [("acme", a), ("beta", b)] {
        let login = format!("username = \"{id}\"\npassword = \"up-{id}\"\n");
        site.tenant(
            id,
            &format!(
                "{}{login}",
                crate::support::site::smtp_tenant(id, upstream.port, &users(id))
            ),
        );
    }
    site
}

/// All of it is the tenant's own; a notice of ours (its route works again) is no mail of its
/// applications. Gives how many messages were.
fn check_all(received: &[Received], id: &str) -> usize {
    let (notices, mail): (Vec<_>, Vec<_>) = received.iter().partition(|m| m.mail_from.is_empty());
    for notice in notices {
        assert_eq!(notice.login.as_deref(), Some(id));
        assert_eq!(
            notice.header("Auto-Submitted").as_deref(),
            Some("auto-generated")
        );
    }
    for message in &mail {
        assert_eq!(message.mail_from, format!("office@{id}.example"));
        assert_eq!(
            message.header("From").as_deref(),
            Some(format!("Tenant {id} <office@{id}.example>").as_str())
        );
        assert_eq!(message.login.as_deref(), Some(id));
        assert!(
            message.subject().starts_with(id),
            "{} at {id}",
            message.subject()
        );
    }
    mail.len()
}

#[test]
fn none_crosses_over_under_refused_logins_restart_and_reload() {
    let (a, b) = (
        Upstream::with_login("acme", "up-acme"),
        Upstream::with_login("beta", "up-beta"),
    );
    let site = two(&a, &b);
    let mut server = site.start();
    let mut sent = 0;
    for round in 0..4 {
        let port = server.port("in");
        let mut clients: Vec<(&str, Client)> = ["acme", "beta"]
            .into_iter()
            .map(|id| {
                let mut client = Client::connect(port);
                client.expect("EHLO test", "250");
                let reply = client.login(&format!("till@{id}"), &format!("secret-{id}"));
                assert!(reply.starts_with("235"), "{reply}");
                (id, client)
            })
            .collect();
        for n in 0..50 {
            for (id, client) in &mut clients {
                // Each claims to be the other one.
                let other = if *id == "acme" { "beta" } else { "acme" };
                let reply = client.message(
                    &format!("office@{other}.example"),
                    &["x@else.example"],
                    &text(&format!("{id} {round}-{n}")),
                );
                assert!(reply.starts_with("250"), "{reply}");
            }
            sent += 1;
            if n == 20 && round == 1 {
                b.set_password("changed"); // from here on beta's mail waits
            }
        }
        match round {
            0 => server.hangup(),
            2 => {
                server.kill();
                server = site.start();
            }
            _ => {}
        }
    }
    a.wait(sent);
    // The other tenant's trouble did not touch these; now it is mended.
    b.set_password("up-beta");
    b.wait(sent);
    wait_for("an empty queue", || site.queue().is_empty().then_some(()));
    assert!(check_all(&a.received(), "acme") >= sent && check_all(&b.received(), "beta") >= sent);
}

#[test]
fn a_hanging_upstream_delays_nobody_else() {
    let (a, b) = (Upstream::start(), Upstream::start());
    let site = Site::usual("");
    site.smtp_tenant("acme", a.port, &users("acme"));
    site.smtp_tenant("beta", b.port, &users("beta"));
    let server = site.start();
    a.hold(true);
    for n in 0..20 {
        submit(
            server.port("in"),
            Some("till@acme:secret-acme"),
            "x@y.example",
            &["x@else.example"],
            &text(&format!("acme {n}")),
        );
    }
    for n in 0..100 {
        submit(
            server.port("in"),
            Some("till@beta:secret-beta"),
            "x@y.example",
            &["x@else.example"],
            &text(&format!("beta {n}")),
        );
    }
    // All of beta's arrive while not one of acme's is answered.
    assert_eq!(b.wait(100).len(), 100);
    assert!(a.received().is_empty());
    a.hold(false);
    a.wait(20);
}

#[test]
fn unknown_clients_are_nobodys() {
    let upstream = Upstream::start();
    let site = Site::usual(
        "[[listener]]\nname = \"open\"\naddress = \"127.0.0.1:0\"\nauth = \"none\"\n[[listener]]\nname = \"fixed\"\naddress = \"127.0.0.1:0\"\ntenant = \"acme\"\n",
    );
    site.smtp_tenant("acme", upstream.port, &users("acme"));
    let server = site.start();
    let mut client = Client::connect(server.port("in"));
    client.expect("EHLO x", "250");
    client.expect("MAIL FROM:<office@acme.example>", "530 5.7.0");
    let mut client = Client::connect(server.port("open"));
    client.expect("EHLO x", "250");
    client.expect("MAIL FROM:<office@acme.example>", "550 5.7.1");
    let mut client = Client::connect(server.port("fixed"));
    client.expect("EHLO x", "250");
    client.expect("MAIL FROM:<office@acme.example>", "250 2.1.0");
    // A network of the tenant's own makes it known, the most specific one wins.
    site.tenant("beta", "name = \"Beta\"\nemail = \"b@beta.example\"\nnetworks = [\"127.0.0.0/8\"]\n[upstream]\nkind = \"capture\"\n");
    server.wait_log("event=reloaded");
    submit(
        server.port("open"),
        None,
        "x@y.example",
        &["x@else.example"],
        &text("by network"),
    );
    server.wait_log("tenant=beta event=sent");
}
