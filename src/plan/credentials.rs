//! The credentials of a plan: who may get which, where the agent finds its placeholder, and what is known of a value by now. A plan
//! never has a value: scripts, `inspect` and the bottle's directory show it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Facts;
use super::command::at_home;
use crate::credential::{Limits, Place, Shape, Slot, Source};
use crate::manifest::{CredentialFile, Origin, Problem, ResolvedAgent, ResolvedCredential, Value, ValuePart};
use crate::policy::{EgressSpec, GitEntry, Reach, Rule};

/// A credential that the agent has a placeholder of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialPlan {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Where its value comes from; absent where the manifest's `env` or an `env_file` has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub source: Option<Source>,
    /// What its placeholder looks like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub shape: Option<Shape>,
    /// The agent's variable that holds the placeholder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// The agent's file that holds the placeholder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<CredentialFile>,
    /// The only hosts that its value may go to.
    pub hosts: Vec<String>,
    /// The same with the slot at each host, and the only requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<Place>,
    /// How many requests may use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
}

/// A credential and what is known of its value.
#[derive(Debug, Clone)]
pub struct Declared {
    /// The credential.
    pub plan: CredentialPlan,
    /// Its value, or why there is none; `None` if the source is to be read at the launch.
    pub value: Option<Result<String, Refused>>,
}

/// Why there is no value, and what to do.
pub type Refused = (String, String);

/// The credentials of an agent.
pub fn declared(chosen: &ResolvedAgent, facts: &Facts) -> Vec<Declared> {
    chosen.credentials.iter().map(|credential| one(credential, facts)).collect()
}

fn one(credential: &ResolvedCredential, facts: &Facts) -> Declared {
    let variable = |name: &String| {
        facts.env.get(name).cloned().ok_or_else(|| {
            (format!("{name} is not set on this host"), format!("export {name}=…, or give it another source"))
        })
    };
    let (source, value) = match &credential.origin {
        Origin::Source(Source::Env(name)) => (Some(Source::Env(name.clone())), Some(variable(name))),
        Origin::Source(source) => (Some(source.clone()), None),
        Origin::EnvFile(value) => (None, Some(Ok(value.clone()))),
        Origin::Env(Value::Ask(question)) => (Some(Source::Prompt(question.clone())), None),
        Origin::Env(Value::Literal(text)) => (None, Some(Ok(text.clone()))),
        Origin::Env(Value::Host(parts)) => match &parts[..] {
            [ValuePart::Variable(name)] => (Some(Source::Env(name.clone())), Some(variable(name))),
            parts => {
                let texts = parts.iter().map(|part| match part {
                    ValuePart::Text(text) => Ok(text.clone()),
                    ValuePart::Variable(name) => variable(name),
                });
                (None, Some(texts.collect()))
            }
        },
    };
    let value = value.map(|value| value.and_then(|value| checked(&value)));
    let mut hosts: Vec<String> = Vec::new();
    for place in &credential.places {
        if !hosts.contains(&place.host) {
            hosts.push(place.host.clone());
        }
    }
    let file = credential.file.clone().map(|file| CredentialFile { path: at_home(&file.path), ..file });
    Declared {
        plan: CredentialPlan {
            name: credential.name.clone(),
            source,
            shape: Some(credential.shape.clone()),
            env: credential.env.clone(),
            file,
            hosts,
            places: credential.places.clone(),
            limits: credential.limits,
        },
        value,
    }
}

/// A value as a request can hold it: without the newline at its end.
fn checked(text: &str) -> Result<String, Refused> {
    crate::credential::value(text).map_err(|error| {
        (
            error.to_string(),
            "a value is one line of text; a server that takes any needs none: write a literal".to_owned(),
        )
    })
}

/// What is planned of credentials.
pub(super) struct Credentials {
    pub(super) plans: Vec<CredentialPlan>,
    /// The values that are known by now, by name.
    pub(super) values: BTreeMap<String, String>,
}

