//! All definitions: the user's `bottler.yaml` with `bottles/`, `agents/` and `templates/` beside it, and the agents of a
//! trusted project. A broken file affects only what uses it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_yaml::Value;

use super::credential::written_name;
use super::merge::{anchor, merge, nothing, without};
use super::problem::parse;
use super::section::FrontMatter;
use super::{
    AgentSection, AgentTemplate, BottleSection, Manifest, Problem, ProjectManifest, ProjectSection, WrittenAt, text,
};

/// Longest chain of `extends`.
const MAX_DEPTH: usize = 16;
/// The name of a manifest file, also of a project's, below `.bottler/`.
pub(super) const FILE: &str = "bottler.yaml";

/// All definitions by name.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    /// The user's `bottler.yaml`, or the file that was named.
    manifest: Manifest,
    /// Why it, or a folder beside it, could not be read.
    problems: Vec<Problem>,
    bottles: BTreeMap<String, Entry<Value>>,
    /// The files that define the bottles.
    bottle_files: BTreeMap<String, PathBuf>,
    agents: BTreeMap<String, Entry<Agent>>,
    templates: BTreeMap<String, Entry<AgentTemplate>>,
    project: Option<PathBuf>,
    /// The project's files as they were read and trusted; they are not read again.
    files: BTreeMap<String, Vec<u8>>,
}

/// A definition, or why it is broken.
type Entry<T> = Result<T, Problem>;

/// The definition of an agent.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Its section.
    pub section: AgentSection,
    /// The file that defines it.
    pub file: PathBuf,
    /// The folder that its skills and prompt file are below.
    pub folder: PathBuf,
    /// Whether a project defines it; then it may not name anything of the host.
    pub of_project: bool,
}

/// A project's own files: its root, and what is below `.bottler/`, as it was read and trusted.
pub type ProjectFiles<'a> = (&'a Path, &'a BTreeMap<String, Vec<u8>>);

impl Catalogue {
    /// Reads all definitions. `file` is the user's manifest, which may be absent; the folders beside it are read, too.
    pub fn read(file: Option<&Path>, project: Option<ProjectFiles<'_>>) -> Self {
        let mut catalogue = Self::default();
        if let Some(file) = file {
            catalogue.user(file);
        }
        if let Some((root, files)) = project {
            catalogue.project(root, files);
        }
        catalogue
    }

    fn user(&mut self, file: &Path) {
        // Relative paths must not depend on the current directory later.
        let folder =
            std::path::absolute(file).ok().and_then(|file| Some(file.parent()?.to_owned())).unwrap_or_default();
        let folder = folder.as_path();
        if file.exists() {
            match read_both::<Manifest>(file) {
                Ok((manifest, value)) => {
                    let value = value.get("bottles").cloned().unwrap_or_else(nothing);
                    for (name, mut section) in names(value) {
                        anchor(&mut section, folder);
                        self.bottle_files.insert(name.clone(), file.to_owned());
                        self.bottles.insert(name, Ok(section));
                    }
                    for (name, section) in &manifest.agents {
                        let agent = user_agent(section.clone(), file, folder);
                        self.agents.insert(name.clone(), Ok(agent));
                    }
                    self.manifest = manifest;
                }
                Err(problem) => self.problems.push(problem),
            }
        }
        for (name, path) in self.listed(&folder.join("bottles"), &["yaml"]) {
            let read = read_both::<BottleSection>(&path).map(|(_, mut section)| {
                anchor(&mut section, path.parent().unwrap_or(folder));
                section
            });
            self.bottle_files.insert(name.clone(), path.clone());
            define(&mut self.bottles, name, read, &path);
        }
        for (name, path) in self.listed(&folder.join("agents"), &["md", "yaml"]) {
            let read = read_agent(&path).map(|section| user_agent(section, &path, folder));
            define(&mut self.agents, name, read, &path);
        }
        for (name, path) in self.listed(&folder.join("templates"), &["yaml"]) {
            let read = content(&path).and_then(|text| AgentTemplate::read(&path, &text));
            define(&mut self.templates, name, read, &path);
        }
    }

