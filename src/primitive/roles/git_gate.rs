//! The git gate: repositories behind it are fetched from and pushed to through it alone.

use std::path::PathBuf;

use super::profile::{ConfigOf, Context, Networks, NoticeEffect, Profile, SidecarImage, UpdateOf};
use crate::credential::Credential;
use crate::engine::Resources;
use crate::layout::git_gate;
use crate::scan::KnownSecret;
use crate::sidecar::git_gate::{Approval, Config, Gate, Known, Programs, Sign, Signed, Update};
use crate::sidecar::place::InsideAddresses;

pub(super) struct GitGateProfile;

impl Profile for GitGateProfile {
    type Role = Gate;
    /// A process that unpacks a push may have 768 MiB; the rest is for mirrors that are read, and for what is inspected.
    const RESOURCES: Resources = Resources { cpus: 2.0, memory: 2 << 30, pids: 256 };
    const NETWORKS: Networks = Networks::Inside;
    const USES_EGRESS: bool = true;
    const PORT: Option<u16> = Some(git_gate::PORT);
    const IMAGE: SidecarImage = SidecarImage::Git;
    const STATE: Option<&str> = Some(git_gate::STATE);
    const MEMORY: Option<&str> = Some(git_gate::KEYS);
    const WAITS_FOR_SECRETS: bool = true;
    const SECRETS: Option<fn(Vec<KnownSecret>) -> UpdateOf<Self>> = Some(Update::Secrets);
    const CREDENTIALS: Option<fn(Vec<Credential>) -> UpdateOf<Self>> = Some(Update::Credentials);
    const APPROVE: Option<fn(Approval) -> UpdateOf<Self>> = Some(Update::Approve);
    const SIGNED: Option<fn(Signed) -> UpdateOf<Self>> = Some(Update::Signed);

    fn config(context: Context<'_>) -> Result<ConfigOf<Self>, &'static str> {
        if context.repositories.is_empty() {
            return Err("the bottle has no repositories: `git: […]` in the manifest");
        }
        let inside = context.networks.iter().find(|network| network.internal);
        let known = context.secrets.map(|secrets| Known::of(secrets, &context.credentials));
        Ok(Config {
            bottle: context.bottle.to_owned(),
            asks: context.supervised,
            inside: inside.map(|network| InsideAddresses { own: network.own, agent: network.agent }),
            outward: Some(context.outward.ok_or("it has no way out")?),
            programs: Programs { git: git_gate::GIT.into(), ssh: git_gate::SSH.into() },
            state: PathBuf::from(git_gate::STATE),
            keys: Some(PathBuf::from(git_gate::KEYS)),
            dlp: context.dlp,
            known,
            repositories: context.repositories,
        })
    }

    fn noticed(sign: Sign) -> Option<NoticeEffect> {
        Some(NoticeEffect::Sign(sign))
    }
}
