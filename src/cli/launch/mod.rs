//! Launches: the plan from manifest and flags, the summary and the question before it, the launch.

pub(super) mod agent;
pub(super) mod credentials;
mod differences;
pub(super) mod egress;
mod git;
mod home;
mod image;
mod preflight;
pub(super) mod program;
pub(super) mod resume;
pub(super) mod run;
