//! What an engine call can fail with: the operation, the object, the engine's words, the remedy.

use serde::{Deserialize, Serialize};

/// The kinds of failure callers act on; everything else is [`ErrorKind::Other`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The engine does not answer at all.
    Unavailable,
    /// The engine's socket exists but this user may not open it.
    Permission,
    /// The engine is older than API 1.41.
    TooOld,
    /// The object is not there.
    NotFound,
    /// The name belongs to another object.
    NameTaken,
    /// The address range overlaps one the engine already uses.
    PoolOverlap,
    /// The object is being removed by the engine already.
    RemovalInProgress,
    /// Something still uses the object.
    InUse,
    /// The engine's disk is full.
    NoSpace,
    /// No answer within the deadline of this class of call.
    Deadline,
    /// Any other refusal; the engine's words say which.
    Other,
}

/// A failed engine call.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{operation} {object}: {message}")]
pub struct EngineError {
    /// What was attempted, as a verb phrase: `create network`.
    pub operation: &'static str,
    /// On what, by name.
    pub object: String,
    /// Why, for callers.
    pub kind: ErrorKind,
    /// Why, in the engine's words.
    pub message: String,
}

impl EngineError {
    /// What the user can do about it, where the kind of failure tells.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self.kind {
            ErrorKind::Unavailable => {
                "start Docker Engine, or point DOCKER_HOST at a running one (unix:///… or tcp://…)"
            }
            ErrorKind::Permission => {
                "add this user to the group that owns the engine's socket, or use a rootless engine"
            }
            ErrorKind::TooOld => "upgrade the engine: bottler needs API 1.41 or later (Docker 20.10)",
            ErrorKind::NameTaken => "choose another name, or free this one: `bottler ps`, `bottler gc`",
            ErrorKind::NoSpace => "free space on the engine's disk: `bottler gc --cache`, `docker system df`",
            ErrorKind::Deadline => "the engine is slow or hangs; see its log, then `bottler gc` removes what is left",
            ErrorKind::PoolOverlap => {
                "no free address range was found; name others in BOTTLER_POOLS, as CIDR separated by commas"
            }
            _ => return None,
        })
    }
}

/// Reads the kind out of a status code and the engine's words.
///
/// Status codes are those of the Docker Engine API reference; words are matched only where one code means several
/// things (409 is a taken name, a removal in progress and an object in use; 500 is a full disk and much else).
pub(super) fn classify(status: u16, message: &str) -> ErrorKind {
    let text = message.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if says(&["no space left on device", "disk quota exceeded"]) {
        return ErrorKind::NoSpace;
    }
    if says(&[
        "pool overlaps",
        "overlaps with other one",
        "all predefined address pools",
        "is already in use by another network",
    ]) {
        return ErrorKind::PoolOverlap;
    }
    match status {
        404 => ErrorKind::NotFound,
        409 if says(&["removal of container", "is already in progress"]) => ErrorKind::RemovalInProgress,
        409 if says(&["is already in use by container", "already exists"]) => ErrorKind::NameTaken,
        403 | 409 if says(&["active endpoints", "in use"]) => ErrorKind::InUse,
        _ => ErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engine_words_are_classified() {
        for (status, words, kind) in [
            (404, "No such container: x", ErrorKind::NotFound),
            (409, "Conflict. The container name \"/x\" is already in use by container \"1\".", ErrorKind::NameTaken),
            (409, "removal of container x is already in progress", ErrorKind::RemovalInProgress),
            (409, "remove x: volume is in use - [1]", ErrorKind::InUse),
            (403, "error while removing network: network x has active endpoints", ErrorKind::InUse),
            (403, "Pool overlaps with other one on this address space", ErrorKind::PoolOverlap),
            (500, "write /var/lib/x: no space left on device", ErrorKind::NoSpace),
            (500, "OCI runtime create failed", ErrorKind::Other),
        ] {
            assert_eq!(classify(status, words), kind, "{status} {words}");
        }
    }
}
