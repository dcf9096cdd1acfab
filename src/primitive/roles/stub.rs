//! The stub: a role for tests only.

use super::profile::{ConfigOf, Context, Networks, NoticeEffect, Profile};
use crate::sidecar::Never;
use crate::sidecar::place::InsideAddresses;
use crate::sidecar::stub::{Config, Stub};

/// The port of its name.
const PORT: u16 = 9000;

pub(super) struct StubProfile;

impl Profile for StubProfile {
    type Role = Stub;
    const NETWORKS: Networks = Networks::Inside;
    const USES_EGRESS: bool = true;
    const PORT: Option<u16> = Some(PORT);
    const IS_FOR_TESTS: bool = true;

    fn config(context: Context<'_>) -> Result<ConfigOf<Self>, &'static str> {
        let inside = context.networks.first().map(|network| InsideAddresses { own: network.own, agent: network.agent });
        let outward = context.outward.ok_or("there is no way out")?;
        Ok(Config { name: context.name.to_owned(), port: PORT, inside, outward })
    }

    fn noticed(notice: Never) -> Option<NoticeEffect> {
        match notice {}
    }
}
