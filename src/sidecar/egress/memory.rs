//! What is freed is given back. glibc keeps it by default, in a heap of up to 64 MiB for each thread, and does so for ever larger
//! pieces once it has seen some: after a few large bodies the process would hold three times what it uses, and be killed for it.
//! That is set before a process begins ("Memory Allocation Tunables" in glibc's manual), so egress starts itself again, once.

use std::convert::Infallible;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::Context;

/// Where it is set, and how: pieces of 1 MiB are given back at once, of others 4 MiB are kept, in four heaps.
const VARIABLE: &str = "GLIBC_TUNABLES";
const VALUE: &str = "glibc.malloc.mmap_threshold=1048576:glibc.malloc.trim_threshold=4194304:glibc.malloc.arena_max=4";

/// Goes on where that is set, and starts this program again where it is not.
///
/// # Errors
/// It cannot be started.
pub fn bound() -> anyhow::Result<()> {
    if std::env::var_os(VARIABLE).is_some_and(|value| value == VALUE) {
        return Ok(());
    }
    let (mut again, mut words) = (Command::new("/proc/self/exe"), std::env::args_os());
    if let Some(name) = words.next() {
        again.arg0(name);
    }
    let started: Result<Infallible, _> = Err(again.args(words).env(VARIABLE, VALUE).exec());
    started.map(|never| match never {}).context("start again with bounds for the memory allocator")
}
