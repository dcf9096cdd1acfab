//! A refused request, as the agent and the operator read it.

use serde_json::{Value, json};

use crate::audit;
use crate::policy::suggested_call;
use crate::sidecar::supervise::DeniedRequest;

/// Describes a refusal; with the next call if the agent can ask.
pub(super) fn denied(event: &audit::Event, asks: bool) -> DeniedRequest {
    let kind = &event.kind;
    let next_call = if asks { next_call(kind) } else { None };
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

fn next_call(kind: &audit::Details) -> Option<Value> {
    if kind.form == "git" {
        // What an operator can release; whether this push has more than that, the gate says when it is asked.
        let releasable = kind.method == "push" && ["secret_found", "git_path_protected"].contains(&kind.code.as_str());
        let repository = kind.reason.split(':').next().unwrap_or_default();
        let arguments = json!({ "repository": repository, "operation": "push", "reason": "…" });
        return releasable.then(|| json!({ "tool": "git_request", "arguments": arguments }));
    }
    suggested_call(&kind.code, &kind.destination, &kind.method)
}