    /// A project's agents: never bottles, never anything of the host.
    fn project(&mut self, root: &Path, files: &BTreeMap<String, Vec<u8>>) {
        let own = root.join(".bottler");
        self.project = Some(root.to_owned());
        self.files.clone_from(files);
        for (path, bytes) in files {
            let file = own.join(path);
            let Ok(text) = std::str::from_utf8(bytes) else { continue };
            let agent =
                |section: AgentSection| Agent { section, file: file.clone(), folder: own.clone(), of_project: true };
            if path == FILE {
                match parse::<ProjectManifest>(&file, text, 0) {
                    Ok(manifest) => {
                        for (name, section) in manifest.agents {
                            define(&mut self.agents, name, Ok(agent(section)), &file);
                        }
                    }
                    Err(problem) => self.problems.push(problem),
                }
            } else if let Some(name) = path.strip_prefix("agents/").and_then(stem) {
                define(&mut self.agents, name, agent_of(&file, text).map(agent), &file);
            }
        }
    }

    /// The files of a folder by the names that they define, in order.
    fn listed(&mut self, folder: &Path, extensions: &[&str]) -> Vec<(String, PathBuf)> {
        let entries = match std::fs::read_dir(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                self.problems.push(Problem::of(folder.display(), format!("it cannot be listed: {error}")));
                return Vec::new();
            }
            Ok(entries) => entries,
        };
        let mut found: Vec<(String, PathBuf)> = entries
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                let extension = path.extension()?.to_str()?;
                extensions.contains(&extension).then_some(())?;
                Some((path.file_stem()?.to_str()?.to_owned(), path))
            })
            .collect();
        found.sort();
        found
    }

    /// The user's manifest.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn manifest(&self) -> Result<&Manifest, Problem> {
        self.problems.first().map_or(Ok(&self.manifest), |problem| Err(problem.clone()))
    }

    /// All mistakes, including circular `extends`.
    pub fn problems(&self) -> Vec<Problem> {
        let mut found = self.problems.clone();
        found.extend(self.agents.values().filter_map(|agent| agent.as_ref().err()).cloned());
        found.extend(self.templates.values().filter_map(|template| template.as_ref().err()).cloned());
        for name in self.bottles.keys() {
            found.extend(self.bottle(name).err());
        }
        for agent in self.agents.values().flatten() {
            if let Some(bottle) = &agent.section.bottle
                && !self.bottles.contains_key(bottle)
            {
                found.push(self.unknown("bottle", bottle, self.bottles.keys()).in_file(&agent.file));
            }
        }
        found.sort_by(|a, b| (&a.file, a.line, &a.message).cmp(&(&b.file, b.line, &b.message)));
        found.dedup();
        found
    }

    /// The names of the agents that are defined.
    pub fn agents(&self) -> impl Iterator<Item = &str> {
        self.agents.keys().map(String::as_str)
    }

    /// An agent by its name; `None` if none is defined.
    ///
    /// # Errors
    /// Its file is broken; or there is none, and a broken file might have defined it.
    pub fn agent(&self, name: &str) -> Result<Option<Agent>, Problem> {
        match self.agents.get(name) {
            Some(entry) => entry.clone().map(Some),
            None => self.manifest().map(|_| None),
        }
    }

    /// A template: the user's own, or a built-in one.
    ///
    /// # Errors
    /// There is none, or it is broken.
    pub fn template(&self, name: &str) -> Result<AgentTemplate, Problem> {
        if let Some(entry) = self.templates.get(name) {
            return entry.clone();
        }
        AgentTemplate::built_in(name).map_err(|_| {
            let own = self.templates.keys().chain(self.agents.keys()).cloned();
            let known: Vec<String> = own.chain(AgentTemplate::names().map(str::to_owned)).collect();
            let near = crate::suggest::nearest(name, known.iter().map(String::as_str))
                .map(|near| format!("did you mean {near}?"));
            let problem = Problem::of("", format!("there is no agent {name:?}; known: {}", known.join(", ")));
            Problem { hint: near, ..problem }
        })
    }

    /// A bottle with everything that it extends.
    ///
    /// # Errors
    /// There is none, it or one that it extends is broken, or they extend each other in a circle.
    pub fn bottle(&self, name: &str) -> Result<BottleSection, Problem> {
        let merged = self.merged(name, &mut Vec::new())?;
        serde_yaml::from_value(without(merged, "extends"))
            .map_err(|error| Problem::of(name, format!("bottle {name}, merged: {error}")))
    }

    /// The line that defines a credential of a bottle: in its own file, or in that of one that it extends.
    pub(super) fn credential_at(&self, bottle: &str, credential: &str) -> Option<WrittenAt> {
        self.credential_in(bottle, credential, MAX_DEPTH)
    }

    fn credential_in(&self, bottle: &str, credential: &str, depth: usize) -> Option<WrittenAt> {
        let own = self.bottles.get(bottle)?.as_ref().ok()?;
        let list = |key: &str| own.get(key).and_then(Value::as_sequence).into_iter().flatten();
        if list("credentials").any(|entry| written_name(entry).as_deref() == Some(credential)) {
            let file = self.bottle_files.get(bottle)?;
            return WrittenAt::find(file, &content(file).ok()?, bottle, credential);
        }
        let mut parents = list("extends").filter_map(Value::as_str).collect::<Vec<_>>().into_iter().rev();
        parents.find_map(|parent| self.credential_in(parent, credential, depth.checked_sub(1)?))
    }

    /// The line that sets a key of a bottle: in its own file, or in that of one that it extends.
    pub(super) fn bottle_key_at(&self, bottle: &str, key: &str) -> Option<WrittenAt> {
        self.bottle_key_in(bottle, key, MAX_DEPTH)
    }

    fn bottle_key_in(&self, bottle: &str, key: &str, depth: usize) -> Option<WrittenAt> {
        let own = self.bottles.get(bottle)?.as_ref().ok()?;
        if own.get(key).is_some() {
            let file = self.bottle_files.get(bottle)?;
            return WrittenAt::find_key(file, &content(file).ok()?, bottle, key);
        }
        let parents = own.get("extends").and_then(Value::as_sequence).into_iter().flatten();
        let mut parents = parents.filter_map(Value::as_str).collect::<Vec<_>>().into_iter().rev();
        parents.find_map(|parent| self.bottle_key_in(parent, key, depth.checked_sub(1)?))
    }

    fn merged(&self, name: &str, above: &mut Vec<String>) -> Result<Value, Problem> {
        if above.iter().any(|other| other == name) || above.len() == MAX_DEPTH {
            let path = format!("{} → {name}", above.join(" → "));
            return Err(Problem::of("extends", format!("bottles extend each other in a circle: {path}")));
        }
        let Some(entry) = self.bottles.get(name) else {
            self.manifest()?;
            return Err(self.unknown("bottle", name, self.bottles.keys()));
        };
        let own = entry.clone()?;
        above.push(name.to_owned());
        let parents = own.get("extends").and_then(Value::as_sequence).cloned().unwrap_or_default();
        let mut merged = nothing();
        for parent in parents.iter().filter_map(Value::as_str) {
            merged = merge(merged, self.merged(parent, above)?);
        }
        above.pop();
        Ok(merge(merged, own))
    }

    #[expect(clippy::unused_self, reason = "it says what this one knows")]
    fn unknown<'a>(&self, what: &str, name: &str, known: impl Iterator<Item = &'a String>) -> Problem {
        let known: Vec<&str> = known.map(String::as_str).collect();
        let listed =
            if known.is_empty() { "none is defined".to_owned() } else { format!("known: {}", known.join(", ")) };
        let hint = crate::suggest::nearest(name, known.iter().copied()).map(|near| format!("did you mean {near}?"));
        Problem { hint, ..Problem::of("", format!("there is no {what} {name:?}; {listed}")) }
    }

    /// A file of the project's, by its path below `.bottler/`.
    pub(super) fn project_file(&self, path: &str) -> Option<&[u8]> {
        self.files.get(path).map(Vec::as_slice)
    }

    /// The project's files below a folder of `.bottler/`, by their paths there.
    pub(super) fn project_folder<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let below = move |path: &'a String| path.strip_prefix(folder)?.strip_prefix('/');
        self.files.iter().filter_map(move |(path, content)| Some((below(path)?, content.as_slice())))
    }

    /// Whether a project's agents may use a bottle.
    pub fn allows_project(&self, bottle: &str) -> bool {
        let Some(root) = &self.project else { return false };
        let here = |section: &&ProjectSection| {
            super::expand(Path::new(""), &section.path).canonicalize().is_ok_and(|path| path == *root)
        };
        self.manifest.projects.iter().filter(here).any(|section| section.bottles.iter().any(|name| name == bottle))
    }
}

