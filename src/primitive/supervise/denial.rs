//! A refused request, as the agent and the operator read it.

use crate::audit;
use crate::policy::suggested_call;
use crate::sidecar::supervise::DeniedRequest;

/// Describes a refusal; with the next call if the agent can ask.
pub(super) fn denied(event: &audit::Event, asks: bool) -> DeniedRequest {
    let kind = &event.kind;
    let next_call = if asks { suggested_call(&kind.code, &kind.destination, &kind.method) } else { None };
    DeniedRequest {
        id: audit::denial_id(kind),
        time: event.time,
        sidecar: kind.sidecar.clone(),
        code: kind.code.clone(),
        reason: kind.reason.clone(),
        request: format!("{} {}", kind.method, kind.destination).trim().to_owned(),
        next_call,
    }
}
