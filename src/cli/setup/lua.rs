//! `bottler lua`: tools for recipe authors.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cli::failure::input;
use crate::cli::launch::agent;
use crate::cli::launch::program::{self, ProjectArgs};
use crate::cli::open::state;
use crate::cli::print::{Format, print_data, print_json, print_message};
use crate::holder::Drafts;
use crate::lua::{Program, lint, reference};
use crate::plan::{LaunchPlan, WorkspacePlan};
use crate::rehearsal::{self, Rehearsal, Transcript};
use crate::report;
use crate::session::{Class, Failure};

/// What `lua` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Check a recipe (syntax, globals, options), then rehearse it and print what it would create and remove
    Check(CheckArgs),
    /// Rehearse a recipe on an engine in memory, make one operation fail, and print what is removed
    Run(RunArgs),
    /// Run the tests in a folder (files ending in _test.lua) on an engine in memory
    Test(TestArgs),
    /// Describe the functions and classes that recipes can use
    Doc(DocArgs),
    /// Write type stubs for editors, and a .luarc.json that points to them
    Types(TypesArgs),
}

#[derive(clap::Args)]
struct CheckArgs {
    /// The recipe: a file, or the name of a built-in recipe
    #[arg(default_value = "launch")]
    recipe: String,
    #[command(flatten)]
    rehearsal: RehearsalArgs,
}

#[derive(clap::Args)]
struct RehearsalArgs {
    /// The agent to launch
    #[arg(long, default_value = "probe")]
    agent: String,
    /// A parameter for the recipe; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE")]
    params: Vec<String>,
    /// Rehearse with a workspace
    #[arg(long)]
    workspace: bool,
    #[command(flatten)]
    project: ProjectArgs,
    /// The output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(clap::Args)]
struct RunArgs {
    /// The recipe: a file, or the name of a built-in recipe
    #[arg(default_value = "launch")]
    recipe: String,
    /// What fails: a name in the recipe, or an operation such as `container_start`; N is which call of it
    #[arg(long, value_name = "NAME[:N]")]
    fail_at: Option<String>,
    #[command(flatten)]
    rehearsal: RehearsalArgs,
}

#[derive(clap::Args)]
struct TestArgs {
    /// The folder with the tests
    #[arg(default_value = ".bottler")]
    directory: PathBuf,
    #[command(flatten)]
    project: ProjectArgs,
}

#[derive(clap::Args)]
struct DocArgs {
    /// A function or class [default: list all names]
    name: Option<String>,
    /// Print everything, as Markdown
    #[arg(long, conflicts_with = "name")]
    markdown: bool,
}

#[derive(clap::Args)]
struct TypesArgs {
    /// The folder for .luarc.json; the stubs go to its .bottler/_meta/. `-` prints them to standard output
    #[arg(default_value = ".")]
    directory: PathBuf,
}

pub(in crate::cli) async fn main(args: Args) -> Result<u8, Failure> {
    match args.command {
        Command::Check(args) => check(&args).await,
        Command::Run(args) => run(&args),
        Command::Test(args) => test(&args),
        Command::Doc(args) => doc(&args),
        Command::Types(args) => types(&args.directory),
    }
}

impl RehearsalArgs {
    fn load(&self, recipe: &str) -> Result<(Program, LaunchPlan, Drafts), Failure> {
        let defined = program::defined(&self.project, None, &state()?)?;
        let program = defined.program(recipe)?;
        let drafts = agent::drafts(&defined, &agent::facts()?, &self.agent, None);
        let mut plan = match drafts.0.get(&self.agent) {
            Some(Ok(draft)) => rehearsal::plan_of(draft.plan.clone()),
            Some(Err(why)) => return Err(input(why.clone())),
            None => {
                let template = defined.catalogue.template(&self.agent).map_err(program::failure)?;
                rehearsal::plan(&self.agent, &template)
            }
        };
        plan.params = program::params(&self.params)?;
        plan.workspace = self.workspace.then(WorkspacePlan::given);
        Ok((program, plan, drafts))
    }
}

async fn check(args: &CheckArgs) -> Result<u8, Failure> {
    let (program, plan, drafts) = args.rehearsal.load(&args.recipe)?;
    let mut found = lint::lint(&program.recipe)?;
    for (path, source) in &program.project {
        found.extend(lint::lint(&crate::lua::Script::of_project(path, source))?);
    }
    if !found.is_empty() {
        if args.rehearsal.format == Format::Json {
            print_json(&serde_json::json!({ "findings": found }))?;
        } else {
            let shown: Vec<String> = found.iter().map(|failure| report::failure(failure, &[])).collect();
            print_message(&shown.join("\n\n"));
        }
        return Ok(Class::Input.exit_code());
    }
    for line in program::hooks(&program).await? {
        print_message(&line);
    }
    let done = alone(rehearsal::rehearse(&program, plan, None, &drafts))?;
    show(&done, args.rehearsal.format)
}

fn run(args: &RunArgs) -> Result<u8, Failure> {
    let (program, plan, drafts) = args.rehearsal.load(&args.recipe)?;
    let fail_at = args.fail_at.as_deref().map(target).transpose()?;
    let done = alone(rehearsal::rehearse(&program, plan, fail_at, &drafts))?;
    if let (Some((name, nth)), false) = (fail_at, done.struck) {
        let known: Vec<&str> = done.transcript.makes.iter().map(|made| made.name.as_str()).collect();
        return Err(input(format!("--fail-at {name}:{nth}: the recipe never gets there, so nothing failed"))
            .hint(format!("names in this recipe: {}", known.join(", "))));
    }
    show(&done, args.rehearsal.format)
}

/// Runs a rehearsal on its own single-threaded runtime, so that transcripts are reproducible.
fn alone<T: Send>(rehearsal: impl Future<Output = T> + Send) -> Result<T, Failure> {
    let internal = |error: std::io::Error| Failure::new(Class::Internal, format!("rehearse: {error}"));
    std::thread::scope(|scope| {
        let rehearse = || Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(rehearsal));
        let ended = scope.spawn(rehearse).join();
        let cut = |_| Failure::new(Class::Internal, "rehearse: interrupted by a bug in bottler");
        ended.map_err(cut)?.map_err(internal)
    })
}

