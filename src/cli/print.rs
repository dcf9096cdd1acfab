//! Prints results: data to standard output, messages to standard error.

use std::io::Write;
use std::sync::OnceLock;

use clap::ValueEnum;

use crate::session::{Class, Failure};

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

pub(super) fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::new(Class::Internal, error.to_string()))?;
    print_data(&format!("{text}\n"));
    Ok(())
}

/// The first error of writing to standard output.
static UNWRITTEN: OnceLock<String> = OnceLock::new();

/// Notes how a write ended. A reader that has had enough, as in `| head`, is no error.
pub(super) fn note_written(written: std::io::Result<()>) {
    if let Err(error) = written
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        let _ = UNWRITTEN.set(error.to_string());
    }
}

/// Fails where standard output has not taken everything.
pub(super) fn report_unwritten() -> Result<u8, Failure> {
    match UNWRITTEN.get() {
        None => Ok(0),
        Some(why) => Err(Failure::new(Class::Internal, format!("write to standard output: {why}"))),
    }
}

/// Writes data to standard output; errors are reported at the end of the command.
pub(super) fn print_data(text: &str) {
    let mut out = std::io::stdout().lock();
    note_written(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// Writes a line for people to standard error, if there is one.
pub(super) fn print_message(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
