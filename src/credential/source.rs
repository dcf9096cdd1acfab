//! Sources of credentials as data: what a manifest says, and the command that a source stands for. Nothing is read here.
//!
//! A source is a text such as `env:NAME`, or `{command: [..]}`. The password managers are sugar for a command; names in them cannot
//! be options of it. An error does not repeat the text: somebody may have written the value itself.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Most words of a command.
const MAX_WORDS: usize = 64;

/// Where the value of a credential comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// `env:NAME`: a variable of this host.
    Env(String),
    /// `file:PATH`: a file of this host.
    File(PathBuf),
    /// `{command: [..]}`: what a command writes to its standard output.
    Command(Vec<String>),
    /// `op://VAULT/ITEM/FIELD`, also `op:op://…`: an item of 1Password (`op read`).
    Op(String),
    /// `pass:NAME`: the first line of an entry of the password store (`pass show`), which by its convention is the password.
    Pass(String),
    /// `keyring:SERVICE/USER`: an item of the desktop's keyring (`secret-tool lookup`).
    Keyring {
        /// The attribute `service`.
        service: String,
        /// The attribute `username`.
        user: String,
    },
    /// `vault:PATH#FIELD`: a field of a secret in the key-value store of `HashiCorp` Vault (`vault kv get`).
    Vault {
        /// The path, with the mount.
        path: String,
        /// The field.
        field: String,
    },
    /// `prompt:QUESTION`: asked for at the terminal at every launch, without echo.
    Prompt(String),
}

/// Why a text is no source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// None of the words, or none at all.
    #[error(
        "that is not a source: env:NAME, file:PATH, op://VAULT/ITEM/FIELD, pass:NAME, keyring:SERVICE/USER, \
         vault:PATH#FIELD, prompt:QUESTION, or {{command: [..]}}"
    )]
    Unknown,
    /// A word with something malformed behind it.
    #[error("source {0}: {1}")]
    Name(&'static str, &'static str),
}

impl Source {
    /// The command that the source stands for, if it is one.
    pub fn command(&self) -> Option<Vec<String>> {
        let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
        match self {
            Self::Command(words) => Some(words.clone()),
            Self::Op(reference) => words(&["op", "read", "--no-newline", reference]),
            Self::Pass(name) => words(&["pass", "show", name]),
            Self::Keyring { service, user } => words(&["secret-tool", "lookup", "service", service, "username", user]),
            Self::Vault { path, field } => words(&["vault", "kv", "get", &format!("-field={field}"), path]),
            Self::Env(_) | Self::File(_) | Self::Prompt(_) => None,
        }
    }

    /// Whether only the first line of what the command writes is the value.
    pub fn is_first_line(&self) -> bool {
        matches!(self, Self::Pass(_))
    }

    /// The same, with a relative path of a file below a folder.
    #[must_use]
    pub fn map_path(self, map: impl FnOnce(&Path) -> PathBuf) -> Self {
        match self {
            Self::File(path) => Self::File(map(&path)),
            other => other,
        }
    }

    fn of_command(words: Vec<String>) -> Result<Self, SourceError> {
        let bad = |why| Err(SourceError::Name("command", why));
        match words.first() {
            None => bad("it is empty; it is the program and its arguments, as in [pass, show, name]"),
            Some(program) if program.is_empty() => bad("the program has no name"),
            _ if words.len() > MAX_WORDS => bad("it has more than 64 words"),
            _ if words.iter().any(|word| word.contains('\0')) => bad("a word has a NUL in it"),
            _ => Ok(Self::Command(words)),
        }
    }
}

