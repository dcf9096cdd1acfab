//! Canonical forms of what requests name: hosts, address classes, paths. Pure; [`crate::policy`] decides what may
//! leave.

pub mod address;
pub mod host;
pub mod path;
pub mod repository;

pub use address::{Class, classify};
pub use host::{Host, HostError};
pub use path::{Glob, PathError, ambiguity, canonical, folded};
pub use repository::{RepositoryUrl, RepositoryUrlError, SshUrl};
