//! What sidecars decided, as evidence: a file for every launch, in which each line names the one before it by its hash, so
//! that nothing can be taken out or changed without the last hash being another (promise 18).

mod append;
mod backlog;
mod coalesce;
mod event;
mod format;
mod learn;
mod lossy_counter;
mod quota;
mod read;
mod repair;
mod retain;
mod token_bucket;
mod write;

pub use coalesce::{Coalescer, Limits};
pub use event::{Details, Event, Subject, now};
pub use learn::learn;
pub use read::{Chain, Entry, Record, find, read};
pub use write::{LogSummary, Writer};

#[cfg(test)]
mod tests;
