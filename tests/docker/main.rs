//! Bottles on a real engine, one module per subject; `tests/run docker [MODULE]` runs them.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod agent;
mod audit_full;
mod bottles;
mod bridge;
mod claude;
mod cli;
mod clients;
mod cred_proxy;
mod credentials;
mod documents;
mod ended;
mod engines;
mod faults;
mod full;
mod gvisor;
mod havoc;
mod images;
mod npm;
mod probe;
mod receivers;
mod services;
mod sidecars;
#[path = "../support/mod.rs"]
mod support;
mod teardown;
mod terminal;
mod vendors;
mod watch;
mod workspace;
mod workspace_moments;
