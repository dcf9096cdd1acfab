//! The commands of a push (git, `gitprotocol-pack(5)`, "Reference Update Request"). Pure, but for reading them.
//!
//! Attacks that this stops: two commands for one reference, of which a parser sees one; references beside branches and
//! tags (`refs/meta/config` of Gerrit, `refs/pull`, `refs/replace`); names that git itself would not create; signed
//! pushes, whose certificate has commands of its own; push options, which configure the server.

use std::collections::BTreeSet;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::pkt::{self, Packet, PktError};
use crate::git_ref;

/// Maximum number of commands, and of `shallow` lines.
const MAX_COMMANDS: usize = 256;
const MAX_SHALLOW: usize = 10_000;
/// The id that stands for no object.
pub(super) const ZERO: &str = "0000000000000000000000000000000000000000";

/// Maximum size of all commands together, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// A command: a reference, and its value before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    /// The value that the client saw; [`ZERO`] if the reference did not exist.
    pub(super) old: String,
    /// The value that the client wants; [`ZERO`] to delete it.
    pub(super) new: String,
    /// The complete name.
    pub(super) name: String,
}

impl Command {
    /// Whether it creates the reference.
    pub(super) fn creates(&self) -> bool {
        self.old == ZERO
    }

    /// Whether it deletes the reference.
    pub(super) fn deletes(&self) -> bool {
        self.new == ZERO
    }
}

/// The commands of one push, with what the client understands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Request {
    /// The commands, each of another reference.
    pub(super) commands: Vec<Command>,
    /// Whether the client reads the outcome of each command.
    pub(super) report: bool,
    /// Whether the client reads side bands.
    pub(super) bands: bool,
}

impl Request {
    /// Whether a pack follows the commands.
    pub(super) fn has_pack(&self) -> bool {
        self.commands.iter().any(|command| !command.deletes())
    }
}

/// Why commands are refused as a whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandsError {
    /// The framing is malformed.
    #[error(transparent)]
    Pkt(#[from] PktError),
    /// The input ends before the last command.
    #[error("the request ends before its last command")]
    Ended,
    /// A line is not a command.
    #[error("{0:?} is not a command of a push")]
    Malformed(String),
    /// Too many lines.
    #[error("a push may change at most {MAX_COMMANDS} references")]
    TooMany,
    /// A signed push.
    #[error("signed pushes are not accepted: push without --signed")]
    Certificate,
    /// A capability that was not offered.
    #[error("the capability {0:?} was not offered")]
    Capability(String),
    /// Several commands for one reference.
    #[error("{0:?} is in more than one command")]
    Twice(String),
    /// A name that git would not create.
    #[error("{0:?} is not a valid name of a reference")]
    Name(String),
    /// A command that changes nothing.
    #[error("the command for {0:?} changes nothing")]
    Nothing(String),
}

/// Reads commands up to the flush packet after them. No commands at all are a probe: clients send it before a large
/// push.
///
/// # Errors
/// They are malformed, too many, or contradict each other.
pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> Result<Request, CommandsError> {
    let mut from = from.take(MAX_BYTES);
    let (mut lines, mut shallow) = (Vec::new(), 0);
    loop {
        match pkt::read(&mut from).await? {
            Some(Packet::Flush) => return parse(&lines),
            Some(Packet::Line(line)) if line.starts_with(b"shallow ") => shallow += 1,
            Some(Packet::Line(line)) => lines.push(line),
            Some(Packet::Delimiter | Packet::ResponseEnd) => {
                return Err(CommandsError::Malformed("a packet of protocol v2".to_owned()));
            }
            None => return Err(CommandsError::Ended),
        }
        if lines.len() > MAX_COMMANDS || shallow > MAX_SHALLOW {
            return Err(CommandsError::TooMany);
        }
    }
}

/// Parses lines; the capabilities are behind a NUL in the first one.
fn parse(lines: &[impl AsRef<[u8]>]) -> Result<Request, CommandsError> {
    let mut request = Request::default();
    let mut names = BTreeSet::new();
    for (number, line) in lines.iter().enumerate() {
        let line = line.as_ref();
        let (text, capabilities) = match memchr::memchr(0, line) {
            Some(end) if number == 0 => (&line[..end], Some(&line[end + 1..])),
            _ => (line, None),
        };
        if text.starts_with(b"push-cert") {
            return Err(CommandsError::Certificate);
        }
        if let Some(words) = capabilities {
            accept(words, &mut request)?;
        }
        let command = command(text)?;
        if !names.insert(command.name.clone()) {
            return Err(CommandsError::Twice(command.name));
        }
        request.commands.push(command);
    }
    Ok(request)
}

