//! Asks questions at the terminal, on standard error; secrets without echo.

use std::io::Write;

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

use super::signals::Signals;
use crate::primitive::Question;
use crate::report;
use crate::session::{Class, Failure};

/// Asks for a secret at the terminal.
///
/// # Errors
/// The answer cannot be read, or the user ends the command instead.
pub(in crate::cli) async fn read_secret(text: &str) -> Result<String, Failure> {
    let text = report::printable(text);
    unless_ended(move || read_answer(Question::Secret, &text)).await
}

/// Asks a question that is answered by yes or no.
///
/// # Errors
/// The answer cannot be read, or the user ends the command instead.
pub(in crate::cli) async fn confirm(question: &'static str) -> Result<bool, Failure> {
    let answer = unless_ended(move || read_answer(Question::Confirm, question)).await?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Reads an answer until a signal ends the command: a terminal that hides what is typed shows it again then.
async fn unless_ended(read: impl FnOnce() -> std::io::Result<String> + Send + 'static) -> Result<String, Failure> {
    let before = tcgetattr(std::io::stdin()).ok();
    let mut signals = Signals::new()?;
    // After a signal this thread is abandoned.
    let answer = crate::task::blocking(read);
    tokio::select! {
        answer = answer => {
            let answer = answer.map_err(std::io::Error::other).and_then(|answer| answer);
            answer.map_err(|error| Failure::new(Class::Internal, format!("read the answer at the terminal: {error}")))
        }
        _ = signals.next() => {
            if let Some(before) = before {
                let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, &before);
            }
            let _ = writeln!(std::io::stderr());
            Err(Failure::new(Class::Cancelled, "cancelled at the question"))
        }
    }
}

/// Asks, and reads a line.
pub(in crate::cli) fn read_answer(what: Question, text: &str) -> std::io::Result<String> {
    // Turn echo off before the question appears, so that a fast answer is hidden as well.
    let _hidden = if what == Question::Secret { Some(EchoOff::new()?) } else { None };
    let end = if what == Question::Confirm { " [y/N] " } else { ": " };
    // Do not lock standard error while waiting, so that messages can be printed.
    let mut err = std::io::stderr();
    write!(err, "{text}{end}")?;
    err.flush()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    if what == Question::Secret {
        writeln!(err)?;
    }
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// A terminal that does not show what is typed, as long as this lives.
struct EchoOff(Termios);

impl EchoOff {
    fn new() -> std::io::Result<Self> {
        let before = tcgetattr(std::io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(std::io::stdin(), SetArg::TCSANOW, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for EchoOff {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, &self.0);
    }
}
