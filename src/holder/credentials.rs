//! What a bottle holds of each of its credentials: the value, and a placeholder that is random for the bottle and the credential.
//!
//! A bottle inside another one has the outer one's placeholder where both have the same credential: what the agent outside has put
//! into a file or a message is right inside, too.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::sources::Sources;
use crate::credential::{Credential, Source, placeholder};
use crate::host::random_seed;
use crate::plan::{AgentTemplate, CredentialPlan};
use crate::policy::Credentials;
use crate::primitive::Renew;
use crate::session::{Class, Failure};

/// Longest values of one bottle together, in bytes: egress receives all of them in one line.
const MAX_BYTES: usize = 256 << 10;

/// The credentials of a plan with these values, by name.
pub(super) fn held(plans: &[CredentialPlan], values: &BTreeMap<String, String>) -> Result<Vec<Credential>, Failure> {
    let bytes: usize = values.values().map(String::len).sum();
    if bytes > MAX_BYTES {
        let why = format!("the values of its credentials are {bytes} bytes together, of at most {MAX_BYTES}");
        return Err(Failure::new(Class::Input, why));
    }
    let held = plans.iter().map(|plan| one(plan, values.get(&plan.name))).collect::<Result<Vec<_>, _>>()?;
    checked(held)
}

/// What egress would not take is refused before anything is made.
fn checked(held: Vec<Credential>) -> Result<Vec<Credential>, Failure> {
    Credentials::new(held.clone()).map_err(|error| Failure::new(Class::Input, error.to_string()))?;
    Ok(held)
}

fn one(plan: &CredentialPlan, value: Option<&String>) -> Result<Credential, Failure> {
    let failed = |class, why: String| Failure::new(class, format!("credential {}: {why}", plan.name));
    let value = value.ok_or_else(|| failed(Class::Internal, "it has no value".to_owned()))?;
    let seed = random_seed().map_err(|error| failed(Class::Internal, format!("make a placeholder: {error}")))?;
    let shape = plan.shape.clone().unwrap_or_default();
    let placeholder = placeholder(&shape, seed).map_err(|error| failed(Class::Input, error.to_string()))?;
    Ok(Credential { name: plan.name.clone(), placeholder, value: value.clone(), places: plan.places.clone() })
}

/// A bottle that another one is launched in.
#[derive(Clone, Copy)]
pub(super) struct Outer<'a> {
    pub(super) plans: &'a [CredentialPlan],
    pub(super) held: &'a [Credential],
}

impl Outer<'_> {
    /// The credentials that a built-in agent has inside, of which no manifest says anything: those of the outer one that its program
    /// reads.
    pub(super) fn of_template(self, template: &AgentTemplate) -> Vec<CredentialPlan> {
        let reads = |plan: &&CredentialPlan| template.credentials.iter().any(|declared| declared.name == plan.name);
        self.plans.iter().filter(reads).cloned().collect()
    }
}

/// The credentials of a bottle inside another one. Waits for the commands of sources.
pub(super) fn held_inside(
    outer: Outer<'_>,
    plans: &[CredentialPlan],
    values: &BTreeMap<String, String>,
    sources: &Sources,
) -> Result<Vec<Credential>, Failure> {
    let mut found = Vec::new();
    for plan in plans {
        let given = values.get(&plan.name);
        if let Some(same) = same(outer, plan, given) {
            found.push(Credential { places: plan.places.clone(), ..same.clone() });
            continue;
        }
        let read = match (given, &plan.source) {
            (None, Some(source)) => Some(read(sources, plan, source)?),
            _ => None,
        };
        found.push(one(plan, given.or(read.as_ref()))?);
    }
    checked(found)
}

/// The outer bottle's credential that is the same: of this name, from the same source or with the same value.
fn same<'a>(outer: Outer<'a>, plan: &CredentialPlan, given: Option<&String>) -> Option<&'a Credential> {
    let known = outer.plans.iter().find(|known| known.name == plan.name)?;
    let held = outer.held.iter().find(|held| held.name == plan.name)?;
    let is_same = match given {
        Some(value) => *value == held.value,
        None => known.source == plan.source,
    };
    is_same.then_some(held)
}

