//! Names and paths that an engine, or a container, takes.

use crate::session::{Class, Failure};

/// Whether a path is absolute, and leads nowhere else on its way.
pub(super) fn is_absolute(path: &str) -> bool {
    path.starts_with('/') && !path.split('/').any(|part| part == "..")
}

/// Refuses a part of a name that an engine or a host file would not take.
pub(super) fn check_name(what: &str, name: &str) -> Result<(), Failure> {
    if crate::session::valid_name(name) {
        Ok(())
    } else {
        Err(Failure::new(Class::Input, format!("{what}: {name:?} cannot be a name"))
            .hint("lower-case letters, digits and hyphens, a letter first, at most 40"))
    }
}
