//! What is fuzzed: the parsers and decisions that meet bytes of an agent's, by their own sources, and what every target
//! shares.

#![allow(dead_code, reason = "targets use a part of it")]

#[path = "../../../src/credential/mod.rs"]
pub mod credential;
pub mod message;
#[path = "../../../src/net/mod.rs"]
pub mod net;
#[path = "../../../src/policy/mod.rs"]
pub mod policy;
#[path = "../../../src/scan/mod.rs"]
pub mod scan;
#[path = "../../../src/suggest.rs"]
mod suggest;
#[path = "../../../src/sync.rs"]
mod sync;
mod workspace;

use std::sync::{Arc, LazyLock};

use scan::{Actions, Dlp, Rules, Scanner};
pub use workspace::tables;

/// What must not leave.
pub const SECRET: &str = "correct-horse/battery+staple";

/// Looks for it, and for providers' tokens.
pub static SCANNER: LazyLock<Scanner> = LazyLock::new(|| {
    let rules = Arc::new(Rules::providers().expect("they are compiled in"));
    Scanner::new(&[SECRET.to_owned()], rules, Arc::new(Actions::new(&Dlp::default())))
});
