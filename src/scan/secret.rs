//! The bottle's own secrets, as egress receives them.

/// A secret of the bottle.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownSecret {
    /// Its value.
    pub value: String,
    /// The only hosts that it may be sent to; most secrets have none.
    #[serde(default)]
    pub hosts: Vec<String>,
}
