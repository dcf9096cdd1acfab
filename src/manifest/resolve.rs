//! Resolves an agent: finds its template, merges its bottle, and reads the files that they name.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::combine::Layers;
use super::{
    Agent, AgentSection, AgentTemplate, BottleSection, Catalogue, Egress, Problem, ResolvedCredential, Value,
    WrittenAt, expand, text,
};

/// Most files and bytes of an agent's skills.
const MAX_SKILL_FILES: usize = 500;
const MAX_SKILL_BYTES: usize = 8 << 20;

/// An agent with everything that the plan needs.
#[derive(Debug, Clone, Default)]
pub struct ResolvedAgent {
    /// Its name.
    pub name: String,
    /// The file that defines it, if there is one.
    pub file: Option<PathBuf>,
    /// Whether a project defines it.
    pub of_project: bool,
    /// Its section.
    pub agent: AgentSection,
    /// The name of its template.
    pub template_name: String,
    /// Its template.
    pub template: AgentTemplate,
    /// The name of its bottle, if it has one.
    pub bottle_name: Option<String>,
    /// Its bottle.
    pub bottle: BottleSection,
    /// Where its bottle's `bounds` are written.
    pub bounds_at: Option<WrittenAt>,
    /// Where its bottle's `limits` are written.
    pub limits_at: Option<WrittenAt>,
    /// The bottle's egress policy.
    pub egress: Egress,
    /// Its prompt.
    pub prompt: Option<String>,
    /// The agent's credentials.
    pub credentials: Vec<ResolvedCredential>,
    /// Environment variables of the bottle and the agent, but those that hold credentials.
    pub env: BTreeMap<String, Value>,
    /// Variables from files.
    pub env_files: BTreeMap<String, String>,
    /// The files of its skills, by their paths below the folder of skills.
    pub skills: BTreeMap<String, SkillFile>,
}

impl ResolvedAgent {
    /// The name under which its grants are saved: its bottle's in the manifest, or its own.
    pub fn grants_name(&self) -> &str {
        self.bottle_name.as_deref().unwrap_or(&self.name)
    }
}

/// A file of a skill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkillFile {
    /// What is in it.
    pub content: String,
    /// Whether it may be executed.
    pub executable: bool,
}

/// Resolves an agent or a template by name. `bottle` replaces the agent's bottle. Reads the files that they name.
///
/// # Errors
/// There is none; it, its bottle or its template is broken; a file cannot be read; or a project's agent names what it may
/// not.
pub fn choose(catalogue: &Catalogue, name: &str, bottle: Option<&str>) -> Result<ResolvedAgent, Problem> {
    let (agent, file, of_project, folder) =
        if let Some(Agent { section, file, folder, of_project }) = catalogue.agent(name)? {
            (section, Some(file), of_project, folder)
        } else {
            let agent = AgentSection { template: Some(name.to_owned()), ..AgentSection::default() };
            (agent, None, false, PathBuf::new())
        };
    let place = |problem: Problem| match &file {
        Some(file) if problem.file.is_empty() => Problem { file: file.display().to_string(), ..problem },
        _ => problem,
    };
    let bad = |why: String| place(Problem::of("", format!("agent {name}: {why}")));
    let bottle_name = bottle.map(str::to_owned).or_else(|| agent.bottle.clone());
    if of_project {
        check_project(catalogue, &agent, bottle.is_some()).map_err(&bad)?;
    }
    let template_name = agent.template.clone().unwrap_or_else(|| "claude".to_owned());
    let template = catalogue.template(&template_name).map_err(place)?;
    let bottle = match &bottle_name {
        Some(bottle) => catalogue.bottle(bottle).map_err(place)?,
        None => BottleSection::default(),
    };
    let bounds_at = bottle_name.as_deref().and_then(|bottle| catalogue.bottle_key_at(bottle, "bounds"));
    let limits_at = bottle_name.as_deref().and_then(|bottle| catalogue.bottle_key_at(bottle, "limits"));
    let egress = match bottle.egress.clone() {
        // Paths have been made absolute when the file was read.
        Some(section) => section.resolve(Path::new("")).map_err(|why| bad(format!("egress: {why}")))?,
        None => Egress::default(),
    };
    let mut agent = agent;
    if let Some(recipe) = agent.recipe.as_mut().filter(|recipe| is_file(recipe)) {
        *recipe = expand(&folder, Path::new(recipe)).to_string_lossy().into_owned();
    }
    let prompt = match (&agent.prompt, &agent.prompt_file) {
        (Some(_), Some(_)) => return Err(bad("it has both a prompt and a prompt_file; use one of them".into())),
        (None, Some(path)) if of_project => Some(project_text(catalogue, path).map_err(&bad)?),
        (None, Some(path)) => Some(text("the prompt", &expand(&folder, path)).map_err(&bad)?),
        (prompt, None) => prompt.clone(),
    };
    let mut env = BTreeMap::new();
    for (name, value) in bottle.env.iter().chain(&agent.env) {
        if !super::env::is_name(name) {
            return Err(bad(format!("env: {name:?} is not a valid variable name")));
        }
        env.insert(name.clone(), Value::read(&value.0).map_err(|why| bad(format!("env: {name}: {why}")))?);
    }
    let mut env_files = BTreeMap::new();
    for path in &bottle.env_file {
        env_files.extend(super::read_env_file(path).map_err(&bad)?);
    }
    let layers = Layers {
        bottle: &bottle.credentials,
        template: &template.credentials,
        env: &mut env,
        env_files: &mut env_files,
        of_sidecars: of_sidecars(&bottle),
    };
    let written = |credential: &str| catalogue.credential_at(bottle_name.as_deref()?, credential);
    let credentials = layers.combine(written).map_err(|(at, why)| match at {
        Some(at) => at.problem(why),
        None => bad(why),
    })?;
    let mut skills = BTreeMap::new();
    for skill in &agent.skills.0 {
        let from = expand(&folder.join("skills"), Path::new(skill));
        let found = if of_project { project_skill(catalogue, skill) } else { read_skill(&from) };
        let found = found.map_err(|why| bad(format!("skill {skill:?}: read {}: {why}", from.display())))?;
        let short = from.file_name().map_or_else(|| skill.clone(), |name| name.to_string_lossy().into_owned());
        skills.extend(found.into_iter().map(|(path, file)| (format!("{short}/{path}"), file)));
    }
    Ok(ResolvedAgent {
        name: name.to_owned(),
        file: file.clone(),
        of_project,
        agent,
        template_name,
        template,
        bottle_name,
        bottle,
        bounds_at,
        limits_at,
        egress,
        prompt,
        credentials,
        env,
        env_files,
        skills,
    })
}

