//! Sidecars: built-in ones and ordinary images, how they come up, whether they live, what they are asked and told.

pub(super) mod bring_up;
pub(super) mod ctl;
pub(super) mod liveness;
pub(super) mod policy;
pub(super) mod service;
pub(super) mod start;

pub use ctl::ask_egress;
pub use policy::POLICY_FILE;
pub use service::{ServiceOptions, service_start};
pub use start::{Role, Sidecar, SidecarOptions, sidecar_start};
