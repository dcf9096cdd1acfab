//! `bottler run`: plans, starts the holder, and is its client until the bottle is gone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::client::{Client, Ended};
use super::program::{self, input};
use super::{Format, find_engine, print_data, print_json, state};
use crate::engine::Engine;
use crate::engine::docker::DockerEngine;
use crate::holder::{Launch, Report};
use crate::plan::{AgentTemplate, LaunchPlan, WORKSPACE, WorkspacePlan};
use crate::policy::AllowSpec;
use crate::primitive::Files;
use crate::probe::{Line, passed};
use crate::session::{Class, Failure, new_id, valid_name};
use crate::{project, report, sidecar};

/// Largest file of text that is read, in bytes.
const MAX_TEXT: u64 = 1 << 20;

/// What `run` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The agent: `probe`, `shell`
    #[arg(default_value = "probe")]
    agent: String,
    /// The recipe: a file, or the name of a built-in one [default: the agent's own]
    #[arg(long, value_name = "FILE|NAME")]
    recipe: Option<String>,
    /// The bottle's name; without it, the agent's name and five random characters
    #[arg(long)]
    name: Option<String>,
    /// The agent's image, which the engine has; without it, the agent's own
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// The prompt
    #[arg(long)]
    prompt: Option<String>,
    /// The prompt, from a file
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    prompt_file: Option<PathBuf>,
    /// A host that the agent may reach, on top of what its template allows; may be repeated
    #[arg(long, value_name = "HOST")]
    allow: Vec<String>,
    /// A private address range that allowed hosts may be in, as CIDR; may be repeated
    #[arg(long, value_name = "CIDR")]
    allow_ip: Vec<ipnet::IpNet>,
    /// Authorities that destinations may be certified by, beyond the public ones: a file in PEM; may be repeated
    #[arg(long, value_name = "FILE")]
    upstream_ca: Vec<PathBuf>,
    /// A parameter for the recipe, which reads it as plan.params.NAME; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE")]
    params: Vec<String>,
    /// A directory whose files go into the agent's workspace; nothing is written back
    #[arg(long, value_name = "DIR")]
    workspace: Option<PathBuf>,
    /// Where to write how the agent changed its workspace, as a patch for `git apply`
    #[arg(long, value_name = "FILE", requires = "workspace")]
    patch: Option<PathBuf>,
    /// The command of the agent `shell`
    #[arg(last = true)]
    command: Vec<String>,
    #[command(flatten)]
    project: program::ProjectArgs,
    /// How to print the result
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) async fn main(args: Args) -> Result<u8, Failure> {
    let (endpoint, state) = (find_engine()?, state()?);
    let template = AgentTemplate::built_in(&args.agent).map_err(|error| input(error.to_string()))?;
    let program = program::load(args.recipe.as_deref().unwrap_or(&template.recipe), &args.project, &state)?;
    let (plan, workspace) = plan(&args, &template)?;
    // Asked before anything is started: a missing engine is the most common mistake.
    let engine = Arc::new(DockerEngine::connect(&endpoint)?);
    engine.info().await?;
    program::preflight(&program).await?;
    let capture = plan.agent.name == "probe" && args.recipe.is_none() || args.format == Format::Json;
    let directory = std::env::current_dir()
        .map_err(|error| Failure::new(Class::Internal, format!("find the current directory: {error}")))?;
    let launch = Launch { plan, program, endpoint, state: state.path().to_owned(), directory, workspace };
    let mut client = Client::start(launch, engine, capture)
        .map_err(|error| Failure::new(Class::Internal, format!("start the holder: {error:#}")))?;
    match client.follow(&state).await? {
        Ended::Reported(report) => finish(&args, &mut client, &report).await,
        Ended::LeftToReaper => {
            client.progress.line("left to the reaper");
            Ok(Class::Cancelled.exit_code())
        }
        Ended::HolderDied => Err(Failure::new(Class::Internal, format!("the holder of {} died", client.bottle))
            .hint("`bottler ps` shows if anything is left, `bottler gc` removes it")),
    }
}