/// The names of the credentials that sidecars of a bottle use.
fn of_sidecars(bottle: &BottleSection) -> BTreeSet<&str> {
    let routes = bottle.cred_proxy.iter().flat_map(|section| &section.routes);
    let git = bottle.git.iter().filter_map(|section| section.credential.as_deref());
    routes.map(|route| route.credential.as_str()).chain(git).collect()
}

/// Whether a recipe is named by its file.
fn is_file(recipe: &str) -> bool {
    recipe.contains('/') || Path::new(recipe).extension().is_some_and(|end| end == "lua")
}

/// Checks that a project's agent uses only what the user allows and names nothing of the host.
fn check_project(catalogue: &Catalogue, agent: &AgentSection, named: bool) -> Result<(), String> {
    // Naming a bottle on the command line allows it.
    let allowed = agent.bottle.as_deref().is_some_and(|bottle| catalogue.allows_project(bottle));
    if !named && !allowed {
        let bottle = agent.bottle.as_deref().unwrap_or("…");
        return Err(format!(
            "a project may use only the bottles that you allow: add {{path: …, bottles: [{bottle}]}} to `projects` in \
             your own bottler.yaml, or name one with --bottle"
        ));
    }
    if agent.recipe.as_deref().is_some_and(is_file) {
        return Err(
            "recipe: a project's agent must name a built-in recipe; use `--recipe` for the project's files".to_owned()
        );
    }
    for (name, value) in &agent.env {
        if !matches!(Value::read(&value.0), Ok(Value::Literal(_))) {
            return Err(format!("env: {name}: a project may not use variables of the host, nor questions"));
        }
    }
    Ok(())
}

/// A trusted file that a project's agent names.
fn project_text(catalogue: &Catalogue, path: &Path) -> Result<String, String> {
    let found = path.to_str().and_then(|path| catalogue.project_file(path.trim_start_matches("./")));
    let found =
        found.ok_or_else(|| format!("{}: there is no such file below the project's .bottler", path.display()))?;
    String::from_utf8(found.to_vec()).map_err(|_| format!("{}: it is not UTF-8 text", path.display()))
}

fn project_skill(catalogue: &Catalogue, skill: &str) -> std::io::Result<BTreeMap<String, SkillFile>> {
    let folder = format!("skills/{skill}");
    let mut found = BTreeMap::new();
    for (path, content) in catalogue.project_folder(&folder) {
        let content = String::from_utf8(content.to_vec());
        let content = content.map_err(|_| std::io::Error::other(format!("{path}: it is not UTF-8 text")))?;
        found.insert(path.to_owned(), SkillFile { content, executable: false });
    }
    if found.is_empty() {
        return Err(std::io::Error::other("there are no such files below the project's .bottler"));
    }
    Ok(found)
}

fn read_skill(folder: &Path) -> std::io::Result<BTreeMap<String, SkillFile>> {
    let (mut found, mut left) = (BTreeMap::new(), MAX_SKILL_BYTES);
    let mut folders = vec![PathBuf::new()];
    while let Some(below) = folders.pop() {
        for entry in std::fs::read_dir(folder.join(&below))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            let seen = entry.metadata()?;
            if seen.is_dir() {
                folders.push(path);
                continue;
            }
            if !seen.is_file() {
                continue;
            }
            let named = |why: &str| std::io::Error::other(format!("{}: {why}", path.display()));
            let size = usize::try_from(seen.len()).unwrap_or(usize::MAX);
            left = left.checked_sub(size).ok_or_else(|| named("the skill is larger than 8 MiB"))?;
            let content = String::from_utf8(std::fs::read(entry.path())?).map_err(|_| named("it is not UTF-8 text"))?;
            let name = path.to_str().ok_or_else(|| named("its name is not UTF-8"))?.to_owned();
            found.insert(name, SkillFile { content, executable: seen.permissions().mode() & 0o111 != 0 });
            if found.len() > MAX_SKILL_FILES {
                return Err(std::io::Error::other(format!("there are more than {MAX_SKILL_FILES} files")));
            }
        }
    }
    Ok(found)
}
