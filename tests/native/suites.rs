//! The tests that Docker has, too. `BOTTLER_TEST_AS` says as whom: `root`, `user` (with control groups of its
//! own), `range` (and subordinate users) or `bare` (without); `tests/run native` runs them as each.

#[path = "../suites/audit_full.rs"]
mod audit_full;
#[path = "../suites/cli.rs"]
mod cli;
#[path = "../suites/credentials_changed.rs"]
mod credentials_changed;
#[path = "../suites/git_gate.rs"]
mod git_gate;
#[path = "../suites/home.rs"]
mod home;
#[path = "../suites/host_services.rs"]
mod host_services;
#[path = "../suites/probe.rs"]
mod probe;
#[path = "../suites/supervise.rs"]
mod supervise;
#[path = "../suites/teardown.rs"]
mod teardown;
#[path = "../suites/watch.rs"]
mod watch;
