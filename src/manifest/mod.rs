//! The user's own `bottler.yaml`: what it says about scripts; and the section `egress`, in a file of its own. Bottles and
//! agents are not read from it yet.

mod egress;

use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use egress::{DlpSection, Egress, EgressSection, ProxySection, ProxyTable};

use crate::lua::Grants;

/// Largest manifest, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The user's manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Commands of the host that scripts may run with `host.run`: one is let through that begins as one of these.
    #[serde(default)]
    pub host_commands: Vec<Vec<String>>,
    /// Things that isolate and that a project's hooks may replace, by name: `egress`.
    #[serde(default)]
    pub replace: Vec<String>,
}

impl Manifest {
    /// Where the user's manifest is: `$XDG_CONFIG_HOME/bottler/bottler.yaml`.
    pub fn path() -> Option<PathBuf> {
        let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let base = var("XDG_CONFIG_HOME").or_else(|| Some(var("HOME")?.join(".config")))?;
        Some(base.join("bottler/bottler.yaml"))
    }

    /// Reads a manifest; an absent one says nothing.
    ///
    /// # Errors
    /// It cannot be read, or says something unknown: with its line.
    pub fn read(path: &Path) -> Result<Self, String> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = text("the manifest", path)?;
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_yaml::from_str(&text).map_err(|error| format!("read {}: {error}", path.display()))
    }

    /// What it lets scripts do.
    pub fn grants(self) -> Grants {
        Grants { replace: self.replace, host_commands: self.host_commands }
    }
}

/// Reads a file of text, of a bounded size. `what` is for messages.
///
/// # Errors
/// It cannot be read, is no regular file, or too large.
pub fn text(what: &str, path: &Path) -> Result<String, String> {
    let failed = |why: &dyn std::fmt::Display| format!("read {what} {}: {why}", path.display());
    let seen = std::fs::metadata(path).map_err(|error| failed(&error))?;
    if !seen.is_file() || seen.len() > MAX_BYTES {
        return Err(failed(&format!("it is no regular file of at most {MAX_BYTES} bytes")));
    }
    std::fs::read_to_string(path).map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_manifest_grants_nothing_and_an_unknown_key_has_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bottler.yaml");
        assert_eq!(Manifest::read(&path).unwrap().grants(), Grants::none());
        std::fs::write(&path, "replace: [egress]\nhost_comands: []\n").unwrap();
        let error = Manifest::read(&path).unwrap_err();
        assert!(error.contains("unknown field `host_comands`") && error.contains("line 2"), "{error}");
    }
}
