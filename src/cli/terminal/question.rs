//! Questions at the terminal, on standard error; a secret is not shown while it is typed.

use std::io::Write;

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

use crate::primitive::Question;
use crate::report;

/// Asks for a secret at the terminal.
pub(in crate::cli) fn read_secret(text: &str) -> std::io::Result<String> {
    read_answer(Question::Secret, &report::printable(text))
}

/// Asks a question that is answered by yes or no.
///
/// # Errors
/// The answer cannot be read.
pub(in crate::cli) fn confirm(question: &str) -> std::io::Result<bool> {
    let mut err = std::io::stderr();
    write!(err, "{question} [y/N] ")?;
    err.flush()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

/// Asks, and reads a line.
pub(in crate::cli) fn read_answer(what: Question, text: &str) -> std::io::Result<String> {
    // Before the question is there: an answer that is typed at once is not shown either.
    let _hidden = if what == Question::Secret { Some(Hidden::new()?) } else { None };
    let end = if what == Question::Confirm { " [y/N] " } else { ": " };
    // Nothing is locked while the user thinks: what else happens is told meanwhile.
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
struct Hidden(Termios);

impl Hidden {
    fn new() -> std::io::Result<Self> {
        let before = tcgetattr(std::io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(std::io::stdin(), SetArg::TCSANOW, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, &self.0);
    }
}
