//! The command line: one file for every command, in a folder for what it is about.

mod bottle;
mod commands;
mod failure;
mod launch;
mod open;
mod policy;
mod print;
mod setup;
mod sidecar;
mod terminal;

pub use commands::main;
