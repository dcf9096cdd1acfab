//! The dialer: egress' way out on an engine whose containers have no network that leads anywhere.

use super::profile::{ConfigOf, Context, Networks, NoticeEffect, Profile, UpdateOf};
use crate::engine::Resources;
use crate::policy::EnforcedPolicy;
use crate::sidecar::Never;
use crate::sidecar::dialer::{Config, Dialer};

pub(super) struct DialerProfile;

impl Profile for DialerProfile {
    type Role = Dialer;
    const RESOURCES: Resources = Resources { cpus: 2.0, memory: 128 << 20, pids: 16 };
    const NETWORKS: Networks = Networks::Host;
    const POLICY: Option<fn(Box<EnforcedPolicy>) -> UpdateOf<Self>> = Some(|policy| policy);

    fn config(context: Context<'_>) -> Result<ConfigOf<Self>, &'static str> {
        Ok(Config { policy: context.policy.ok_or("there is no policy")? })
    }

    fn noticed(notice: Never) -> Option<NoticeEffect> {
        match notice {}
    }
}
