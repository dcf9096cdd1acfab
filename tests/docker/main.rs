//! Bottles on a real engine, one module per subject; `tests/run docker [MODULE]` runs them.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod addresses;
mod agent;
mod agents_ask;
mod asks;
#[path = "../suites/audit_full.rs"]
mod audit_full;
mod bottles;
mod bridge;
mod capability;
mod claude;
#[path = "../suites/cli.rs"]
mod cli;
mod clients;
mod cred_proxy;
mod credentials;
#[path = "../suites/credentials_changed.rs"]
mod credentials_changed;
mod documents;
mod ended;
mod engines;
mod faults;
mod full;
#[path = "../suites/git_gate.rs"]
mod gate_up;
mod git_gate;
mod git_gate_forge;
mod git_gate_gitea;
mod gvisor;
mod havoc;
mod home;
#[path = "../suites/home.rs"]
mod home_kept;
#[path = "../suites/host_services.rs"]
mod host_services;
mod images;
mod masked;
mod npm;
mod pipelock;
mod presets;
#[path = "../suites/probe.rs"]
mod probe;
mod receivers;
mod services;
mod sidecars;
mod strangers;
#[path = "../suites/supervise.rs"]
mod supervise;
#[path = "../support/mod.rs"]
mod support;
#[path = "../suites/teardown.rs"]
mod teardown;
mod terminal;
mod vendors;
#[path = "../suites/watch.rs"]
mod watch;
mod watched;
mod workspace;
mod workspace_moments;
