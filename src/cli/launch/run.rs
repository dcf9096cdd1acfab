//! `bottler run`: makes the plan, prints the summary, asks, starts the holder, and is its client until the bottle has ended.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::agent::{AgentArgs, PreparedLaunch};
use super::credentials;
use super::differences::tell_differences;
use super::home::{self, KeptHome};
use super::image::{self, KeptImage};
use super::preflight;
use super::program;
use crate::cli::bottle::client::{Client, ClientOptions, SessionEnd};
use crate::cli::bottle::fetch;
use crate::cli::bottle::outcome::{holder_died, tell};
use crate::cli::failure::input;
use crate::cli::open::{find_named_engine, reach, state};
use crate::cli::print::{Format, print_data, print_json, print_message};
use crate::cli::terminal::DetachKeys;
use crate::cli::terminal::{confirm, read_secret};
use crate::engine::choice::passed_over;
use crate::engine::{Engine, EngineDetails, Product, native};
use crate::holder::{self, Launch, Report};
use crate::plan::{self, LaunchPlan, Planned, WorkspaceMode, settle};
use crate::probe::{ProbeResult, passed};
use crate::session::{Argument, Class, Failure, Invocation, StateDir};
use crate::{report, sidecar};

/// What `run` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    pub(in crate::cli) agent: AgentArgs,
    /// The container engine [default: what `BOTTLER_ENGINE` names, otherwise docker where it listens, otherwise native]
    #[arg(long, value_name = "ENGINE", value_parser = ["docker", "podman", "native"])]
    engine: Option<String>,
    /// Launch the bottle and return at once; `bottler attach` connects to it
    #[arg(short, long)]
    detach: bool,
    /// Launch without asking
    #[arg(short, long)]
    yes: bool,
    /// Print what a launch would do, and launch nothing
    #[arg(long)]
    dry_run: bool,
    /// Pass all control sequences to the terminal, including titles, clipboard and notifications
    #[arg(long)]
    raw: bool,
    /// Keys that disconnect from the agent's terminal, named as docker names them [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<DetachKeys>,
    /// The format of the result
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// The JSON output of a dry run. Within a version, keys are only added.
#[derive(Serialize)]
struct DryRunOutput<'a> {
    /// Of this form.
    version: u32,
    plan: &'a LaunchPlan,
    /// The recipe that launches it.
    recipe: &'a str,
    /// The variables that the agent's program reads a key from, if it is given none.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    unset: &'a [String],
    /// Variables that will be asked for, with the question.
    ask: &'a std::collections::BTreeMap<String, String>,
    /// The workspace's files, where it has one.
    workspace: Option<&'a preflight::WorkspaceScan>,
    /// The project's hooks that take part.
    hooks: &'a [String],
}

pub(in crate::cli) async fn main(args: Args) -> Result<u8, Failure> {
    let words = std::env::args_os().skip(1).map(Argument::from).collect();
    Box::pin(launch(args, words, None)).await
}

/// A bottle that is resumed.
pub(in crate::cli) struct ResumedBottle {
    /// Its id.
    pub(in crate::cli) id: String,
    /// The plan that it was launched with.
    pub(in crate::cli) before: Option<serde_json::Value>,
    /// How its agent's home begins.
    pub(super) home: KeptHome,
    /// Its image.
    pub(super) image: KeptImage,
}

impl Args {
    /// Overrides options of the recorded command line.
    pub(in crate::cli) fn override_for_resume(&mut self, prompt: Option<String>, detach: bool, yes: bool) {
        if prompt.is_some() {
            (self.agent.prompt, self.agent.prompt_file) = (prompt, None);
        }
        (self.detach, self.yes) = (detach, yes);
    }
}

