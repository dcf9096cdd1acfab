//! `supervise`: an MCP server at `http://supervise:9098/mcp`, by which the agent asks the operator for what its bottle does not
//! allow, and reads what it allows. It has no network and no secret: questions go to the holder as notices, answers come back as
//! updates, and it decides nothing.
//!
//! It keeps nothing, either: requests and decisions belong to the holder, and ids are plain arguments of tools. So any connection may
//! break, and this process may end, without losing a request.
//!
//! Attacks that this stops: a web page in the agent's browser that calls the tools (`Host` and `Origin` are checked); a flood of
//! calls or of large bodies (bounds here, and again in the holder); text for the operator that is longer than a person reads.

mod desk;
mod files;
mod protocol;
mod role;
mod server;
mod tools;

pub use protocol::{Ask, Call, Config, DeniedRequest, Reply, RouteView, Status, Update, View};
pub use role::Supervise;

/// The role's name.
pub const ROLE: &str = "supervise";
