//! The names and the texts of the presets that come with bottler.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The presets: their names, and their files.
pub(super) const PRESETS: [(&str, &str); 9] = [
    ("@crates", include_str!("../../stdlib/presets/crates.yaml")),
    ("@debian", include_str!("../../stdlib/presets/debian.yaml")),
    ("@docker", include_str!("../../stdlib/presets/docker.yaml")),
    ("@github", include_str!("../../stdlib/presets/github.yaml")),
    ("@go", include_str!("../../stdlib/presets/go.yaml")),
    ("@huggingface", include_str!("../../stdlib/presets/huggingface.yaml")),
    ("@maven", include_str!("../../stdlib/presets/maven.yaml")),
    ("@npm", include_str!("../../stdlib/presets/npm.yaml")),
    ("@pypi", include_str!("../../stdlib/presets/pypi.yaml")),
];

/// The preset that an entry of the allowlist is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PresetTag {
    /// Its name, with the sign in front.
    pub name: String,
    /// Its version.
    pub version: u32,
}

impl std::fmt::Display for PresetTag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, version {}", self.name, self.version)
    }
}

/// There is no such preset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no preset {name:?}{}; there are {}", near(.name), names().collect::<Vec<_>>().join(", "))]
pub struct UnknownPreset {
    /// As written.
    pub name: String,
}

/// Names that are this alike are taken for slips of each other; all of them are short, and begin alike.
const NEAR: f64 = 0.55;

fn near(name: &str) -> String {
    crate::suggest::nearest_of(name, names(), NEAR).map(|near| format!(" (did you mean {near:?}?)")).unwrap_or_default()
}

/// Whether a text names a preset, known or not: no host begins like that.
pub fn is_preset(text: &str) -> bool {
    text.starts_with('@')
}

/// The names of the presets, in order.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|(name, _)| *name)
}

/// Checks a text that may name a preset.
///
/// # Errors
/// It names one that does not exist.
pub(super) fn check(text: &str) -> Result<(), UnknownPreset> {
    if is_preset(text) && !names().any(|name| name == text) {
        return Err(UnknownPreset { name: text.to_owned() });
    }
    Ok(())
}
