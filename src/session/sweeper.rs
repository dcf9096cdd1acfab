//! The sweeper: a child of a command that reads a workspace. It sleeps on a pipe whose other end dies with the command, and
//! removes the container and the folder that the command has made, in every case.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::engine::choice::connect;
use crate::engine::{Engine, Filter};

/// The role's name on the command line.
pub const ROLE: &str = "sweeper";
/// What the command says when the container is gone.
const GONE: &[u8] = b"gone";
/// The call that makes the container may still be under way: how often it is looked for, and how long between.
const LOOKS: usize = 3;
const PAUSE: Duration = Duration::from_millis(300);
/// Tries with an engine that does not answer.
const TRIES: usize = 20;

/// The command's end of the pipe. Dropped, it has the sweeper do its work, and waits for that.
pub struct Sweeper {
    child: Child,
}

/// Starts a sweeper for a container and a folder, which need not be there yet.
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
    /// Says that the command has removed the container itself.
    pub fn container_is_gone(&mut self) {
        if let Some(pipe) = &mut self.child.stdin {
            // A sweeper that has ended cannot be told, and need not.
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

/// The sweeper's whole life. `clean` is called before the folder is removed: it may say what else the command has left.
///
/// # Errors
/// The engine does not answer.
pub fn run(
    (id, endpoint, owner): (&str, &str, &str),
    container: &str,
    folder: &Path,
    clean: impl Fn(&Path),
) -> anyhow::Result<()> {
    let mut word = Vec::new();
    std::io::stdin().lock().take(64).read_to_end(&mut word)?;
    clean(folder);
    let mut swept = Ok(());
    if word != GONE {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        swept = runtime.block_on(sweep(id, endpoint, container, owner));
    }
    // git may still write into it, for a moment.
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
            // The command has removed it, or has not made it yet.
            Ok(false) if looks + 1 >= LOOKS => return Ok(()),
            Ok(false) => looks += 1,
            Ok(true) => return Ok(()),
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("{container} comes back")))
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
