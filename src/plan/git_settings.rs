//! Settings of the agent's git as variables (git-config(1), `GIT_CONFIG_COUNT`). They hold whatever the agent writes
//! into its own configuration.

use std::collections::BTreeMap;

/// The variables of settings, each a key and a value.
pub(super) fn in_env(settings: &[(String, String)]) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for (number, (key, value)) in settings.iter().enumerate() {
        env.insert(format!("GIT_CONFIG_KEY_{number}"), key.clone());
        env.insert(format!("GIT_CONFIG_VALUE_{number}"), value.clone());
    }
    if !settings.is_empty() {
        env.insert("GIT_CONFIG_COUNT".to_owned(), settings.len().to_string());
    }
    env
}
