//! The rooms and the arrows between them: who may import whom. A broken rule names file and rule.

use std::path::{Path, PathBuf};

/// A room, and what it must not import.
const FORBIDDEN: &[(&str, &[&str])] = &[
    (
        "net",
        &[
            "submission",
            "tenant",
            "spool",
            "delivery",
            "prepare",
            "transport",
            "admin",
            "cli",
            "config",
            "app",
            "control",
            "observe",
            "oauth",
            "http",
            "message",
            "smtp",
        ],
    ),
    (
        "http",
        &[
            "submission",
            "tenant",
            "spool",
            "delivery",
            "prepare",
            "transport",
            "admin",
            "cli",
            "config",
            "app",
            "control",
            "observe",
            "oauth",
            "message",
            "smtp",
        ],
    ),
    (
        "oauth",
        &[
            "submission",
            "tenant",
            "spool",
            "delivery",
            "prepare",
            "transport",
            "admin",
            "cli",
            "config",
            "app",
            "control",
            "observe",
            "message",
            "smtp",
        ],
    ),
    (
        "smtp",
        &[
            "message",
            "submission",
            "tenant",
            "spool",
            "delivery",
            "prepare",
            "transport",
            "vault",
            "explain",
            "admin",
            "cli",
            "config",
            "app",
            "control",
            "observe",
        ],
    ),
    (
        "message",
        &[
            "submission",
            "tenant",
            "spool",
            "delivery",
            "prepare",
            "transport",
            "vault",
            "admin",
            "cli",
            "config",
            "app",
            "control",
            "observe",
        ],
    ),
    (
        "prepare",
        &[
            "submission",
            "tenant",
            "spool",
            "delivery",
            "transport",
            "admin",
            "cli",
            "config",
            "app",
            "control",
            "observe",
        ],
    ),
    (
        "transport",
        &[
            "submission",
            "tenant",
            "spool",
            "delivery",
            "admin",
            "cli",
            "config",
            "app",
            "control",
            "observe",
        ],
    ),
    (
        "tenant",
        &[
            "submission",
            "spool",
            "delivery",
            "admin",
            "cli",
            "config",
            "app",
            "control",
            "observe",
        ],
    ),
    (
        "spool",
        &[
            "submission",
            "delivery",
            "transport",
            "tenant",
            "admin",
            "cli",
            "config",
            "app",
            "control",
        ],
    ),
    (
        "submission",
        &["delivery", "admin", "cli", "config", "app", "control"],
    ),
    (
        "delivery",
        &["submission", "admin", "cli", "config", "app", "control"],
    ),
    (
        "dns",
        &[
            "submission",
            "tenant",
            "spool",
            "delivery",
            "transport",
            "vault",
            "explain",
            "admin",
            "cli",
            "config",
            "app",
            "control",
            "observe",
            "oauth",
            "http",
            "message",
            "net",
            "failure",
        ],
    ),
    (
        "vault",
        &[
            "submission",
            "tenant",
            "spool",
            "delivery",
            "prepare",
            "transport",
            "admin",
            "cli",
            "config",
            "app",
            "control",
        ],
    ),
    (
        "explain",
        &[
            "submission",
            "tenant",
            "spool",
            "delivery",
            "prepare",
            "transport",
            "admin",
            "cli",
            "config",
            "app",
            "control",
        ],
    ),
    (
        "observe",
        &[
            "submission",
            "tenant",
            "spool",
            "delivery",
            "prepare",
            "transport",
            "admin",
            "cli",
            "config",
            "app",
            "control",
        ],
    ),
    (
        "admin",
        &["submission", "delivery", "cli", "config", "app", "control"],
    ),
];

/// A crate, and the only rooms that may use it.
const DOORS: &[(&str, &[&str])] = &[
    ("rusqlite", &["spool"]),
    ("axum", &["admin"]),
    ("hickory_resolver", &["dns"]),
    ("clap", &["cli"]),
    ("toml", &["config"]),
    ("notify", &["app.rs"]),
    ("prometheus_client", &["observe"]),
    ("rcgen", &["submission"]),
    ("argon2", &["submission"]),
    ("idna", &["smtp"]),
    ("listenfd", &["submission"]),
    ("hyper", &["http"]),
    ("hyper_util", &["http"]),
    ("x509_parser", &["oauth", "net"]),
];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory)
        .expect("source directory")
        .flatten()
    {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn arrows_point_one_way() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut broken = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&root).expect("below src");
        let room = relative
            .iter()
            .next()
            .and_then(|r| r.to_str())
            .unwrap_or("")
            .to_owned();
        let text = std::fs::read_to_string(&file).expect("source");
        let code = text.lines().filter(|l| !l.trim_start().starts_with("//"));
        for line in code {
            for (from, forbidden) in FORBIDDEN {
                for target in forbidden.iter().filter(|_| *from == room) {
                    if line.contains(&format!("crate::{target}::"))
                        || line.contains(&format!("crate::{target}"))
                            && line.trim_end().ends_with(&format!("crate::{target};"))
                    {
                        broken.push(format!(
                            "{}: {from} must not import {target}: {}",
                            relative.display(),
                            line.trim()
                        ));
                    }
                }
            }
            for (name, rooms) in DOORS {
                let used = line.contains(&format!(" {name}::"))
                    || line.contains(&format!("({name}::"))
                    || line.contains(&format!("<{name}::"));
                if used && !rooms.contains(&room.as_str()) {
                    broken.push(format!(
                        "{}: {name} is used through {} only: {}",
                        relative.display(),
                        rooms.join(", "),
                        line.trim()
                    ));
                }
            }
        }
        // Only admission, mail of our own and tests may make something acceptable.
        if text.contains("Admitted {")
            && !["submission", "spool", "delivery"].contains(&room.as_str())
        {
            broken.push(format!("{}: makes an Admitted", relative.display()));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
