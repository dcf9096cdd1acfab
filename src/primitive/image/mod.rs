//! Images: bottler's own, built ones, and bottler's layer on an agent's image.

mod base;
mod build;
mod digest;
mod on_engine;
mod placeholder;
mod programs;
mod self_image;

pub use build::{ImageOptions, build_image};
pub(super) use build::{git_image, pipelock_image, self_image};
pub use on_engine::{build_reference, images_on_engine, own_image};
pub use placeholder::placeholder_images;