fn plan(args: &Args, template: &AgentTemplate) -> Result<(LaunchPlan, Option<Files>), Failure> {
    let bottle = match &args.name {
        Some(name) if valid_name(name) => name.clone(),
        Some(name) => {
            return Err(input(format!("--name {name:?} cannot be a bottle's name"))
                .hint("lower-case letters, digits and hyphens, a letter first, at most 40"));
        }
        None => {
            new_id(&args.agent).map_err(|error| Failure::new(Class::Internal, format!("choose a name: {error}")))?
        }
    };
    for host in &args.allow {
        host.parse::<crate::policy::Rule>()
            .map_err(|error| input(format!("--allow {error}")).hint("a host, or \"*.\" and a host"))?;
    }
    let allow = args.allow.iter().cloned().map(AllowSpec::Host).collect();
    let prompt = match &args.prompt_file {
        Some(path) => Some(read_text("the prompt", path)?),
        None => args.prompt.clone(),
    };
    let mut plan = crate::plan::resolve(&bottle, args.name.is_some(), &args.agent, template, prompt, allow);
    plan.egress.ip_allow.clone_from(&args.allow_ip);
    for path in &args.upstream_ca {
        plan.egress.roots.push(read_text("the authorities", path)?);
    }
    plan.params = program::params(&args.params)?;
    if let Some(image) = &args.image {
        plan.image.source.clone_from(image);
    }
    if !args.command.is_empty() {
        plan.agent.command.clone_from(&args.command);
    }
    let workspace = match &args.workspace {
        Some(path) => {
            plan.workspace = Some(WorkspacePlan { path: WORKSPACE.to_owned() });
            WORKSPACE.clone_into(&mut plan.agent.workdir);
            let files = project::workspace(path);
            Some(files.map_err(|error| input(format!("read the workspace {}: {error}", path.display())))?)
        }
        None => None,
    };
    Ok((plan, workspace))
}

fn read_text(what: &str, path: &Path) -> Result<String, Failure> {
    let failed = |error: &dyn std::fmt::Display| input(format!("read {what} {}: {error}", path.display()));
    let seen = std::fs::metadata(path).map_err(|error| failed(&error))?;
    if !seen.is_file() || seen.len() > MAX_TEXT {
        return Err(failed(&format!("it is no regular file of at most {MAX_TEXT} bytes")));
    }
    std::fs::read_to_string(path).map_err(|error| failed(&error))
}

/// The result as data.
#[derive(Serialize)]
struct Data<'a> {
    #[serde(flatten)]
    report: &'a Report,
    /// The lines of the agent `probe`; those of the release probe where that was red or the agent is another.
    lines: &'a [Line],
    /// Decisions of the sidecars.
    audit: &'a [sidecar::Event],
    /// Decisions beyond those kept.
    audit_not_kept: usize,
    /// What the agent wrote.
    output: String,
}

async fn finish(args: &Args, client: &mut Client, report: &Report) -> Result<u8, Failure> {
    let output = client.take_output().await;
    client.progress.clear();
    let own: Option<Vec<Line>> = serde_json::from_slice(&output).ok();
    let lines = own.as_deref().unwrap_or(&client.proof);
    if args.format == Format::Json {
        let output = String::from_utf8_lossy(&output).into_owned();
        print_json(&Data { report, lines, audit: &client.audit, audit_not_kept: client.audit_not_kept, output })?;
    } else if !lines.is_empty() && (client.capture || !passed(&client.proof)) {
        print_data(&report::probe_table(lines));
    }
    if args.format == Format::Text && report.times.sidecars_up.is_some() {
        client.progress.line(&report::times(&report.times));
    }
    if let Some(failure) = &report.failure {
        client.progress.line(&report::failure(failure, &report.undo));
        return Ok(failure.class.exit_code());
    }
    if let Some(left) = report::left(&report.undo) {
        client.progress.line(&left);
        return Ok(Class::Operation.exit_code());
    }
    if let (Some(path), Some(patch)) = (&args.patch, &report.patch) {
        std::fs::write(path, patch).map_err(|error| input(format!("write the patch {}: {error}", path.display())))?;
    }
    let code = report.exit_code.unwrap_or_default();
    let red = client.capture && own.as_deref().is_some_and(|lines| !passed(lines));
    Ok(if red { Class::Isolation.exit_code() } else { u8::try_from(code & 0xff).unwrap_or(u8::MAX) })
}