/// Launches. `words` is the command line for a later `resume`; `resumed` is the bottle to resume.
pub(in crate::cli) async fn launch(
    args: Args,
    words: Vec<Argument>,
    resumed: Option<ResumedBottle>,
) -> Result<u8, Failure> {
    let state = state()?;
    let terminal = args.format == Format::Text && args.agent.wants_terminal(args.detach);
    let mut ready = args.agent.plan(&state, terminal, resumed.as_ref().map(|resumed| resumed.id.as_str()))?;
    if let Some(resumed) = &resumed {
        image::apply(&resumed.image, &mut ready.planned.plan);
    }
    let recipe = args.agent.recipe.clone().unwrap_or_else(|| ready.planned.recipe.clone());
    let program = ready.defined.program(&recipe)?;
    let hooks = program::hooks(&program).await?;
    // Without an engine, everything else is still checked and shown.
    let endpoint = find_named_engine(args.engine.as_deref());
    let address = endpoint.as_deref().unwrap_or_default();
    check_mount(&ready.planned.plan, address, &state)?;
    if let Some(path) = args.agent.patch.as_ref().filter(|path| std::fs::symlink_metadata(path).is_ok()) {
        return Err(input(format!("--patch {}: the file already exists", path.display()))
            .hint("name a new file; it is written when the agent ends"));
    }
    let found = preflight::look(&ready.planned.plan)?;
    check_bounds(&ready, address)?;
    if args.dry_run {
        return dry(&args, &ready, &recipe, found.as_ref(), &hooks);
    }
    // The plan depends on the engine. Without an engine, print the summary nevertheless.
    check_text(&ready, &state)?;
    let endpoint = endpoint?;
    let engine = reach_with_details(&endpoint).await;
    let passed_over = if args.engine.is_none() { passed_over() } else { None };
    if let Ok((_, details)) = &engine {
        let hinted = |hint: String| passed_over.map_or_else(|| hint.clone(), |why| format!("{hint}; {why}"));
        settle(&mut ready.planned.plan, details).map_err(|(why, hint)| input(why).hint(hinted(hint)))?;
        print_message(&engine_line(&endpoint, details, passed_over));
    }
    for line in preflight::lines(&ready, found.as_ref(), &hooks, resumed.is_some()) {
        print_message(&line);
    }
    if let (Some(resumed), Ok((engine, _))) = (&resumed, &engine) {
        for line in image::lines(&resumed.id, &resumed.image, engine.as_ref()).await? {
            print_message(&line);
        }
        let own = (!matches!(resumed.image, KeptImage::Built(_))).then_some(&ready.planned.plan.image);
        for line in home::lines(&resumed.id, &resumed.home, own, engine.as_ref()).await {
            print_message(&line);
        }
    }
    if let Some(before) = resumed.as_ref().and_then(|resumed| resumed.before.as_ref())
        && let Ok(after) = serde_json::to_value(&ready.planned.plan)
    {
        tell_differences(before, &after);
    }
    if !args.yes && preflight::is_worth_asking(&ready.planned.plan) && !confirm("launch?").await? {
        print_message("nothing was launched");
        return Ok(0);
    }
    ask(&mut ready).await?;
    let (engine, _) = engine?;
    credentials::resolve(&mut ready.planned).await?;
    let directory = std::env::current_dir()
        .map_err(|error| Failure::new(Class::Internal, format!("find the current directory: {error}")))?;
    let plan = ready.planned.plan;
    let capture = plan.agent.name == "probe" && args.agent.recipe.is_none() || args.format == Format::Json;
    let keys = args.detach_keys.clone().unwrap_or_default();
    let show = ClientOptions {
        capture,
        terminal: plan.agent.terminal && !args.detach,
        raw: args.raw,
        detach: args.detach,
        guest: false,
        keys,
    };
    let (id, copied) = (plan.bottle.clone(), plan.copies_workspace());
    let (env, held) = (ready.planned.env.values(), ready.planned.credentials.values());
    let secrets: Vec<&String> = env.chain(held).chain(&ready.planned.proxy_credentials).collect();
    let runs = !program.grants.host_commands.is_empty() || credentials::reads_later(&ready.drafts);
    let host_env = if runs { holder::host_env(&secrets) } else { std::collections::BTreeMap::new() };
    let launch = Launch {
        plan,
        program,
        host_env,
        endpoint,
        state: state.path().to_owned(),
        proxy_credentials: ready.planned.proxy_credentials,
        env: ready.planned.env,
        credentials: ready.planned.credentials,
        drafts: ready.drafts,
        patch: args.agent.patch.is_some(),
        resume: resumed.is_some(),
        fresh_home: resumed.as_ref().is_some_and(|resumed| resumed.home == KeptHome::Fresh),
        fresh_image: resumed.as_ref().is_some_and(|resumed| resumed.image == KeptImage::Fresh),
        invocation: Some(Invocation { words, directory: directory.clone(), grants: Some(ready.grants) }),
        directory,
    };
    let client = Client::start(launch, engine, show)
        .map_err(|error| Failure::new(Class::Internal, format!("start the holder: {error:#}")))?;
    let code = follow(&args, client, &state, &id, copied).await?;
    // One of bottler's own codes, with an image whose steps may have broken something.
    if code >= Class::Input.exit_code() && resumed.is_some_and(|resumed| matches!(resumed.image, KeptImage::Built(_))) {
        print_message(&format!(
            "hint: if the image that was built for it is the cause: `bottler resume {id} --fresh-image` uses the plan's"
        ));
    }
    Ok(code)
}