fn command(text: &[u8]) -> Result<Command, CommandsError> {
    let malformed = || CommandsError::Malformed(String::from_utf8_lossy(text).chars().take(200).collect());
    let text = std::str::from_utf8(text).map_err(|_| malformed())?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let mut words = text.splitn(3, ' ');
    let (Some(old), Some(new), Some(name)) = (words.next(), words.next(), words.next()) else {
        return Err(malformed());
    };
    if !is_id(old) || !is_id(new) {
        return Err(malformed());
    }
    if !git_ref::is_printable_name(name) {
        return Err(CommandsError::Name(name.to_owned()));
    }
    if old == new {
        return Err(CommandsError::Nothing(name.to_owned()));
    }
    Ok(Command { old: old.to_owned(), new: new.to_owned(), name: name.to_owned() })
}

/// Reads the capabilities that the client chose.
fn accept(words: &[u8], request: &mut Request) -> Result<(), CommandsError> {
    for word in String::from_utf8_lossy(words).split_ascii_whitespace() {
        match word.split_once('=').map_or(word, |(name, _)| name) {
            "report-status" | "report-status-v2" => request.report = true,
            "side-band-64k" => request.bands = true,
            // Every push is atomic.
            "atomic" | "quiet" | "ofs-delta" | "delete-refs" | "agent" | "no-thin" | "session-id" => {}
            "object-format" if word == "object-format=sha1" => {}
            _ => return Err(CommandsError::Capability(word.chars().take(60).collect())),
        }
    }
    Ok(())
}

/// Whether this is the id of an object: 40 hexadecimal digits, in lower case as git writes them.
pub(super) fn is_id(text: &str) -> bool {
    text.len() == ZERO.len() && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    async fn run(lines: &[String]) -> Result<Request, CommandsError> {
        let bytes: Vec<u8> = lines.iter().flat_map(pkt::line).chain(*b"0000PACK").collect();
        read(&mut &bytes[..]).await
    }

    #[tokio::test]
    async fn commands_are_read_with_what_the_client_understands() {
        let request = run(&[
            format!("shallow {A}"),
            format!("{ZERO} {A} refs/heads/agent/x\0 report-status-v2 side-band-64k object-format=sha1 agent=git/2"),
            format!("{A} {ZERO} refs/heads/agent/y\n"),
        ])
        .await
        .unwrap();
        assert!(request.report && request.bands && request.has_pack());
        assert!(request.commands[0].creates() && request.commands[1].deletes());
        assert_eq!(request.commands[1].name, "refs/heads/agent/y");
        assert_eq!(run(&[]).await.unwrap(), Request::default());
    }

    #[tokio::test]
    async fn what_is_no_push_of_ours_is_refused() {
        let create = |name: &str| format!("{ZERO} {A} {name}");
        for (lines, why) in [
            (vec![create("refs/heads/x"), create("refs/heads/x")], "more than one"),
            (vec![create("refs/heads/x"), format!("{A} {ZERO} refs/heads/x")], "more than one"),
            (vec![create("refs/heads/../x")], "not a valid name"),
            (vec![create("refs/heads/x.lock")], "not a valid name"),
            (vec![create("HEAD")], "not a valid name"),
            (vec![format!("{A} {A} refs/heads/x")], "changes nothing"),
            (vec![format!("{ZERO} {ZERO} refs/heads/x")], "changes nothing"),
            (vec![format!("{} {B} refs/heads/x", A.to_uppercase())], "not a command"),
            (vec![format!("{} {B} refs/heads/x", &A[1..])], "not a command"),
            (vec!["push-cert\0report-status".to_owned()], "signed pushes"),
            (vec![create("refs/heads/x\0push-options")], "push-options"),
            (vec![create("refs/heads/x\0object-format=sha256")], "sha256"),
            // A second list of capabilities is part of a name, and no name has a NUL.
            (vec![create("refs/heads/x"), create("refs/heads/y\0atomic")], "not a valid name"),
            ((0..=MAX_COMMANDS).map(|n| create(&format!("refs/heads/{n}"))).collect(), "at most"),
        ] {
            let error = run(&lines).await.unwrap_err().to_string();
            assert!(error.contains(why), "{lines:?}: {error}");
        }
        assert!(matches!(read(&mut &b"0008abcd"[..]).await, Err(CommandsError::Ended)));
    }
}
