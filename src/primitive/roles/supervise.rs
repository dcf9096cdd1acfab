//! supervise: the MCP server by which the agent asks the operator.

use super::profile::{ConfigOf, Context, Networks, NoticeEffect, Profile};
use crate::engine::Resources;
use crate::layout::supervise::PORT;
use crate::sidecar::supervise::{Call, Config, Supervise};

pub(super) struct SuperviseProfile;

impl Profile for SuperviseProfile {
    type Role = Supervise;
    const RESOURCES: Resources = Resources { cpus: 1.0, memory: 128 << 20, pids: 64 };
    const NETWORKS: Networks = Networks::None;
    const PORT: Option<u16> = Some(PORT);
    const SHOWS_POLICY: bool = true;

    fn config(context: Context<'_>) -> Result<ConfigOf<Self>, &'static str> {
        if !context.supervised {
            return Err("the bottle's agent may not ask: `supervise: true` in the manifest");
        }
        Ok(Config { bottle: context.bottle.to_owned(), hosts: vec![context.name.to_owned()] })
    }

    fn noticed(call: Call) -> Option<NoticeEffect> {
        Some(NoticeEffect::Asked(Box::new(call)))
    }
}
