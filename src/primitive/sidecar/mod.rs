//! Sidecars: built-in ones and ordinary images, how they come up, whether they live, what they are asked and told.

pub(super) mod bring_up;
pub(super) mod ctl;
pub(super) mod health;
pub(super) mod line;
pub(super) mod liveness;
pub(super) mod pair;
pub(super) mod policy;
mod restart;
pub(super) mod roles;
pub(super) mod service;
pub(super) mod start;

pub use ctl::ask;
pub use policy::POLICY_FILE;
pub use roles::{RoleName, process};
pub use service::{ServiceOptions, service_start};
pub use start::{Sidecar, SidecarHandles, SidecarOptions, sidecar_start};
