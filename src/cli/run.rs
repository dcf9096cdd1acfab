//! `bottler run`: plans, starts the holder, and is its client until the bottle is gone.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use super::client::{Client, Ended};
use super::egress::EgressArgs;
use super::program::{self, input};
use super::{Format, find_engine, print_data, print_json, state};
use crate::engine::Engine;
use crate::engine::docker::DockerEngine;
use crate::holder::{Launch, Report};
use crate::manifest::{Egress, text};
use crate::plan::{AgentTemplate, LaunchPlan, WORKSPACE, WorkspacePlan};
use crate::policy::EgressSpec;
use crate::primitive::Files;
use crate::probe::{Line, passed};
use crate::session::{Class, Failure, new_id, valid_name};
use crate::{project, report, sidecar};

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
    #[command(flatten)]
    egress: EgressArgs,
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
    let Egress { spec, proxy_credentials } = args.egress.read(&template)?;
    let (plan, workspace) = plan(&args, &template, spec)?;
    // Asked before anything is started: a missing engine is the most common mistake.
    let engine = Arc::new(DockerEngine::connect(&endpoint)?);
    engine.info().await?;
    program::preflight(&program).await?;
    let capture = plan.agent.name == "probe" && args.recipe.is_none() || args.format == Format::Json;
    let directory = std::env::current_dir()
        .map_err(|error| Failure::new(Class::Internal, format!("find the current directory: {error}")))?;
    let state_path = state.path().to_owned();
    let launch = Launch { plan, program, endpoint, state: state_path, directory, workspace, proxy_credentials };
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

fn plan(args: &Args, template: &AgentTemplate, egress: EgressSpec) -> Result<(LaunchPlan, Option<Files>), Failure> {
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
    let prompt = match &args.prompt_file {
        Some(path) => Some(text("the prompt", path).map_err(input)?),
        None => args.prompt.clone(),
    };
    let mut plan = crate::plan::resolve(&bottle, args.name.is_some(), &args.agent, template, prompt, egress);
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
        if let Some(closed) = &report.evidence {
            client.progress.line(&report::evidence(&client.bottle, closed));
        }
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
