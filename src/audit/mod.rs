//! What sidecars decided, as evidence: a file for every launch, in which each line names the one before it by its hash, so
//! that nothing can be taken out or changed without the last hash being another (promise 18).

mod append;
mod bucket;
mod coalesce;
mod event;
mod form;
mod held;
mod learn;
mod read;
mod repair;
mod retain;
mod room;
mod sieve;
mod write;

pub use coalesce::{Coalescer, Limits};
pub use event::{Event, Kind, Subject, now};
pub use learn::learn;
pub use read::{Chain, Line, Record, find, read};
pub use write::{Closed, Writer};

#[cfg(test)]
mod tests;
