//! The `postbote` program: see the library of the same name.

use std::io::Write as _;

fn main() -> std::process::ExitCode {
    // Only where: the words of a panic may hold what a client or a secret says.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map_or_else(String::new, ToString::to_string);
        // Whoever reads it may be gone, and that must not end us.
        let _ = writeln!(
            std::io::stderr(),
            "postbote: internal error at {place}; please report this line"
        );
    }));
    postbote::cli::main()
}
