//! Which credentials an agent has: those of its bottle, completed by its template's of the same name, and those of its template
//! whose variable the manifest sets. So `env: {ANTHROPIC_API_KEY: "${ANTHROPIC_API_KEY}"}` is a credential where the template knows
//! that variable: the agent gets a placeholder, and no key.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::credential::{name_of_variable, usual_slots};
use super::{CredentialFile, CredentialSection, Problem, ShapeSection, Value};
use crate::credential::{Limits, Place, Shape, Source};

/// A credential that the agent has a placeholder of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedCredential {
    /// Its name.
    pub name: String,
    /// Where its value comes from.
    pub origin: Origin,
    /// What the placeholder looks like.
    pub shape: Shape,
    /// The agent's variable that holds the placeholder.
    pub env: Option<String>,
    /// The agent's file that holds the placeholder.
    pub file: Option<CredentialFile>,
    /// Where the value may go.
    pub places: Vec<Place>,
    /// How many requests may use it.
    pub limits: Option<Limits>,
    /// Where it is written.
    pub at: Option<WrittenAt>,
}

/// Where a credential's value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A source.
    Source(Source),
    /// The value of its variable in `env`.
    Env(Value),
    /// The value of its variable in an `env_file`.
    EnvFile(String),
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenAt {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// Its text.
    pub text: String,
}

impl WrittenAt {
    /// A mistake at this line.
    pub fn problem(&self, message: String) -> Problem {
        let place = Problem::of(self.file.display(), message);
        Problem { line: self.line, text: self.text.clone(), ..place }
    }

    /// The line of a file that has a credential of this name, after the line of its bottle if there is one; or else that of the
    /// variable which it has its name from. `None` if the file has no such line.
    pub(super) fn find(file: &Path, text: &str, bottle: &str, name: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().collect();
        let has = |line: &str, key: &str, is: &dyn Fn(&str) -> bool| {
            line.match_indices(key).any(|(at, word)| {
                let rest = line[at + word.len()..].trim_start().trim_start_matches(['"', '\'']);
                is(rest.split(['"', '\'', ',', '}', ' ', '#']).next().unwrap_or_default())
            })
        };
        let by_name = Self::first(file, &lines, bottle, |line| has(line, "name:", &|word| word == name));
        let by_variable = |line: &str| has(line, "env:", &|word| name_of_variable(word) == name);
        by_name.or_else(|| Self::first(file, &lines, bottle, by_variable))
    }

    /// The line of a file that sets a key of a bottle, found in the same way.
    pub(super) fn find_key(file: &Path, text: &str, bottle: &str, key: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().collect();
        let word = format!("{key}:");
        let is_start = |before: &str| before.is_empty() || before.ends_with([' ', '{', ',', '"', '\'']);
        let has = |line: &str| line.match_indices(&word).any(|(at, _)| is_start(&line[..at]));
        Self::first(file, &lines, bottle, has)
    }

    fn first(file: &Path, lines: &[&str], bottle: &str, has: impl Fn(&str) -> bool) -> Option<Self> {
        let begin = lines.iter().position(|line| line.trim_start().starts_with(&format!("{bottle}:"))).unwrap_or(0);
        let after = (begin..lines.len()).find(|&at| has(lines[at]));
        let at = after.or_else(|| lines.iter().position(|line| has(line)))?;
        Some(Self { file: file.to_owned(), line: at + 1, text: lines[at].trim().to_owned() })
    }
}

/// What an agent's credentials are put together from.
pub(super) struct Layers<'a> {
    /// The bottle's own.
    pub(super) bottle: &'a [CredentialSection],
    /// The template's.
    pub(super) template: &'a [CredentialSection],
    /// The variables of bottle and agent.
    pub(super) env: &'a mut BTreeMap<String, Value>,
    /// Those from files.
    pub(super) env_files: &'a mut BTreeMap<String, String>,
    /// The names of those that sidecars use, which need no placeholder in the agent.
    pub(super) of_sidecars: BTreeSet<&'a str>,
}

