//! What applications are told. Dialogues are data that a mail administrator can read.

use crate::support::client::{Client, id_of, submit, text};
use crate::support::site::{Server, Site, wait_for};

/// Where the dialogues are played: one tenant by listener, one by login.
fn site() -> Site {
    let site = Site::usual(
        "[[listener]]\nname = \"fixed\"\naddress = \"127.0.0.1:0\"\ntenant = \"acme\"\ntls = \"none\"\nlegacy_auth_line = true\n\
         [[listener]]\nname = \"must\"\naddress = \"127.0.0.1:0\"\nauth = \"required\"\n\
         [[listener]]\nname = \"strict\"\naddress = \"127.0.0.1:0\"\ntenant = \"acme\"\nbare_newline = \"reject\"\n\
         [[listener]]\nname = \"legacy\"\naddress = \"127.0.0.1:0\"\ntenant = \"acme\"\nbare_newline = \"legacy\"\nnetworks = [\"127.0.0.0/8\"]\n\
         [[listener]]\nname = \"elsewhere\"\naddress = \"127.0.0.1:0\"\nnetworks = [\"10.0.0.0/8\"]\n\
         [[listener]]\nname = \"narrow\"\naddress = \"127.0.0.1:0\"\ntenant = \"acme\"\nmax_connections = 1\n\
         [[listener]]\nname = \"noroute\"\naddress = \"127.0.0.1:0\"\ntenant = \"noroute\"\n\
         [[listener]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\ntenant = \"acme\"\ntls = \"starttls\"\nplaintext_auth = \"never\"\n\
         [[listener]]\nname = \"choosy\"\naddress = \"127.0.0.1:0\"\ntenant = \"choosy\"\n",
    );
    let usual = std::fs::read_to_string(site.config()).expect("read");
    site.operator(&usual.replace(
        "drain =",
        "max_message_size = \"100KiB\"\nmax_recipients = 5\ndrain =",
    ));
    site.tenant("acme", "name = \"ACME\"\nemail = \"office@acme.example\"\n[upstream]\nkind = \"capture\"\n[[user]]\nlogin = \"pos1@acme\"\npassword = \"tanstaaftanstaaf\"\n");
    site.tenant(
        "noroute",
        "name = \"No Route\"\nemail = \"office@noroute.example\"\n",
    );
    site.tenant(
        "choosy",
        "name = \"Choosy\"\nemail = \"office@choosy.example\"\n[upstream]\nkind = \"capture\"\n[sender]\napplication_from = \"reject-unauthorized\"\n[[user]]\nlogin = \"pos1@choosy\"\npassword = \"choosy-password\"\nemail = \"pos1@choosy.example\"\nsenders = [\"*@shop.choosy.example\"]\n",
    );
    site
}

/// Plays a dialogue: `@ listener` connects, `C:` sends a line, `S:` is what the reply must begin
/// with, `S~` what it must contain, `D:` sends raw text with `\r \n \0 \x..` escapes and no line
/// end, `X` says that the server has closed.
fn play(server: &Server, name: &str, dialogue: &str) {
    let mut client: Option<Client> = None;
    let mut reply = String::new();
    for (number, line) in dialogue.lines().enumerate() {
        let place = format!("{name}:{}", number + 1);
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(listener) = line.strip_prefix("@ ") {
            client = Some(Client::silent(server.port(listener.trim())));
            continue;
        }
        let client = client
            .as_mut()
            .unwrap_or_else(|| panic!("{place}: @ listener comes first"));
        match line.split_at(line.len().min(2)) {
            ("C:", rest) => {
                client.raw(format!("{}\r\n", rest.strip_prefix(' ').unwrap_or(rest)).as_bytes())
            }
            ("D:", rest) => client.raw(&unescape(rest.strip_prefix(' ').unwrap_or(rest))),
            ("S:", expected) => {
                reply = client.reply();
                assert!(
                    reply.starts_with(expected.trim()),
                    "{place}: expected {expected}, got {reply:?}"
                );
            }
            ("S~", expected) => assert!(
                reply.contains(expected.trim()),
                "{place}: {expected} is not in {reply:?}"
            ),
            ("X", _) => assert!(client.is_closed(), "{place}: still open"),
            _ => panic!("{place}: {line}"),
        }
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => match bytes.next() {
                Some(b'r') => out.push(b'\r'),
                Some(b'n') => out.push(b'\n'),
                Some(b'0') => out.push(0),
                Some(b'x') => {
                    let hex = [bytes.next().expect("hex"), bytes.next().expect("hex")];
                    out.push(
                        u8::from_str_radix(std::str::from_utf8(&hex).expect("hex"), 16)
                            .expect("hex"),
                    );
                }
                other => panic!("unknown escape {other:?}"),
            },
            _ => out.push(byte),
        }
    }
    out
}

