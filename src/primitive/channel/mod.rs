//! Communication with processes in containers: lines of JSON, commands to sidecars, and their health.

pub(super) mod control;
pub(super) mod ctl;
pub(super) mod health;
pub(super) mod stream;

pub use ctl::ask;
