//! Bottles on the native engine, as root and as an ordinary user: no way out, nothing left, whatever ends them. No daemon is
//! needed; root is, to become an ordinary user and to hand it control groups.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![allow(unreachable_pub, reason = "the files are this test's own")]

mod copied;
mod dialer;
mod doctor;
mod ended;
mod escapes;
mod inside;
mod kept;
mod killed;
mod lab;
mod launched;
#[path = "../support/namespace.rs"]
mod namespace;
mod suites;
#[path = "../support/mod.rs"]
mod support;

use support::native as world;
