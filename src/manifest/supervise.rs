//! `supervise` as users write it: `true`, or a table.

use std::time::Duration;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize, de};
use url::Url;

/// The deadline of `on_request: wait` where none is written.
const DEADLINE: Duration = Duration::from_mins(10);
/// The longest deadline.
const MAX_DEADLINE: Duration = Duration::from_hours(24 * 7);

/// Whether and how the agent asks its operator.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[serde(untagged)]
pub enum SuperviseSection {
    /// Whether it asks.
    Switch(bool),
    /// How it asks.
    Table(SuperviseTable),
}

/// How the agent asks its operator.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SuperviseTable {
    /// What happens to a request: `ask` until somebody decides (the default), `wait` until a deadline, or `reject` it at once.
    #[serde(default)]
    pub on_request: OnRequest,
    /// With `on_request: wait`: how long, as in `10m`, which is the default.
    pub deadline: Option<String>,
    /// A command of this host that is run for each request. It is told the bottle, the request's id and its kind in
    /// `BOTTLER_BOTTLE`, `BOTTLER_REQUEST` and `BOTTLER_KIND`, and nothing that the agent wrote.
    #[serde(default)]
    pub notify: Vec<String>,
    /// A web service that is told of each request: an `https://` or `http://` URL, which gets a POST with `bottle`, `id` and `kind` as
    /// JSON, and nothing that the agent wrote. A redirect is not followed.
    pub webhook: Option<String>,
}

/// What happens to a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnRequest {
    /// It waits for the operator.
    #[default]
    Ask,
    /// It waits for the operator, until a deadline.
    Wait,
    /// It is rejected at once: nobody is there.
    Reject,
}

impl<'de> Deserialize<'de> for SuperviseSection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = SuperviseSection;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("true, false, or a table with on_request, deadline, notify and webhook")
            }

            fn visit_bool<E: de::Error>(self, on: bool) -> Result<SuperviseSection, E> {
                Ok(SuperviseSection::Switch(on))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<SuperviseSection, A::Error> {
                let table = SuperviseTable::deserialize(MapAccessDeserializer::new(map))?;
                table.deadline().map_err(de::Error::custom)?;
                table.webhook.as_deref().map_or(Ok(()), check_webhook).map_err(de::Error::custom)?;
                Ok(SuperviseSection::Table(table))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl SuperviseSection {
    /// The table, if the agent asks.
    pub fn table(&self) -> Option<SuperviseTable> {
        match self {
            Self::Switch(false) => None,
            Self::Switch(true) => Some(SuperviseTable::default()),
            Self::Table(table) => Some(table.clone()),
        }
    }
}

impl SuperviseTable {
    /// The time after which a request is rejected; none if it waits for ever.
    ///
    /// # Errors
    /// It is malformed, out of bounds, or would have no effect.
    pub fn deadline(&self) -> Result<Option<Duration>, String> {
        match (self.on_request, &self.deadline) {
            (OnRequest::Wait, None) => Ok(Some(DEADLINE)),
            (OnRequest::Wait, Some(text)) => {
                let time = humantime::parse_duration(text)
                    .map_err(|error| format!("supervise: deadline: {text:?}: {error}"))?;
                if (Duration::from_secs(1)..=MAX_DEADLINE).contains(&time) {
                    Ok(Some(time))
                } else {
                    Err(format!("supervise: deadline: {text:?}: from a second to a week"))
                }
            }
            (_, None) => Ok(None),
            (_, Some(_)) => Err("supervise: deadline has an effect only with `on_request: wait`".to_owned()),
        }
    }
}

/// Checks the URL of a web service. Errors do not repeat it: it may hold a key.
fn check_webhook(text: &str) -> Result<(), String> {
    let bad = |why: &str| Err(format!("supervise: webhook: {why}"));
    let Ok(url) = Url::parse(text) else { return bad("it is not a URL") };
    match url.scheme() {
        "https" | "http" if url.host_str().is_none_or(str::is_empty) => bad("the URL has no host"),
        "https" | "http" if !url.username().is_empty() || url.password().is_some() => {
            bad("the URL has a user or a password, which would not be sent")
        }
        "https" | "http" if url.fragment().is_some() => bad("the URL has a fragment, which would not be sent"),
        "https" | "http" => Ok(()),
        _ => bad("the URL begins with https:// or http://"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<Option<SuperviseTable>, String> {
        serde_yaml::from_str::<SuperviseSection>(yaml).map(|section| section.table()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_switch_or_a_table_and_nothing_without_effect() {
        assert_eq!(read("false"), Ok(None));
        assert_eq!(read("true").unwrap().unwrap().deadline(), Ok(None));
        assert_eq!(read("{on_request: wait}").unwrap().unwrap().deadline(), Ok(Some(DEADLINE)));
        assert_eq!(
            read("{on_request: wait, deadline: 90s}").unwrap().unwrap().deadline(),
            Ok(Some(Duration::from_secs(90)))
        );
        let hooked = read("{webhook: 'https://hooks.example.com/a?b=c'}").unwrap().unwrap();
        assert_eq!(hooked.webhook.as_deref(), Some("https://hooks.example.com/a?b=c"));
        for (bad, words) in [
            ("{webhook: 'hooks.example.com/key'}", "not a URL"),
            ("{webhook: 'file:///etc/passwd'}", "begins with https"),
            ("{webhook: 'https://me:key@hooks.example.com'}", "a user or a password"),
            ("{webhook: 'https://hooks.example.com/#key'}", "a fragment"),
            ("{deadline: 90s}", "only with `on_request: wait`"),
            ("{on_request: reject, deadline: 90s}", "only with"),
            ("{on_request: wait, deadline: 0s}", "from a second"),
            ("{on_request: wait, deadline: soon}", "soon"),
            ("{on_request: allow}", "allow"),
            ("{notify: ring}", "notify"),
            ("{ask: true}", "ask"),
            ("yes please", "true, false"),
        ] {
            let why = read(bad).unwrap_err();
            assert!(why.contains(words) && !why.contains("key"), "{bad}: {why}");
        }
    }
}
