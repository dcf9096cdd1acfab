//! Options of an agent, and the plan that they result in: `run`, `run --dry-run`, `resume`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::egress::EgressArgs;
use super::git;
use super::program::{self, Definitions, ProjectArgs};
use crate::cli::failure::input;
use crate::cli::terminal;
use crate::credential::Source;
use crate::holder::{Draft, Drafts};
use crate::manifest::{Catalogue, Egress, IsolationSection, ResolvedAgent, choose, expand, saved_grants, text};
use crate::plan::{CredentialPlan, Facts, Flags, Keep, Planned, WorkspaceFlags, WorkspaceMode, plan};
use crate::policy::{AllowSpec, expanded};
use crate::session::{Class, Failure, GrantsKey, StateDir, new_id, valid_name};
use crate::workspace::identity;

/// An agent, and options that override its definition.
#[derive(clap::Args)]
pub(in crate::cli) struct AgentArgs {
    /// An agent of your manifest or the project's, or a template: `claude`, `codex`, `shell`, `probe` …
    #[arg(default_value = "probe")]
    pub(in crate::cli) agent: String,
    /// A bottle of your manifest, instead of the agent's own
    #[arg(long, value_name = "NAME")]
    bottle: Option<String>,
    /// The manifest, instead of ~/.config/bottler/bottler.yaml
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// The recipe: a file, or the name of a built-in recipe [default: the agent's own]
    #[arg(long, value_name = "FILE|NAME")]
    pub(in crate::cli) recipe: Option<String>,
    /// The bottle's id [default: the agent's name and five random characters]
    #[arg(long, value_name = "ID")]
    name: Option<String>,
    /// The agent's image, instead of the bottle's or template's
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Pull the image even if the engine has it
    #[arg(long)]
    pull: bool,
    /// Build the image even if nothing has changed
    #[arg(long)]
    rebuild: bool,
    /// How the agent is isolated [default: sealed]
    #[arg(long, value_enum)]
    isolation: Option<IsolationArg>,
    /// The container runtime: one that the engine lists, or `auto`, which is gVisor if the engine lists it [default: auto]
    #[arg(long, value_name = "NAME")]
    runtime: Option<String>,
    /// With `--isolation bridge`: allow a container that runs during the probe to set the reverse path filter of the agent's
    /// bridge on the engine's host
    #[arg(long)]
    set_rp_filter: bool,
    /// The prompt, appended to the agent's own
    #[arg(long)]
    pub(in crate::cli) prompt: Option<String>,
    /// Read the prompt from a file
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub(in crate::cli) prompt_file: Option<PathBuf>,
    /// The model, for agents that accept one
    #[arg(long)]
    model: Option<String>,
    /// Run with a prompt and without a terminal; the agent's answer goes to standard output
    #[arg(long)]
    pub(in crate::cli) headless: bool,
    #[command(flatten)]
    egress: EgressArgs,
    /// A parameter for the recipe, available as plan.params.NAME; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE")]
    params: Vec<String>,
    /// The folder that the agent works on a copy of [default: the current folder, if the agent uses a workspace]
    #[arg(long, value_name = "DIR")]
    workspace: Option<PathBuf>,
    /// Mount the folder itself instead of a copy; files that this host executes are read-only
    #[arg(long)]
    mount: bool,
    /// Mount the folder read-only
    #[arg(long, requires = "mount")]
    read_only: bool,
    /// Launch without a workspace
    #[arg(long, conflicts_with_all = ["workspace", "mount"])]
    no_workspace: bool,
    /// Whether the workspace outlives the bottle [default: always, if the agent works on a copy]
    #[arg(long, value_enum)]
    keep: Option<KeepArg>,
    /// Write the agent's changes to a file at its end, as a patch for `git apply`; if the patch cannot hold everything, the
    /// bottle is kept
    #[arg(long, value_name = "FILE", conflicts_with_all = ["mount", "no_workspace"])]
    pub(in crate::cli) patch: Option<PathBuf>,
    #[command(flatten)]
    project: ProjectArgs,
    /// The agent's command, instead of the template's
    #[arg(last = true)]
    command: Vec<String>,
}

