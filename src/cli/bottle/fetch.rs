//! `bottler diff` and `bottler pull`, for running and kept bottles.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use super::find::FoundBottle;
use super::remove::remove_kept;
use super::workspace::{CancelFlag, WorkspaceView, read, until_signal};
use crate::cli::failure::input;
use crate::cli::print::{Format, print_data, print_json, print_message, report_unwritten};
use crate::report::printable;
use crate::session::{Class, Failure};
use crate::workspace::{
    Change, Fetched, Git, Name, PullOptions, PullReport, SkippedPath, changes, default_branch, is_executed, patch,
    pull as pull_branch, shown,
};

/// What `diff` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct DiffArgs {
    /// The bottle's id
    bottle: String,
    /// Only the names of changed files
    #[arg(long)]
    stat: bool,
    /// The output format; `json` lists the names of changed files
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// What `pull` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct PullArgs {
    /// The bottle's id
    bottle: String,
    /// Write a patch for `git apply`; `-` is standard output
    #[arg(long, value_name = "FILE", conflicts_with = "branch")]
    patch: Option<PathBuf>,
    /// Write everything to a tar archive, including ignored files and the whole repository
    #[arg(long, value_name = "FILE", conflicts_with_all = ["branch", "patch"])]
    archive: Option<PathBuf>,
    /// Fetch its commits, and what it has not committed, as this branch [default: bottler/ID, if it was a repository]
    #[arg(long, value_name = "NAME")]
    branch: Option<String>,
    /// The repository to fetch into [default: the one that was copied]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["patch", "archive"])]
    into: Option<PathBuf>,
    /// Run the filters of your git configuration on changed files that have one
    #[arg(long)]
    filters: bool,
}

pub(in crate::cli) async fn diff(args: &DiffArgs) -> Result<u8, Failure> {
    until_signal(show(args), &CancelFlag::default()).await
}

async fn show(args: &DiffArgs) -> Result<u8, Failure> {
    let work = read(&args.bottle).await?;
    let changed = changes(&work.before, &work.after);
    let missing = work.outstanding();
    if args.format == Format::Json {
        let executed: Vec<String> = executed(changed.keys()).map(|path| shown(path)).collect();
        let names: std::collections::BTreeMap<String, Change> =
            changed.iter().map(|(path, change)| (shown(path), *change)).collect();
        let ignored: Vec<String> = work.after.ignored.keys().map(|path| shown(path)).collect();
        print_json(&serde_json::json!({
            "bottle": args.bottle, "changes": names, "executed_by_the_host": executed, "ignored": ignored,
            "references": missing.references, "logged": missing.logged, "nested": missing.nested,
            "not_certain": missing.uncertain,
        }))?;
        return Ok(0);
    }
    if args.stat {
        for (path, change) in &changed {
            print_data(&printable(&format!("{} {}\n", letter(*change), shown(path))));
        }
    } else {
        let mut text = Vec::new();
        patch(&work.before, &work.after, &mut text).map_err(|error| unreadable(&args.bottle, &error))?;
        print_patch(&text);
    }
    warn(changed.keys());
    for line in missing.lines().iter().filter(|line| !line.starts_with("changed: ")) {
        print_message(&printable(&format!("also {line}")));
    }
    Ok(0)
}

fn unreadable(bottle: &str, error: &std::io::Error) -> Failure {
    Failure::new(Class::Operation, format!("read the changes of {bottle}: {error}"))
}

fn letter(change: Change) -> char {
    match change {
        Change::Added => 'A',
        Change::Changed => 'M',
        Change::Removed => 'D',
    }
}

/// Prints a patch; to a terminal, without control characters.
fn print_patch(patch: &[u8]) {
    let text = String::from_utf8_lossy(patch);
    if std::io::stdout().is_terminal() {
        print_data(&printable(&text));
    } else {
        print_data(&text);
    }
}

fn executed<'a>(paths: impl Iterator<Item = &'a Name>) -> impl Iterator<Item = &'a Name> {
    paths.filter(|path| is_executed(&String::from_utf8_lossy(path)))
}

