//! A session's commands: whatever comes, one reply each, and no content before a recipient.
#![no_main]
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use postbote::message::TenantId;
use postbote::smtp::data::BareNewline;
use postbote::spool::{Limits, Spool};
use postbote::submission::admit::Now;
use postbote::submission::session::{Check, Session, Step};
use postbote::submission::{Answer, AuthMode, ListenAddress, PlaintextAuth, Settings, TlsMode};
use postbote::tenant::directory::Directory;

struct World {
    now: Now,
    spool: Spool,
    listener: Arc<Settings>,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let site = tempfile::tempdir().expect("directory");
        let root = site.keep();
        std::fs::create_dir(root.join("tenants")).expect("tenants");
        std::fs::write(root.join("postbote.toml"), "[server]\nhostname = \"p.test\"\ndata_dir = \"data\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n").expect("write");
        std::fs::write(root.join("tenants/acme.toml"), "name = \"A\"\nemail = \"a@acme.example\"\n[upstream]\nkind = \"capture\"\n[[user]]\nlogin = \"pos\"\npassword = \"tanstaaf\"\n").expect("write");
        let directory = postbote::config::load(&root.join("postbote.toml")).config.map_or_else(|| Arc::new(Directory::default()), |c| Arc::clone(&c.directory));
        World {
            now: Now { directory, hostname: "p.test".to_owned(), max_message_size: 1 << 20, max_recipients: 5, sending_off: false, sending_hold: false },
            spool: Spool::open(&{ let d = root.join("data"); std::fs::create_dir(&d).expect("data"); d }, Limits { bytes: 1 << 30, duplicates: Duration::ZERO }).expect("spool"),
            listener: Arc::new(Settings {
                name: "fuzz".to_owned(),
                address: ListenAddress::Tcp("127.0.0.1:25".parse().expect("address")),
                tls: TlsMode::Starttls,
                certificate: None,
                auth: AuthMode::Optional,
                plaintext_auth: PlaintextAuth::Always,
                tenant: TenantId::parse("acme"),
                networks: Vec::new(),
                bare_newline: BareNewline::Normalize,
                answer: Answer::Queued,
                answer_within: Duration::ZERO,
                legacy_auth_line: true,
                max_connections: 1,
            }),
        }
    })
}

fuzz_target!(|input: &[u8]| {
    let world = world();
    let mut session = Session::new(Arc::clone(&world.listener), "i".to_owned(), "127.0.0.1".parse().ok(), false, true);
    let mut recipients = false;
    for line in input.split(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let verb = line.trim_ascii_start().get(..4).map(<[u8]>::to_ascii_uppercase);
        let in_dialogue = session.in_dialogue();
        let step = session.line(line, &world.now, &world.spool);
        let reply = match step {
            Step::Reply(reply) => reply,
            Step::Close(_) => return,
            Step::StartTls(_) => {
                session.encrypted();
                recipients = false;
                continue;
            }
            Step::Content(_) => {
                assert!(recipients, "content without a recipient");
                assert!(session.take_transaction().is_some());
                recipients = false;
                continue;
            }
            Step::Check(Check::Password(credentials)) if credentials.login == "pos" => {
                let _ = session.right("pos".to_owned(), &world.now);
                continue;
            }
            Step::Check(_) => match session.wrong() {
                Step::Close(_) => return,
                _ => continue,
            },
        };
        let text = reply.to_string();
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert!((200..600).contains(&reply.code));
        match verb.as_deref() {
            Some(b"RCPT") if !in_dialogue && reply.code == 250 => recipients = true,
            Some(b"RSET" | b"EHLO" | b"HELO") if !in_dialogue && reply.code == 250 => recipients = false,
            _ => {}
        }
    }
});
