//! The real egress in separate network namespaces: its behaviour, attempts to bypass it, and what it mistakes for a
//! secret.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![allow(unreachable_pub, reason = "the files are this test's own")]

mod attempt;
mod bypass;
mod changes;
mod compressed;
mod corpus;
mod cred_proxy;
mod credential_aws;
mod credential_clients;
mod credential_limits;
mod credential_renewed;
mod credential_responses;
mod credential_sdks;
mod credential_tools;
mod credentials;
mod desk;
mod flood;
mod git_gate;
mod git_gate_approved;
mod git_gate_borrowed;
mod git_gate_bounds;
mod git_gate_client;
mod git_gate_contents;
mod git_gate_hostile;
mod git_gate_killed;
mod git_gate_lab;
mod git_gate_limits;
mod git_gate_listed;
mod git_gate_packs;
mod git_gate_refs;
mod git_gate_upstream;
mod git_lfs;
mod git_lfs_server;
mod honest;
#[path = "../support/lab.rs"]
mod lab;
mod load;
mod masking;
mod nginx;
mod oracle;
mod programs;
mod raw_query;
mod recorded;
mod refused;
mod requests;
mod secrets;
mod servers;
mod streams;
mod supervise;
#[path = "../support/mod.rs"]
mod support;
mod tools;
mod uploads;
