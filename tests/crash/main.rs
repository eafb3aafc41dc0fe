//! The crash test: clients hand in mail without a pause while the server is killed (SIGKILL) at
//! random moments and started again. An oracle outside counts:
//!
//! - lost: answered 250 and neither at the upstream nor in the queue. Must be 0.
//! - altered: arrived with another body than was handed in. Must be 0.
//! - duplicates: arrived again; at most one a final dot that stood open at a kill, as the
//!   upstream itself saw it.
//!
//! `POSTBOTE_CRASHES` sets the number of kills (200 by default; `just crash 10000`).

#[path = "../support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use support::site::{Site, wait_for};
use support::upstream::Upstream;

const CLIENTS: usize = 8;

/// Clients pause while so many messages wait: they are faster than a server that is killed all the
/// time, and it is the way of a message that is to be hit, not an ever longer queue.
const WAITING: usize = 500;

#[derive(Default)]
struct Oracle {
    /// Messages answered 250.
    acknowledged: Mutex<Vec<String>>,
    /// How many came to the upstream, once or more often.
    arrived: AtomicUsize,
    attempts: AtomicUsize,
    port: AtomicU16,
    stop: AtomicBool,
}

/// A small random source of our own, so that a run can be repeated by its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// The body that belongs to a number: up to some 150 KiB, so that files beside the store are hit.
fn body(name: &str) -> String {
    let number: usize = name
        .rsplit('-')
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    let lines = match number % 20 {
        0 => 3000,
        n => n,
    };
    let mut out = format!("this is {name}\r\n");
    for line in 0..lines {
        out.push_str(&format!(
            "{name} line {line} ......................................\r\n"
        ));
    }
    out
}

/// One connection's worth of mail; ends when the connection breaks.
fn hand_in(oracle: &Oracle, client: usize, number: &mut usize) -> std::io::Result<()> {
    let stream = TcpStream::connect(("127.0.0.1", oracle.port.load(Ordering::SeqCst)))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut talk = |line: &str, expected: &str| -> std::io::Result<String> {
        if !line.is_empty() {
            out.write_all(line.as_bytes())?;
        }
        loop {
            let mut reply = String::new();
            if reader.read_line(&mut reply)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if reply.as_bytes().get(3) == Some(&b' ') {
                return if reply.starts_with(expected) {
                    Ok(reply)
                } else {
                    Err(std::io::Error::other(reply))
                };
            }
        }
    };
    talk("", "220")?;
    talk("EHLO crash\r\n", "250")?;
    while !oracle.stop.load(Ordering::SeqCst) {
        let taken = oracle.acknowledged.lock().expect("oracle").len();
        if taken > oracle.arrived.load(Ordering::SeqCst) + WAITING {
            std::thread::park_timeout(Duration::from_millis(1));
            continue;
        }
        *number += 1;
        let name = format!("c{client}-{number}");
        oracle.attempts.fetch_add(1, Ordering::SeqCst);
        talk("MAIL FROM:<till@acme.example>\r\n", "250")?;
        talk("RCPT TO:<kunde@else.example>\r\n", "250")?;
        talk("DATA\r\n", "354")?;
        talk(
            &format!(
                "Subject: {name}\r\nFrom: till@acme.example\r\n\r\n{}.\r\n",
                body(&name)
            ),
            "250",
        )?;
        oracle.acknowledged.lock().expect("oracle").push(name);
    }
    Ok(())
}

#[test]
fn killed_at_any_moment_nothing_is_lost_or_altered() {
    let kills: usize = std::env::var("POSTBOTE_CRASHES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(200);
    let seed: u64 = std::env::var("POSTBOTE_SEED")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0x5eed_1234_5678_9abc);
    let upstream = Upstream::start();
    let site = Site::usual(
        "[[listener]]\nname = \"fixed\"\naddress = \"127.0.0.1:0\"\ntenant = \"acme\"\n[duplicates]\nwindow = \"0s\"\n",
    );
    site.smtp_tenant("acme", upstream.port, "");
    let oracle = Arc::new(Oracle::default());
    let mut server = site.start();
    oracle.port.store(server.port("fixed"), Ordering::SeqCst);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let oracle = Arc::clone(&oracle);
            std::thread::spawn(move || {
                let mut number = 0;
                while !oracle.stop.load(Ordering::SeqCst) {
                    if hand_in(&oracle, client, &mut number).is_err() {
                        std::thread::park_timeout(Duration::from_millis(5));
                    }
                }
            })
        })
        .collect();
    let mut random = Random(seed);
    let begin = Instant::now();
    let mut arrived: HashMap<String, usize> = HashMap::new();
    let mut altered = 0;
    let mut look = || {
        for message in upstream.take() {
            let name = message.subject();
            let text = message.text();
            let got = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            altered += usize::from(got != body(&name));
            *arrived.entry(name).or_default() += 1;
        }
        oracle.arrived.store(arrived.len(), Ordering::SeqCst);
    };
    for _ in 0..kills {
        // The moment of the kill is the random input of this test.
        std::thread::park_timeout(Duration::from_micros(random.next() % 120_000));
        look();
        server.kill();
        server = site.start();
        oracle.port.store(server.port("fixed"), Ordering::SeqCst);
    }
    oracle.stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.join().expect("client");
    }
    // As long as it goes on, wait.
    let mut left = site.queue().len();
    while left > 0 {
        left = wait_for("a shorter queue", || {
            let now = site.queue().len();
            (now < left).then_some(now)
        });
    }
    look();

    let acknowledged = oracle.acknowledged.lock().expect("oracle").clone();
    let lost: Vec<&String> = acknowledged
        .iter()
        .filter(|name| !arrived.contains_key(*name))
        .collect();
    let duplicates: usize = arrived.values().map(|count| count - 1).sum();
    let open_dots = upstream.open_dots();
    println!(
        "kills {kills}, handed in {}, answered 250 {}, arrived {}, lost {}, altered {altered}, duplicates {duplicates}, final dots open at a kill {open_dots}, {:.0} s, seed {seed}",
        oracle.attempts.load(Ordering::SeqCst),
        acknowledged.len(),
        arrived.len(),
        lost.len(),
        begin.elapsed().as_secs_f64()
    );
    assert!(
        acknowledged.len() > kills,
        "too little mail to mean anything"
    );
    assert!(lost.is_empty(), "{lost:?}");
    assert_eq!(altered, 0);
    assert!(
        duplicates <= open_dots,
        "{duplicates} duplicates, {open_dots} open dots"
    );
}
