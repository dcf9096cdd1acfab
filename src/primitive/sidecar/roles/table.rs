//! The one table of roles: by it `main` runs a sidecar's process, a recipe starts one, its container has its label, and `ctl`
//! finds it.

use super::egress::EgressProfile;
use super::profile::{Described, Entry};
use super::upstream::UpstreamProfile;
use crate::sidecar::receiver::Receiver;
use crate::sidecar::run::Process;

static TABLE: &[Entry] = &[
    Entry::of::<EgressProfile>(),
    Entry::of::<UpstreamProfile>(),
    Entry::of_its_own::<Receiver>(),
    #[cfg(debug_assertions)]
    Entry::of::<super::stub::StubProfile>(),
];

/// The process of a role, by its name on the command line.
pub fn process(name: &str) -> Option<Process> {
    TABLE.iter().find(|entry| entry.name == name).map(|entry| entry.process)
}

/// A role that recipes start, by its name.
pub(super) fn find(name: &str) -> Option<&'static Described> {
    startable().find(|role| role.name == name)
}

/// The roles that recipes start.
pub(super) fn startable() -> impl Iterator<Item = &'static Described> {
    TABLE.iter().filter_map(|entry| entry.profile.as_ref())
}
