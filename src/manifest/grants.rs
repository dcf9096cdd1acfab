//! Saved grants: `grants/NAME.yaml` beside the manifest, written by bottler. A grant applies to one bottle of the manifest
//! (or one template) in one folder, so it does not apply to other projects.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{text, user_file};
use crate::policy::{AllowSpec, PresetError, expanded};

/// The comment at the top of a file.
const HEADER: &str = "# Written by `bottler policy allow --save`. Remove an entry to revoke its grant.\n";

/// A saved grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedGrant {
    /// The folder whose launches have the grant.
    pub folder: PathBuf,
    /// What it allows: an entry, or a preset, as the executable has it at a launch.
    pub allow: AllowSpec,
}

impl SavedGrant {
    /// The entries that it allows.
    ///
    /// # Errors
    /// It is not an entry of the preset that it names.
    pub fn entries(&self) -> Result<Vec<AllowSpec>, PresetError> {
        expanded([self.allow.clone()])
    }
}

/// The file of a bottle's or template's grants.
///
/// # Errors
/// The name cannot be a file's, or there is no place for configuration.
pub fn grants_file(name: &str) -> Result<PathBuf, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        return Err(format!("grants of {name:?}: letters, digits, '-', '_' and '.' make a file's name"));
    }
    let manifest = user_file().ok_or("grants: neither XDG_CONFIG_HOME nor HOME is set")?;
    Ok(manifest.with_file_name("grants").join(format!("{name}.yaml")))
}

/// The grants in a file; none where there is no file.
///
/// # Errors
/// It cannot be read or parsed.
pub fn read_grants(path: &Path) -> Result<Vec<SavedGrant>, String> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = text("the grants", path)?;
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Vec::new());
    }
    let granted: Vec<SavedGrant> =
        serde_yaml::from_str(&text).map_err(|error| format!("read the grants {}: {error}", path.display()))?;
    for one in &granted {
        let bad = |error: &dyn std::fmt::Display| format!("read the grants {}: {error}", path.display());
        for entry in one.entries().map_err(|error| bad(&error))? {
            entry.read().map_err(|error| bad(&error))?;
        }
    }
    Ok(granted)
}

/// The grants of a bottle or template for a folder, with presets as they are written. A name that is not a valid file name has no grants.
///
/// # Errors
/// The file cannot be read.
pub fn saved_grants(name: &str, folder: &Path) -> Result<Vec<AllowSpec>, String> {
    let Ok(path) = grants_file(name) else { return Ok(Vec::new()) };
    let all = read_grants(&path)?;
    Ok(all.into_iter().filter(|one| one.folder == folder).map(|one| one.allow).collect())
}

/// The content of a grants file with further grants.
///
/// # Errors
/// It cannot be written as YAML.
pub fn add_grants(before: &[SavedGrant], folder: &Path, entries: &[AllowSpec]) -> Result<String, String> {
    let mut all = before.to_vec();
    for allow in entries {
        let one = SavedGrant { folder: folder.to_owned(), allow: allow.clone() };
        if !all.contains(&one) {
            all.push(one);
        }
    }
    let yaml = serde_yaml::to_string(&all).map_err(|error| format!("write grants: {error}"))?;
    Ok(format!("{HEADER}{yaml}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_written_once_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("claude.yaml");
        assert_eq!(read_grants(&path), Ok(Vec::new()));
        let entries = [AllowSpec::Host("crates.io".into()), AllowSpec::Host("crates.io".into())];
        let first = add_grants(&[], Path::new("/a"), &entries).unwrap();
        std::fs::write(&path, &first).unwrap();
        let read = read_grants(&path).unwrap();
        assert_eq!(read, [SavedGrant { folder: "/a".into(), allow: entries[0].clone() }]);
        let second = add_grants(&read, Path::new("/b"), &entries).unwrap();
        assert!(second.starts_with(HEADER) && second.matches("crates.io").count() == 2, "{second}");
        // A preset is saved by its name: a later launch has it as it is then.
        let preset = add_grants(&[], Path::new("/a"), &[AllowSpec::Host("@pypi".into())]).unwrap();
        std::fs::write(&path, &preset).unwrap();
        assert!(read_grants(&path).unwrap()[0].entries().unwrap().len() > 1, "{preset}");
        // What is not understood is not passed over.
        for bad in [
            "- {folder: /a, allow: '@gone'}",
            "- {folder: /a, allow: '*.com'}",
            "- {folder: /a, alow: a.com}",
            "{",
            "x",
        ] {
            std::fs::write(&path, bad).unwrap();
            assert!(read_grants(&path).is_err(), "{bad}");
        }
        std::fs::write(&path, HEADER).unwrap();
        assert_eq!(read_grants(&path), Ok(Vec::new()));
    }

    #[test]
    fn a_name_leads_to_no_other_folder() {
        for name in ["", ".", "..", "../x", "a/b", ".x"] {
            assert!(grants_file(name).is_err(), "{name}");
        }
    }
}
