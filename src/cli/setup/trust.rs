//! `bottler trust` and `bottler untrust`: whether a project's `.bottler/` is used.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::cli::failure::input;
use crate::cli::launch::program::open_store;
use crate::cli::open::state;
use crate::cli::print::{Format, print_data, print_json, print_message};
use crate::project::{FOLDER, FileStatus, Project, TrustStore};
use crate::report::{printable, table};
use crate::session::{Class, Failure};
use crate::workspace::{Snapshot, WorkspaceFile, patch_text};

/// What `trust` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct TrustArgs {
    /// The project's folder
    #[arg(default_value = ".")]
    directory: PathBuf,
    /// Print the files, and their changes since they were trusted as a patch; trust nothing
    #[arg(long)]
    show: bool,
    /// The output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// What `untrust` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct UntrustArgs {
    /// The project's folder
    #[arg(default_value = ".")]
    directory: PathBuf,
}

pub(in crate::cli) fn trust(args: &TrustArgs) -> Result<u8, Failure> {
    let project = read(&args.directory)?;
    let mut store = open_store(&state()?)?;
    let changes = store.changes(&project);
    if args.format == Format::Json {
        print_json(
            &serde_json::json!({ "project": project.root, "trusted": store.trusts(&project), "files": changes }),
        )?;
    } else {
        let rows: Vec<Vec<String>> = changes
            .iter()
            .map(|(path, change)| {
                let size = project.files.get(path).map(|content| content.len().to_string()).unwrap_or_default();
                vec![word(*change).to_owned(), format!("{FOLDER}/{path}"), size]
            })
            .collect();
        print_data(&table(&["", "FILE", "BYTES"], &rows));
        if args.show {
            print_differences(&store, &project, &changes)?;
        }
    }
    if !args.show {
        store.trust(&project).map_err(|error| not_written(&error))?;
        print_message(&format!("trusted: {}", project.root.display()));
    }
    Ok(0)
}

/// Prints what changed since the files were trusted, as a patch.
fn print_differences(
    store: &TrustStore,
    project: &Project,
    changes: &BTreeMap<String, FileStatus>,
) -> Result<(), Failure> {
    let is_new = changes.values().all(|change| *change == FileStatus::Added);
    if is_new || store.trusts(project) {
        return Ok(());
    }
    let Some(trusted) = store.trusted_files(project) else {
        print_message("the trusted version was not stored, so the changes cannot be shown; read the files themselves");
        return Ok(());
    };
    let failed = |error: std::io::Error| Failure::new(Class::Internal, format!("compare the project's files: {error}"));
    let patch = patch_text(&snapshot(&trusted), &snapshot(&project.files)).map_err(failed)?;
    print_data(&printable(&format!("\n{patch}")));
    Ok(())
}

fn snapshot(files: &BTreeMap<String, Vec<u8>>) -> Snapshot {
    let file = |content: &Vec<u8>| WorkspaceFile::Regular { content: content.clone(), executable: false };
    Snapshot::of(&files.iter().map(|(path, content)| (format!("{FOLDER}/{path}"), file(content))).collect())
}

pub(in crate::cli) fn untrust(args: &UntrustArgs) -> Result<u8, Failure> {
    let root = args.directory.canonicalize();
    let root = root.map_err(|error| input(format!("find {}: {error}", args.directory.display())))?;
    let known = open_store(&state()?)?.untrust(&root).map_err(|error| not_written(&error))?;
    print_message(&format!("{}: {}", if known { "no longer trusted" } else { "was not trusted" }, root.display()));
    Ok(0)
}

fn read(directory: &Path) -> Result<Project, Failure> {
    let failed = |error: std::io::Error| input(format!("read {}/{FOLDER}: {error}", directory.display()));
    let project = Project::read(directory).map_err(failed)?;
    project.ok_or_else(|| input(format!("{} has no files in {FOLDER}/", directory.display())))
}

fn word(change: FileStatus) -> &'static str {
    match change {
        FileStatus::Unchanged => "as trusted",
        FileStatus::Added => "new",
        FileStatus::Changed => "changed",
        FileStatus::Removed => "removed",
    }
}

fn not_written(error: &std::io::Error) -> Failure {
    Failure::new(Class::Internal, format!("write what is trusted: {error}"))
}