/// A name that is an argument of a command.
fn argument(kind: &'static str, name: &str) -> Result<String, SourceError> {
    if name.is_empty() {
        return Err(SourceError::Name(kind, "name the entry"));
    }
    if name.starts_with('-') {
        return Err(SourceError::Name(kind, "a name that begins with a hyphen would be an option of the command"));
    }
    if name.contains(char::is_control) {
        return Err(SourceError::Name(kind, "a name has no control characters"));
    }
    Ok(name.to_owned())
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let (kind, rest) = text.split_once(':').ok_or(SourceError::Unknown)?;
        match kind {
            "env" => {
                let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let is_name = !rest.is_empty() && !rest.starts_with(|c: char| c.is_ascii_digit());
                if !is_name || !rest.chars().all(word) {
                    return Err(SourceError::Name("env", "that is not a valid variable name"));
                }
                Ok(Self::Env(rest.to_owned()))
            }
            "file" if rest.is_empty() || rest.contains('\0') => Err(SourceError::Name("file", "name the file")),
            "file" => Ok(Self::File(rest.into())),
            "op" => {
                let reference = if rest.starts_with("//") { text } else { rest };
                let parts = reference.strip_prefix("op://").map(|path| path.split('/').filter(|part| !part.is_empty()));
                if parts.is_none_or(|parts| parts.count() < 3) {
                    return Err(SourceError::Name("op", "a reference is op://VAULT/ITEM/FIELD"));
                }
                Ok(Self::Op(argument("op", reference)?))
            }
            "pass" => Ok(Self::Pass(argument("pass", rest)?)),
            "keyring" => {
                let (service, user) = rest
                    .rsplit_once('/')
                    .ok_or(SourceError::Name("keyring", "a service and a user, as in keyring:github.com/me"))?;
                Ok(Self::Keyring { service: argument("keyring", service)?, user: argument("keyring", user)? })
            }
            "vault" => {
                let (path, field) = rest
                    .rsplit_once('#')
                    .ok_or(SourceError::Name("vault", "a path and a field, as in vault:secret/anthropic#key"))?;
                Ok(Self::Vault { path: argument("vault", path)?, field: argument("vault", field)? })
            }
            "prompt" => {
                let question = rest.trim();
                Ok(Self::Prompt(if question.is_empty() { "its value".to_owned() } else { question.to_owned() }))
            }
            _ => Err(SourceError::Unknown),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            // Arguments may hold what is not for every reader of a message.
            Self::Command(words) => write!(f, "command {}", words.first().map_or("", String::as_str)),
            Self::Op(reference) => f.write_str(reference),
            Self::Pass(name) => write!(f, "pass:{name}"),
            Self::Keyring { service, user } => write!(f, "keyring:{service}/{user}"),
            Self::Vault { path, field } => write!(f, "vault:{path}#{field}"),
            Self::Prompt(question) => write!(f, "prompt:{question}"),
        }
    }
}

/// A command in a table.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CommandTable {
    command: Vec<String>,
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Command(words) => CommandTable { command: words.clone() }.serialize(to),
            other => to.collect_str(other),
        }
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Source;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a source, as in env:NAME, or {command: [..]}")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Source, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Source, A::Error> {
                let table = CommandTable::deserialize(MapAccessDeserializer::new(map))?;
                Source::of_command(table.command).map_err(de::Error::custom)
            }
        }
        from.deserialize_any(Visitor)
    }
}

impl JsonSchema for Source {
    fn schema_name() -> Cow<'static, str> {
        "Source".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Where a value comes from: `env:NAME`, `file:PATH`, `op://VAULT/ITEM/FIELD`, `pass:NAME`, \
                `keyring:SERVICE/USER`, `vault:PATH#FIELD`, `prompt:QUESTION`, or `{command: [..]}`.",
            "anyOf": [
                { "type": "string", "pattern": "^(env|file|op|pass|keyring|vault|prompt):" },
                {
                    "type": "object",
                    "properties": { "command": { "type": "array", "items": { "type": "string" }, "minItems": 1 } },
                    "required": ["command"],
                    "additionalProperties": false
                }
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_written_and_stand_for_commands() {
        for (text, command) in [
            ("env:MY_KEY", ""),
            ("file:/etc/key", ""),
            ("prompt:Paste the key", ""),
            ("op://Private/Anthropic API/credential", "op read --no-newline op://Private/Anthropic API/credential"),
            ("pass:ai/anthropic", "pass show ai/anthropic"),
            ("keyring:https://api.example.com/me", "secret-tool lookup service https://api.example.com username me"),
            ("vault:secret/ai#key", "vault kv get -field=key secret/ai"),
        ] {
            let source: Source = text.parse().unwrap();
            assert_eq!(source.to_string(), text);
            assert_eq!(source.command().unwrap_or_default().join(" "), command);
            let json = serde_json::to_string(&source).unwrap();
            assert_eq!(serde_json::from_str::<Source>(&json).unwrap(), source);
        }
        assert_eq!("op:op://a/b/c".parse::<Source>(), "op://a/b/c".parse());
        let command: Source = serde_yaml::from_str("{command: [gh, auth, token]}").unwrap();
        assert_eq!(command, Source::Command(["gh", "auth", "token"].map(str::to_owned).into()));
        assert_eq!(serde_json::to_string(&command).unwrap(), r#"{"command":["gh","auth","token"]}"#);
    }

    #[test]
    fn what_is_no_source_is_refused_and_not_repeated() {
        for text in [
            "hunter2hunter2",
            "sk-ant:hunter2",
            "env:",
            "env:1A",
            "env:A B",
            "file:",
            "op:Private/hunter2",
            "op://a/b",
            "pass:",
            "pass:--hunter2",
            "keyring:hunter2",
            "keyring:-a/b",
            "vault:hunter2",
            "vault:-a#b",
            "vault:a#",
            "",
        ] {
            let error = text.parse::<Source>().unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{text}: {error}");
        }
        for yaml in ["{command: []}", "{command: ['']}", "{comand: [a]}", "5", "[a]"] {
            assert!(serde_yaml::from_str::<Source>(yaml).is_err(), "{yaml}");
        }
    }
}
