//! Images: our own, built ones, and our layer on an agent's own.

pub(super) mod account;
pub(super) mod base;
pub(super) mod build;
pub(super) mod self_image;

pub use build::{Built as ImageInfo, Image, ImageOptions, build_image, own_image};