#[test]
fn dialogues() {
    let site = site();
    let server = site.start();
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/dialogues");
    let mut played = 0;
    for entry in std::fs::read_dir(directory).expect("dialogues").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(entry.path()).expect("dialogue");
        // A blank line with dashes parts dialogues, each with fresh connections.
        for (n, dialogue) in text.split("\n---\n").enumerate() {
            play(&server, &format!("{name}#{}", n + 1), dialogue);
            played += 1;
        }
    }
    assert!(played >= 20, "{played} dialogues");
    assert!(site.queue().is_empty());
}

/// A lone dot that does not stand between two CRLF, in every form that scanners try, octet by
/// octet as well: one message or none, never two.
#[test]
fn nothing_is_smuggled() {
    let site = site();
    let server = site.start();
    let inner = "MAIL FROM:<x@evil.example>\r\nRCPT TO:<victim@else.example>\r\nDATA\r\nFrom: evil@evil.example\r\n\r\nsmuggled\r\n";
    let attacks: &[&[u8]] = &[
        b"\n.\n",
        b"\n.\r\n",
        b"\r\n.\n",
        b"\r.\r",
        b"\r.\n",
        b"\n.\r",
        b"\r.\r\n",
        b"\r\n.\rx",
        b"\r\n\0.\r\n",
        b"\r\n.\0\r\n",
        b"\r\n\0.\r",
        b"\r\n\0.\n",
        b"\r\n.\r\r\n",
        b"\r\r\n.\r\r\n",
        b"\n\n.\r\n",
    ];
    for attack in attacks {
        for slowly in [false, true] {
            let mut client = Client::connect(server.port("fixed"));
            client.expect("EHLO x", "250");
            client.expect("MAIL FROM:<a@b.example>", "250");
            client.expect("RCPT TO:<x@else.example>", "250");
            client.expect("DATA", "354");
            let wire = [
                b"Subject: x\r\n\r\nbody",
                *attack,
                inner.as_bytes(),
                b"\r\n.\r\n",
            ]
            .concat();
            if slowly {
                wire.iter().for_each(|byte| client.raw(&[*byte]));
            } else {
                client.raw(&wire);
            }
            let reply = client.reply();
            let expected = if attack.contains(&0) {
                "554 5.6.0"
            } else {
                "550 5.5.2"
            };
            assert!(reply.starts_with(expected), "{attack:?}: {reply}");
        }
    }
    assert!(!server.log().iter().any(|l| l.contains("event=accepted")));
}

#[test]
fn encryption_forgets_what_was_said_before() {
    let site = site();
    let server = site.start();
    // Commands behind STARTTLS in the same segment are never executed.
    let mut client = Client::connect(server.port("tls"));
    client.expect("EHLO x", "250");
    client.raw(b"STARTTLS\r\nMAIL FROM:<x@y.example>\r\n");
    assert!(client.reply().starts_with("554 5.5.0"));
    assert!(client.is_closed());
    let script = format!(
        "import smtplib,ssl\ns=smtplib.SMTP('127.0.0.1',{0})\nc=ssl._create_unverified_context()\ns.ehlo()\nassert 'auth' not in s.esmtp_features\ns.mail('a@b.example')\ns.starttls(context=c)\nassert s.docmd('MAIL','FROM:<a@b.example>')[0]==503\ns.ehlo()\nassert 'starttls' not in s.esmtp_features\ns.login('pos1@acme','tanstaaftanstaaf')\ns.sendmail('a@b.example',['x@else.example'],'Subject: tls\\r\\n\\r\\nx\\r\\n')\ns.quit()\n",
        server.port("tls")
    );
    let output = std::process::Command::new("python3")
        .arg("-c")
        .arg(script)
        .output()
        .expect("python3");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    server.wait_log("event=sent");
    let captured = std::fs::read_dir(site.data().join("captured/acme"))
        .expect("captured")
        .flatten()
        .find(|e| e.path().extension().is_some_and(|x| x == "eml"))
        .expect("eml");
    let text = std::fs::read_to_string(captured.path()).expect("eml");
    assert!(text.contains(" with ESMTPSA id "), "{text}");
}

