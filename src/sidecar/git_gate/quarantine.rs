//! A repository for one push: what arrived is unpacked here, and nothing of it reaches the mirror.
//!
//! Attacks that this stops: a pack that is small and becomes large (limits of memory and time); objects that git's own
//! checks refuse (`fsck`: entries named `.git` or `..`, URLs of submodules that are options); bytes after the pack,
//! which a server may keep; an endless pack.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::early::{Early, Inspected};
use super::git::{DEADLINE, Git, GitError, HOSTILE, Running};
use super::mirror::create_bare;
use super::terms::Refusal;
use crate::host::random_base36;

/// How long a client may send nothing.
const IDLE: Duration = Duration::from_mins(1);
/// The size of a piece that is passed on, in bytes.
const PIECE: usize = 64 << 10;
/// The length of the random part of a folder's name.
const RANDOM: usize = 10;

/// Why there is no pack to inspect.
#[derive(Debug, thiserror::Error)]
pub(super) enum PackError {
    /// It is larger than what the manifest allows.
    #[error("the pack is larger than {0} bytes, the most that may be pushed at once")]
    TooLarge(u64),
    /// The client sends nothing any more.
    #[error("the pack did not arrive: nothing was sent for {seconds} s", seconds = IDLE.as_secs())]
    Idle,
    /// The client has gone.
    #[error("read the pack: {0}")]
    Read(std::io::Error),
    /// Something follows the pack.
    #[error("bytes follow the pack")]
    Trailing,
    /// git does not accept it.
    #[error("git does not accept the pack: {0}")]
    Malformed(String),
    /// git could not be run.
    #[error(transparent)]
    Git(#[from] GitError),
}

impl PackError {
    /// The refusal of the push.
    pub(super) fn refusal(&self) -> Refusal {
        let code = if matches!(self, Self::TooLarge(_)) { "git_push_too_large" } else { "git_pack_refused" };
        Refusal::new(code, self.to_string())
    }
}

/// A repository for one push; removed when this is dropped.
pub(super) struct Quarantine {
    /// git in it, with the objects of the mirror.
    pub(super) git: Git,
}

/// A pack that git is still unpacking.
pub(super) struct Unpacking {
    running: Running,
    early: Early,
    arrived: u64,
}

impl Quarantine {
    /// Creates one in a folder.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(super) fn new(program: &Path, folder: &Path, mirror: &Path) -> anyhow::Result<Self> {
        let path = create_bare(folder.join(format!("push-{}", random_base36(RANDOM)?)))?;
        Ok(Self { git: Git::new(program, &path).with_objects_of(mirror) })
    }

    /// Passes a pack on to git, and to `early`, which inspects it meanwhile. `ends` says that the input ends after the pack; otherwise the client waits for a
    /// response then.
    ///
    /// # Errors
    /// The pack is too large, does not arrive, or git does not accept it.
    pub(super) async fn receive(
        &self,
        from: &mut (impl AsyncRead + Unpin),
        ends: bool,
        most: u64,
        mut early: Early,
    ) -> Result<Unpacking, PackError> {
        let size = format!("--max-input-size={most}");
        let git = self.git.with_memory(HOSTILE);
        let mut running = git.start(&["index-pack", "--stdin", "--fsck-objects", "--threads=1", &size])?;
        let mut stdin = running.child.stdin.take();
        let (mut arrived, mut piece) = (0, vec![0; PIECE]);
        let mut ended = false;
        while !ended {
            let read = tokio::time::timeout(IDLE, from.read(&mut piece));
            let length = if ends {
                read.await
            } else {
                tokio::select! {
                    read = read => read,
                    _ = running.child.wait() => break,
                }
            };
            let length = length.map_err(|_| PackError::Idle)?.map_err(PackError::Read)?;
            ended = length == 0;
            arrived += length as u64;
            if arrived > most {
                return Err(PackError::TooLarge(most));
            }
            // What git does not read any more is still read here, so that the client reads the response.
            if let Some(open) = &mut stdin
                && open.write_all(&piece[..length]).await.is_err()
            {
                stdin = None;
                ended |= !ends;
            }
            early.take(&piece[..length]).await;
        }
        Ok(Unpacking { running, early, arrived })
    }

