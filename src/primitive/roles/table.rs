//! The table of roles. `main` runs a sidecar's process by it, recipes start sidecars by it, and containers are labelled and found by
//! its names.

use super::counterpart::CounterpartProfile;
use super::cred_proxy::CredProxyProfile;
use super::dialer::DialerProfile;
use super::egress::EgressProfile;
use super::git_gate::GitGateProfile;
use super::profile::{Entry, Networks, RoleProfile};
use super::supervise::SuperviseProfile;
use crate::sidecar::receiver::HostReceiver;
use crate::sidecar::run::Process;

static TABLE: &[Entry] = &[
    Entry::of::<EgressProfile>(),
    Entry::of::<CounterpartProfile>(),
    Entry::of::<CredProxyProfile>(),
    Entry::of::<GitGateProfile>(),
    Entry::of::<DialerProfile>(),
    Entry::of::<SuperviseProfile>(),
    Entry::of_its_own::<HostReceiver>(),
    #[cfg(debug_assertions)]
    Entry::of::<super::stub::StubProfile>(),
];

/// The process of a role, by its name on the command line.
pub fn process(name: &str) -> Option<Process> {
    TABLE.iter().find(|entry| entry.name == name).map(|entry| entry.process)
}

/// A role that recipes start, by its name.
pub(super) fn find(name: &str) -> Option<&'static RoleProfile> {
    startable().find(|role| role.name == name)
}

/// The roles that recipes start.
pub(super) fn startable() -> impl Iterator<Item = &'static RoleProfile> {
    profiles().filter(|role| role.networks != Networks::Host)
}

/// The dialer, which bottler starts beside an egress.
pub(in crate::primitive) fn dialer() -> &'static RoleProfile {
    profiles().find(|role| role.name == crate::sidecar::dialer::ROLE).expect("it is in the table")
}

fn profiles() -> impl Iterator<Item = &'static RoleProfile> {
    TABLE.iter().filter_map(|entry| entry.profile.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{EgressSpec, EnforcedPolicy};

    #[test]
    fn secrets_go_to_egress_and_the_git_gate_only_and_the_policy_to_egress_and_its_dialer() {
        for role in profiles() {
            let policy = Box::new(EnforcedPolicy::first(EgressSpec::default()));
            let told = [(role.secrets)(Vec::new()).is_some(), (role.credentials)(Vec::new()).is_some()];
            assert_eq!(told, [["egress", "git-gate"].contains(&role.name); 2], "{}", role.name);
            let enforces = ["egress", "dialer"].contains(&role.name);
            assert_eq!([(role.policy)(policy).is_some(), role.takes_policy], [enforces; 2], "{}", role.name);
        }
    }

    #[test]
    fn no_recipe_starts_what_is_in_the_host_network() {
        assert!(find("dialer").is_none() && find("receiver").is_none() && find("egress").is_some());
    }

    #[test]
    fn names_are_each_the_only_one() {
        for (place, entry) in TABLE.iter().enumerate() {
            assert!(TABLE[..place].iter().all(|other| other.name != entry.name), "{}", entry.name);
            assert!(process(entry.name).is_some());
        }
    }
}
