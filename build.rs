//! What the linker does for an idle till's memory: what a server uses stands together, what never
//! runs (panics, errors of C code) apart, and relocations are packed where the C library can load
//! them (glibc 2.36 and later).

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=link/functions.ld");
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let (target, host) = (variable("TARGET"), variable("HOST"));
    if !target.ends_with("-linux-gnu") {
        return;
    }
    println!("cargo:rustc-link-arg-bins=-Wl,-z,keep-text-section-prefix");
    if target == host && glibc().is_some_and(|v| v >= (2, 36)) {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    // GNU ld and lld know such a list; others (gold, mold) do not.
    let flags = variable("CARGO_ENCODED_RUSTFLAGS");
    let usual = variable("RUSTC_LINKER").is_empty()
        && !flags.contains("linker")
        && !flags.contains("fuse-ld");
    let known = || printed("cc", &["-Wl,--version"]);
    if usual
        && variable("PROFILE") == "release"
        && known().is_some_and(|name| name.contains("GNU ld") || name.contains("LLD"))
    {
        let list = Path::new(&variable("CARGO_MANIFEST_DIR")).join("link/functions.ld");
        println!("cargo:rustc-link-arg-bins=-T{}", list.display());
    }
}

/// The version of the machine's C library.
fn glibc() -> Option<(u32, u32)> {
    let text = printed("getconf", &["GNU_LIBC_VERSION"])?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// What a command prints.
fn printed(program: &str, words: &[&str]) -> Option<String> {
    let told = Command::new(program).args(words).output().ok()?;
    String::from_utf8(told.stdout).ok()
}