/// Plans the credentials. `egress` is what the agent may reach.
///
/// # Errors
/// A value is not there, or a host is not on the allowlist, where egress could put it in.
pub(super) fn credentials(chosen: &ResolvedAgent, egress: &EgressSpec, facts: &Facts) -> Result<Credentials, Problem> {
    let mut credentials = Credentials { plans: Vec::new(), values: BTreeMap::new() };
    for (Declared { plan, value }, written) in declared(chosen, facts).into_iter().zip(&chosen.credentials) {
        let problem = |why: String, hint: String| {
            let from = plan.source.as_ref().map(|source| format!(" from {source}")).unwrap_or_default();
            let why = format!("agent {}: credential {}{from}: {why}", chosen.name, plan.name);
            let at = match &written.at {
                Some(at) => at.problem(why),
                None => Problem::of(chosen.file.as_ref().map_or(String::new(), |f| f.display().to_string()), why),
            };
            at.hint(hint)
        };
        for place in &plan.places {
            let host = &place.host;
            match egress.reach(host) {
                Ok(Reach::Inspected) => {}
                Ok(Reach::Not) if is_of_gate(egress, host) => {}
                Ok(Reach::Not) => {
                    let why = format!("{host} is not on the allowlist, so the value would go nowhere");
                    return Err(problem(why, format!("add it to the bottle's egress.allow, or --allow {host}")));
                }
                Ok(Reach::Tunnel) => {
                    let why = format!("{host} is a tunnel, into which nothing can be put");
                    return Err(problem(why, "tls: intercept".to_owned()));
                }
                Err(error) => {
                    return Err(problem(format!("hosts: {error}"), "a host, or \"*.\" and a host".to_owned()));
                }
            }
        }
        match value {
            Some(Ok(value)) => drop(credentials.values.insert(plan.name.clone(), value)),
            Some(Err((why, hint))) => return Err(problem(why, hint)),
            None => {}
        }
        credentials.plans.push(plan);
    }
    if let (Some(_), []) = (chosen.bottle.limits, &credentials.plans[..]) {
        let why =
            format!("agent {}: limits: its bottle has no credential, so that nothing would be counted", chosen.name);
        let problem = match &chosen.limits_at {
            Some(at) => at.problem(why),
            None => Problem::of(chosen.file.as_ref().map_or(String::new(), |file| file.display().to_string()), why),
        };
        return Err(problem.hint("leave it out, or give the bottle `credentials`"));
    }
    Ok(credentials)
}

/// The first fitting slot of a credential in requests to a place, `host` or `host:port`; `None` if it has none there.
///
/// # Errors
/// There is no such credential, or the place is malformed.
pub(super) fn slot_at<'a>(
    credentials: &'a [CredentialPlan],
    name: &str,
    place: &str,
    fits: impl Fn(&Slot) -> bool,
) -> Result<Option<&'a Slot>, Refused> {
    let credential = credentials.iter().find(|credential| credential.name == name).ok_or_else(|| {
        (format!("there is no credential {name}"), "declare it in the bottle's `credentials`".to_owned())
    })?;
    let own: Rule = place.parse().map_err(|error| (format!("{error}"), "a host name".to_owned()))?;
    let is_for = |rule: &str| rule.parse::<Rule>().is_ok_and(|rule| rule.covers(&own));
    let mut slots = credential.places.iter().filter(|place| is_for(&place.host)).map(|place| &place.slot);
    Ok(slots.find(|slot| fits(slot)))
}

/// Whether the git gate reaches a host over HTTPS, although the agent may not.
fn is_of_gate(egress: &EgressSpec, host: &str) -> bool {
    let Ok(rule) = host.parse::<Rule>() else { return false };
    let entries = egress.git_entries().unwrap_or_default();
    entries.iter().filter_map(GitEntry::https).any(|(host, port)| rule.has_host(host) && rule.has_port(port))
}

/// The variables that the agent's program reads a key from, where it gets none; empty where it does, or needs none.
pub fn unset(chosen: &ResolvedAgent, own_command: bool) -> Vec<String> {
    let declared = &chosen.template.credentials;
    let has = |variable: &String| {
        let held = chosen.credentials.iter().any(|credential| credential.env.as_ref() == Some(variable));
        held || chosen.env.contains_key(variable)
    };
    let named = |name: &String| chosen.credentials.iter().any(|credential| credential.name == *name);
    if own_command || declared.iter().any(|one| named(&one.name) || one.env.as_ref().is_some_and(has)) {
        return Vec::new();
    }
    declared.iter().filter_map(|one| one.env.clone()).collect()
}
