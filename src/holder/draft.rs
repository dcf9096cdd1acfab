//! What the agents that a recipe may launch would be: planned by the client, which reads the manifest.

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
    /// Variables whose values only the agent is told.
    pub env: BTreeMap<String, String>,
    /// The recipe that launches it.
    pub recipe: String,
}

/// The agents of the manifest, each planned or why not; built-in ones are known without.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Drafts(pub BTreeMap<String, Result<Draft, String>>);

impl Drafts {
    /// The agent of a name.
    pub(super) fn get(&self, name: &str) -> Result<Draft, Failure> {
        let bad = |why: &dyn std::fmt::Display| Failure::new(Class::Input, format!("bottle: {why}"));
        if let Some(draft) = self.0.get(name) {
            return draft.clone().map_err(|why| bad(&why));
        }
        let template = AgentTemplate::built_in(name).map_err(|error| bad(&error))?;
        let egress = EgressSpec { allow: template.hosts.clone(), ..EgressSpec::default() };
        let plan = resolve(name, false, name, &template, None, egress);
        Ok(Draft { plan, env: BTreeMap::new(), recipe: template.recipe().to_owned() })
    }
}
