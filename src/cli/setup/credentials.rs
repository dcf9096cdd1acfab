//! `bottler credentials`: reads the sources of credentials, and says which are found, or gives a running bottle their values. It never
//! prints a value.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cli::bottle::find::FoundBottle;
use crate::cli::failure::input;
use crate::cli::launch::agent::facts;
use crate::cli::launch::credentials::{host_sources, no_key, read};
use crate::cli::launch::program::{self, ProjectArgs};
use crate::cli::open::state;
use crate::cli::print::{Format, print_data, print_json, print_message};
use crate::credential::Source;
use crate::holder::{Sources, renew_credentials};
use crate::manifest::choose;
use crate::plan::{CredentialPlan, Declared, declared, unset};
use crate::report;
use crate::session::{Class, Failure};

/// What `credentials` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Read the sources of credentials as a launch would, and say which are found; values are not printed
    Check {
        /// An agent or template [default: all agents that are defined]
        agent: Option<String>,
        /// The manifest, instead of ~/.config/bottler/bottler.yaml
        #[arg(long, value_name = "FILE")]
        manifest: Option<PathBuf>,
        #[command(flatten)]
        project: ProjectArgs,
        /// The output format
        #[arg(long, value_enum, default_value = "text")]
        format: Format,
    },
    /// Read the sources of a running bottle's credentials again, and use their values from the next request on; may ask
    Renew {
        /// The bottle's id
        bottle: String,
        /// The credential [default: all that have a source]
        credential: Option<String>,
    },
}

/// One credential of one agent.
#[derive(serde::Serialize)]
struct Row {
    agent: String,
    credential: String,
    source: String,
    /// Absent where it is asked for at the launch.
    found: Option<bool>,
    /// The length of the value, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    hosts: Vec<String>,
}

pub(in crate::cli) async fn main(args: &Args) -> Result<u8, Failure> {
    match &args.command {
        Command::Check { agent, manifest, project, format } => {
            check(agent.as_ref(), manifest.as_deref(), project, *format)
        }
        Command::Renew { bottle, credential } => renew(bottle, credential.as_deref()).await,
    }
}

/// Reads sources where their user is, who may be asked, and gives the values to the bottle's holder.
async fn renew(bottle: &str, credential: Option<&str>) -> Result<u8, Failure> {
    let found = FoundBottle::find(bottle)?;
    if !found.state.is_alive(bottle) {
        return Err(input(format!("{bottle} is not running")).hint("the next launch reads its sources anyway"));
    }
    let plan = found.plan()?;
    let names = || plan.credentials.iter().map(|plan| plan.name.as_str()).collect::<Vec<_>>().join(", ");
    let is_wanted = |plan: &&CredentialPlan| match credential {
        Some(name) => plan.name == name,
        None => plan.source.is_some(),
    };
    let (mut values, sources) = (BTreeMap::new(), Arc::new(host_sources()));
    for plan in plan.credentials.iter().filter(is_wanted) {
        let source = plan.source.clone().ok_or_else(|| {
            input(format!("credential {}: its value is in the manifest, or in an env_file", plan.name))
                .hint("give it a source, such as file:PATH, and launch the bottle again")
        })?;
        values.insert(plan.name.clone(), read(plan, source, &sources).await?);
    }
    if values.is_empty() {
        let of = credential.map_or("with a source".to_owned(), |name| format!("{name:?}"));
        let names = names();
        let hint = if names.is_empty() { "it has none".to_owned() } else { format!("it has {names}") };
        return Err(input(format!("{bottle} has no credential {of}")).hint(hint));
    }
    let read: Vec<String> = values.keys().cloned().collect();
    let changed = renew_credentials(bottle, &found.state.bottle(bottle), values).await?;
    for name in read {
        let what = if changed.contains(&name) { "has a new value" } else { "has the value that it had" };
        print_message(&format!("{name} {what}"));
    }
    Ok(0)
}

fn check(
    agent: Option<&String>,
    manifest: Option<&Path>,
    project: &ProjectArgs,
    format: Format,
) -> Result<u8, Failure> {
    let defined = program::defined(project, manifest, &state()?)?;
    let catalogue = &defined.catalogue;
    let names: Vec<String> = match agent {
        Some(name) => vec![name.clone()],
        None => catalogue.agents().map(str::to_owned).collect(),
    };
    if names.is_empty() {
        return Err(input("no agent is defined").hint("`bottler init` writes a manifest; or name a template: claude"));
    }
    let (facts, sources) = (facts()?, host_sources());
    let (mut rows, mut keyless) = (Vec::new(), Vec::new());
    for name in names {
        let chosen = choose(catalogue, &name, None).map_err(program::failure)?;
        rows.extend(declared(&chosen, &facts).into_iter().map(|one| row(&name, one, &sources)));
        keyless.extend(no_key(&unset(&chosen, false), &chosen.template_name, chosen.file.is_some()));
    }
    if format == Format::Json {
        print_json(&rows)?;
    } else {
        let cells: Vec<Vec<String>> = rows.iter().map(cells).collect();
        print_data(&report::table(&["AGENT", "CREDENTIAL", "SOURCE", "VALUE", "ONLY FOR"], &cells));
        let hints = rows.iter().filter_map(|row| Some((row, row.hint.as_ref()?)));
        for (row, hint) in hints {
            print_message(&report::printable(&format!("hint: {} of {}: {hint}", row.credential, row.agent)));
        }
        for (why, remedy) in keyless {
            print_message(&report::printable(&format!("note: {why}: {remedy}")));
        }
    }
    Ok(if rows.iter().any(|row| row.found == Some(false)) { Class::Input.exit_code() } else { 0 })
}

fn row(agent: &str, Declared { plan, value }: Declared, sources: &Sources) -> Row {
    let found = match (value, &plan.source) {
        (Some(value), _) => Some(value),
        (None, None | Some(Source::Prompt(_))) => None,
        (None, Some(source)) => Some(sources.read(source).map_err(|why| (why.to_string(), why.hint(source)))),
    };
    let (why, hint) = match &found {
        Some(Err((why, hint))) => (Some(why.clone()), Some(hint.clone())),
        _ => (None, None),
    };
    Row {
        agent: agent.to_owned(),
        credential: plan.name,
        source: plan.source.map_or("the manifest's env".to_owned(), |source| source.to_string()),
        found: found.as_ref().map(Result::is_ok),
        length: found.and_then(Result::ok).map(|value| value.len()),
        why,
        hint,
        hosts: plan.hosts,
    }
}

fn cells(row: &Row) -> Vec<String> {
    let value = match (row.found, row.length, &row.why) {
        (_, _, Some(why)) => format!("missing: {why}"),
        (_, Some(length), _) => format!("found, {length} bytes"),
        _ => "asked for at the launch".to_owned(),
    };
    vec![row.agent.clone(), row.credential.clone(), row.source.clone(), value, row.hosts.join(", ")]
}
