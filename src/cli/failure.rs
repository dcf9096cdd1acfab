//! Failures of the command line.

use crate::session::{Class, Failure};

/// The user's input is invalid.
pub(super) fn input(message: impl Into<String>) -> Failure {
    Failure::new(Class::Input, message)
}
