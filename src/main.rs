//! The `postbote` program: see the library of the same name.

fn main() -> std::process::ExitCode {
    postbote::cli::main()
}
