//! What an agent has made of its copy: `diff` and `pull`, while it works and when it is kept.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::life::Known;
use super::program::input;
use super::{Format, print_data, print_json, print_message};
use crate::engine::Engine;
use crate::engine::labels::{Identity, Kind};
use crate::plan::{WORKSPACE, WorkspaceMode};
use crate::primitive::own_image;
use crate::primitive::workspace::{Reader, SEED_FILE, before, left, volume_of};
use crate::session::{Class, Failure, Kept, kept, new_id};
use crate::workspace::{Change, Left, Seed, changes, digest, is_executed, patch, pull as bring};

/// The place of what the command line makes in a bottle's order: after everything else.
const LAST: u64 = 1 << 40;

/// What `diff` takes.
#[derive(clap::Args)]
pub(super) struct DiffArgs {
    /// The bottle
    bottle: String,
    /// Only which files
    #[arg(long)]
    stat: bool,
    /// How to print; as data, which files
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// What `pull` takes.
#[derive(clap::Args)]
pub(super) struct PullArgs {
    /// The bottle
    bottle: String,
    /// Write a patch for `git apply`; with -, to standard output
    #[arg(long, value_name = "FILE", conflicts_with = "branch")]
    patch: Option<PathBuf>,
    /// Bring its commits, and what it has not committed, to a fresh branch [default: bottler/ID, in a repository]
    #[arg(long, value_name = "NAME")]
    branch: Option<String>,
    /// The repository [default: the one that was copied]
    #[arg(long, value_name = "DIR", conflicts_with = "patch")]
    into: Option<PathBuf>,
}

/// A workspace, read: what it began with, what is in it, and its archive until this goes.
struct Work {
    known: Known,
    source: Option<PathBuf>,
    before: Arc<Left>,
    left: Left,
    spool: Spool,
    /// Held while it is read: nobody launches it again, or removes it.
    _hold: Option<std::fs::File>,
}

/// A file, and the folder for what is made of it; gone with the value.
struct Spool {
    archive: PathBuf,
    folder: PathBuf,
}

impl Drop for Spool {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.archive);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

async fn read(id: &str) -> Result<Work, Failure> {
    let known = Known::find(id)?;
    known.engine.info().await?;
    let plan = known.plan()?;
    let Some(workspace) = plan.workspace.filter(|workspace| workspace.mode == WorkspaceMode::Copy) else {
        return Err(input(format!("{id} has no copy of a folder")).hint("what is mounted is changed in its place"));
    };
    let directory = known.state.bottle(id);
    let hold = if known.state.is_alive(id) { None } else { Some(hold(&known)?) };
    if hold.is_some() && Kept::of_dead(&known.state, id).is_none() {
        return Err(input(format!("nothing of {id} is kept")).hint("`bottler ps --all` lists what is"));
    }
    let seed = directory.join(SEED_FILE);
    if !seed.exists() {
        return Err(input(format!("{id} has not copied its workspace yet")));
    }
    let name = new_id("reader").map_err(|error| Failure::new(Class::Internal, format!("choose a name: {error}")))?;
    let engine: Arc<dyn Engine> = known.engine.clone();
    let reader = Reader {
        identity: Identity { session: id.to_owned(), owner: known.owner().to_owned(), seq: LAST, kind: Kind::Sidecar },
        name: format!("{id}-{name}"),
        image: own_image(&engine).await?,
        volume: volume_of(id),
    };
    let spool = Spool { archive: directory.join(format!("{name}.tar")), folder: directory.join(name) };
    let before = before(Arc::new(Seed::Archive(seed))).await?;
    let left = left(&engine, reader, &spool.archive, &before).await?;
    Ok(Work { known, source: workspace.source, before, left, spool, _hold: hold })
}

/// Holds a bottle that is kept.
fn hold(known: &Known) -> Result<std::fs::File, Failure> {
    let held = known.state.hold_kept(&known.id);
    let held = held.map_err(|error| Failure::new(Class::Internal, format!("hold {}: {error}", known.id)))?;
    held.ok_or_else(|| input(format!("{} is being launched again, or removed", known.id)).hint("bottler ps --all"))
}

pub(super) async fn diff(args: &DiffArgs) -> Result<u8, Failure> {
    let work = read(&args.bottle).await?;
    let changed = changes(&work.before.files, &work.left.files);
    if args.format == Format::Json {
        let executed: Vec<&String> = changed.keys().filter(|path| is_executed(path)).collect();
        print_json(
            &serde_json::json!({ "bottle": args.bottle, "changes": changed, "executed_by_the_host": executed }),
        )?;
        return Ok(0);
    }
    if args.stat {
        for (path, change) in &changed {
            print_data(&crate::report::printable(&format!("{} {}\n", letter(*change), path.escape_default())));
        }
    } else {
        print_patch(&patch(&work.before.files, &work.left.files));
    }
    warn(changed.keys());
    Ok(0)
}

fn letter(change: Change) -> char {
    match change {
        Change::Added => 'A',
        Change::Changed => 'M',
        Change::Removed => 'D',
    }
}

/// A patch, to a terminal without what could drive it.
fn print_patch(patch: &str) {
    use std::io::IsTerminal;
    if std::io::stdout().is_terminal() {
        print_data(&crate::report::printable(patch));
    } else {
        print_data(patch);
    }
}

/// Names the files apart that tools of this host execute or obey.
fn warn<'a>(paths: impl Iterator<Item = &'a String>) {
    let executed: Vec<String> =
        paths.filter(|path| is_executed(path)).map(|path| path.escape_default().to_string()).collect();
    if !executed.is_empty() {
        print_message("executed or obeyed by tools of this host; look at these first:");
        for path in executed {
            print_message(&format!("  {path}"));
        }
    }
}

