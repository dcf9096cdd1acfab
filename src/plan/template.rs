//! Agent templates: what a built-in agent is, in YAML.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::policy::AllowSpec;

/// The templates that come with bottler.
const BUILT_IN: &[(&str, &str)] = &[
    ("probe", include_str!("../../stdlib/agents/probe.yaml")),
    ("shell", include_str!("../../stdlib/agents/shell.yaml")),
];

/// An agent's template.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentTemplate {
    /// The recipe that launches it.
    #[serde(default = "default_recipe")]
    pub recipe: String,
    /// Its image; see [`super::ImagePlan::source`].
    pub image: String,
    /// Its command and arguments.
    pub command: Vec<String>,
    /// Variables of its container.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// What it needs to reach: the default allowlist of the agent.
    #[serde(default)]
    pub hosts: Vec<AllowSpec>,
}

fn default_recipe() -> String {
    "launch".to_owned()
}

/// Why there is no template.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// Nothing of that name.
    #[error("there is no agent {name:?}; known: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// It cannot be read.
    #[error("agent {name:?}: {source}")]
    Malformed {
        /// Its name.
        name: String,
        /// Where and why.
        source: serde_yaml::Error,
    },
}

impl AgentTemplate {
    /// That of the built-in probe.
    pub fn probe() -> Self {
        Self::built_in("probe").expect("it is compiled in, and a test reads it")
    }

    /// The built-in template of a name.
    ///
    /// # Errors
    /// There is none.
    pub fn built_in(name: &str) -> Result<Self, TemplateError> {
        let Some((_, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) else {
            let known: Vec<_> = BUILT_IN.iter().map(|(known, _)| *known).collect();
            return Err(TemplateError::Unknown { name: name.to_owned(), known: known.join(", ") });
        };
        serde_yaml::from_str(text).map_err(|source| TemplateError::Malformed { name: name.to_owned(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_template_can_be_read() {
        for (name, _) in BUILT_IN {
            assert!(!AgentTemplate::built_in(name).unwrap().command.is_empty());
        }
    }

    #[test]
    fn an_unknown_agent_names_the_known_ones() {
        assert!(AgentTemplate::built_in("nobody").unwrap_err().to_string().contains("probe"));
    }
}
