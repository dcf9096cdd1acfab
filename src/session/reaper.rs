//! The reaper: the holder's dead-man's switch. It sleeps on a pipe whose other end dies with the holder.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::{Kept, Outcome, SessionDir, StateDir, unwind};
use crate::engine::Engine;
use crate::engine::docker::DockerEngine;

/// The role's name on the command line.
pub const ROLE: &str = "reaper";
/// What the holder says when there is nothing left to do.
const DONE: &[u8] = b"done\n";
/// How long the session must look empty: the holder may have died in the middle of a call.
const QUIET: Duration = Duration::from_secs(1);
/// Pauses between attempts when the engine does not answer, and their number.
const PAUSE: Duration = Duration::from_secs(1);
const TRIES: usize = 120;

/// The holder's end of the switch.
pub struct Switch {
    pipe: ChildStdin,
    child: Child,
}

/// Starts a reaper for a session. It is in a session of its own and inherits the lock, as its standard output.
///
/// # Errors
/// The process cannot be started.
pub fn start(state: &StateDir, dir: &SessionDir, id: &str, endpoint: &str) -> std::io::Result<Switch> {
    let mut command = Command::new("/proc/self/exe");
    command.args([ROLE, id, endpoint]).arg(state.path());
    // What it has to say goes where the holder's own goes.
    command.stdin(Stdio::piped()).stdout(dir.lock.try_clone()?).stderr(Stdio::inherit());
    // A group of its own keeps a terminal's Ctrl-C away until the reaper has made its own session.
    let mut child = command.process_group(0).spawn()?;
    let pipe = child.stdin.take().expect("stdin is piped");
    Ok(Switch { pipe, child })
}

impl Switch {
    /// Tells the reaper that the session is gone, and waits for its end.
    pub fn disarm(mut self) {
        // A reaper that is gone already has nothing to be told.
        let _ = self.pipe.write_all(DONE);
        drop(self.pipe);
        let _ = self.child.wait();
    }
}

/// The reaper's whole life: waits for the holder's word or its death, and in the latter case unwinds.
///
/// # Errors
/// The state directory cannot be read, or something could not be removed.
pub fn run(id: &str, endpoint: &str, state: &std::path::Path) -> anyhow::Result<()> {
    // The holder's connections are not ours: a client would wait for the end of one.
    super::descriptors::close_inherited()?;
    super::crash::note_panics(ROLE);
    let mut word = Vec::new();
    std::io::stdin().lock().take(64).read_to_end(&mut word)?;
    if word == DONE {
        return Ok(());
    }
    let state = StateDir::at(state)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(reap(id, endpoint, &state))
}

async fn reap(id: &str, endpoint: &str, state: &StateDir) -> anyhow::Result<()> {
    let mut last = String::new();
    let _turn = super::turn::to_tear_down(state.path()).await;
    for _ in 0..TRIES {
        match DockerEngine::connect(endpoint) {
            Ok(engine) => {
                let engine: Arc<dyn Engine> = Arc::new(engine);
                engine.info().await.ok();
                let kept = Kept::of_dead(state, id).map(|kept| kept.volume);
                let rows = unwind(&engine, id, &state.owner, QUIET, BTreeMap::new(), kept.as_deref()).await;
                let failed = rows.into_iter().find_map(|row| match row.outcome {
                    Outcome::Failed(why) => Some(why),
                    _ => None,
                });
                match failed {
                    None if kept.is_some() => return Ok(()),
                    None => {
                        super::dir::remove(&state.bottle(id))?;
                        return Ok(());
                    }
                    Some(why) => last = why,
                }
            }
            Err(error) => last = error.to_string(),
        }
        tokio::time::sleep(PAUSE).await;
    }
    anyhow::bail!("{id}: not everything could be removed: {last}")
}
