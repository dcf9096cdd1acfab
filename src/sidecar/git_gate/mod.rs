//! `git-gate`: the only way to an upstream git repository. The agent fetches from a mirror; what it pushes is unpacked
//! in a quarantine, every object that would be published is inspected, and exactly those objects are forwarded, or
//! nothing is (promise 10). git itself runs as a tool without network, keys, configuration or hooks.
//!
//! A push: [`serve`] and [`http`] → [`pkt`] → [`commands`] → [`receive`] → [`quarantine`] ∥ [`early`] with [`unpack`] →
//! [`publish`] → [`objects`] and [`history`] → [`forward`] → [`report`]; [`push`] is what joins them. Beside: [`mirror`],
//! [`opening`] and [`kept`], the conversations that pushes go on in, and [`upstream`], which holds the keys.

mod advertised;
mod approvals;
mod body;
mod commands;
mod config;
mod conversation;
mod demand;
mod early;
mod environment;
mod fetch;
mod forward;
mod gate;
mod git;
mod history;
mod http;
mod inspect;
mod judge;
mod kept;
mod key_agent;
mod lfs;
mod lfs_refused;
mod lfs_serve;
mod lfs_store;
mod listed;
mod mirror;
mod object;
mod objects;
mod opening;
mod outcome;
mod pack;
mod packed;
mod pipe;
mod pkt;
mod publish;
mod push;
mod quarantine;
mod receive;
mod report;
mod request;
mod role;
mod serve;
mod splice;
pub mod ssh_agent;
mod terms;
mod texts;
mod trace;
mod tunnel;
mod unpack;
mod upkeep;
mod upstream;
mod upstream_http;
mod visible;
mod wide;

pub use approvals::{Approval, Offer};
pub use config::{Config, Known, Programs, Repository, Update};
pub use gate::{Gate, ROLE};
pub use key_agent::{Sign, Signed};
pub use pipe::{PIPE, run as pipe};
pub use role::{Ask, PORT};
