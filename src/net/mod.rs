//! What requests name, in one canonical form each: hosts, classes of addresses, paths. Pure, and about no policy: what may
//! leave is decided in [`crate::policy`].

pub mod address;
pub mod host;
pub mod path;

pub use address::{Class, classify};
pub use host::{Host, HostError};
pub use path::{Glob, PathError, ambiguity, canonical, folded};
