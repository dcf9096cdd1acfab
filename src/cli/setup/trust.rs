//! `bottler trust` and `untrust`: whether a project's own files count.

use std::path::{Path, PathBuf};

use crate::cli::failure::input;
use crate::cli::launch::program::open_store;
use crate::cli::open::state;
use crate::cli::print::{Format, print_data, print_json, print_message};
use crate::project::{FOLDER, FileStatus, Project};
use crate::report::table;
use crate::session::{Class, Failure};

/// What `trust` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct TrustArgs {
    /// The project's folder
    #[arg(default_value = ".")]
    directory: PathBuf,
    /// Show the files, and what has changed since they were trusted; trust nothing
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
        let rows: Vec<Vec<String>> =
            changes.iter().map(|(path, change)| vec![word(*change).to_owned(), format!("{FOLDER}/{path}")]).collect();
        print_data(&table(&["", "FILE"], &rows));
    }
    if !args.show {
        store.trust(&project).map_err(|error| not_written(&error))?;
        print_message(&format!("trusted: {}", project.root.display()));
    }
    Ok(0)
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
