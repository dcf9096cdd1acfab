//! The memory limit of scripts.

use crate::session::{Class, Failure};

/// Maximum memory of a script, in bytes: Lua's own, and what primitives hold for it.
pub(super) const MAX_MEMORY: usize = 256 << 20;

/// The failure of a script that has exceeded it.
pub(super) fn too_much() -> Failure {
    Failure::new(Class::Input, "the script used too much memory")
        .hint(format!("a script may use {} MiB, including what primitives hold for it", MAX_MEMORY >> 20))
}
