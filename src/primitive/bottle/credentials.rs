//! The credentials of a bottle: the agent receives the placeholders, egress the values.

use std::collections::BTreeMap;

use data_encoding::BASE64;

use super::state::Bottle;
use crate::credential::{Credential, Slot};
use crate::init::File;
use crate::plan::{CredentialPlan, PLACEHOLDER, RepositoryPlan, RoutePlan};
use crate::session::{Class, Failure};
use crate::sidecar::cred_proxy::{Put, Route};
use crate::sidecar::git_gate::Repository;

/// The mode of a file with a placeholder. Some programs refuse key files that others can read.
const MODE: u32 = 0o600;

impl Bottle {
    /// The credentials with their values, which only egress receives.
    pub fn credentials(&self) -> Vec<Credential> {
        self.held.all()
    }

    fn placeholders(&self) -> impl Iterator<Item = (&CredentialPlan, &str)> {
        self.plan.credentials.iter().filter_map(|plan| {
            let held = self.host.credentials.iter().find(|held| held.name == plan.name)?;
            Some((plan, held.placeholder.as_str()))
        })
    }

    /// The variables that only the agent receives: secrets and placeholders.
    pub(in crate::primitive) fn agent_env(&self) -> BTreeMap<String, String> {
        let mut env = self.host.agent_env.clone();
        for (plan, placeholder) in self.placeholders() {
            env.extend(plan.env.iter().map(|name| (name.clone(), placeholder.to_owned())));
        }
        env
    }

    /// The routes of the cred-proxy, with placeholders, which egress replaces by values.
    pub(in crate::primitive) fn routes(&self) -> Vec<Route> {
        let route = |plan: &RoutePlan| {
            let held = self.host.credentials.iter().find(|held| held.name == plan.credential)?;
            Some(Route {
                path: plan.path.clone(),
                host: plan.host.clone(),
                port: plan.port,
                base: plan.base.clone(),
                put: put(&plan.slot, &held.placeholder)?,
                methods: plan.methods.clone(),
                paths: plan.paths.clone(),
            })
        };
        self.plan.cred_proxy.iter().flat_map(|plan| &plan.routes).filter_map(route).collect()
    }

    /// The repositories of the git gate, with placeholders and with the keys, which are read now.
    ///
    /// # Errors
    /// A key cannot be read.
    pub(in crate::primitive) fn repositories(&self) -> Result<Vec<Repository>, Failure> {
        let repository = |plan: &RepositoryPlan| {
            let identity = plan.identity_file.as_ref().map(std::fs::read_to_string).transpose().map_err(|error| {
                let file = plan.identity_file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
                Failure::new(Class::Operation, format!("git: {}: read {file}: {error}", plan.name))
            })?;
            let held = self.host.credentials.iter().find(|held| Some(&held.name) == plan.credential.as_ref());
            let authorization =
                held.zip(plan.slot.as_ref()).and_then(|(held, slot)| match put(slot, &held.placeholder) {
                    Some(Put::Header(_, value)) => Some(value),
                    _ => None,
                });
            let (identity, public) = if plan.agent.is_some() { (None, identity) } else { (identity, None) };
            Ok(Repository {
                name: plan.name.clone(),
                url: plan.url.clone(),
                identity,
                public,
                known_host_key: plan.known_host_key.clone(),
                authorization,
                terms: plan.terms.clone(),
            })
        };
        self.plan.git.iter().flat_map(|git| &git.repositories).map(repository).collect()
    }

    /// The agent's files that hold a placeholder.
    pub(in crate::primitive) fn credential_files(&self) -> Vec<File> {
        let file = |(plan, placeholder): (&CredentialPlan, &str)| {
            let file = plan.file.as_ref()?;
            let content = file.content.replace(PLACEHOLDER, placeholder);
            Some(File { path: file.path.clone(), content, mode: MODE })
        };
        self.placeholders().filter_map(file).collect()
    }
}

/// A placeholder in its slot. A plan's routes have no other slots.
fn put(slot: &Slot, placeholder: &str) -> Option<Put> {
    let authorization = |value: String| Put::Header("authorization".to_owned(), value);
    match slot {
        Slot::Bearer => Some(authorization(format!("Bearer {placeholder}"))),
        Slot::Token => Some(authorization(format!("token {placeholder}"))),
        Slot::Basic(user) => {
            // Any name is accepted; this one is GitHub's.
            let user = if user == "*" { "x-access-token" } else { user };
            Some(authorization(format!("Basic {}", BASE64.encode(format!("{user}:{placeholder}").as_bytes()))))
        }
        Slot::Header(name) => Some(Put::Header(name.to_ascii_lowercase(), placeholder.to_owned())),
        Slot::Query(name) => Some(Put::Query(name.clone(), placeholder.to_owned())),
        Slot::Path | Slot::WebSocket | Slot::AwsKeyId | Slot::AwsSecret => None,
    }
}
