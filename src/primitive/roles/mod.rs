//! The launcher's side of the built-in sidecars: a description of each role, and one table of them. Pure: `sidecar/start.rs` does
//! what is the same for all roles.

mod counterpart;
mod cred_proxy;
mod dialer;
mod egress;
mod git_gate;
mod name;
mod profile;
pub(in crate::primitive) mod receiver;
mod relay;
#[cfg(debug_assertions)]
mod stub;
mod supervise;
mod table;

pub use name::RoleName;
pub(in crate::primitive) use profile::{
    Context, NetworkAddresses, Networks, NoticeEffect, RoleProfile, Serving, SidecarImage,
};
pub(in crate::primitive) use relay::Relay;
pub(in crate::primitive) use table::dialer;
pub use table::process;
