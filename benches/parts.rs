//! What the parts of a message's way cost by themselves: `just bench`. Absolute times say little on
//! a shared machine; the ratios between the lines do. What whole programs reach beside each other
//! is in `benches/peers`.

#![allow(missing_docs, clippy::unwrap_used, reason = "a bench")]

use std::time::Duration;

use bytes::Bytes;
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use jiff::Timestamp;
use postbote::message::{Envelope, MessageId, Recipient, TenantId};
use postbote::prepare::{self, Origin, ReplyTo, Source, Utf8Headers, dkim};
use postbote::smtp::address::Address;
use postbote::smtp::capabilities::Capabilities;
use postbote::smtp::command;
use postbote::smtp::data::{BareNewline, Receiver, Stuffer};
use postbote::smtp::reply::ReplyParser;
use postbote::spool::{Admitted, Kind, Limits, Spool};

fn main() {
    divan::main();
}

fn text(size: usize) -> Vec<u8> {
    let mut out = b"From: \"Kasse 1\" <kasse@localhost>\r\nTo: <kunde@else.example>\r\nSubject: Ihr Beleg\r\nDate: Mon, 2 Nov 2026 12:00:00 +0100\r\nMessage-ID: <1@kasse.localhost>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n".to_vec();
    while out.len() < size {
        out.extend(
            b"Eine Zeile des Belegs, wie sie auf jedem Beleg steht, mit 78 Zeichen Text ...\r\n",
        );
    }
    out
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn envelope() -> Envelope {
    Envelope {
        mail_from: Some(address("kasse@localhost.example")),
        recipients: vec![Recipient::new(address("kunde@else.example"))],
        smtputf8: false,
        ret_full: None,
        envid: None,
    }
}

/// The commands of one transaction, understood.
#[divan::bench]
fn session_commands(bencher: Bencher<'_, '_>) {
    let lines: [&[u8]; 4] = [
        b"MAIL FROM:<kasse@localhost.example> SIZE=4096 BODY=8BITMIME",
        b"RCPT TO:<kunde@else.example> NOTIFY=FAILURE",
        b"DATA",
        b"RSET",
    ];
    bencher.counter(ItemsCount::new(lines.len())).bench(|| {
        for line in lines {
            divan::black_box(command::parse(line).is_ok());
        }
    });
}

/// An upstream's replies, understood.
#[divan::bench]
fn session_replies(bencher: Bencher<'_, '_>) {
    let replies = b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data with <CR><LF>.<CR><LF>\r\n250 2.0.0 Ok: queued as 4F1B2C3D\r\n";
    bencher.counter(ItemsCount::new(4u32)).bench(|| {
        let mut parser = ReplyParser::default();
        let mut at = 0;
        while at < replies.len() {
            at += parser.feed(&replies[at..]).unwrap().0;
        }
    });
}

/// Content taken out of the wire, 1 MiB.
#[divan::bench]
fn data_receive(bencher: Bencher<'_, '_>) {
    let mut wire = text(1 << 20);
    wire.extend(b".\r\n");
    bencher.counter(BytesCount::new(wire.len())).bench(|| {
        let mut out = Vec::with_capacity(wire.len());
        Receiver::new(BareNewline::Normalize, false).feed(&wire, &mut out);
        out
    });
}

/// Content put onto the wire, 1 MiB.
#[divan::bench]
fn data_stuff(bencher: Bencher<'_, '_>) {
    let message = text(1 << 20);
    bencher.counter(BytesCount::new(message.len())).bench(|| {
        let mut out = Vec::with_capacity(message.len() + 64);
        Stuffer::default().push(&message, &mut out);
        out
    });
}

fn prepared(bencher: Bencher<'_, '_>, size: usize, keys: &[dkim::Key]) {
    let settings = prepare::Settings {
        address: address("office@acme.example"),
        name: "ACME GmbH".to_owned(),
        keep_from: false,
        reply_to: ReplyTo::ApplicationElse(address("office@acme.example")),
        return_path: None,
        utf8_headers: Utf8Headers::Auto,
        hostname: "postbote.test".to_owned(),
        detour: None,
        recipients_in_header: false,
        own_domains: vec!["acme.example".to_owned()],
        removed: Vec::new(),
        signature: None,
        information: None,
        notes: Vec::new(),
    };
    let signers: Vec<_> = keys
        .iter()
        .map(|key| dkim::Signer {
            domain: "acme.example",
            selector: "pb1",
            key,
        })
        .collect();
    let (envelope, origin, content) = (envelope(), Origin::default(), Bytes::from(text(size)));
    let source = Source {
        id: MessageId::fresh(),
        accepted: Timestamp::now(),
        origin: &origin,
        envelope: &envelope,
        recipients: &[0],
        content: &content,
        ours: false,
        null_refused: false,
    };
    bencher.counter(BytesCount::new(content.len())).bench(|| {
        prepare::prepare(&source, &settings, &signers, &Capabilities::unlimited()).unwrap()
    });
}

fn rsa() -> dkim::Key {
    dkim::Key::parse(dkim::generate_rsa().unwrap().expose()).unwrap()
}

fn ed25519() -> dkim::Key {
    dkim::Key::parse(dkim::generate_ed25519().unwrap().expose()).unwrap()
}

/// Rewritten, not signed.
#[divan::bench(args = [4 << 10, 1 << 20])]
fn prepare_unsigned(bencher: Bencher<'_, '_>, size: usize) {
    prepared(bencher, size, &[]);
}

/// Rewritten and signed with RSA-2048.
#[divan::bench(args = [4 << 10, 1 << 20])]
fn prepare_rsa(bencher: Bencher<'_, '_>, size: usize) {
    prepared(bencher, size, &[rsa()]);
}

/// Rewritten and signed with Ed25519.
#[divan::bench(args = [4 << 10, 1 << 20])]
fn prepare_ed25519(bencher: Bencher<'_, '_>, size: usize) {
    prepared(bencher, size, &[ed25519()]);
}

/// One RSA-2048 signature over a header: the physical limit of signing.
#[divan::bench]
fn sign_rsa_alone(bencher: Bencher<'_, '_>) {
    let key = rsa();
    let signer = [dkim::Signer {
        domain: "acme.example",
        selector: "pb1",
        key: &key,
    }];
    bencher.bench(|| {
        dkim::sign(&signer, b"From: a@acme.example\r\n\r\n", b"", 1_800_000_000).unwrap()
    });
}

/// Made durable, so many at once: a message of this many octets from each, committed and released.
fn commit(bencher: Bencher<'_, '_>, writers: usize, size: usize) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let limits = Limits {
        bytes: 1 << 40,
        duplicates: Duration::ZERO,
    };
    let spool = Spool::open(directory.path(), limits).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let content = text(size);
    let tenant = TenantId::parse("acme").unwrap();
    bencher.counter(ItemsCount::new(writers)).bench(|| {
        runtime.block_on(async {
            let writers: Vec<_> = (0..writers)
                .map(|_| {
                    let mut incoming = spool.incoming();
                    incoming.push(&content).unwrap();
                    let admitted = Admitted {
                        tenant: tenant.clone(),
                        kind: Kind::Submission,
                        envelope: envelope(),
                        origin: Origin::default(),
                        content: incoming,
                        held: true,
                        hung_up: None,
                        apart: Vec::new(),
                    };
                    let spool = spool.clone();
                    tokio::spawn(async move { spool.commit(admitted).await.unwrap().id() })
                })
                .collect();
            for writer in writers {
                writer.await.unwrap();
            }
        });
    });
}

/// Messages of 4 KiB.
#[divan::bench(args = [1, 10, 50])]
fn commit_4k(bencher: Bencher<'_, '_>, writers: usize) {
    commit(bencher, writers, 4 << 10);
}

/// Messages of 1 MiB, each in a file.
#[divan::bench(args = [1, 10], sample_count = 10, sample_size = 5)]
fn commit_1m(bencher: Bencher<'_, '_>, writers: usize) {
    commit(bencher, writers, 1 << 20);
}
