//! Questions to the user's ssh agent: one message, one answer, each with its length before it.

use std::io::{Error, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Maximum size of an answer, in bytes: OpenSSH's own limit.
const MAX_ANSWER: u32 = 256 << 10;

/// Asks; returns the answer without its length. `patience` is for each step.
///
/// # Errors
/// There is no agent at the socket, or it does not answer.
pub fn ask_agent(socket: &Path, question: &[u8], patience: Duration) -> std::io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(question)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > MAX_ANSWER {
        return Err(Error::other("its answer is too large"));
    }
    let mut answer = vec![0; usize::try_from(length).map_err(Error::other)?];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}