impl Problem {
    fn in_file(mut self, file: &Path) -> Self {
        self.file = file.display().to_string();
        self
    }
}

/// Adds a definition; a second definition of a name is an error for whoever uses it.
fn define<T>(known: &mut BTreeMap<String, Entry<T>>, name: String, entry: Entry<T>, file: &Path) {
    let taken = known.contains_key(&name);
    let entry = if taken {
        let message = format!("{name} is defined here and in another file");
        Err(Problem::of(file.display(), message).hint("one name, one definition"))
    } else {
        entry
    };
    known.insert(name, entry);
}

fn user_agent(section: AgentSection, file: &Path, folder: &Path) -> Agent {
    Agent { section, file: file.to_owned(), folder: folder.to_owned(), of_project: false }
}

fn names(value: Value) -> Vec<(String, Value)> {
    let Value::Mapping(map) = value else { return Vec::new() };
    map.into_iter().filter_map(|(name, section)| Some((name.as_str()?.to_owned(), section))).collect()
}

fn stem(path: &str) -> Option<String> {
    let name = path.strip_suffix(".md").or_else(|| path.strip_suffix(".yaml"))?;
    (!name.contains('/')).then(|| name.to_owned())
}

fn content(path: &Path) -> Result<String, Problem> {
    text("the manifest", path).map_err(|why| Problem::of(path.display(), why))
}

