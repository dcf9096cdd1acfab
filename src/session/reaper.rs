//! The reaper: the holder's dead-man's switch. It sleeps on a pipe whose other end dies with the holder. Whose the bottle is,
//! on which engine, and what is kept of it, it is told at its start: by the time that it acts, the state directory may be gone.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use super::{KeptWorkspace, UndoOutcome, Record, SessionDir, StateDir, recover_exit, unwind};
use crate::engine::choice::connect;

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
pub struct ReaperHandle {
    pipe: ChildStdin,
    child: Child,
}

/// Starts a reaper for a session. It is in a session of its own and inherits the lock, as its standard output.
///
/// # Errors
/// The process cannot be started.
pub fn start(state: &StateDir, dir: &SessionDir, record: &Record) -> std::io::Result<ReaperHandle> {
    let mut command = Command::new("/proc/self/exe");
    let keeps = record.keeps.as_deref().unwrap_or_default();
    command.args([ROLE, &record.id, &record.endpoint, &state.owner, keeps]).arg(state.path());
    // What it has to say goes where the holder's own goes.
    command.stdin(Stdio::piped()).stdout(dir.lock.try_clone()?).stderr(Stdio::inherit());
    // A group of its own keeps a terminal's Ctrl-C away until the reaper has made its own session.
    let mut child = command.process_group(0).spawn()?;
    let pipe = child.stdin.take().expect("stdin is piped");
    Ok(ReaperHandle { pipe, child })
}

impl ReaperHandle {
    /// Tells the reaper that the session is gone, and waits for its end.
    pub fn disarm(mut self) {
        // A reaper that is gone already has nothing to be told.
        let _ = self.pipe.write_all(DONE);
        drop(self.pipe);
        let _ = self.child.wait();
    }
}

/// What a reaper is told on its command line.
struct ReaperArgs {
    id: String,
    endpoint: String,
    /// The volume that outlives the bottle if its holder has not decided.
    keeps: Option<String>,
    state: StateDir,
}

impl ReaperArgs {
    fn read(words: &[OsString]) -> anyhow::Result<Self> {
        let usage = "reaper: takes a bottle's id, an engine's address, an owner, a volume and a state directory";
        let [id, endpoint, owner, keeps, path] = words else { anyhow::bail!(usage) };
        let text = |word: &OsStr| word.to_str().map(str::to_owned).ok_or_else(|| anyhow::anyhow!(usage));
        let keeps = Some(text(keeps)?).filter(|keeps| !keeps.is_empty());
        Ok(Self {
            id: text(id)?,
            endpoint: text(endpoint)?,
            keeps,
            state: StateDir::unchecked(path.as_ref(), &text(owner)?),
        })
    }

    /// The volume that is to be kept, and whether the bottle's directory still says why.
    fn kept(&self) -> (Option<String>, bool) {
        match self.state.read_record(&self.id) {
            Ok(Some(_)) => (KeptWorkspace::of_dead(&self.state, &self.id).map(|kept| kept.volume), true),
            // Somebody has removed the directory, and with it what the workspace began with.
            Ok(None) => (None, true),
            // What cannot be read may say that there is somebody's work.
            Err(_) => (self.keeps.clone(), false),
        }
    }
}

/// The reaper's whole life: waits for the holder's word or its death, and in the latter case unwinds.
///
/// # Errors
/// It was not told what it needs, or something could not be removed.
pub fn run(words: &[OsString]) -> anyhow::Result<()> {
    // The holder's connections are not ours: a client would wait for the end of one.
    super::descriptors::close_inherited()?;
    super::crash::note_panics(ROLE);
    let args = ReaperArgs::read(words)?;
    let mut word = Vec::new();
    std::io::stdin().lock().take(64).read_to_end(&mut word)?;
    if word == DONE {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(reap(&args))?;
    super::crash::close(args.state.path(), &args.id);
    Ok(())
}

async fn reap(args: &ReaperArgs) -> anyhow::Result<()> {
    let ReaperArgs { id, endpoint, state, .. } = args;
    let mut last = String::new();
    // There is no line to wait in where there is not a directory.
    let _turn = if state.path().is_dir() { super::queue::acquire_teardown(state.path()).await } else { None };
    for _ in 0..TRIES {
        match connect(endpoint) {
            Ok(engine) => {
                engine.info().await.ok();
                recover_exit::record_exit(&engine, state, id, &state.owner).await;
                let (kept, readable) = args.kept();
                let rows = unwind(&engine, id, &state.owner, QUIET, BTreeMap::new(), kept.as_deref()).await;
                let failed = rows.into_iter().find_map(|row| match row.outcome {
                    UndoOutcome::Failed(why) => Some(why),
                    _ => None,
                });
                match failed {
                    None if kept.is_some() || !readable => return Ok(()),
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
