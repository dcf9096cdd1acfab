//! The credentials of a bottle: the agent receives the placeholders, egress the values.

use std::collections::BTreeMap;

use super::state::Bottle;
use crate::credential::Credential;
use crate::init::File;
use crate::plan::{CredentialPlan, PLACEHOLDER};

/// The mode of a file with a placeholder: what programs ask of files with keys.
const MODE: u32 = 0o600;

impl Bottle {
    /// The credentials, with their values: for egress alone.
    pub(in crate::primitive) fn credentials(&self) -> &[Credential] {
        &self.host.credentials
    }

    fn placeholders(&self) -> impl Iterator<Item = (&CredentialPlan, &str)> {
        self.plan.credentials.iter().filter_map(|plan| {
            let held = self.host.credentials.iter().find(|held| held.name == plan.name)?;
            Some((plan, held.placeholder.as_str()))
        })
    }

    /// The variables that only the agent receives: secrets, and placeholders.
    pub(in crate::primitive) fn agent_env(&self) -> BTreeMap<String, String> {
        let mut env = self.host.agent_env.clone();
        for (plan, placeholder) in self.placeholders() {
            env.extend(plan.env.iter().map(|name| (name.clone(), placeholder.to_owned())));
        }
        env
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