/// `NAME[:N]`.
fn target(text: &str) -> Result<(&str, usize), Failure> {
    match text.rsplit_once(':') {
        None => Ok((text, 1)),
        Some((name, nth)) => match nth.parse() {
            Ok(nth) if nth > 0 => Ok((name, nth)),
            _ => Err(input(format!("--fail-at {text:?}: {nth:?} is not a number from 1"))),
        },
    }
}

#[derive(Serialize)]
struct Data<'a> {
    #[serde(flatten)]
    transcript: &'a Transcript,
    failure: &'a Option<Failure>,
}

fn show(done: &Rehearsal, format: Format) -> Result<u8, Failure> {
    if format == Format::Json {
        print_json(&Data { transcript: &done.transcript, failure: &done.failure })?;
    } else {
        print_data(&text(&done.transcript));
    }
    if let Some(failure) = &done.failure {
        print_message(&report::failure(failure, &done.undo));
    }
    if !done.left.is_empty() {
        return Err(Failure::new(Class::Internal, format!("not undone: {}", done.left.join(", "))));
    }
    Ok(done.failure.as_ref().map_or(0, |failure| failure.class.exit_code()))
}

fn text(transcript: &Transcript) -> String {
    let makes: Vec<Vec<String>> = transcript
        .makes
        .iter()
        .map(|made| vec![made.kind.clone(), made.name.clone(), made.at.clone().unwrap_or_default()])
        .collect();
    let undoes: Vec<Vec<String>> = transcript
        .undoes
        .iter()
        .map(|row| vec![row.kind.clone(), row.name.clone(), row.failed.clone().unwrap_or_default()])
        .collect();
    format!("{}\n{}", report::table(&["MAKES", "NAME", "AT"], &makes), report::table(&["UNDOES", "NAME", ""], &undoes))
}

fn test(args: &TestArgs) -> Result<u8, Failure> {
    let directory = args.directory.display();
    let failed = |error: std::io::Error| input(format!("read the tests in {directory}: {error}"));
    let mut files: Vec<PathBuf> = std::fs::read_dir(&args.directory)
        .map_err(failed)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()
        .map_err(failed)?;
    files.retain(|path| path.to_string_lossy().ends_with("_test.lua"));
    files.sort();
    if files.is_empty() {
        return Err(input(format!("there are no tests in {directory}")).hint("a test is a file ending in _test.lua"));
    }
    let mut red = 0;
    for path in files {
        let file = path.to_string_lossy().into_owned();
        let program = program::load(&file, &args.project, &state()?)?;
        for case in alone(rehearsal::run_tests(&program, &program.recipe))?? {
            print_data(&format!("{}  {file}: {}\n", if case.failure.is_none() { "ok " } else { "RED" }, case.name));
            if let Some(failure) = case.failure {
                print_message(&report::failure(&failure, &[]));
                red += 1;
            }
        }
    }
    Ok(u8::from(red > 0))
}

fn doc(args: &DocArgs) -> Result<u8, Failure> {
    let text = if args.markdown { Some(reference::markdown()) } else { reference::text(args.name.as_deref()) };
    let Some(text) = text else {
        let name = args.name.as_deref().unwrap_or_default();
        return Err(input(format!("there is no function or class {name:?}")).hint("`bottler lua doc` lists them"));
    };
    print_data(&text);
    Ok(0)
}

/// Writes the stubs. An existing `.luarc.json` is not changed.
fn types(directory: &Path) -> Result<u8, Failure> {
    if directory == Path::new("-") {
        print_data(&reference::stubs());
        return Ok(0);
    }
    let folder = directory.join(crate::project::FOLDER).join("_meta");
    let failed = |path: &Path, error: std::io::Error| input(format!("write {}: {error}", path.display()));
    std::fs::create_dir_all(&folder).map_err(|error| failed(&folder, error))?;
    let stubs = folder.join("bottler.lua");
    std::fs::write(&stubs, reference::stubs()).map_err(|error| failed(&stubs, error))?;
    print_message(&format!("wrote {}", stubs.display()));
    let settings = directory.join(".luarc.json");
    match std::fs::OpenOptions::new().write(true).create_new(true).open(&settings) {
        Ok(mut file) => {
            std::io::Write::write_all(&mut file, reference::SETTINGS.as_bytes())
                .map_err(|error| failed(&settings, error))?;
            print_message(&format!("wrote {}", settings.display()));
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            print_message(&format!(
                "{} already exists and was not changed; add .bottler/_meta to its library",
                settings.display()
            ));
        }
        Err(error) => return Err(failed(&settings, error)),
    }
    Ok(0)
}
