//! Failures of the command line's own.

use crate::session::{Class, Failure};

/// What the user said cannot be done as it is said.
pub(super) fn input(message: impl Into<String>) -> Failure {
    Failure::new(Class::Input, message)
}
