//! Upstream: the probe's counterpart.

use super::profile::{ConfigOf, Context, Networks, NoticeEffect, Profile};
use crate::sidecar::Nothing;
use crate::sidecar::upstream::{Config, Upstream};

pub(super) struct UpstreamProfile;

impl Profile for UpstreamProfile {
    type Role = Upstream;
    const NETWORKS: Networks = Networks::Some;

    fn config(context: Context<'_>) -> Result<ConfigOf<Self>, &'static str> {
        Ok(Config {
            listen: context.networks.iter().map(|network| (network.own, network.broadcast)).collect(),
            egress: context.networks.first().map(|network| network.egress),
        })
    }

    fn noticed(notice: Nothing) -> Option<NoticeEffect> {
        match notice {}
    }
}
