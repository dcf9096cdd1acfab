//! What this side knows of the built-in sidecars: a file for each role, and the one table of them. Nothing here is done, or asked
//! of an engine: a role is described, and `sidecar/start.rs` does what is the same for all.

mod counterpart;
mod cred_proxy;
mod dialer;
mod egress;
mod name;
mod profile;
pub(in crate::primitive) mod receiver;
mod relay;
#[cfg(debug_assertions)]
mod stub;
mod table;

pub use name::RoleName;
pub(in crate::primitive) use profile::{Context, NetworkAddresses, Networks, NoticeEffect, RoleProfile, Serving};
pub(in crate::primitive) use relay::Relay;
pub(in crate::primitive) use table::dialer;
pub use table::process;
