//! The real egress in network namespaces of its own: what it does, what finds no way past it, and what it mistakes for a secret.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![allow(unreachable_pub, reason = "the files are this test's own")]

mod attempt;
mod bypass;
mod changes;
mod corpus;
mod flood;
mod honest;
#[path = "../support/lab.rs"]
mod lab;
<<<<<<< HEAD
mod programs;
=======
mod load;
>>>>>>> 1ef0cd4 (Look at every body whole whatever its framing, within one bounded sum of work and memory)
mod requests;
mod secrets;
mod servers;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod tools;