/// How the agent is isolated.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum IsolationArg {
    /// Without any network.
    Sealed,
    /// On a network that leads to the sidecars and nowhere else.
    Bridge,
}

/// Whether the workspace outlives the bottle.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum KeepArg {
    /// No.
    Never,
    /// If the agent failed or was interrupted, and something has changed.
    OnFailure,
    /// If something has changed.
    Always,
}

/// A plan, and everything else that a launch needs.
pub(in crate::cli) struct PreparedLaunch {
    pub(in crate::cli) chosen: ResolvedAgent,
    pub(in crate::cli) planned: Planned,
    pub(in crate::cli) defined: Definitions,
    pub(in crate::cli) drafts: Drafts,
    /// The key of its saved grants.
    pub(in crate::cli) grants: GrantsKey,
    /// The saved grants.
    pub(in crate::cli) granted: Vec<AllowSpec>,
}

impl AgentArgs {
    /// Makes the plan. `terminal`: whether the agent gets a terminal. `id`: the bottle to resume.
    pub(in crate::cli) fn plan(
        &self,
        state: &StateDir,
        terminal: bool,
        id: Option<&str>,
    ) -> Result<PreparedLaunch, Failure> {
        let defined = program::defined(&self.project, self.manifest.as_deref(), state)?;
        let chosen = choose(&defined.catalogue, &self.agent, self.bottle.as_deref()).map_err(program::failure)?;
        let facts = facts()?;
        let mut egress = self.egress.read(chosen.egress.clone())?;
        let grants = GrantsKey {
            name: chosen.grants_name().to_owned(),
            folder: self.workspace.clone().unwrap_or_else(|| facts.directory.clone()),
        };
        // The key must not depend on how the folder is named.
        let grants = GrantsKey { folder: grants.folder.canonicalize().unwrap_or(grants.folder), ..grants };
        let (granted, entries) = granted(&grants.name, &grants.folder)?;
        egress.spec.allow.extend(entries);
        let flags = self.flags(terminal, id)?;
        let mut planned = plan(&chosen, egress, &flags, &facts).map_err(program::failure)?;
        git::settle(&mut planned.plan)?;
        let drafts = drafts(&defined, &facts, &self.agent, self.bottle.as_deref());
        Ok(PreparedLaunch { chosen, planned, defined, drafts, grants, granted })
    }

    fn flags(&self, terminal: bool, id: Option<&str>) -> Result<Flags, Failure> {
        let bottle = match (id, &self.name) {
            (Some(id), _) => id.to_owned(),
            (None, Some(name)) if valid_name(name) => name.clone(),
            (None, Some(name)) => {
                return Err(input(format!("--name {name:?} cannot be a bottle's name"))
                    .hint("lower-case letters, digits and hyphens, a letter first, at most 40"));
            }
            (None, None) => new_id(&slug(&self.agent))
                .map_err(|error| Failure::new(Class::Internal, format!("choose a name: {error}")))?,
        };
        let prompt = match &self.prompt_file {
            Some(path) => Some(text("the prompt", path).map_err(input)?),
            None => self.prompt.clone(),
        };
        let mode = match (self.mount, self.no_workspace) {
            (true, _) => Some(WorkspaceMode::Mount),
            (_, true) => Some(WorkspaceMode::None),
            _ => None,
        };
        let keep = self.keep.map(|keep| match keep {
            KeepArg::Never => Keep::Never,
            KeepArg::OnFailure => Keep::OnFailure,
            KeepArg::Always => Keep::Always,
        });
        Ok(Flags {
            bottle,
            pinned: id.is_some() || self.name.is_some(),
            prompt,
            image: self.image.clone(),
            pull: self.pull,
            rebuild: self.rebuild,
            command: self.command.clone(),
            model: self.model.clone(),
            headless: self.headless,
            terminal,
            workspace: WorkspaceFlags { source: self.workspace.clone(), mode, read_only: self.read_only },
            keep,
            isolation: self.isolation.map(|isolation| match isolation {
                IsolationArg::Sealed => IsolationSection::Sealed,
                IsolationArg::Bridge => IsolationSection::Bridge,
            }),
            set_rp_filter: self.set_rp_filter,
            runtime: self.runtime.clone(),
            params: program::params(&self.params)?,
        })
    }

