//! The command line: one file for each command, in folders by topic.

mod bottle;
mod commands;
mod failure;
mod git;
mod launch;
mod open;
mod policy;
mod print;
mod requests;
mod setup;
mod sidecar;
mod terminal;

pub use commands::main;
