//! What users write, in YAML: bottles, agents, templates. Read into types, put together, and every file that they name
//! read; nothing is decided here.

mod catalogue;
mod chosen;
mod egress;
mod env;
mod granted;
mod merge;
mod problem;
mod section;
mod size;
mod template;

use std::path::{Path, PathBuf};

pub use catalogue::{Agent, Catalogue, ProjectFiles};
pub use chosen::{Chosen, SkillFile, choose};
pub use egress::{DlpSection, Egress, EgressSection, ProxySection, ProxyTable};
pub use env::{Part, Value, read_file as read_env_file};
pub use granted::{Granted, granted, granted_file, read_granted, with_granted};
pub use problem::Problem;
pub use section::*;
pub use size::Size;
pub use template::{AgentTemplate, CredentialSection, McpFormat, TemplateError};

/// Largest manifest, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Where the user's manifest is: `$XDG_CONFIG_HOME/bottler/bottler.yaml`.
pub fn user_file() -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = var("XDG_CONFIG_HOME").or_else(|| Some(var("HOME")?.join(".config")))?;
    Some(base.join("bottler").join(catalogue::FILE))
}

/// The schema of the user's manifest, as JSON Schema (draft 2020-12), for editors.
pub fn schema() -> String {
    let schema = schemars::schema_for!(Manifest);
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
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

/// A path as it is written in a file of a folder; `~` is the home.
pub fn expand(folder: &Path, path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(rest), Some(home)) => Path::new(&home).join(rest),
        _ => folder.join(path),
    }
}
