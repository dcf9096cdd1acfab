//! Serves fetches from a mirror, by git's own `upload-pack`.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::demand::Demand;
use super::git::{DEADLINE, GitError, Running};
use super::mirror::{Mirror, MirrorError};
use super::pkt::{self, Packet, PktError};

/// Maximum size of the request of a fetch, in bytes.
pub(super) const MAX_REQUEST: u64 = 16 << 20;

/// A version of the protocol, as the client asks for it (git, `gitprotocol-v2(5)`); version 0 asks for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// Versions 0 and 1.
    Old,
    /// Version 2.
    Two,
}

impl Version {
    /// Reads `Git-Protocol`, or the parameters of `git://`: keys and values, of which only this one is passed on.
    pub(super) fn read(parameters: &str) -> Self {
        if parameters.split(':').any(|pair| pair == "version=2") { Self::Two } else { Self::Old }
    }
}

/// Why a fetch failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// The upstream cannot be asked.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// git failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The client has gone.
    #[error("talk to the client: {0}")]
    Client(#[from] std::io::Error),
    /// The client's framing is malformed.
    #[error(transparent)]
    Pkt(#[from] PktError),
    /// A request is too large.
    #[error("the request of a fetch has more than {MAX_REQUEST} bytes")]
    Large,
    /// It took too long.
    #[error("a fetch did not end within {seconds} s", seconds = DEADLINE.as_secs())]
    Late,
}

/// Starts `upload-pack` in a mirror with further arguments.
fn start(mirror: &Mirror, version: Version, arguments: &[&str]) -> Result<Running, GitError> {
    let folder = mirror.git.repository().display().to_string();
    let arguments: Vec<&str> = ["upload-pack", "--strict", "--timeout=60"].iter().chain(arguments).copied().collect();
    let arguments = [&arguments[..], &[&folder]].concat();
    let git = if version == Version::Two { mirror.git.env("GIT_PROTOCOL", "version=2") } else { mirror.git.clone() };
    git.start(&arguments)
}

/// The response to `info/refs` over HTTP.
///
/// # Errors
/// The upstream cannot be asked, or git fails.
pub(super) async fn advertisement(mirror: &Arc<Mirror>, version: Version) -> Result<Vec<u8>, FetchError> {
    let mut response = Vec::new();
    if version == Version::Old {
        // In version 2 the client asks for references in a request of its own.
        mirror.refresh().await?;
        response = [&pkt::line("# service=git-upload-pack\n"), pkt::FLUSH].concat();
    }
    let mut running = start(mirror, version, &["--http-backend-info-refs"])?;
    drop(running.child.stdin.take());
    if let Some(mut stdout) = running.child.stdout.take() {
        tokio::time::timeout(DEADLINE, tokio::io::copy(&mut stdout, &mut response))
            .await
            .map_err(|_| FetchError::Late)??;
    }
    running.end().await?;
    Ok(response)
}

/// Starts to respond to a request over HTTP; the response is the output of the process.
///
/// # Errors
/// The upstream cannot be asked, or git fails.
pub(super) async fn rpc(mirror: &Arc<Mirror>, version: Version, request: Vec<u8>) -> Result<Running, FetchError> {
    if version == Version::Two {
        mirror.prepare(Demand::read(&request).await).await?;
    }
    let mut running = start(mirror, version, &["--stateless-rpc"])?;
    let stdin = running.child.stdin.take();
    crate::task::spawn(async move {
        if let Some(mut stdin) = stdin {
            let _ = stdin.write_all(&request).await;
        }
    });
    Ok(running)
}

/// Serves one connection by `git://`.
///
/// # Errors
/// The upstream cannot be asked, git fails, or the client has gone.
pub(super) async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    mirror: &Arc<Mirror>,
    version: Version,
    stream: &mut S,
) -> Result<(), FetchError> {
    if version == Version::Old {
        mirror.refresh().await?;
    }
    let mut running = start(mirror, version, &[])?;
    let (Some(mut stdin), Some(mut stdout)) = (running.child.stdin.take(), running.child.stdout.take()) else {
        return Err(running.unexpected("it has no pipes").into());
    };
    let (mut from, mut to) = tokio::io::split(stream);
    let up = async move {
        match version {
            Version::Old => drop(tokio::io::copy(&mut from, &mut stdin).await?),
            Version::Two => requests(mirror, &mut from, &mut stdin).await?,
        }
        // Closed by dropping it: `shutdown` does not close the pipe of a process.
        drop(stdin);
        Ok::<_, FetchError>(())
    };
    let down = async { tokio::io::copy(&mut stdout, &mut to).await };
    let work = async {
        let (mut up, mut down) = (std::pin::pin!(up), std::pin::pin!(down));
        tokio::select! {
            done = &mut down => drop(done?),
            // A process that has ended does not read any more; what it has written is still passed on.
            done = &mut up => match done {
                Ok(()) | Err(FetchError::Client(_)) => drop(down.await?),
                Err(error) => return Err(error),
            },
        }
        Ok(())
    };
    tokio::time::timeout(DEADLINE, work).await.map_err(|_| FetchError::Late)??;
    Ok(running.end().await?)
}

/// Passes requests of version 2 on, one by one, after the mirror has been prepared for each.
async fn requests(
    mirror: &Arc<Mirror>,
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> Result<(), FetchError> {
    let mut request = Vec::new();
    while let Some(packet) = pkt::read(from).await? {
        request.extend_from_slice(&pkt::frame(&packet));
        if request.len() as u64 > MAX_REQUEST {
            return Err(FetchError::Large);
        }
        if packet == Packet::Flush {
            mirror.prepare(Demand::read(&request).await).await?;
            to.write_all(&request).await?;
            request.clear();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_apart() {
        for (parameters, version) in [
            ("version=2", Version::Two),
            ("x:version=2", Version::Two),
            ("version=22", Version::Old),
            ("", Version::Old),
        ] {
            assert_eq!(Version::read(parameters), version, "{parameters}");
        }
    }
}