/// Refuses, with its line, `bounds: best-effort` where the engine at this address always has bounds.
fn check_bounds(ready: &PreparedLaunch, address: &str) -> Result<(), Failure> {
    if address.starts_with(native::SCHEME) {
        return Ok(());
    }
    plan::check_bounds(&ready.planned.plan).map_err(|(why, hint)| match &ready.chosen.bounds_at {
        Some(at) => program::failure(at.problem(why).hint(hint)),
        None => input(why).hint(hint),
    })
}

/// Checks early that the folder may be mounted; the holder checks again.
fn check_mount(plan: &LaunchPlan, address: &str, state: &StateDir) -> Result<(), Failure> {
    let mounted = plan.workspace.as_ref().filter(|workspace| workspace.mode == WorkspaceMode::Mount);
    let Some(source) = mounted.and_then(|workspace| workspace.source.as_deref()) else { return Ok(()) };
    holder::check_mount(source, address, state.path())
}

/// Checks that paths are UTF-8, because the holder and the engine get them as text.
fn check_text(ready: &PreparedLaunch, state: &StateDir) -> Result<(), Failure> {
    let directory = std::env::current_dir()
        .map_err(|error| Failure::new(Class::Internal, format!("find the current directory: {error}")))?;
    let workspace = ready.planned.plan.workspace.as_ref().and_then(|workspace| workspace.source.clone());
    let wanted = [("the current directory", Some(directory)), ("the workspace", workspace)];
    for (what, path) in wanted.into_iter().chain([("the state directory", Some(state.path().to_owned()))]) {
        if let Some(path) = path.filter(|path| path.to_str().is_none()) {
            return Err(input(format!("launch: the path of {what} is not UTF-8 text: {}", path.display()))
                .hint("rename the folder, or launch from another"));
        }
    }
    Ok(())
}

/// The first line of a launch: which engine.
fn engine_line(endpoint: &str, details: &EngineDetails, passed_over: Option<&str>) -> String {
    let text = match details.product {
        Product::Docker => format!("Docker, {endpoint}"),
        Product::Podman => format!("Podman, {endpoint}"),
        Product::Native => {
            let more = passed_over.map(|why| format!("; {why}")).unwrap_or_default();
            format!("native: the kernel alone, no daemon{more}")
        }
    };
    report::printable(&format!("{:<12}{text}", "engine"))
}

/// Connects to the engine and reads its details.
async fn reach_with_details(endpoint: &str) -> Result<(Arc<dyn Engine>, EngineDetails), Failure> {
    let engine = reach(endpoint).await?;
    let details = engine.details().await?;
    Ok((engine, details))
}

