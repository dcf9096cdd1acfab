//! The agent: its container, what it is given, its release, what is kept of its output.

pub(super) mod container;
pub(super) mod provision;
pub(super) mod recording;
pub(super) mod release;
pub(super) mod run;

pub use provision::{ProvisionFile, ProvisionOptions, provision};
pub use release::release;
pub use run::{Agent, AgentOptions, run_agent};
