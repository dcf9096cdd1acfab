//! Locking that goes on after a panic: what these locks guard is whole between any two statements.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, whoever panicked while holding it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
