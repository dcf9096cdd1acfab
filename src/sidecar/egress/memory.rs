//! What is freed is given back. glibc keeps it by default, in a heap of up to 64 MiB for each thread, and does so for ever larger
//! pieces once it has seen some: after a few large bodies the process would hold three times what it uses, and be killed for it.

use nix::libc::{self, c_int};

/// Pieces of 1 MiB are given back at once, of others 4 MiB are kept, in four heaps (mallopt(3)).
const SETTINGS: [(c_int, c_int); 3] =
    [(libc::M_MMAP_THRESHOLD, 1 << 20), (libc::M_TRIM_THRESHOLD, 4 << 20), (libc::M_ARENA_MAX, 4)];

/// Bounds what the allocator keeps: called before there is a second thread.
///
/// # Errors
/// The allocator does not take a setting.
pub(super) fn bound() -> anyhow::Result<()> {
    for (name, value) in SETTINGS {
        #[expect(unsafe_code, reason = "the C library has no other way")]
        // SAFETY: two numbers go in, and nothing of memory that is in use changes.
        let taken = unsafe { libc::mallopt(name, value) };
        anyhow::ensure!(taken == 1, "set a bound of the memory allocator: mallopt({name}, {value})");
    }
    Ok(())
}
