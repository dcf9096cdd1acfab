//! Sidecars, built-in ones and ordinary images: how they start, whether they live, and which policy and secrets they
//! receive.

pub(super) mod approve;
pub(super) mod bring_up;
mod host_service;
pub(super) mod liveness;
mod pipelock;
mod policy;
mod restart;
pub(super) mod secrets;
pub(super) mod service;
mod sign;
pub(super) mod start;

pub use policy::POLICY_FILE;
pub use service::{ServiceOptions, service_start};
pub use start::{SidecarHandles, sidecar_start};
