//! The credentials of a launch: reads their sources, and says in the summary who gets which.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Arc;

use crate::cli::failure::input;
use crate::cli::terminal::read_secret;
use crate::credential::{Source, value};
use crate::holder::{Drafts, Sources};
use crate::plan::{CredentialPlan, Planned, RoutePlan};
use crate::session::{Class, Failure};

/// This host's variables, for commands of sources.
pub(in crate::cli) fn host_sources() -> Sources {
    let texts =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Sources::new(texts.collect())
}

/// Reads the values that are not known yet: asks for them, or runs the commands of their sources.
///
/// # Errors
/// One has no value: which credential, from where, why, and what to do.
pub(in crate::cli) async fn resolve(planned: &mut Planned) -> Result<(), Failure> {
    let sources = Arc::new(host_sources());
    for credential in &planned.plan.credentials {
        let Some(source) = credential.source.clone().filter(|_| !planned.credentials.contains_key(&credential.name))
        else {
            continue;
        };
        planned.credentials.insert(credential.name.clone(), read(credential, source, &sources).await?);
    }
    Ok(())
}

/// The value of a credential: asks for it, or runs the command of its source.
///
/// # Errors
/// It has none: which credential, from where, why, and what to do.
pub(in crate::cli) async fn read(
    credential: &CredentialPlan,
    source: Source,
    sources: &Arc<Sources>,
) -> Result<String, Failure> {
    if let Source::Prompt(question) = &source {
        return asked(credential, question).await;
    }
    let (sources, wanted) = (sources.clone(), source.clone());
    let read = crate::task::blocking(move || sources.read(&wanted)).await;
    let read = read.map_err(|error| Failure::new(Class::Internal, format!("read credentials: {error}")))?;
    read.map_err(|why| {
        let name = &credential.name;
        input(format!("credential {name} from {source}: {why}")).hint(why.hint(&source))
    })
}

async fn asked(credential: &CredentialPlan, question: &str) -> Result<String, Failure> {
    let name = credential.env.as_ref().unwrap_or(&credential.name);
    if !std::io::stdin().is_terminal() {
        return Err(input(format!(
            "credential {}: {name} must be asked for, and there is no terminal",
            credential.name
        ))
        .hint(format!("give it another source, as in env:{}", credential.env.as_deref().unwrap_or("NAME"))));
    }
    let typed = read_secret(&format!("{name}: {question}")).await?;
    value(&typed).map_err(|why| input(format!("credential {}: what was typed: {why}", credential.name)))
}

/// Whether the holder may have to run commands of sources itself, for bottles inside the one that is launched.
pub(in crate::cli) fn reads_later(drafts: &Drafts) -> bool {
    let later =
        |credential: &CredentialPlan| credential.source.as_ref().is_some_and(|source| source.command().is_some());
    drafts.0.values().flatten().any(|draft| draft.plan.credentials.iter().any(later))
}

/// The lines of the summary, each with its label.
pub(in crate::cli) fn lines(planned: &Planned) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    for credential in &planned.plan.credentials {
        let source = credential.source.as_ref().map_or("the manifest's env".to_owned(), ToString::to_string);
        let held: Vec<&str> =
            credential.env.iter().map(String::as_str).chain(credential.file.iter().map(|file| &*file.path)).collect();
        let agent = match &held[..] {
            [] => "the agent has no placeholder; routes of cred_proxy use it".to_owned(),
            held => format!("the agent has a placeholder in {}", held.join(" and ")),
        };
        lines.push(("credential", format!("{}, from {source}; {agent}", credential.name)));
        for (host, slots) in slots(credential) {
            lines.push(("", format!("  goes only to {host}, as {slots}")));
        }
        lines.extend(credential.limits.map(|limits| ("", format!("  requests: {limits}"))));
    }
    lines
        .extend(planned.plan.limits.map(|limits| ("limits", format!("requests with credentials, together: {limits}"))));
    let routes = planned.plan.cred_proxy.iter().flat_map(|plan| &plan.routes);
    lines.extend(routes.map(|plan| ("route", route(plan))));
    lines
}

fn route(route: &RoutePlan) -> String {
    let only = if route.methods.is_empty() { String::new() } else { format!(", {} only", route.methods.join(", ")) };
    let role = route.role.map(|role| format!("; the agent uses it by {}", role.word())).unwrap_or_default();
    format!("{}/ leads to {} with {}{only}{role}", route.url(), route.upstream(), route.credential)
}

/// Hosts with their slots and conditions.
fn slots(credential: &CredentialPlan) -> BTreeMap<&str, String> {
    let mut hosts: BTreeMap<&str, String> = BTreeMap::new();
    for place in &credential.places {
        let mut text = place.slot.to_string();
        if !place.methods.is_empty() {
            text = format!("{text} of {}", place.methods.join(", "));
        }
        if !place.paths.is_empty() {
            text = format!("{text} at {}", place.paths.join(", "));
        }
        let known = hosts.entry(&place.host).or_default();
        *known = if known.is_empty() { text } else { format!("{known}, {text}") };
    }
    hosts
}

/// What is said where an agent's program gets no key.
pub(in crate::cli) fn no_key(unset: &[String], template: &str, has_manifest: bool) -> Option<(String, String)> {
    let first = unset.first()?;
    let names = unset.join(", ");
    let is_set = std::env::var_os(first).is_some();
    let set = if is_set { String::new() } else { format!("export {first}=…; ") };
    let remedy = if has_manifest {
        format!("{set}in its bottle, `env: {{{first}: \"${{{first}}}\"}}`, or `credentials`")
    } else {
        format!("{set}bottler init")
    };
    Some((format!("{template} reads {names}; nothing sets one, and it will ask for a login"), remedy))
}
