//! Finds the credential of a bottle that an agent means. Pure.

use crate::credential::Place;
use crate::plan::{CredentialPlan, LaunchPlan};
use crate::policy::Rule;

/// The bottle's credential that an agent means: the one of this name, or the only one that is declared for the host.
pub(super) fn declared<'a>(plan: &'a LaunchPlan, name: &str, host: &str) -> Option<&'a CredentialPlan> {
    let named = plan.credentials.iter().find(|credential| credential.name == name);
    let mut all = plan.credentials.iter().filter(|credential| place(credential, host).is_some());
    named.or_else(|| all.next().filter(|_| all.next().is_none()))
}

/// Where a credential is declared for a host.
pub(super) fn place<'a>(credential: &'a CredentialPlan, host: &str) -> Option<&'a Place> {
    let host: Rule = host.parse().ok()?;
    credential.places.iter().find(|place| place.host.parse::<Rule>().is_ok_and(|rule| rule.covers(&host)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::Slot;

    #[test]
    fn a_credential_is_meant_by_its_name_or_as_the_only_one_of_a_host() {
        let mut plan = crate::plan::probe("demo");
        let one = |name: &str, hosts: &[&str]| CredentialPlan {
            name: name.to_owned(),
            source: None,
            shape: None,
            env: None,
            file: None,
            hosts: Vec::new(),
            places: hosts
                .iter()
                .map(|&host| Place {
                    host: host.to_owned(),
                    slot: Slot::Bearer,
                    methods: Vec::new(),
                    paths: Vec::new(),
                })
                .collect(),
            limits: None,
        };
        plan.credentials = vec![one("a", &["a.com", "*.both.com"]), one("b", &["b.com", "x.both.com"])];
        for (name, host, expected) in [
            ("a", "a.com", Some(("a", true))),
            ("a", "b.com", Some(("a", false))),
            ("the token of b", "b.com", Some(("b", true))),
            ("any", "x.both.com", None),
            ("any", "y.both.com", Some(("a", true))),
            ("any", "c.com", None),
            ("any", "not a host", None),
        ] {
            let found = declared(&plan, name, host);
            let found = found.map(|credential| (credential.name.as_str(), place(credential, host).is_some()));
            assert_eq!(found, expected, "{name} {host}");
        }
    }
}
