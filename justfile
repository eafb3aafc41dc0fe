# The tasks; `just` lists them.
default:
    @just --list

# Format, lints, documentation
check:
    cargo fmt --check
    cargo clippy --locked --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

# All tests, with what they need
test *WORDS:
    tests/run {{WORDS}}

# Integration tests whose name has this word
it NAME:
    cargo nextest run --test it -E 'test({{NAME}})'

# The crash test with so many kills
crash KILLS="200":
    POSTBOTE_CRASHES={{KILLS}} cargo test --locked --release --test crash -- --nocapture

# Bad inputs and faults, each with the outcome that it must have: all, or some by id or group
hostile *IDS:
    cargo build
    tests/hostile/run {{IDS}}

# Whether the fakes of Microsoft and Google are as faithful as they say
fakes:
    python3 tests/hostile/provider_selftest.py
    python3 tests/hostile/provider_smtp_selftest.py

# A kill or an error at every system call that matters, with what became of the mail
faults *WORDS:
    cargo build
    tests/faults {{WORDS}}

# Every fuzz target for so many seconds
fuzz SECONDS="60":
    fuzz/run {{SECONDS}}

# What the parts of a message's way cost by themselves
bench *WORDS:
    cargo bench --bench parts -- {{WORDS}}

# Postbote beside Postfix (and opendkim, OpenSMTPD) in one run, with ratios; about 20 minutes
bench-peers *WORDS:
    tests/install
    cargo build --release --bin postbote --bench load
    benches/peers {{WORDS}}

# Start, backlog, large messages, many tenants, round trips against their limits
limits:
    cargo build --release --bin postbote --bench load
    benches/limits

# Time and memory that so many tenants take to load and to reload
tenants COUNT="10000":
    cargo build --release
    tests/tenants {{COUNT}}

# Whether one tenant's hanging upstream delays another tenant's mail
lanes COUNT="500":
    cargo build --release
    tests/lanes {{COUNT}}

# The demo
run:
    cargo run --release -- run

# The list of functions that stand together in the program (link/functions.ld), made anew
functions:
    link/functions