/// Warns about changed files that host tools execute or obey.
fn warn<'a>(paths: impl Iterator<Item = &'a Name>) {
    let executed: Vec<&Name> = executed(paths).collect();
    if !executed.is_empty() {
        print_message("executed or obeyed by tools on this host; look at these first:");
        for path in executed {
            print_message(&printable(&format!("  {}", shown(path))));
        }
    }
}

pub(in crate::cli) async fn pull(args: &PullArgs) -> Result<u8, Failure> {
    let cancelled = CancelFlag::default();
    until_signal(fetch(args, &cancelled), &cancelled).await
}

/// Writes the changes of a kept bottle as a patch, and removes the bottle if the patch contains everything.
pub(in crate::cli) async fn take_patch(bottle: &str, file: &Path) -> Result<(), Failure> {
    let args = PullArgs {
        bottle: bottle.to_owned(),
        patch: Some(file.to_owned()),
        archive: None,
        branch: None,
        into: None,
        filters: false,
    };
    pull(&args).await?;
    if until_signal(read(bottle), &CancelFlag::default()).await?.outstanding().lines().is_empty() {
        remove_kept(&FoundBottle::find(bottle)?).await?;
    }
    Ok(())
}

/// Where an agent's changes are written.
enum PullTarget {
    /// To standard output, which does not count as fetched.
    Stdout,
    Patch(PathBuf),
    Archive(PathBuf),
    Branch {
        repository: PathBuf,
        branch: String,
    },
}

fn target(args: &PullArgs, work: &WorkspaceView) -> Result<PullTarget, Failure> {
    let repository = args.into.clone().or_else(|| work.source.clone());
    let is_repository = repository.as_deref().is_some_and(|path| path.join(".git").exists());
    Ok(match (&args.patch, &args.archive, &args.branch) {
        (Some(file), ..) if file == Path::new("-") => PullTarget::Stdout,
        (Some(file), ..) => PullTarget::Patch(file.clone()),
        (_, Some(file), _) => PullTarget::Archive(file.clone()),
        (None, None, None) if !is_repository => PullTarget::Patch(PathBuf::from(format!("{}.patch", args.bottle))),
        (None, None, branch) => {
            let Some(repository) = repository else {
                return Err(input(format!("{} did not work on a copy of a repository", args.bottle))
                    .hint("--into DIR, or --patch FILE"));
            };
            let branch = branch.clone().unwrap_or_else(|| default_branch(&repository, &args.bottle));
            PullTarget::Branch { repository, branch }
        }
    })
}

async fn fetch(args: &PullArgs, cancelled: &CancelFlag) -> Result<u8, Failure> {
    let work = read(&args.bottle).await?;
    let target = target(args, &work)?;
    let (filters, cancelled) = (args.filters, cancelled.clone());
    let done = crate::task::blocking(move || {
        let fetched = deliver(&target, &work, filters, &cancelled)?;
        conclude(&work, fetched)
    });
    done.await.map_err(|error| Failure::new(Class::Internal, format!("pull: {error}")))?
}

/// Fetches the changes. Returns the updated record of what was fetched; `None` if they were only printed.
fn deliver(
    target: &PullTarget,
    work: &WorkspaceView,
    filters: bool,
    cancelled: &CancelFlag,
) -> Result<Option<Fetched>, Failure> {
    let mut fetched = Fetched::read(&work.known.state.bottle(&work.known.id));
    let (before, after) = (&*work.before, &work.after);
    match target {
        PullTarget::Stdout => {
            let mut text = Vec::new();
            patch(before, after, &mut text).map_err(|error| unreadable(&work.known.id, &error))?;
            print_patch(&text);
            return Ok(None);
        }
        PullTarget::Patch(file) => {
            let mut skipped = Vec::new();
            write_whole(file, "patch", |out| patch(before, after, out).map(|names| skipped = names))?;
            print_skipped(&skipped);
            print_message(&format!(
                "wrote {}; apply it with `{}`",
                file.display(),
                apply(work.source.as_deref(), file)
            ));
            fetched.note_files(before, after, &skipped);
        }
        PullTarget::Archive(file) => {
            write_whole(file, "archive", |out| after.copy_archive(out).map(drop))?;
            print_message(&format!("wrote {}: everything, below workspace/ in the archive", file.display()));
            fetched.note_all(before, after);
        }
        PullTarget::Branch { repository, branch } => {
            let place = repository.canonicalize().unwrap_or_else(|_| repository.clone()).display().to_string();
            let earlier = fetched.branches.get(&place).and_then(|branches| branches.get(branch)).cloned();
            let pulled = fetch_branch(work, (repository, branch, earlier.as_deref()), filters, cancelled)?;
            fetched.note_branch(before, after, &pulled, &place, branch);
        }
    }
    Ok(Some(fetched))
}

