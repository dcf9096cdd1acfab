//! The executable. What it does is in the library.

fn main() -> std::process::ExitCode {
    bottler::dispatch::main()
}
