//! Reads a bottle's workspace for a command. A sweeper removes the temporary container and folder however the command ends.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::find::FoundBottle;
use crate::cli::failure::input;
use crate::cli::terminal::Signals;
use crate::engine::Engine;
use crate::engine::labels::{Identity, Kind};
use crate::host::sweep_unfinished;
use crate::plan::WorkspaceMode;
use crate::primitive::own_image;
use crate::primitive::workspace::{Reader, SEED_FILE, before, left};
use crate::session::kept_workspace::workspace_volume;
use crate::session::{Class, Failure, KeptWorkspace, new_id, sweeper};
use crate::workspace::{Fetched, Outstanding, Seed, Snapshot, outstanding, sweep};

/// The sequence number of objects that the command line creates: after all others.
const LAST: u64 = 1 << 40;
/// Prefix of the names of readers and their folders.
const READER: &str = "reader";
/// How long cancelled work may take to reach its next step.
const PATIENCE: Duration = Duration::from_secs(3);

/// A workspace that was read.
pub(in crate::cli) struct WorkspaceView {
    pub(in crate::cli) known: FoundBottle,
    /// The folder that was copied.
    pub(in crate::cli) source: Option<PathBuf>,
    pub(in crate::cli) before: Arc<Snapshot>,
    pub(in crate::cli) after: Snapshot,
    /// A temporary folder, removed by the sweeper.
    pub(in crate::cli) folder: PathBuf,
    _sweeper: sweeper::Sweeper,
    /// A lock that prevents a launch or removal of the bottle meanwhile.
    _hold: Option<std::fs::File>,
}

impl WorkspaceView {
    /// What was not fetched.
    pub(in crate::cli) fn outstanding(&self) -> Outstanding {
        outstanding(&self.before, &self.after, &Fetched::read(&self.known.state.bottle(&self.known.id)))
    }
}

/// Reads a bottle's workspace.
pub(in crate::cli) async fn read(id: &str) -> Result<WorkspaceView, Failure> {
    let known = FoundBottle::find(id)?;
    known.engine.info().await?;
    let plan = known.plan()?;
    let Some(workspace) = plan.workspace.filter(|workspace| workspace.mode == WorkspaceMode::Copy) else {
        return Err(
            input(format!("{id} does not work on a copy")).hint("changes to a mounted folder are already in it")
        );
    };
    let directory = known.state.bottle(id);
    let hold = if known.state.is_alive(id) { None } else { Some(hold(&known)?) };
    if hold.is_some() && KeptWorkspace::of_dead(&known.state, id).is_none() {
        return Err(input(format!("nothing of {id} is kept")).hint("`bottler ps --all` lists kept bottles"));
    }
    sweep_dead(&directory, hold.is_some());
    let seed = directory.join(SEED_FILE);
    if !seed.exists() {
        return Err(input(format!("{id} has not copied its workspace yet")));
    }
    let name = new_id(READER).map_err(|error| Failure::new(Class::Internal, format!("choose a name: {error}")))?;
    let engine: Arc<dyn Engine> = known.engine.clone();
    let container = format!("{id}-{name}");
    let folder = directory.join(&name);
    let mut sweeper = sweeper::start(id, &known.record.endpoint, known.owner(), &container, &folder)
        .map_err(|error| Failure::new(Class::Internal, format!("start the sweeper: {error}")))?;
    let reader = Reader {
        identity: Identity {
            session: id.to_owned(),
            owner: known.owner().to_owned(),
            seq: LAST,
            kind: Kind::Sidecar,
            role: None,
            uses: [].into(),
        },
        name: container,
        image: own_image(&engine).await?,
        volume: workspace_volume(id),
    };
    let before = before(Arc::new(Seed::Archive(seed))).await?;
    let after = left(&engine, reader, &directory, &before).await?;
    sweeper.container_is_gone();
    Ok(WorkspaceView { known, source: workspace.source, before, after, folder, _sweeper: sweeper, _hold: hold })
}

/// Removes what is left if a command and its sweeper died at the same time, as in a crash of the machine. `alone`: no other
/// command reads this bottle.
fn sweep_dead(directory: &Path, alone: bool) {
    sweep_unfinished(directory, None);
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(READER) {
            sweep(&entry.path());
            if alone {
                // The next command tries again.
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// Locks a kept bottle for reading.
fn hold(known: &FoundBottle) -> Result<std::fs::File, Failure> {
    let held = known.state.lock_for_reading(&known.id);
    let held = held.map_err(|error| Failure::new(Class::Internal, format!("hold {}: {error}", known.id)))?;
    held.ok_or_else(|| input(format!("{} is being launched again, or removed", known.id)).hint("bottler ps --all"))
}

/// Whether the user has cancelled; checked between atomic steps.
#[derive(Clone, Default)]
pub(in crate::cli) struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    pub(in crate::cli) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Runs a command until it ends or a signal arrives; then it may reach its next step.
pub(in crate::cli) async fn until_signal<T>(
    work: impl Future<Output = Result<T, Failure>>,
    cancelled: &CancelFlag,
) -> Result<T, Failure> {
    let mut signals = Signals::new()?;
    let mut work = std::pin::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        _ = signals.next() => {}
    }
    cancelled.0.store(true, Ordering::Release);
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(Ok(done)) => Ok(done),
        _ => Err(Failure::new(Class::Cancelled, "cancelled")),
    }
}
