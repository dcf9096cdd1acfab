//! Networks, and the ranges of addresses that they get.

pub(super) mod address;
pub(super) mod create;

pub use address::{FreeRanges, free_ranges};
pub use create::{Network, NetworkOptions, network_create};
