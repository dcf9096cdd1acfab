//! Commands that need no bottle: manifest, trust, recipes, and the state of this machine.

pub(super) mod credentials;
pub(super) mod doctor;
pub(super) mod gc;
pub(super) mod init;
pub(super) mod lua;
pub(super) mod manifest;
pub(super) mod trust;