/// Parses a file into its type, to find mistakes, and into YAML, to merge `extends`.
fn read_both<T: serde::de::DeserializeOwned + Default>(path: &Path) -> Result<(T, Value), Problem> {
    let text = content(path)?;
    let typed = parse::<T>(path, &text, 0)?;
    let value: Value = serde_yaml::from_str(&text).map_err(|error| Problem::of(path.display(), error.to_string()))?;
    Ok((typed, if value.is_null() { nothing() } else { value }))
}

fn read_agent(path: &Path) -> Result<AgentSection, Problem> {
    agent_of(path, &content(path)?)
}

/// An agent's own file: YAML, or Markdown whose front matter is its keys and whose body is its prompt.
fn agent_of(path: &Path, text: &str) -> Result<AgentSection, Problem> {
    if path.extension().is_none_or(|extension| extension != "md") {
        return parse(path, text, 0);
    }
    let Some(rest) = text.strip_prefix("---\n").or_else(|| text.strip_prefix("---\r\n")) else {
        return Ok(FrontMatter::default().agent(text));
    };
    let mut front = String::new();
    let mut lines = rest.split_inclusive('\n');
    for line in lines.by_ref() {
        if line.trim_end() == "---" {
            let body: String = lines.collect();
            return parse::<FrontMatter>(path, &front, 1).map(|front| front.agent(&body));
        }
        front.push_str(line);
    }
    Err(Problem::of(path.display(), "its front matter has no end").hint("a line of three hyphens ends it"))
}