#[test]
fn challenge_mechanisms_of_old_devices() {
    let site = site();
    let server = site.start();
    let script = format!(
        "import smtplib\nfor mech in ('auth_cram_md5','auth_plain','auth_login'):\n s=smtplib.SMTP('127.0.0.1',{0})\n s.ehlo()\n s.user,s.password='pos1@acme','tanstaaftanstaaf'\n name={{'auth_cram_md5':'CRAM-MD5','auth_plain':'PLAIN','auth_login':'LOGIN'}}[mech]\n assert name in s.esmtp_features['auth'],s.esmtp_features\n s.auth(name,getattr(s,mech))\n s.quit()\n",
        server.port("fixed")
    );
    let output = std::process::Command::new("python3")
        .arg("-c")
        .arg(script)
        .output()
        .expect("python3");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // SCRAM both ways: Postbote as its own client would log in.
    let mut client = Client::connect(server.port("fixed"));
    client.expect("EHLO x", "250");
    use postbote::smtp::sasl::{ScramClient, decode, encode};
    let mut scram = ScramClient::new("pos1@acme", "tanstaaftanstaaf", "clientnonce12345".into());
    let first = client.expect(
        &format!("AUTH SCRAM-SHA-256 {}", encode(scram.first().as_bytes())),
        "334 ",
    );
    let last = scram
        .respond(&decode(&first[4..]).expect("base64"))
        .expect("server first");
    let proof = client.expect(&encode(last.as_bytes()), "334 ");
    scram
        .verify(&decode(&proof[4..]).expect("base64"))
        .expect("server proof");
    client.expect("", "235 2.7.0");
}

