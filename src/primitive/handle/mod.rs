//! What a script holds a handle to, and what is told of it: data alone, made and undone elsewhere.

mod child;
mod image;
mod life;
mod network;
mod pair;
mod sidecar;
mod source;
mod volume;

pub use child::{Child, ChildOptions, Order, Work};
pub use image::{Image, ImageInfo};
pub use life::Life;
pub use network::Network;
pub(super) use pair::{Pair, Pairs, Refusal};
pub(super) use sidecar::{Begun, inside};
pub use sidecar::{Sidecar, SidecarOptions};
pub use source::Source;
pub use volume::Volume;