/// The path of the user's manifest: `$XDG_CONFIG_HOME/bottler/bottler.yaml`.
pub fn user_file() -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = var("XDG_CONFIG_HOME").or_else(|| Some(var("HOME")?.join(".config")))?;
    Some(base.join("bottler").join(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue(files: &[(&str, &str)]) -> (tempfile::TempDir, Catalogue) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let catalogue = Catalogue::read(Some(&folder.path().join(FILE)), None);
        (folder, catalogue)
    }

    #[test]
    fn bottles_are_put_together_from_left_to_right() {
        let (folder, catalogue) = catalogue(&[
            (FILE, "bottles:\n  dev: {extends: [base, net], env: {A: 2}, image: b}\n"),
            ("bottles/base.yaml", "env: {A: 1, B: 1}\nbuild: {context: .}\nenv_file: [x.env]\n"),
            ("bottles/net.yaml", "egress: {allow: [a.example], roots: [ca.pem]}\nenv: {B: 3}\n"),
        ]);
        let dev = catalogue.bottle("dev").unwrap();
        let env: Vec<(&str, &str)> = dev.env.iter().map(|(name, value)| (name.as_str(), value.0.as_str())).collect();
        assert_eq!(env, [("A", "2"), ("B", "3")]);
        assert_eq!((dev.image.as_deref(), dev.build), (Some("b"), None));
        let bottles = folder.path().join("bottles");
        assert_eq!(dev.env_file, [bottles.join("x.env")]);
        assert_eq!(dev.egress.unwrap().roots, [bottles.join("ca.pem")]);
    }

    #[test]
    fn circles_and_unknown_names_are_told() {
        let (_folder, catalogue) =
            catalogue(&[(FILE, "bottles:\n  a: {extends: [b]}\n  b: {extends: [a]}\n  c: {extends: [bb]}\n")]);
        assert!(catalogue.bottle("a").unwrap_err().message.ends_with("a → b → a"));
        let unknown = catalogue.bottle("c").unwrap_err();
        assert!(unknown.message.contains("there is no bottle \"bb\""), "{unknown}");
        assert_eq!(catalogue.bottle("d").unwrap_err().hint, None);
        assert_eq!(catalogue.problems().len(), 3);
    }

    #[test]
    fn a_broken_file_stops_only_what_uses_it() {
        let (_folder, catalogue) = catalogue(&[
            (FILE, "bottles: {good: {image: i}}\n"),
            ("bottles/bad.yaml", "imagee: i\n"),
            ("agents/fine.yaml", "bottle: good\n"),
            ("agents/broken.md", "---\ntemplat: claude\n---\nDo it.\n"),
        ]);
        assert!(catalogue.bottle("good").is_ok() && catalogue.agent("fine").unwrap().is_some());
        let bad = catalogue.bottle("bad").unwrap_err();
        assert!(bad.file.ends_with("bottles/bad.yaml") && bad.line == 1 && bad.hint.is_some(), "{bad:?}");
        let broken = catalogue.agent("broken").unwrap_err();
        assert_eq!((broken.line, broken.hint.as_deref()), (2, Some("did you mean template?")));
        assert!(catalogue.agent("other").unwrap().is_none());
        assert_eq!(catalogue.problems().len(), 2);
    }

    #[test]
    fn a_subagent_of_claude_code_is_an_agent() {
        let file = "---\nname: reviewer\ndescription: Reviews\ntools: Read, Grep\nmodel: inherit\ncolor: red\n\
                    skills: review, lint\n---\n\nYou review.\n";
        let (_folder, catalogue) = catalogue(&[("agents/reviewer.md", file)]);
        let agent = catalogue.agent("reviewer").unwrap().unwrap().section;
        assert_eq!(agent.prompt.as_deref(), Some("You review."));
        assert_eq!((agent.model, agent.skills.0), (None, vec!["review".to_owned(), "lint".to_owned()]));
    }

    #[test]
    fn a_project_defines_agents_and_no_bottles() {
        let root = tempfile::tempdir().unwrap();
        let files = |text: &str| BTreeMap::from([(FILE.to_owned(), text.as_bytes().to_vec())]);
        let good = Catalogue::read(None, Some((root.path(), &files("agents: {a: {bottle: dev}}"))));
        assert!(good.agent("a").unwrap().unwrap().of_project);
        assert!(!good.allows_project("dev"));
        let bad = Catalogue::read(None, Some((root.path(), &files("bottles: {dev: {}}"))));
        assert!(bad.agent("a").unwrap_err().message.contains("there is no key bottles"));
    }
}
