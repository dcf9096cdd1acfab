//! The bottle's own secrets, as egress receives them.

/// A secret of the bottle's.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownSecret {
    /// What it is.
    pub value: String,
    /// The only hosts that it may go to: none, for most.
    #[serde(default)]
    pub hosts: Vec<String>,
}
