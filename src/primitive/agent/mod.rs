//! The agent: its container, and the files and variables that it receives.

pub(super) mod channel;
pub(super) mod container;
mod home;
pub(super) mod provision;
mod provisions;
pub(super) mod run;

pub use home::HomeOrigin;
pub use provision::{ProvisionFile, ProvisionOptions, provision};
pub use run::{Agent, AgentOptions, run_agent};
