//! Credentials as users write them, in bottles and templates. A template declares what its program reads; a bottle gives it a source,
//! or declares credentials of its own. The agent gets placeholders; egress puts the values in, at these hosts and in these slots.

use std::collections::BTreeSet;
use std::fmt;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::env::is_name;
use crate::credential::{Limits, Place, Shape, Slot, Source, placeholder};
use crate::policy::{AllowSpec, AllowTable};

/// The word in a file's content that the placeholder replaces.
pub const PLACEHOLDER: &str = "{placeholder}";
/// Most credentials of one bottle or template.
const MAX_CREDENTIALS: usize = 64;
/// Longest name, in bytes: it stands in every audit event of its use.
const MAX_NAME: usize = 64;

/// A credential. The agent has a placeholder; its value is put in by egress, at the declared hosts only.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialSection {
    /// Its name, in messages and in the audit log; that of its variable by default, as `my-key` of `MY_KEY`. A bottle's credential
    /// takes what it does not say from the template's one of the same name.
    #[serde(default)]
    pub name: String,
    /// Where its value comes from: `env:NAME`, `file:PATH`, `op://VAULT/ITEM/FIELD`, `pass:NAME`, `keyring:SERVICE/USER`,
    /// `vault:PATH#FIELD`, `prompt:QUESTION`, or `{command: [..]}`. Templates usually have none: then the variable of `env`, in the
    /// bottle's `env` or `env_file`, is the source.
    pub source: Option<Source>,
    /// What the placeholder looks like: the provider's form, for programs that check it, such as `anthropic`, `openai`, `github` or
    /// `google`; or `{prefix, length}`. `opaque`, 40 letters and digits, by default.
    pub shape: Option<ShapeSection>,
    /// The agent's variable that holds the placeholder.
    pub env: Option<String>,
    /// The agent's file that holds the placeholder.
    pub file: Option<CredentialFile>,
    /// Where the value may go: hosts that the allowlist has.
    #[serde(default)]
    pub hosts: Vec<PlaceSection>,
    /// How many requests may use it; any number by default.
    pub limits: Option<Limits>,
}

/// The name of a credential that has none of its own, from its variable: as the built-in templates name theirs.
pub(super) fn name_of_variable(variable: &str) -> String {
    variable.trim_matches('_').to_ascii_lowercase().replace('_', "-")
}

/// The name of a credential as it is written in YAML.
pub(super) fn written_name(entry: &serde_yaml::Value) -> Option<String> {
    let text = |key: &str| entry.get(key).and_then(serde_yaml::Value::as_str);
    text("name").map(str::to_owned).or_else(|| text("env").map(name_of_variable))
}

/// A file of the agent with a placeholder in it. Its owner is the agent, and nobody else may read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialFile {
    /// Where: absolute, or `~/…` below the agent's home.
    pub path: String,
    /// What is in it; `{placeholder}` becomes the placeholder.
    pub content: String,
}

/// What a placeholder looks like: a provider's name, or `{prefix, length}`.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(with = "ShapeForm")]
pub struct ShapeSection(pub Shape);

/// As it is written, for the schema.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum ShapeForm {
    /// `opaque`, or the name of a provider's form.
    Name(String),
    /// Letters and digits.
    Opaque(OpaqueTable),
}

/// A placeholder of letters and digits.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OpaqueTable {
    /// What it begins with.
    #[serde(default)]
    prefix: String,
    /// The length of the whole, in bytes.
    length: usize,
}

impl ShapeSection {
    /// 40 letters and digits.
    pub(super) fn opaque() -> Self {
        Self(Shape::default())
    }
}