    /// Waits until the pack is unpacked and checked; returns what of it has been inspected.
    ///
    /// # Errors
    /// git does not accept it, or something follows it.
    pub(super) async fn finish(&self, unpacking: Unpacking) -> Result<Inspected, PackError> {
        let ended = tokio::time::timeout(DEADLINE, unpacking.running.end()).await;
        match ended.map_err(|_| GitError::Late("index-pack".to_owned()))? {
            Ok(()) => {}
            Err(GitError::Failed { message, .. }) => return Err(PackError::Malformed(explain(&message))),
            Err(error) => return Err(error.into()),
        }
        let packs = std::fs::read_dir(self.git.repository().join("objects/pack")).map_err(PackError::Read)?;
        let packs =
            packs.filter_map(Result::ok).filter(|entry| entry.path().extension().is_some_and(|end| end == "pack"));
        let size: u64 = packs.filter_map(|entry| entry.metadata().ok()).map(|data| data.len()).sum();
        // A pack without objects is not kept.
        let empty = 32;
        if unpacking.arrived != size && (size != 0 || unpacking.arrived != empty) {
            return Err(PackError::Trailing);
        }
        Ok(unpacking.early.finish().await)
    }
}

impl Drop for Quarantine {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.git.repository());
    }
}

/// The line that says why: of a check, the object; otherwise the last one.
fn explain(message: &str) -> String {
    if message.contains("Out of memory") || message.contains("mmap failed") {
        return "it needs too much memory when it is unpacked".to_owned();
    }
    let lines = || message.lines().map(str::trim).filter(|line| !line.is_empty());
    let check = lines().find(|line| line.starts_with("error:"));
    let line = check.or_else(|| lines().next_back()).unwrap_or("no reason is given");
    line.trim_start_matches("error: ").trim_start_matches("fatal: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::config::Known;
    use super::super::inspect::Inspector;
    use super::super::terms::Terms;
    use super::*;
    use crate::policy::GitTerms;
    use crate::scan::Dlp;
    use std::sync::Arc;

    // The clock goes on by hand: it is not on its own while a thread waits for the pack.
    #[tokio::test(start_paused = true)]
    async fn promise_15_a_client_that_sends_nothing_any_more_is_refused_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let inspector = Inspector::new(&Dlp::default(), &Known { secrets: vec![], placeholders: vec![] }).unwrap();
        for (sent, ends) in [(&b""[..], true), (b"PACK\0\0\0\x02", true), (b"PACK\0\0\0\x02\0", false)] {
            let quarantine = Quarantine::new(Path::new("/usr/bin/git"), folder.path(), folder.path()).unwrap();
            let early = Early::start(inspector.clone(), Arc::new(Terms::new(&GitTerms::default(), "demo").unwrap()));
            let (mut client, mut from) = tokio::io::duplex(PIECE);
            client.write_all(sent).await.unwrap();
            let began = tokio::time::Instant::now();
            let pass = async {
                while began.elapsed() < 10 * IDLE {
                    tokio::time::advance(Duration::from_secs(1)).await;
                }
            };
            let refused = tokio::select! {
                refused = quarantine.receive(&mut from, ends, 1 << 20, early) => refused.err().unwrap(),
                () = pass => panic!("it waits for ever"),
            };
            assert!(began.elapsed() >= IDLE);
            let Refusal { code, reason } = refused.refusal();
            assert_eq!(code, "git_pack_refused");
            assert_eq!(reason, "the pack did not arrive: nothing was sent for 60 s");
            drop(client);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left of it");
    }
}
