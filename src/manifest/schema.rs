//! The manifest's schema.

use super::Manifest;

/// The schema of the user's manifest, as JSON Schema (draft 2020-12), for editors.
pub fn schema() -> String {
    let schema = schemars::schema_for!(Manifest);
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}
