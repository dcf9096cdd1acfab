//! The audit log: one file for each launch, in which every line contains the hash of the line before it. So nothing can
//! be removed or changed without changing the last hash (promise 18).

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
pub use event::{Details, Event, Subject, denial_id, now};
pub use learn::learn;
pub use read::{Chain, Entry, Record, logs, read};
pub use write::{LogSummary, Writer};

#[cfg(test)]
mod tests;
