//! What clients ask a container's shim, over the socket in the container's folder: a line of JSON, answered by one. After some
//! answers the connection carries streams: from the shim in frames, to the shim as plain bytes whose end is the end of standard
//! input.
//!
//! The socket is in a folder of this user's alone; no container sees it.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::plan::Process;
use super::store::End;
use crate::engine::{ErrorKind, TerminalSize};

/// The socket's name in the container's folder.
pub(super) const SOCKET: &str = "shim.sock";
/// Longest line, in bytes: a command with its variables.
pub(super) const MAX_LINE: usize = 4 << 20;
/// Most bytes of output in a frame.
pub(super) const MAX_FRAME: usize = 64 << 10;

/// A request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    /// Let the container's command start.
    Start,
    /// The streams of the container's command.
    Attach,
    /// How it ends; answered at its end.
    Wait,
    /// Send its first process a signal, by number.
    Signal(i32),
    /// The size of its terminal.
    Resize(TerminalSize),
    /// Run something beside it.
    Exec(Task),
    /// The size of the terminal of a command beside it, by its number.
    ResizeExec(u64, TerminalSize),
    /// What it wrote, and, if `follow`, what it goes on to write.
    Logs { lines: Option<usize>, follow: bool },
    /// Whether its command runs.
    State,
}

/// What runs beside a container's command, in its namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Task {
    /// A command, with as few privileges as the container's own.
    Command(Process),
    /// Unpacks an archive from standard input; only before the container has run.
    Unpack,
    /// Packs a file or folder to standard output; only before the container has run.
    Pack(String),
}

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    Done,
    /// The streams of a command beside the container's follow; its number.
    Exec(u64),
    Ended(End),
    State {
        started: bool,
    },
    Failed {
        kind: ErrorKind,
        message: String,
    },
}

/// A piece of a stream from the shim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    Stdout(Bytes),
    Stderr(Bytes),
    /// The last one of a command beside the container's: its exit code.
    Exit(i32),
}

impl Frame {
    /// One byte for the kind, four for the length, the content.
    pub(super) fn encode(&self, into: &mut BytesMut) {
        let code;
        let (kind, content) = match self {
            Self::Stdout(bytes) => (1, bytes.as_ref()),
            Self::Stderr(bytes) => (2, bytes.as_ref()),
            Self::Exit(exit) => {
                code = exit.to_be_bytes();
                (3, code.as_slice())
            }
        };
        into.put_u8(kind);
        into.put_u32(u32::try_from(content.len()).expect("frames are short"));
        into.put_slice(content);
    }

    /// Reads one; `None` at the end of the stream.
    ///
    /// # Errors
    /// The stream broke, or it is not a frame.
    pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Option<Self>> {
        let kind = match from.read_u8().await {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            kind => kind?,
        };
        let length = from.read_u32().await? as usize;
        if length > MAX_FRAME {
            return Err(std::io::Error::other("a frame is too long"));
        }
        let mut content = vec![0; length];
        from.read_exact(&mut content).await?;
        let content = Bytes::from(content);
        Ok(Some(match kind {
            1 => Self::Stdout(content),
            2 => Self::Stderr(content),
            3 => {
                let code =
                    content.as_ref().try_into().map_err(|_| std::io::Error::other("a frame has no exit code"))?;
                Self::Exit(i32::from_be_bytes(code))
            }
            _ => return Err(std::io::Error::other("a frame of an unknown kind")),
        }))
    }
}
