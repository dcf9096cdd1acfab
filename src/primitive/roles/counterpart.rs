//! The counterpart: the probe's destination outside the bottle.

use super::profile::{ConfigOf, Context, Networks, NoticeEffect, Profile};
use crate::sidecar::Never;
use crate::sidecar::counterpart::{Config, Counterpart};

pub(super) struct CounterpartProfile;

impl Profile for CounterpartProfile {
    type Role = Counterpart;
    const NETWORKS: Networks = Networks::Some;

    fn config(context: Context<'_>) -> Result<ConfigOf<Self>, &'static str> {
        Ok(Config {
            listen: context.networks.iter().map(|network| (network.own, network.broadcast)).collect(),
            egress: context.networks.first().map(|network| network.egress),
        })
    }

    fn noticed(notice: Never) -> Option<NoticeEffect> {
        match notice {}
    }
}
