//! Credentials that the agent never sees. The agent holds a placeholder of the same shape; egress puts the value in its place, at
//! the declared hosts and in the declared slots only, after the scan of the request.
//!
//! Pure: no sockets, no clock, no state.

mod authorization;
mod aws;
mod check;
mod limits;
mod place;
mod position;
mod redact;
mod shape;
mod slot;
mod source;
mod substitute;
mod value;

pub use aws::{CONTENT_DIGEST, NotSigned, Signing, ToSign};
pub use check::{CredentialError, Fault, check, check_slot};
pub use limits::{Bound, LimitReached, Limits, LimitsError, Rate, Written as WrittenLimits};
pub use place::{Credential, Place, Slot};
pub use position::{Placeholders, Position, may_hold_credential};
pub use redact::{RedactedStream, Redactor};
pub use shape::{Shape, ShapeError, placeholder};
pub use slot::SlotError;
pub use source::{Source, SourceError};
pub use substitute::{Offer, Replaced, RequestHead, Substitution, Violation, Why, substitute};
pub use value::{MAX_VALUE, MIN_VALUE, ValueError, value};
