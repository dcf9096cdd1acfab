//! Names and paths that an engine or a container accepts.

use crate::session::{Class, Failure};

/// Whether a path is absolute and contains no `..`.
pub(super) fn is_absolute(path: &str) -> bool {
    path.starts_with('/') && !path.split('/').any(|part| part == "..")
}

/// Checks a part of a name, which engines and the host's file system must accept.
pub(super) fn check_name(what: &str, name: &str) -> Result<(), Failure> {
    if crate::session::valid_name(name) {
        Ok(())
    } else {
        Err(Failure::new(Class::Input, format!("{what}: {name:?} cannot be a name"))
            .hint("lower-case letters, digits and hyphens, a letter first, at most 40"))
    }
}
