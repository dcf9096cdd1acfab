//! The sweeper: a child process of a command that reads a workspace. It waits on a pipe until the command ends in any
//! way, then removes the command's container and folder, and what it was writing in the bottle's directory.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::engine::choice::connect;
use crate::engine::{Engine, Filter};
use crate::host::sweep_unfinished;

/// The role's name on the command line.
pub const ROLE: &str = "sweeper";
/// What the command writes when it has removed the container itself.
const GONE: &[u8] = b"gone";
/// How often to look for the container, and the pause between: the call that creates it may still be running.
const LOOKS: usize = 3;
const PAUSE: Duration = Duration::from_millis(300);
/// Attempts with an engine that does not answer.
const TRIES: usize = 20;

/// The command's end of the pipe. Dropping it starts the sweeper's work and waits for it.
pub struct Sweeper {
    child: Child,
}

/// Starts a sweeper for a container and a folder, which need not exist yet.
///
/// # Errors
/// The process cannot be started.
pub fn start(id: &str, endpoint: &str, owner: &str, container: &str, folder: &Path) -> std::io::Result<Sweeper> {
    let mut command = Command::new("/proc/self/exe");
    command.args([ROLE, id, endpoint, owner, container]).arg(folder);
    // A group of its own keeps a terminal's Ctrl-C away.
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    Ok(Sweeper { child: command.spawn()? })
}

impl Sweeper {
    /// Tells the sweeper that the container is already removed.
    pub fn container_is_gone(&mut self) {
        if let Some(pipe) = &mut self.child.stdin {
            // The sweeper may have exited already.
            let _ = pipe.write_all(GONE);
        }
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Runs the sweeper. `clean` is called before the folder is removed, to remove what the folder refers to.
///
/// # Errors
/// The engine does not answer.
pub fn run(
    (id, endpoint, owner): (&str, &str, &str),
    container: &str,
    folder: &Path,
    clean: impl Fn(&Path),
) -> anyhow::Result<()> {
    let command = std::os::unix::process::parent_id();
    let mut word = Vec::new();
    std::io::stdin().lock().take(64).read_to_end(&mut word)?;
    clean(folder);
    if let Some(directory) = folder.parent() {
        sweep_unfinished(directory, Some(command));
    }
    let mut swept = Ok(());
    if word != GONE {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        swept = runtime.block_on(sweep(id, endpoint, container, owner));
    }
    // git may still be writing into it.
    for _ in 0..TRIES {
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => std::thread::sleep(PAUSE),
            _ => break,
        }
    }
    swept
}

async fn sweep(id: &str, endpoint: &str, container: &str, owner: &str) -> anyhow::Result<()> {
    let (mut last, mut looks) = (None, 0);
    for _ in 0..TRIES {
        match remove(id, endpoint, container, owner).await {
            // Already removed, or not created yet.
            Ok(false) if looks + 1 >= LOOKS => return Ok(()),
            Ok(false) => looks += 1,
            Ok(true) => return Ok(()),
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("{container} was created again")))
}

/// Removes the container; whether it was there.
async fn remove(id: &str, endpoint: &str, container: &str, owner: &str) -> anyhow::Result<bool> {
    let engine: Arc<dyn Engine> = connect(endpoint)?;
    engine.info().await?;
    let objects = engine.list(&Filter::Session(id.to_owned())).await?;
    let found = objects.into_iter().find(|object| object.name == container && object.identity.owner == owner);
    match found {
        Some(object) => engine.container_remove(&object.id).await.map(|_| true).map_err(Into::into),
        None => Ok(false),
    }
}