impl Layers<'_> {
    /// The credentials. Variables that hold one are taken out of the environment. `at` is where one of the bottle's is written.
    ///
    /// # Errors
    /// One has no source or two, no hosts, or no place for the agent; or two have the same place.
    pub(super) fn combine(
        mut self,
        at: impl Fn(&str) -> Option<WrittenAt>,
    ) -> Result<Vec<ResolvedCredential>, (Option<WrittenAt>, String)> {
        let mut found: Vec<ResolvedCredential> = Vec::new();
        for own in self.bottle {
            let declared = self.template.iter().find(|declared| declared.name == own.name);
            let at = at(&own.name);
            let made = self.one(&completed(own, declared));
            let made = made.map_err(|why| (at.clone(), format!("credential {}: {why}", own.name)))?;
            found.push(ResolvedCredential { at, ..made });
        }
        for declared in self.template {
            let has_own =
                found.iter().any(|own| own.name == declared.name || own.env.is_some() && own.env == declared.env);
            if has_own || declared.source.is_none() && !self.sets(declared.env.as_deref()) {
                continue;
            }
            let made = self.one(declared);
            found.push(made.map_err(|why| (None, format!("credential {} of its template: {why}", declared.name)))?);
        }
        for (place, later) in found.iter().enumerate() {
            if let Some((other, what)) = found[..place].iter().find_map(|other| Some((other, shared(other, later)?))) {
                let why = format!("credential {}: credential {} has {what}, too", later.name, other.name);
                return Err((later.at.clone(), why));
            }
        }
        Ok(found)
    }

    /// Whether the environment sets a variable to what is not a literal.
    fn sets(&self, variable: Option<&str>) -> bool {
        let Some(variable) = variable else { return false };
        match self.env.get(variable) {
            Some(Value::Literal(_)) => false,
            Some(_) => true,
            None => self.env_files.contains_key(variable),
        }
    }

    fn one(&mut self, section: &CredentialSection) -> Result<ResolvedCredential, String> {
        let variable = section.env.clone();
        let in_env = variable.as_ref().and_then(|name| self.env.remove(name));
        let in_file = variable.as_ref().and_then(|name| self.env_files.remove(name));
        let origin = match (&section.source, in_env, in_file) {
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
                let variable = variable.unwrap_or_default();
                return Err(format!("{variable} is set by `env` or `env_file`, too; leave one of them out"));
            }
            (Some(source), None, None) => Origin::Source(source.clone()),
            (None, Some(Value::Literal(_)), _) => {
                let variable = variable.unwrap_or_default();
                return Err(format!("{variable} is a literal in `env`, which everybody can read; name a source"));
            }
            // The last one said counts.
            (None, Some(value), _) => Origin::Env(value),
            (None, None, Some(value)) => Origin::EnvFile(value),
            (None, None, None) => {
                return Err("it has no source, as in `source: env:NAME`".to_owned());
            }
        };
        let is_of_sidecar = self.of_sidecars.contains(section.name.as_str());
        if section.env.is_none() && section.file.is_none() && !is_of_sidecar {
            let why = "it has no place: name a variable with `env`, a `file`, a route of `cred_proxy`, or a repository of `git`";
            return Err(why.to_owned());
        }
        if section.hosts.is_empty() {
            return Err("it names no `hosts`, so that its value would go nowhere".to_owned());
        }
        let shape = section.shape.clone().unwrap_or_else(ShapeSection::opaque).0;
        let usual = usual_slots(&shape);
        Ok(ResolvedCredential {
            name: section.name.clone(),
            origin,
            env: section.env.clone(),
            file: section.file.clone(),
            places: section.hosts.iter().flat_map(|host| host.places(&usual)).collect(),
            shape,
            limits: section.limits,
            at: None,
        })
    }
}

/// A bottle's credential with what it does not say, from the template's one of the same name.
fn completed(own: &CredentialSection, declared: Option<&CredentialSection>) -> CredentialSection {
    let Some(declared) = declared else { return own.clone() };
    let mut whole = own.clone();
    whole.source = whole.source.or_else(|| declared.source.clone());
    whole.shape = whole.shape.or_else(|| declared.shape.clone());
    whole.limits = whole.limits.or(declared.limits);
    if whole.env.is_none() && whole.file.is_none() {
        (whole.env, whole.file) = (declared.env.clone(), declared.file.clone());
    }
    if whole.hosts.is_empty() {
        whole.hosts.clone_from(&declared.hosts);
    } else if own.shape.is_none() {
        // A gateway speaks its provider's protocol.
        let mut slots = Vec::new();
        for slot in declared.hosts.iter().filter_map(super::PlaceSection::slot) {
            if !slots.contains(slot) {
                slots.push(slot.clone());
            }
        }
        whole.hosts = whole.hosts.iter().flat_map(|host| host.with_slots(&slots)).collect();
    }
    whole
}

