//! A bottle in the making: what the primitives of one launch share.

mod addresses;
mod build_base;
mod channels;
mod credentials;
mod host;
mod images;
mod inventory;
mod policies;
mod progress;
mod questions;
mod recording;
mod requests;
mod secrets;
mod state;
mod steps;
mod turn;

pub use addresses::{FreeRanges, free_ranges};
pub(super) use build_base::BuildBase;
pub use host::{HostContext, MAX_BURST, Renew};
pub use images::Images;
pub(super) use images::{ImageSource, Layered};
pub(super) use requests::Queue;
pub use requests::{Decider, REQUESTS_FILE, Request, RequestState, Wish, closed, read_requests};
pub use state::{Bottle, Launcher, Nesting};