pub(super) async fn pull(args: &PullArgs) -> Result<u8, Failure> {
    let work = read(&args.bottle).await?;
    let changed = changes(&work.before.files, &work.left.files);
    let repository = args.into.clone().or_else(|| work.source.clone());
    let is_repository = repository.as_deref().is_some_and(|path| path.join(".git").exists());
    match (&args.patch, &args.branch) {
        (Some(file), _) => write_patch(file, &work)?,
        (None, None) if !is_repository => write_patch(Path::new(&format!("{}.patch", args.bottle)), &work)?,
        (None, branch) => {
            let branch = branch.clone().unwrap_or_else(|| format!("bottler/{}", args.bottle));
            let Some(repository) = repository else {
                return Err(
                    input(format!("{} was no copy of a repository", args.bottle)).hint("--into DIR, or --patch FILE")
                );
            };
            bring_branch(&work, &repository, &branch)?;
        }
    }
    warn(changed.keys());
    let directory = work.known.state.bottle(&args.bottle);
    kept::note_pulled(&directory, &digest(&work.left))
        .map_err(|error| Failure::new(Class::Internal, format!("write {}: {error}", directory.display())))?;
    Ok(0)
}

fn write_patch(file: &Path, work: &Work) -> Result<(), Failure> {
    let patch = patch(&work.before.files, &work.left.files);
    if file == Path::new("-") {
        print_data(&patch);
        return Ok(());
    }
    let failed = |error: std::io::Error| {
        input(format!("write the patch {}: {error}", file.display())).hint("a file that is not there yet: --patch FILE")
    };
    let mut out = std::fs::File::create_new(file).map_err(failed)?;
    std::io::Write::write_all(&mut out, patch.as_bytes()).map_err(failed)?;
    print_message(&format!("wrote {}; `git apply {}` takes it over", file.display(), file.display()));
    Ok(())
}

fn bring_branch(work: &Work, repository: &Path, branch: &str) -> Result<(), Failure> {
    let folder = &work.spool.folder;
    let brought = std::fs::create_dir(folder)
        .and_then(|()| bring(&work.spool.archive, WORKSPACE, &work.left.files, repository, branch, folder));
    let pulled = brought.map_err(|error| {
        let what = format!("pull {} into {}: {error}", work.known.id, repository.display());
        input(what).hint("--branch NAME for another branch, or --patch FILE")
    })?;
    for skipped in &pulled.skipped {
        print_message(&format!("not brought: {}", skipped.escape_default()));
    }
    let last = if pulled.uncommitted { "; its last commit is of what the agent had not committed" } else { "" };
    print_message(&format!("{} is on branch {branch}{last}", &pulled.commit[..12.min(pulled.commit.len())]));
    print_data(&format!("{}\n", pulled.commit));
    Ok(())
}