impl<'de> Deserialize<'de> for ShapeSection {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = ShapeSection;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a shape, or a table with a length")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ShapeSection, E> {
                match text {
                    "opaque" => Ok(ShapeSection::opaque()),
                    _ => Shape::deserialize(de::value::StrDeserializer::new(text)).map(ShapeSection),
                }
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<ShapeSection, A::Error> {
                let OpaqueTable { prefix, length } = OpaqueTable::deserialize(MapAccessDeserializer::new(map))?;
                let shape = Shape::Opaque { prefix, length };
                // What cannot be made is said here, with its line.
                placeholder(&shape, [0; 32]).map_err(de::Error::custom)?;
                Ok(ShapeSection(shape))
            }
        }
        from.deserialize_any(Visitor)
    }
}

/// The slots that a provider's API reads its credential from, and its clients put it into. Anthropic's newest SDKs send a key as
/// `Bearer` (2.14 for Python, 1.10 for Node), the programs of others in `x-api-key`; `gh` sends `token`, GitHub's documentation
/// has `Bearer`.
pub(super) fn usual_slots(shape: &Shape) -> Vec<Slot> {
    let header = |name: &str| Slot::Header(name.to_owned());
    match shape {
        Shape::Anthropic => vec![header("x-api-key"), Slot::Bearer],
        Shape::Google => vec![header("x-goog-api-key"), Slot::Query("key".to_owned())],
        Shape::Gitlab => vec![header("private-token"), Slot::Bearer],
        Shape::Github | Shape::GithubFineGrained => vec![Slot::Bearer, Slot::Token],
        Shape::AwsKeyId => vec![Slot::AwsKeyId],
        Shape::AwsSecret => vec![Slot::AwsSecret],
        _ => vec![Slot::Bearer],
    }
}

/// A host that a credential may go to: alone, or with its slot.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(untagged)]
pub enum PlaceSection {
    /// A host, as in `egress.allow`; the slots are the usual ones of the shape.
    Host(String),
    /// A host with a slot and conditions.
    Table(PlaceTable),
}

/// A host, the slot of the credential in requests to it, and the only requests that get it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaceTable {
    /// The host, as in `egress.allow`.
    pub host: String,
    /// `bearer`, `token`, `basic:USER`, `header:NAME`, `query:NAME`, `path`, `websocket`, `aws-key-id` or `aws-secret`; the
    /// usual ones of the shape by default.
    pub slot: Option<Slot>,
    /// The only methods; all by default.
    #[serde(default)]
    pub methods: Vec<String>,
    /// The only paths, with `*` and `**`; all by default.
    #[serde(default)]
    pub paths: Vec<String>,
}

impl<'de> Deserialize<'de> for PlaceSection {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = PlaceSection;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a host, or a table with a host")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<PlaceSection, E> {
                Ok(PlaceSection::Host(text.to_owned()))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<PlaceSection, A::Error> {
                PlaceTable::deserialize(MapAccessDeserializer::new(map)).map(PlaceSection::Table)
            }
        }
        from.deserialize_any(Visitor)
    }
}

impl PlaceSection {
    /// The place; one for each usual slot where it names none.
    pub(super) fn places(&self, usual: &[Slot]) -> Vec<Place> {
        let (methods, paths) = self.conditions();
        let place = |slot: &Slot| Place {
            host: self.host().to_owned(),
            slot: slot.clone(),
            methods: methods.to_vec(),
            paths: paths.to_vec(),
        };
        self.slot().map_or(usual, std::slice::from_ref).iter().map(place).collect()
    }

    /// The only methods, and the only paths.
    fn conditions(&self) -> (&[String], &[String]) {
        match self {
            Self::Host(_) => (&[], &[]),
            Self::Table(table) => (&table.methods, &table.paths),
        }
    }

    /// The host.
    pub fn host(&self) -> &str {
        match self {
            Self::Host(host) => host,
            Self::Table(table) => &table.host,
        }
    }

    /// The slot, if it names one.
    pub(super) fn slot(&self) -> Option<&Slot> {
        match self {
            Self::Host(_) => None,
            Self::Table(table) => table.slot.as_ref(),
        }
    }

