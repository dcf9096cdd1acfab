//! The memory that a script may use.

use crate::session::{Class, Failure};

/// Most memory a script may use, in bytes: of Lua's, and of what primitives hold for it.
pub(super) const MAX_MEMORY: usize = 256 << 20;

/// The failure of a script whose memory is used up.
pub(super) fn too_much() -> Failure {
    Failure::new(Class::Input, "the script used too much memory")
        .hint(format!("a script may use {} MiB, what primitives hold for it included", MAX_MEMORY >> 20))
}