    /// Whether the agent gets the user's terminal.
    pub(in crate::cli) fn wants_terminal(&self, detach: bool) -> bool {
        let probe = self.agent == "probe" && self.recipe.is_none();
        !probe && !self.headless && (detach || terminal::is_there())
    }
}

/// The saved grants of a name for a folder: as they are written, and as entries of an allowlist.
pub(in crate::cli) fn granted(name: &str, folder: &Path) -> Result<(Vec<AllowSpec>, Vec<AllowSpec>), Failure> {
    let granted = saved_grants(name, folder).map_err(input)?;
    // They could be read, and so they can be expanded.
    let entries = expanded(granted.iter().cloned()).map_err(|error| input(error.to_string()))?;
    Ok((granted, entries))
}

/// The id prefix for an agent's name.
fn slug(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
    let slug: String = name.to_ascii_lowercase().chars().map(plain).take(30).collect();
    let slug = slug.trim_matches('-');
    if slug.starts_with(|c: char| c.is_ascii_lowercase()) { slug.to_owned() } else { format!("agent-{slug}") }
}

/// The facts of this host that a plan depends on.
pub(in crate::cli) fn facts() -> Result<Facts, Failure> {
    let directory = std::env::current_dir()
        .map_err(|error| Failure::new(Class::Internal, format!("find the current directory: {error}")))?;
    Ok(Facts {
        env: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
        git: identity(&directory),
        directory,
        home: expand(Path::new("/"), Path::new("~")),
        user: (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw()),
    })
}

/// Plans every agent of the manifest, for recipes that launch nested bottles. With scripts of a project, only the launched
/// agent and agents whose bottles the user allows to this project.
pub(in crate::cli) fn drafts(defined: &Definitions, facts: &Facts, launched: &str, bottle: Option<&str>) -> Drafts {
    let draft = |name: &str| {
        let bottle = bottle.filter(|_| name == launched);
        let chosen = choose(&defined.catalogue, name, bottle).map_err(|problem| problem.to_string())?;
        if defined.has_scripts() && name != launched && !is_let(&defined.catalogue, &chosen) {
            let bottle = chosen.bottle_name.as_deref().unwrap_or("NAME");
            return Err(format!(
                "agent {name} is yours, and this project's scripts may not launch it: add {{path: …, bottles: [{bottle}]}} to \
                 `projects` in your own bottler.yaml, or leave the project out with --no-project"
            ));
        }
        let egress: Egress = chosen.egress.clone();
        let mut planned = plan(&chosen, egress, &Flags::default(), facts).map_err(|problem| problem.to_string())?;
        git::settle(&mut planned.plan).map_err(|failure| failure.message)?;
        if let Some(name) = planned.ask.keys().next() {
            return Err(format!("env: {name} must be asked for, which only `bottler run` can do"));
        }
        let asked = |credential: &&CredentialPlan| matches!(credential.source, Some(Source::Prompt(_)));
        if let Some(CredentialPlan { name, .. }) = planned.plan.credentials.iter().find(asked) {
            return Err(format!("credential {name} must be asked for, which only `bottler run` can do"));
        }
        let (plan, env, credentials) = (planned.plan, planned.env, planned.credentials);
        Ok(Draft { plan, env, credentials, recipe: planned.recipe })
    };
    let names: Vec<String> = defined.catalogue.agents().map(str::to_owned).collect();
    Drafts(names.into_iter().map(|name| (name.clone(), draft(&name))).collect::<BTreeMap<_, _>>())
}

/// Whether the project's scripts may use an agent, by its bottle.
fn is_let(catalogue: &Catalogue, chosen: &ResolvedAgent) -> bool {
    chosen.of_project || chosen.bottle_name.as_deref().is_some_and(|bottle| catalogue.allows_project(bottle))
}