    /// The same with each of these slots, if it names none and there are some.
    pub(super) fn with_slots(&self, slots: &[Slot]) -> Vec<Self> {
        if self.slot().is_some() || slots.is_empty() {
            return vec![self.clone()];
        }
        let table = |Place { host, slot, methods, paths }| PlaceTable { host, slot: Some(slot), methods, paths };
        self.places(slots).into_iter().map(table).map(Self::Table).collect()
    }

    fn check(&self) -> Result<(), String> {
        let ((methods, paths), host) = (self.conditions(), self.host().to_owned());
        // The same words mean the same as in the allowlist.
        let table = AllowTable { host, methods: methods.to_vec(), paths: paths.to_vec(), ..AllowTable::default() };
        AllowSpec::Table(table).read().map(drop).map_err(|error| format!("hosts: {error}"))
    }
}

impl CredentialSection {
    /// What is wrong with it by itself.
    fn check(&self) -> Result<(), String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let name = &self.name;
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(plain) {
            return Err(format!(
                "{name:?} is not a credential's name: letters, digits, '-', '_' and '.', at most {MAX_NAME}"
            ));
        }
        let bad = |why: String| Err(format!("credential {name}: {why}"));
        if let Some(env) = self.env.as_ref().filter(|env| !is_name(env)) {
            return bad(format!("env: {env:?} is not a valid variable name"));
        }
        if let Some(file) = &self.file {
            let below = file.path.strip_prefix("~/").or_else(|| file.path.strip_prefix('/'));
            if below.is_none_or(|below| below.split('/').any(|part| matches!(part, "" | "." | ".."))) {
                return bad(format!("file: {:?} is not an absolute path, nor one below ~/", file.path));
            }
            if !file.content.contains(PLACEHOLDER) {
                return bad(format!("file: its content has no {PLACEHOLDER}, so the agent would not find it"));
            }
        }
        self.hosts.iter().try_for_each(PlaceSection::check).or_else(bad)
    }
}

/// Credentials, each with a name and a variable of its own.
///
/// # Errors
/// They are no list, or one is malformed or there twice: at its place.
pub(super) fn list<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<CredentialSection>, D::Error> {
    struct Visitor;
    impl<'de> de::Visitor<'de> for Visitor {
        type Value = Vec<CredentialSection>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of credentials")
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let (mut known, mut found) = (BTreeSet::new(), Vec::new());
            while let Some(section) = entries.next_element_seed(Entry(&mut known))? {
                found.push(section);
            }
            Ok(found)
        }
    }
    from.deserialize_seq(Visitor)
}

/// An entry of the list, with the names and variables before it. It is checked while its table is read, so that a mistake has its
/// place.
struct Entry<'a>(&'a mut BTreeSet<(&'static str, String)>);

impl Entry<'_> {
    fn check(self, section: &CredentialSection) -> Result<(), String> {
        section.check()?;
        let CredentialSection { name, env, .. } = section;
        if !self.0.insert(("name", name.clone())) {
            return Err(format!("credential {name}: there are two of this name"));
        }
        if let Some(env) = env
            && !self.0.insert(("env", env.clone()))
        {
            return Err(format!("credential {name}: another one has the variable {env}, too"));
        }
        if self.0.iter().filter(|(what, _)| *what == "name").count() > MAX_CREDENTIALS {
            return Err(format!("credential {name}: there are {MAX_CREDENTIALS} at most"));
        }
        Ok(())
    }
}

impl<'de> de::DeserializeSeed<'de> for Entry<'_> {
    type Value = CredentialSection;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<CredentialSection, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> de::Visitor<'de> for Entry<'_> {
    type Value = CredentialSection;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table with a name")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<CredentialSection, A::Error> {
        let mut section = CredentialSection::deserialize(MapAccessDeserializer::new(map))?;
        if section.name.is_empty() {
            section.name = section.env.as_deref().map(name_of_variable).unwrap_or_default();
        }
        if section.name.is_empty() {
            return Err(de::Error::custom("a credential without a variable in `env` needs a `name`"));
        }
        self.check(&section).map_err(de::Error::custom)?;
        Ok(section)
    }
}
