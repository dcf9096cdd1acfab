//! Rules of the scanner that a policy names: each must be there, because a misspelt one would have no effect.

use crate::scan::{Actions, Direction, Dlp, KNOWN_SECRET, Rules};
use crate::suggest::nearest;

/// Checks `actions` and `allow` against the built-in rules and those of `rules`.
///
/// # Errors
/// A rule is not there, a fingerprint is none, or a file of rules is malformed.
pub(super) fn check(dlp: &Dlp) -> Result<(), String> {
    if dlp.actions.is_empty() && dlp.allow.is_empty() {
        return Ok(());
    }
    let read = |direction| Rules::with(&dlp.rules, direction).map_err(|error| format!("rules: {error}"));
    let (requests, responses) = (read(Direction::Request)?, read(Direction::Response)?);
    let check = |name: &str, at: &str| {
        let known = || requests.ids().chain(responses.ids()).chain([KNOWN_SECRET]);
        if known().any(|id| id == name) {
            return Ok(());
        }
        let near = nearest(name, known()).map(|near| format!(" (did you mean {near:?}?)")).unwrap_or_default();
        Err(format!("{at}: there is no rule {name:?}{near}"))
    };
    dlp.actions.keys().try_for_each(|name| check(name, "actions"))?;
    dlp.allow.iter().try_for_each(|print| {
        let name = print.rsplit_once(':').map_or("", |(name, _)| name);
        let is_hash = |hash: &str| hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_print =
            print.len() == Actions::fingerprint(name, b"").len() && is_hash(&print[print.len().min(name.len() + 1)..]);
        if !is_print {
            return Err(format!("allow: {print:?} is no fingerprint, as a refusal names it: RULE:HASH"));
        }
        check(name, "allow")
    })
}
