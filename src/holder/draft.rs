//! Plans of the agents that a recipe may launch. The client makes them, because it reads the manifest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::plan::{AgentTemplate, LaunchPlan, resolve};
use crate::policy::EgressSpec;
use crate::session::{Class, Failure};

/// An agent's plan, for a bottle that has no name yet.
#[derive(Clone, Serialize, Deserialize)]
pub struct Draft {
    /// The plan.
    pub plan: LaunchPlan,
    /// Variables whose values only the agent receives.
    pub env: BTreeMap<String, String>,
    /// The values of its credentials that are known by now, by name; the sources of the others are read when it is launched.
    pub credentials: BTreeMap<String, String>,
    /// The recipe that launches it.
    pub recipe: String,
}

/// The manifest's agents, each with its plan or the reason why it has none. Built-in agents need no entry.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Drafts(pub BTreeMap<String, Result<Draft, String>>);

impl Drafts {
    /// The draft of an agent, by its name.
    pub(super) fn get(&self, name: &str) -> Result<Draft, Failure> {
        let bad = |why: &dyn std::fmt::Display| Failure::new(Class::Input, format!("bottle: {why}"));
        if let Some(draft) = self.0.get(name) {
            return draft.clone().map_err(|why| bad(&why));
        }
        let template = AgentTemplate::built_in(name).map_err(|error| bad(&error))?;
        let egress = EgressSpec { allow: template.hosts.clone(), ..EgressSpec::default() };
        let plan = resolve(name, false, name, &template, None, egress);
        Ok(Draft { plan, env: BTreeMap::new(), credentials: BTreeMap::new(), recipe: template.recipe().to_owned() })
    }
}
