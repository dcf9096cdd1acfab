//! The cred-proxy: routes that put a credential's placeholder into requests, which leave through egress.

use super::profile::{ConfigOf, Context, Networks, NoticeEffect, Profile};
use crate::layout::cred_proxy::PORT;
use crate::sidecar::Never;
use crate::sidecar::cred_proxy::{Config, CredProxy};
use crate::sidecar::place::InsideAddresses;

pub(super) struct CredProxyProfile;

impl Profile for CredProxyProfile {
    type Role = CredProxy;
    const NETWORKS: Networks = Networks::Inside;
    const USES_EGRESS: bool = true;
    const PORT: Option<u16> = Some(PORT);

    fn config(context: Context<'_>) -> Result<ConfigOf<Self>, &'static str> {
        if context.routes.is_empty() {
            return Err("the bottle has no routes: `cred_proxy: {routes: …}` in the manifest");
        }
        let inside = context.networks.iter().find(|network| network.internal);
        Ok(Config {
            port: PORT,
            inside: inside.map(|network| InsideAddresses { own: network.own, agent: network.agent }),
            outward: context.outward.ok_or("it has no way out")?,
            routes: context.routes,
        })
    }

    fn noticed(notice: Never) -> Option<NoticeEffect> {
        match notice {}
    }
}
