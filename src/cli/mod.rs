//! The command line: one file for every command, in a folder for what it is about.

mod audit;
mod bottle;
mod change;
mod commands;
mod ctl;
mod failure;
mod launch;
mod open;
mod policy;
mod print;
mod setup;
mod sidecar;
mod terminal;

pub use commands::main;
