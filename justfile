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
    POSTBOTE_CRASHES={{KILLS}} cargo nextest run --test crash --no-capture

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