/// Stores the record of what was fetched, and prints what was not.
fn conclude(work: &WorkspaceView, fetched: Option<Fetched>) -> Result<u8, Failure> {
    warn(changes(&work.before, &work.after).keys());
    let directory = work.known.state.bottle(&work.known.id);
    if let Some(fetched) = fetched {
        fetched.write(&directory).map_err(|error| {
            Failure::new(Class::Internal, format!("record in {} what was fetched: {error}", directory.display()))
                .hint("the work has arrived, and the workspace is kept")
        })?;
    }
    for line in work.outstanding().lines() {
        print_message(&printable(&format!("only in the bottle, {line}")));
    }
    report_unwritten()
}

/// The command that applies a patch. git resolves names from the repository's root and silently skips files outside the current
/// folder.
fn apply(source: Option<&Path>, file: &Path) -> String {
    let asked = |question: &str| Git::at(source?).line(&["rev-parse", question]);
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    let word = |text: &str| if plain(text) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) };
    match (asked("--show-toplevel"), asked("--show-prefix")) {
        (Some(root), Some(prefix)) => {
            let file = file.canonicalize().unwrap_or_else(|_| file.to_owned());
            let (root, prefix, file) = (word(&root), word(&prefix), word(&file.to_string_lossy()));
            format!("git -C {root} apply --directory={prefix} {file}")
        }
        _ => format!("git apply {}", word(&file.to_string_lossy())),
    }
}

/// Creates a file atomically; an error if it exists.
pub(in crate::cli) fn write_whole(
    file: &Path,
    what: &str,
    write: impl FnOnce(&mut std::io::BufWriter<std::fs::File>) -> std::io::Result<()>,
) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        input(format!("write the {what} {}: {error}", file.display()))
            .hint(format!("name a file that does not exist yet: --{what} FILE"))
    };
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if std::fs::symlink_metadata(file).is_ok() {
        return Err(failed(std::io::ErrorKind::AlreadyExists.into()));
    }
    crate::host::create_whole(file, folder, write).map_err(failed)
}

fn print_skipped(skipped: &[SkippedPath]) {
    for (name, why) in skipped {
        print_message(&printable(&format!("not fetched: {}: {why}", shown(name))));
    }
}

fn fetch_branch(
    work: &WorkspaceView,
    (repository, branch, earlier): (&Path, &str, Option<&str>),
    filters: bool,
    cancelled: &CancelFlag,
) -> Result<PullReport, Failure> {
    let failed = |error: std::io::Error| {
        let what = format!("pull {} into {}: {error}", work.known.id, repository.display());
        match error.kind() {
            std::io::ErrorKind::Interrupted => Failure::new(Class::Cancelled, "cancelled"),
            _ => input(what).hint("--branch NAME for another branch, --patch FILE or --archive FILE"),
        }
    };
    std::fs::create_dir(&work.folder).map_err(failed)?;
    let is_cancelled = || cancelled.is_set();
    let options = PullOptions {
        bottle: &work.known.id,
        before: &work.before,
        after: &work.after,
        repository,
        branch,
        earlier,
        staging: &work.folder,
        filters,
        cancelled: &is_cancelled,
    };
    let pulled = pull_branch(&options).map_err(failed)?;
    print_skipped(&pulled.skipped);
    for name in &pulled.broken {
        print_message(&printable(&format!("not fetched: {name}: its object is missing, or git rejects it")));
    }
    for name in pulled.references.keys() {
        print_message(&printable(&format!("also fetched: {name}")));
    }
    let last = if pulled.uncommitted { "; its last commit has what the agent had not committed" } else { "" };
    print_message(&format!("{} is on branch {branch}{last}", &pulled.commit[..12.min(pulled.commit.len())]));
    print_data(&format!("{}\n", pulled.commit));
    Ok(pulled)
}