/// Reads the source of a credential once more.
pub(super) fn renewing(sources: Arc<Sources>) -> Renew {
    Arc::new(move |plan| {
        let source = plan.source.as_ref().ok_or("its value is in the manifest")?;
        sources.renew(source).map_err(|why| {
            let hint = why.hint(source);
            format!("from {source}: {}; {hint}", why.without_output())
        })
    })
}

/// The value of a source, read in the background.
fn read(sources: &Sources, plan: &CredentialPlan, source: &Source) -> Result<String, Failure> {
    sources.read(source).map_err(|why| {
        let hint = why.hint(source);
        let why = why.without_output();
        Failure::new(Class::Input, format!("credential {} from {source}: {why}", plan.name)).hint(hint)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::{Place, Shape, Slot};

    fn plan(name: &str, source: Option<&str>) -> CredentialPlan {
        CredentialPlan {
            name: name.to_owned(),
            source: source.map(|source| source.parse().unwrap()),
            shape: Some(Shape::Anthropic),
            env: Some("KEY".to_owned()),
            file: None,
            hosts: vec!["a.com".to_owned()],
            places: vec![Place { host: "a.com".into(), slot: Slot::Bearer, methods: Vec::new(), paths: Vec::new() }],
            limits: None,
        }
    }

    fn values(of: &[(&str, &str)]) -> BTreeMap<String, String> {
        of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_placeholder_is_another_one_in_every_bottle_and_never_the_value() {
        let plans = [plan("a", Some("env:A")), plan("b", Some("env:B"))];
        let values = values(&[("a", "value-of-a"), ("b", "value-of-b")]);
        let (first, second) = (held(&plans, &values).unwrap(), held(&plans, &values).unwrap());
        let mut all: Vec<&str> = first.iter().chain(&second).map(|one| one.placeholder.as_str()).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 4);
        assert!(all.iter().all(|one| one.starts_with("sk-ant-api03-")));
        assert_eq!(first[1].value, "value-of-b");
        let large = "x".repeat(MAX_BYTES + 1);
        assert!(held(&plans, &self::values(&[("a", &large), ("b", "value-of-b")])).is_err());
    }

    #[test]
    fn a_bottle_inside_has_the_outer_ones_placeholder_where_the_credential_is_the_same() {
        let outer_plans = [plan("a", Some("env:A")), plan("c", Some("op://x/y/z"))];
        let outer_held = held(&outer_plans, &values(&[("a", "value-of-a"), ("c", "value-of-c")])).unwrap();
        let outer = Outer { plans: &outer_plans, held: &outer_held };
        let sources = Sources::new(BTreeMap::new());
        let inside = |plan: CredentialPlan, given: &[(&str, &str)]| {
            held_inside(outer, &[plan], &values(given), &sources).map(|mut held| held.remove(0))
        };
        assert_eq!(
            inside(plan("a", Some("env:A")), &[("a", "value-of-a")]).unwrap().placeholder,
            outer_held[0].placeholder
        );
        // What was read for the outer one is not read again.
        assert_eq!(inside(plan("c", Some("op://x/y/z")), &[]).unwrap().placeholder, outer_held[1].placeholder);
        // Another value under the same name is another credential.
        let other = inside(plan("a", Some("env:A2")), &[("a", "other-value")]).unwrap();
        assert!(other.placeholder != outer_held[0].placeholder && other.value == "other-value");
        let failure = inside(plan("c", Some("file:/nonexistent")), &[]).err().unwrap();
        assert!(failure.message.contains("credential c from file:/nonexistent"), "{failure}");
        let claude = AgentTemplate::built_in("claude").unwrap();
        assert_eq!(outer.of_template(&claude), []);
    }
}
