//! Makes the allocator return freed memory. glibc keeps up to 64 MiB in a heap for each thread, and raises its
//! threshold for large allocations: after a few large bodies the process would hold three times what it uses, and be
//! killed for it.

use nix::libc::{self, c_int};

/// Allocations of 1 MiB or more are returned at once; of others, 4 MiB are kept in four heaps (mallopt(3)).
const SETTINGS: [(c_int, c_int); 3] =
    [(libc::M_MMAP_THRESHOLD, 1 << 20), (libc::M_TRIM_THRESHOLD, 4 << 20), (libc::M_ARENA_MAX, 4)];

/// Configures the allocator; called before there is a second thread.
///
/// # Errors
/// The allocator rejects a setting.
pub(super) fn bound() -> anyhow::Result<()> {
    for (name, value) in SETTINGS {
        #[expect(unsafe_code, reason = "the C library has no other way")]
        // SAFETY: the call takes two numbers, and changes no memory that is in use.
        let taken = unsafe { libc::mallopt(name, value) };
        anyhow::ensure!(taken == 1, "set a bound of the memory allocator: mallopt({name}, {value})");
    }
    Ok(())
}