async fn follow(args: &Args, mut client: Client, state: &StateDir, id: &str, copied: bool) -> Result<u8, Failure> {
    match client.follow(state).await? {
        SessionEnd::Reported(report) => finish(args, &mut client, &report).await,
        SessionEnd::Detached => {
            client.progress.clear();
            let pull = if copied { format!(", `bottler diff {id}` shows what it changes") } else { String::new() };
            print_message(&format!("{id} keeps running: `bottler attach {id}`, `bottler stop {id}`{pull}"));
            if args.detach {
                print_data(&format!("{id}\n"));
            }
            Ok(0)
        }
        // `Signalled` occurs only in `attach`.
        SessionEnd::Signalled(_) | SessionEnd::AbandonedToReaper => {
            client.progress.line("left to the reaper");
            Ok(Class::Cancelled.exit_code())
        }
        SessionEnd::HolderDied => Err(holder_died(&mut client, state)),
    }
}

fn dry(
    args: &Args,
    ready: &PreparedLaunch,
    recipe: &str,
    workspace: Option<&preflight::WorkspaceScan>,
    hooks: &[String],
) -> Result<u8, Failure> {
    if args.format == Format::Json {
        let Planned { plan, ask, unset, .. } = &ready.planned;
        print_json(&DryRunOutput { version: 1, plan, recipe, unset, ask, workspace, hooks })?;
    } else {
        print_data(&(preflight::lines(ready, workspace, hooks, false).join("\n") + "\n"));
        print_data(&format!("{:<12}{}\n", "command", ready.planned.plan.agent.command.join(" ")));
    }
    Ok(0)
}

/// Asks for the values of variables, without echo.
async fn ask(ready: &mut PreparedLaunch) -> Result<(), Failure> {
    for (name, question) in std::mem::take(&mut ready.planned.ask) {
        if !std::io::stdin().is_terminal() {
            return Err(input(format!("env: {name} must be asked for, and there is no terminal"))
                .hint(format!("take it from a variable of this host instead: {name}: ${{{name}}}")));
        }
        let value = read_secret(&format!("{name}: {question}")).await?;
        if value.is_empty() {
            return Err(input(format!("env: {name}: nothing was typed")));
        }
        ready.planned.env.insert(name, value);
    }
    Ok(())
}

/// The result as data.
#[derive(Serialize)]
struct RunOutput<'a> {
    #[serde(flatten)]
    report: &'a Report,
    /// The lines of the agent `probe`, or else of the release probe.
    lines: &'a [ProbeResult],
    /// Decisions of the sidecars.
    audit: &'a [sidecar::Event],
    /// Decisions beyond those kept.
    audit_not_kept: usize,
    /// What the agent wrote.
    output: String,
}

/// Writes what the agent changed as a patch. What is kept goes once it has arrived there, and stays where a patch cannot
/// hold it.
async fn take_patch(path: &Path, report: &Report) -> Result<(), Failure> {
    if report.kept.is_some() {
        return fetch::take_patch(&report.bottle, path).await;
    }
    let Some(text) = &report.patch else { return Ok(()) };
    fetch::write_whole(path, "patch", |out| out.write_all(text.as_bytes()))
}

async fn finish(args: &Args, client: &mut Client, report: &Report) -> Result<u8, Failure> {
    let output = client.take_output().await;
    client.progress.clear();
    let own: Option<Vec<ProbeResult>> = serde_json::from_slice(&output).ok();
    // Add the lines of the release probe that came from the engine's host.
    let own = own.map(|mut own| {
        let new = |line: &&ProbeResult| own.iter().all(|known| known.attempt != line.attempt);
        let more: Vec<ProbeResult> = client.proof.iter().filter(new).cloned().collect();
        own.extend(more);
        own
    });
    let lines = own.as_deref().unwrap_or(&client.proof);
    if args.format == Format::Json {
        let output = String::from_utf8_lossy(&output).into_owned();
        print_json(&RunOutput { report, lines, audit: &client.audit, audit_not_kept: client.audit_not_kept, output })?;
    } else if !lines.is_empty() && (client.show.capture || !passed(&client.proof)) {
        print_data(&report::probe_table(lines));
    }
    let code = tell(client, report, args.format == Format::Text);
    if let Some(path) = &args.agent.patch {
        take_patch(path, report).await?;
    }
    let red = client.show.capture && own.as_deref().is_some_and(|lines| !passed(lines));
    Ok(if red && report.failure.is_none() { Class::Isolation.exit_code() } else { code })
}
