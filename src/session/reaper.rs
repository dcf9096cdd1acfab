//! The reaper: a process that removes the bottle if the holder dies. It waits on a pipe whose other end the holder
//! keeps open. Its arguments name the owner, the engine and the volumes to keep, because the state directory may be
//! gone when it acts.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use super::{BottleImages, KeptWorkspace, Record, SessionDir, StateDir, UndoOutcome, recover_exit, unwind};
use crate::engine::choice::connect;

/// The role's name on the command line.
pub const ROLE: &str = "reaper";
/// What the holder writes when everything is removed.
const DONE: &[u8] = b"done\n";
/// How long the session must stay empty: the engine may still be executing a call of the holder.
const QUIET: Duration = Duration::from_secs(1);
/// The pause between attempts when the engine does not answer, and their number.
const PAUSE: Duration = Duration::from_secs(1);
const TRIES: usize = 120;

/// The holder's end of the pipe.
pub struct ReaperHandle {
    pipe: ChildStdin,
    child: Child,
}

/// Starts a reaper for a session. It inherits the lock as its standard output.
///
/// # Errors
/// The process cannot be started.
pub fn start(state: &StateDir, dir: &SessionDir, record: &Record) -> std::io::Result<ReaperHandle> {
    let mut command = Command::new("/proc/self/exe");
    let [keeps, home] = [&record.keeps, &record.keeps_home].map(|name| name.as_deref().unwrap_or_default());
    command.args([ROLE, &record.id, &record.endpoint, &state.owner, keeps, home]).arg(state.path());
    // It shares the holder's crash log.
    command.stdin(Stdio::piped()).stdout(dir.lock.try_clone()?).stderr(Stdio::inherit());
    // A group of its own keeps a terminal's Ctrl-C away until the reaper has made its own session.
    let mut child = command.process_group(0).spawn()?;
    let pipe = child.stdin.take().expect("stdin is piped");
    Ok(ReaperHandle { pipe, child })
}

impl ReaperHandle {
    /// Tells the reaper that everything is removed, and waits for it to exit.
    pub fn disarm(mut self) {
        // The reaper may have exited already.
        let _ = self.pipe.write_all(DONE);
        drop(self.pipe);
        let _ = self.child.wait();
    }
}

/// The reaper's arguments.
struct ReaperArgs {
    id: String,
    endpoint: String,
    /// The volumes to keep if the holder has not decided.
    keeps: Vec<String>,
    state: StateDir,
}

impl ReaperArgs {
    fn read(words: &[OsString]) -> anyhow::Result<Self> {
        let usage = "reaper: takes a bottle's id, an engine's address, an owner, two volumes and a state directory";
        let [id, endpoint, owner, keeps, home, path] = words else { anyhow::bail!(usage) };
        let text = |word: &OsStr| word.to_str().map(str::to_owned).ok_or_else(|| anyhow::anyhow!(usage));
        let keeps = [text(keeps)?, text(home)?].into_iter().filter(|name| !name.is_empty()).collect();
        Ok(Self {
            id: text(id)?,
            endpoint: text(endpoint)?,
            keeps,
            state: StateDir::unchecked(path.as_ref(), &text(owner)?),
        })
    }

    /// The volumes to keep, and whether the bottle's record is readable or gone.
    fn kept(&self) -> (Vec<String>, bool) {
        match self.state.read_record(&self.id) {
            Ok(Some(_)) => {
                let kept = KeptWorkspace::of_dead(&self.state, &self.id);
                (kept.map(|kept| kept.volumes()).unwrap_or_default(), true)
            }
            // The directory was removed, and with it the seed of the workspace.
            Ok(None) => (Vec::new(), true),
            // The unreadable record may describe work to keep.
            Err(_) => (self.keeps.clone(), false),
        }
    }
}

/// Runs the reaper: waits until the holder finishes or dies, and removes the bottle if it dies.
///
/// # Errors
/// Arguments are missing, or something could not be removed.
pub fn run(words: &[OsString]) -> anyhow::Result<()> {
    // An inherited connection would make a client wait for its end.
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
    // The queue is in the state directory.
    let _turn = if state.path().is_dir() { super::queue::acquire_teardown(state.path()).await } else { None };
    for _ in 0..TRIES {
        match connect(endpoint) {
            Ok(engine) => {
                engine.info().await.ok();
                recover_exit::record_exit(&engine, state, id, &state.owner).await;
                let (kept, readable) = args.kept();
                let rows = unwind(&engine, id, &state.owner, QUIET, BTreeMap::new(), &kept).await;
                let failed = rows.into_iter().find_map(|row| match row.outcome {
                    UndoOutcome::Failed(why) => Some(why),
                    _ => None,
                });
                match failed {
                    None if !kept.is_empty() || !readable => return Ok(()),
                    None => match BottleImages::remove(engine.as_ref(), &state.bottle(id)).await {
                        Ok(()) => {
                            super::dir::remove(&state.bottle(id))?;
                            return Ok(());
                        }
                        Err(error) => last = format!("{error:#}"),
                    },
                    Some(why) => last = why,
                }
            }
            Err(error) => last = error.to_string(),
        }
        tokio::time::sleep(PAUSE).await;
    }
    anyhow::bail!("{id}: not everything could be removed: {last}")
}