/// What two credentials have both, and only one can.
fn shared(one: &ResolvedCredential, other: &ResolvedCredential) -> Option<String> {
    let file = |credential: &ResolvedCredential| credential.file.as_ref().map(|file| file.path.clone());
    match (&one.env, &other.env) {
        (Some(one), Some(other)) if one == other => return Some(format!("the variable {one}")),
        _ => {}
    }
    let same: Option<String> = file(one).filter(|path| Some(path) == file(other).as_ref());
    same.map(|path| format!("the file {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::Slot;

    fn sections(yaml: &str) -> Vec<CredentialSection> {
        super::super::credential::list(serde_yaml::Deserializer::from_str(yaml)).unwrap()
    }

    const TEMPLATE: &str = "
- {name: key, shape: anthropic, env: API_KEY, hosts: [api.example.com]}
- {name: oauth, shape: anthropic-oauth, env: OAUTH, hosts: [{host: api.example.com, slot: bearer}]}";

    fn combined(bottle: &str, env: &[(&str, &str)]) -> Result<Vec<ResolvedCredential>, String> {
        let mut env = env.iter().map(|(name, value)| ((*name).to_owned(), Value::read(value).unwrap())).collect();
        let (bottle, template, mut files) = (sections(bottle), sections(TEMPLATE), BTreeMap::new());
        let layers = Layers {
            bottle: &bottle,
            template: &template,
            env: &mut env,
            env_files: &mut files,
            of_sidecars: BTreeSet::new(),
        };
        layers.combine(|_| None).map_err(|(_, why)| why)
    }

    #[test]
    fn a_variable_that_the_template_declares_is_a_credential() {
        let found = combined("[]", &[("API_KEY", "${MY_KEY}"), ("OTHER", "${X}")]).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].name, "key");
        assert_eq!(found[0].origin, Origin::Env(Value::read("${MY_KEY}").unwrap()));
        // SDKs of two generations.
        let slots: Vec<_> = found[0].places.iter().map(|place| &place.slot).collect();
        assert_eq!(slots, [&Slot::Header("x-api-key".into()), &Slot::Bearer]);
        // A literal is no secret: local servers take any key.
        assert_eq!(combined("[]", &[("API_KEY", "none")]).unwrap(), []);
        assert_eq!(combined("[]", &[]).unwrap(), []);
    }

    #[test]
    fn a_bottles_credential_is_completed_by_the_templates() {
        let found = combined("[{name: key, source: 'op://a/b/c'}]", &[]).unwrap();
        assert_eq!((found[0].env.as_deref(), &found[0].shape), (Some("API_KEY"), &Shape::Anthropic));
        // For a gateway.
        let found = combined("[{name: key, source: 'env:K', hosts: [gw.example.com]}]", &[]).unwrap();
        let place = &found[0].places[..];
        assert_eq!((place[0].host.as_str(), &place[0].slot), ("gw.example.com", &Slot::Header("x-api-key".into())));
        assert_eq!((place[1].host.as_str(), &place[1].slot), ("gw.example.com", &Slot::Bearer));
        let found = combined("[{name: oauth, source: 'env:K', hosts: [gw.example.com]}]", &[]).unwrap();
        assert_eq!((found[0].places.len(), &found[0].places[0].slot), (1, &Slot::Bearer));
        // One of another name with the same variable is instead of it.
        let own = "[{name: mine, source: 'env:K', env: API_KEY, hosts: [gw.example.com]}]";
        assert_eq!(combined(own, &[]).unwrap().len(), 1);
    }

    #[test]
    fn a_credential_without_a_name_has_that_of_its_variable() {
        let found = combined("[{env: MY_KEY, source: 'env:K', hosts: [a.com]}, {env: KEY, source: 'env:L'}]", &[]);
        // The template's `key`, which it takes its hosts from.
        let named = |found: &[ResolvedCredential]| found.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
        let found = found.unwrap();
        assert_eq!(
            (named(&found), found[1].places[0].host.as_str()),
            (vec!["my-key".into(), "key".into()], "api.example.com")
        );
    }

    #[test]
    fn mistakes_say_what_is_missing() {
        for (bottle, env, words) in [
            ("[{name: x, env: X, hosts: [a.com]}]", &[][..], "no source"),
            ("[{name: x, source: 'env:X', hosts: [a.com]}]", &[], "it has no place"),
            ("[{name: x, source: 'env:X', env: X}]", &[], "names no `hosts`"),
            ("[{name: key, source: 'env:K'}]", &[("API_KEY", "${K}")], "is set by `env`"),
            ("[{name: key}]", &[("API_KEY", "literal")], "is a literal"),
            (
                "[{name: a, source: 'env:A', env: A, file: {path: ~/f, content: '{placeholder}'}, hosts: [a.com]}, \
                  {name: b, source: 'env:B', file: {path: ~/f, content: '{placeholder}'}, hosts: [a.com]}]",
                &[],
                "the file ~/f, too",
            ),
        ] {
            let error = combined(bottle, env).unwrap_err();
            assert!(error.contains(words), "{bottle}: {error}");
        }
    }

    #[test]
    fn a_credential_is_found_in_its_file() {
        let text = "bottles:\n  a:\n    credentials:\n      - name: key\n  b:\n    credentials:\n      - {name: \"key\", env: X}\n      - name: key2\n";
        let line = |bottle: &str, name: &str| {
            WrittenAt::find(Path::new("f"), text, bottle, name).map_or(0, |found| found.line)
        };
        assert_eq!((line("a", "key"), line("b", "key"), line("b", "key2"), line("a", "none")), (4, 7, 8, 0));
        // One that has its name from its variable.
        let text = "bottles:\n  a:\n    credentials:\n      - {hosts: [a.com], env: \"MY_KEY\"}\n";
        assert_eq!(WrittenAt::find(Path::new("f"), text, "a", "my-key").map(|found| found.line), Some(4));
    }

    #[test]
    fn a_key_of_a_bottle_is_found_in_its_file() {
        let text =
            "bottles:\n  a: {unbounds: 1, bounds: best-effort}\n  b:\n    out_of_bounds: 1\n    bounds: required\n";
        let line = |bottle: &str, key: &str| {
            WrittenAt::find_key(Path::new("f"), text, bottle, key).map_or(0, |found| found.line)
        };
        assert_eq!((line("a", "bounds"), line("b", "bounds"), line("a", "none")), (2, 5, 0));
    }
}
