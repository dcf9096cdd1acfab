//! The objects behind a script's handles: data only; other modules create and remove them.

mod child;
mod image;
mod life;
mod network;
mod pair;
mod sidecar;
mod source;
mod volume;

pub use child::{Child, ChildOptions, ChildOutcome, ChildRequest};
pub use image::{Image, ImageInfo};
pub use life::Lifecycle;
pub use network::Network;
pub(super) use pair::{Pair, Pairs, Refusal};
pub use sidecar::{Sidecar, SidecarOptions};
pub(super) use sidecar::{SidecarInputs, inside};
pub use source::{HomeSource, WorkspaceSource};
pub use volume::Volume;