#[test]
fn full_spools_and_unix_sockets() {
    let site = Site::usual("");
    let socket = site.path().join("smtp.sock");
    let usual = std::fs::read_to_string(site.config()).expect("read");
    site.operator(&format!("{}[[listener]]\nname = \"unix\"\naddress = \"unix:{}\"\ntenant = \"acme\"\n[[listener]]\nname = \"fixed\"\naddress = \"127.0.0.1:0\"\ntenant = \"acme\"\n", usual.replace("drain =", "spool_limit = \"2KiB\"\nsending = \"hold\"\ndrain ="), socket.display()));
    site.tenant(
        "acme",
        "name = \"ACME\"\nemail = \"office@acme.example\"\n[upstream]\nkind = \"capture\"\n",
    );
    let server = site.start();
    let mut stream = std::os::unix::net::UnixStream::connect(&socket).expect("unix socket");
    use std::io::{Read as _, Write as _};
    stream.write_all(b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@else.example>\r\nDATA\r\nSubject: unix\r\n\r\nx\r\n.\r\nQUIT\r\n").expect("write");
    let mut all = String::new();
    stream.read_to_string(&mut all).expect("read");
    assert!(all.contains("queued as"), "{all}");
    let mut client = Client::connect(server.port("fixed"));
    client.expect("EHLO x", "250");
    let big = format!("{}{}", text("big"), "x\r\n".repeat(700));
    assert!(
        client
            .message("a@b.example", &["x@else.example"], &big)
            .starts_with("452 4.3.1")
    );
    client.expect("MAIL FROM:<a@b.example> SIZE=4000", "452 4.3.1");
}

#[test]
fn what_was_refused_leaves_nothing_to_the_next() {
    let site = site();
    let server = site.start();
    let mut client = Client::connect(server.port("fixed"));
    client.expect("EHLO x", "250");
    let refused = client.message(
        "a@b.example",
        &["x@else.example"],
        "Subject: x\r\ngarbage\r\n\r\nx\r\n",
    );
    assert!(refused.starts_with("554 5.6.0"), "{refused}");
    client.expect("RCPT TO:<c@else.example>", "503 5.5.1");
    client.expect("DATA", "503 5.5.1");
    let huge = format!("{}{}", text("huge"), "0123456789\r\n".repeat(10_000));
    assert!(
        client
            .message("a@b.example", &["x@else.example"], &huge)
            .starts_with("552 5.3.4")
    );
    client.expect("RCPT TO:<c@else.example>", "503 5.5.1");
    let hops = "Received: from x by y; date\r\n".repeat(51);
    assert!(
        client
            .message(
                "a@b.example",
                &["x@else.example"],
                &format!("{hops}{}", text("loop"))
            )
            .starts_with("554 5.4.6")
    );
    let id = id_of(&client.message("a@b.example", &["x@else.example"], &text("fine")));
    server.wait_log(&format!("id={id} event=sent"));
}

#[test]
fn systemd_passes_sockets_by_name() {
    let site = Site::usual("");
    let usual = std::fs::read_to_string(site.config()).expect("read");
    site.operator(&format!(
        "{usual}[[listener]]\nname = \"passed\"\naddress = \"systemd:smtp\"\ntenant = \"acme\"\n"
    ));
    site.tenant(
        "acme",
        "name = \"ACME\"\nemail = \"office@acme.example\"\n[upstream]\nkind = \"capture\"\n",
    );
    // What systemd does: open sockets from descriptor 3 on, their names and our process id beside
    // them; a unit with two ListenStream= passes both under one name.
    let wrapper = "import os,socket,sys\nfor n in (3,4):\n s=socket.socket()\n s.bind(('127.0.0.1',0))\n s.listen(16)\n os.dup2(s.detach(),n)\n os.set_inheritable(n,True)\nos.environ.update(LISTEN_FDS='2',LISTEN_FDNAMES='smtp:smtp',LISTEN_PID=str(os.getpid()))\nos.execv(sys.argv[1],sys.argv[1:])\n";
    let server = Server::start(&site, &["python3", "-c", wrapper]);
    for line in server.wait_log_count("event=listening listener=passed", 2) {
        let port = line
            .rsplit(':')
            .next()
            .expect("port")
            .parse()
            .expect("port");
        submit(
            port,
            None,
            "a@b.example",
            &["x@else.example"],
            &text("passed"),
        );
    }
    server.wait_log_count("event=sent", 2);
}

#[test]
fn throttled_guessing_spares_who_is_known() {
    let site = site();
    let server = site.start();
    let login = |password: &str| {
        let mut client = Client::connect(server.port("fixed"));
        client.expect("EHLO x", "250");
        client.login("pos1@acme", password)
    };
    assert!(login("tanstaaftanstaaf").starts_with("235"));
    for _ in 0..12 {
        let reply = login("guess");
        assert!(
            reply.starts_with("535 5.7.8") || reply.starts_with("454 4.7.0"),
            "{reply}"
        );
    }
    assert!(login("guess").starts_with("454 4.7.0"));
    assert!(
        login("tanstaaftanstaaf").starts_with("235"),
        "the rightful client is remembered"
    );
    wait_for("nothing of it in the log", || {
        (!server.log().join("\n").contains("guess")).then_some(())
    });
}

/// A client that resets or asks before every message may send as many as it likes.
#[test]
fn many_messages_with_rset_and_noop() {
    let site = site();
    let server = site.start();
    let mut client = Client::connect(server.port("fixed"));
    client.expect("EHLO x", "250");
    for n in 0..150 {
        client.expect("RSET", "250");
        client.expect("NOOP", "250");
        assert!(
            client
                .message(
                    "a@b.example",
                    &["x@else.example"],
                    &text(&format!("number {n}"))
                )
                .starts_with("250")
        );
    }
}

/// On a legacy listener a CRLF inside a message ends the leniency, for later messages too.
#[test]
fn legacy_ends_are_for_lf_only_sessions() {
    let site = site();
    let server = site.start();
    let mut client = Client::connect(server.port("legacy"));
    let mut say = |line: &str, expected: &str| {
        client.raw(line.as_bytes());
        let reply = client.reply();
        assert!(reply.starts_with(expected), "{line:?}: {reply}");
    };
    say("EHLO x\n", "250");
    for (content, expected) in [
        ("Subject: one\n\nhello\n.\n", "250"),
        ("Subject: two\r\n\r\nhello\r\n.\r\n", "250"),
        (
            "Subject: three\n\nhello\n.\nMAIL FROM:<evil@x.example>\nx\r\n.\r\n",
            "550 5.5.2",
        ),
    ] {
        say("MAIL FROM:<a@b.example>\n", "250");
        say("RCPT TO:<x@else.example>\n", "250");
        say("DATA\n", "354");
        say(content, expected);
    }
}

#[test]
fn a_changed_password_ends_open_sessions() {
    let site = site();
    let server = site.start();
    let mut client = Client::connect(server.port("must"));
    client.expect("EHLO x", "250");
    assert!(
        client
            .login("pos1@acme", "tanstaaftanstaaf")
            .starts_with("235")
    );
    let file = site.path().join("tenants/acme.toml");
    let text = std::fs::read_to_string(&file).expect("tenant");
    site.tenant(
        "acme",
        &text.replace("tanstaaftanstaaf", "another-password"),
    );
    server.wait_log("event=reloaded");
    client.expect("MAIL FROM:<a@b.example>", "535 5.7.8");
    assert!(client.is_closed());
}

/// Text that went through two conversions keeps its header and its body.
#[test]
fn doubled_carriage_returns_are_one_line_end() {
    let site = site();
    let server = site.start();
    let mut client = Client::connect(server.port("fixed"));
    client.expect("EHLO x", "250");
    let reply = client.message(
        "a@b.example",
        &["x@else.example"],
        "Subject: x\r\r\nTo: x@else.example\r\r\n\r\r\nHinweis: Termin\r\r\n",
    );
    assert!(reply.starts_with("250"), "{reply}");
    let id = id_of(&reply);
    server.wait_log(&format!("id={id} event=sent"));
    let text =
        std::fs::read_to_string(site.data().join(format!("captured/acme/{id}.eml"))).expect("eml");
    assert!(text.ends_with("\r\n\r\nHinweis: Termin\r\n"), "{text}");
}

/// Content behind a DATA that is refused is never run as commands, wherever the reads are cut.
#[test]
fn content_behind_a_refused_data_is_not_commands() {
    let site = site();
    let server = site.start();
    let content = "hello\r\nMAIL FROM:<x@evil.example>\r\nRCPT TO:<v@else.example>\r\nDATA\r\nFrom: x@evil.example\r\n\r\nsmuggled\r\n.\r\nQUIT\r\n";
    for (data, length) in [
        ("DATA", 0),
        ("DATA", 4096),
        ("DATA", 16_384),
        ("DATA", 32_768),
        ("DATA now", 0),
        ("data\tx", 16_384),
    ] {
        let refused = if data == "DATA" {
            "nobody"
        } else {
            "b@else.example"
        };
        let begin =
            format!("EHLO x\r\nMAIL FROM:<a@source.example>\r\nRCPT TO:<{refused}>\r\n{data}\r\n");
        let mut padding = String::new();
        while padding.len() + begin.len() + 10 < length {
            padding.push_str("NOOP\r\n");
        }
        if padding.len() + begin.len() < length {
            let rest = length - padding.len() - begin.len() - 2;
            padding.push_str(&format!("NOOP{}\r\n", " ".repeat(rest - 4)));
        }
        let mut client = Client::silent(server.port("fixed"));
        client.raw(format!("{padding}{begin}{content}").as_bytes());
        let mut replies = Vec::new();
        loop {
            match client.reply() {
                reply if reply.is_empty() => break,
                reply => replies.push(reply),
            }
        }
        assert!(
            !replies
                .iter()
                .any(|r| r.contains("queued") || r.starts_with("354")),
            "{data} {length}: {replies:?}"
        );
    }
    assert!(site.queue().is_empty());
}

/// A NUL near a lone dot is as bad as one beside it: refused, and the connection is closed.
#[test]
fn nul_near_a_lone_dot_closes() {
    let site = site();
    let server = site.start();
    for attack in ["\r\0\n.\r\n", "\r\n.\r\0\n", "\0\r\n.\n", "x\0\r."] {
        let mut client = Client::connect(server.port("fixed"));
        client.expect("EHLO x", "250");
        client.expect("MAIL FROM:<a@source.example>", "250");
        client.expect("RCPT TO:<b@else.example>", "250");
        client.expect("DATA", "354");
        client.raw(format!("From: a@b.example\r\n\r\nx{attack}\r\n.\r\n").as_bytes());
        let reply = client.reply();
        assert!(reply.starts_with("554 5.6.0"), "{attack:?}: {reply}");
        assert!(client.is_closed(), "{attack:?}");
    }
}
