//! `bottler manifest`: lists agents, finds mistakes, prints the schema.

use std::path::PathBuf;

use crate::cli::failure::input;
use crate::cli::launch::program::{self, ProjectArgs};
use crate::cli::open::state;
use crate::cli::print::{Format, print_data, print_json, print_message};
use crate::manifest::{Catalogue, choose, schema, user_file};
use crate::report;
use crate::session::{Class, Failure};

/// What `manifest` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Print the manifest's JSON Schema
    Schema,
    /// Check a manifest, and the files beside it, for mistakes
    Check {
        /// The manifest [default: ~/.config/bottler/bottler.yaml]
        file: Option<PathBuf>,
    },
    /// List the agents and templates that `run` accepts
    List {
        #[command(flatten)]
        project: ProjectArgs,
        /// The output format
        #[arg(long, value_enum, default_value = "text")]
        format: Format,
    },
}

pub(in crate::cli) fn main(args: &Args) -> Result<u8, Failure> {
    match &args.command {
        Command::Schema => {
            print_data(&schema());
            Ok(0)
        }
        Command::Check { file } => check(file.clone()),
        Command::List { project, format } => list(project, *format),
    }
}

fn check(file: Option<PathBuf>) -> Result<u8, Failure> {
    let Some(file) = file.or_else(user_file) else {
        return Err(input("neither XDG_CONFIG_HOME nor HOME is set").hint("bottler manifest check FILE"));
    };
    if !file.exists() {
        return Err(input(format!("there is no {}", file.display())).hint("`bottler init` writes one"));
    }
    let catalogue = Catalogue::read(Some(&file), None);
    let mut problems = catalogue.problems();
    for name in catalogue.agents() {
        // What an agent names is read, too: files, skills, templates.
        let named = choose(&catalogue, name, None).err();
        problems.extend(named.filter(|problem| !problems.iter().any(|known| known.message == problem.message)));
    }
    for problem in &problems {
        print_message(&report::failure(&program::failure(problem.clone()), &[]));
    }
    if problems.is_empty() {
        let (file, count) = (file.display(), catalogue.agents().count());
        print_message(&format!("{file}: {count} agent{}, no mistakes", if count == 1 { "" } else { "s" }));
    }
    Ok(if problems.is_empty() { 0 } else { Class::Input.exit_code() })
}

fn list(project: &ProjectArgs, format: Format) -> Result<u8, Failure> {
    let defined = program::defined(project, None, &state()?)?;
    let catalogue = &defined.catalogue;
    let mut names: Vec<String> = catalogue.agents().map(str::to_owned).collect();
    names.extend(crate::manifest::AgentTemplate::names().map(str::to_owned));
    names.dedup();
    let mut rows = Vec::new();
    for name in names {
        let row = match choose(catalogue, &name, None) {
            Ok(chosen) => {
                let described = chosen.agent.description.or(chosen.template.description).unwrap_or_default();
                vec![name, chosen.template_name, chosen.bottle_name.unwrap_or_default(), described]
            }
            Err(problem) => vec![name, String::new(), String::new(), format!("broken: {}", problem.message)],
        };
        rows.push(row);
    }
    if format == Format::Json {
        let data: Vec<serde_json::Value> = rows
            .iter()
            .map(
                |row| serde_json::json!({"agent": row[0], "template": row[1], "bottle": row[2], "description": row[3]}),
            )
            .collect();
        print_json(&data)?;
    } else {
        print_data(&report::table(&["AGENT", "TEMPLATE", "BOTTLE", ""], &rows));
    }
    Ok(0)
}
