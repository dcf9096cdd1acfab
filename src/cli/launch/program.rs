//! Finds the recipe, the project and the user's manifest for a command.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::cli::failure::input;
use crate::lua::{Grants, Program, Script, Vm, built_in_names, built_in_recipe};
use crate::manifest::{Catalogue, Problem, user_file};
use crate::project::{FOLDER, Project, TrustStore};
use crate::report::printable;
use crate::session::{Class, Failure, ScriptLocation, StateDir};

/// Largest recipe, in bytes.
const MAX_RECIPE: u64 = 1 << 20;

/// Where the project is.
#[derive(clap::Args)]
pub(in crate::cli) struct ProjectArgs {
    /// The project whose .bottler/ is used if it is trusted [default: the current folder]
    #[arg(long, value_name = "DIR")]
    project: Option<PathBuf>,
    /// Ignore the project's .bottler/
    #[arg(long, conflicts_with = "project")]
    no_project: bool,
}

/// The definitions for a launch: the user's, and those of a trusted project.
pub(in crate::cli) struct Definitions {
    /// Agents, bottles and templates.
    pub(in crate::cli) catalogue: Catalogue,
    root: Option<PathBuf>,
    scripts: BTreeMap<String, String>,
}

/// Reads all definitions. `manifest` replaces the user's manifest.
pub(in crate::cli) fn defined(
    project: &ProjectArgs,
    manifest: Option<&Path>,
    state: &StateDir,
) -> Result<Definitions, Failure> {
    if let Some(path) = manifest
        && !path.is_file()
    {
        return Err(input(format!("read the manifest {}: there is no such file", path.display())));
    }
    let file = manifest.map(Path::to_owned).or_else(user_file);
    let trusted = if project.no_project { None } else { trusted(project.project.as_deref(), state)? };
    let files = trusted.as_ref().map(|(project, _)| (project.root.as_path(), &project.files));
    let catalogue = Catalogue::read(file.as_deref(), files);
    let (root, scripts) = match trusted {
        Some((project, scripts)) => (Some(project.root), scripts),
        None => (None, BTreeMap::new()),
    };
    Ok(Definitions { catalogue, root, scripts })
}

impl Definitions {
    /// Whether scripts of a project take part.
    pub(in crate::cli) fn has_scripts(&self) -> bool {
        !self.scripts.is_empty()
    }

    /// A recipe, and what belongs around it.
    pub(in crate::cli) fn program(&self, recipe: &str) -> Result<Program, Failure> {
        let own = self.root.as_ref().and_then(|root| of_project(recipe, root, &self.scripts));
        let is_built_in = own.is_none() && built_in_recipe(recipe).is_some();
        let recipe = match own {
            Some(recipe) => recipe,
            None => script(recipe)?,
        };
        let grants = match self.catalogue.manifest() {
            Ok(manifest) => Grants { replace: manifest.replace.clone(), host_commands: manifest.host_commands.clone() },
            // A built-in recipe needs no grants.
            Err(_) if is_built_in && self.scripts.is_empty() => Grants::none(),
            Err(problem) => return Err(failure(problem)),
        };
        Ok(Program { recipe, project: self.scripts.clone(), grants })
    }
}

/// A mistake in a file, as a failure with its line.
pub(in crate::cli) fn failure(problem: Problem) -> Failure {
    let Problem { file, line, column, text, message, hint } = problem;
    let message = match (file.is_empty(), line, column) {
        (false, 0, _) => format!("{file}: {message}"),
        (false, _, 1..) => format!("{message} (column {column})"),
        _ => message,
    };
    let at = (line > 0).then_some(ScriptLocation { script: file, line, text });
    let failure = input(message).at(at.as_ref());
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Reads a recipe and what belongs around it.
pub(in crate::cli) fn load(recipe: &str, project: &ProjectArgs, state: &StateDir) -> Result<Program, Failure> {
    defined(project, None, state)?.program(recipe)
}

/// A recipe from the project's files, as they were read and trusted.
fn of_project(recipe: &str, root: &Path, files: &BTreeMap<String, String>) -> Option<Script> {
    let path = Path::new(recipe).canonicalize().ok()?;
    let own = path.strip_prefix(root.join(FOLDER)).ok()?.to_str()?;
    Some(Script::of_project(own, files.get(own)?))
}

/// A project, and its scripts by their names below `.bottler/`.
type TrustedProject = (Project, BTreeMap<String, String>);

/// A project and its scripts, if it has some; they must be trusted.
fn trusted(directory: Option<&Path>, state: &StateDir) -> Result<Option<TrustedProject>, Failure> {
    let directory = directory.unwrap_or_else(|| Path::new("."));
    let failed = |error: std::io::Error| input(format!("read {}/{FOLDER}: {error}", directory.display()));
    let Some(project) = Project::read(directory).map_err(failed)? else { return Ok(None) };
    let store = open_store(state)?;
    if !store.trusts(&project) {
        let message = format!("{}/{FOLDER} is not trusted, or has changed since", project.root.display());
        return Err(input(message)
            .hint("review it with `bottler trust --show`, then `bottler trust`; or ignore it with --no-project"));
    }
    let scripts = project.scripts().map_err(failed)?;
    Ok(Some((project, scripts)))
}

pub(in crate::cli) fn open_store(state: &StateDir) -> Result<TrustStore, Failure> {
    TrustStore::open(state.path())
        .map_err(|error| Failure::new(Class::Internal, format!("read what is trusted: {error}")))
}

/// A recipe: a file, or a built-in one's name.
pub(in crate::cli) fn script(recipe: &str) -> Result<Script, Failure> {
    let is_file = Path::new(recipe).extension().is_some_and(|extension| extension == "lua") || recipe.contains('/');
    if !is_file {
        return built_in_recipe(recipe).ok_or_else(|| {
            let known = built_in_names().join(", ");
            input(format!("there is no recipe {recipe:?}")).hint(format!("a file ending in .lua, or one of: {known}"))
        });
    }
    let failed = |error: &dyn std::fmt::Display| input(format!("read recipe {recipe}: {error}"));
    let seen = std::fs::metadata(recipe).map_err(|error| failed(&error))?;
    if !seen.is_file() || seen.len() > MAX_RECIPE {
        return Err(failed(&format!("it is not a regular file of at most {MAX_RECIPE} bytes")));
    }
    let source = std::fs::read_to_string(recipe).map_err(|error| failed(&error))?;
    Ok(Script { name: recipe.trim_start_matches("./").to_owned(), source })
}

/// `NAME=VALUE`, as often as it was said.
pub(in crate::cli) fn params(said: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(input(format!("--set {text:?} is not NAME=VALUE"))),
    };
    said.iter().map(pair).collect()
}

/// The project's hooks, one line each.
pub(in crate::cli) async fn hooks(program: &Program) -> Result<Vec<String>, Failure> {
    let Some(hooks) = program.hooks() else { return Ok(Vec::new()) };
    let line = |(when, name, at): (String, String, Option<ScriptLocation>)| {
        let place = at.map_or_else(|| hooks.name.clone(), |at| at.to_string());
        let what = if name.is_empty() { when } else { format!("{when}.{name}") };
        printable(&format!("hook {what}  {place}"))
    };
    Ok(Vm::hooks(program).await?.into_iter().map(line).collect())
}
