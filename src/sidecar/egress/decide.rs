//! Judges an intent, records the decision, and makes the response to a refusal.

use std::sync::Arc;

use hyper::Response;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::bodies::Body;
use super::inject::Used;
use super::refusal::{self, ClientKind};
use super::snapshot::Snapshot;
use super::strict::{Rejected, RejectedSlot};
use super::{Egress, LoggedDecision};
use crate::net::Host;
use crate::policy::{Decision, Destination, Form, Intent, Reason, Tls, authorize};
use crate::scan::Budget;

/// The response, and how the request was allowed if not by the policy; or why it was refused.
pub(super) type HandlerResult = Result<(Response<Body>, Option<Allowed>), Reason>;

/// How a request was allowed, other than by the policy.
pub(super) enum Allowed {
    /// The policy is not enforced.
    Audit(Reason),
    /// The tunnel is not inspected.
    Tunnel,
    /// Not at all: the requests inside the TLS that follows are refused, and each of them is recorded.
    Inside,
}

impl Allowed {
    /// The decision to record now, if there is one.
    pub(super) fn outcome(&self) -> Option<LoggedDecision<'_>> {
        match self {
            Self::Audit(reason) => Some(LoggedDecision::Audit(reason)),
            Self::Tunnel => Some(LoggedDecision::Tunnel),
            Self::Inside => None,
        }
    }
}

/// Decides about a request before its host is resolved. In audit mode, also returns why it would be refused.
pub(super) fn judge(
    egress: &Arc<Egress>,
    snapshot: &Snapshot,
    intent: &Arc<Intent>,
) -> Result<(Destination, Option<Allowed>), Reason> {
    if let Host::Name(name) = &intent.host
        && intent.form != Form::Inside
    {
        let (scanner, mut budget) = (egress.scanner(snapshot, intent), Budget::of(name.len()));
        let found = scanner.scan_host(name, &mut budget).map_err(Reason::TooMuchWork)?;
        scanner.report_warnings(&mut budget);
        if let Some(finding) = found {
            return Err(Reason::SecretFound(finding, "host"));
        }
    }
    let decision = authorize(&snapshot.policy, intent);
    // A `CONNECT` only counts as a request if the requests after it are not seen.
    if !matches!(decision, Decision::Refuse(_)) && (intent.form != Form::Connect || is_tunnel(snapshot, intent)) {
        egress.spend(snapshot, intent)?;
    }
    match decision {
        Decision::Allow(destination) => Ok((destination, None)),
        Decision::Audit(destination, reason) => Ok((destination, Some(Allowed::Audit(reason)))),
        Decision::Refuse(reason) => Err(reason),
    }
}
/// Whether what follows a `CONNECT` is forwarded without inspection.
pub(super) fn is_tunnel(snapshot: &Snapshot, intent: &Intent) -> bool {
    snapshot.policy.tls(&intent.host, intent.port) == Tls::Tunnel
}

/// Records the decision about a request; returns its response.
pub(super) fn respond(
    egress: &Egress,
    intent: Option<&Intent>,
    client_kind: ClientKind,
    answered: HandlerResult,
) -> Response<Body> {
    match answered {
        Ok((mut answer, outcome)) => {
            let used = answer.extensions_mut().remove::<Used>();
            let allowed = used.as_ref().map_or(LoggedDecision::Allow, Used::logged);
            if let (Some(_), Some(_)) = (&used, &outcome) {
                egress.record(intent, allowed);
            }
            if let Some(logged) = outcome.as_ref().map_or(Some(allowed), Allowed::outcome) {
                egress.record(intent, logged);
            }
            answer
        }
        Err(reason) => {
            let refused = egress.refuse(intent, &reason);
            refusal::answer(&reason, intent, client_kind, &refused)
        }
    }
}

/// Records why a connection was rejected, and tells the client.
pub(super) async fn report_rejected<S: AsyncWrite + Unpin>(
    egress: &Egress,
    outer: Option<&Intent>,
    refused: &RejectedSlot<S>,
) {
    let Some(Rejected { mut stream, why, unanswered }) = crate::sync::lock(refused).take() else { return };
    let reason = Reason::BadRequest(why);
    let refused = egress.refuse(outer, &reason);
    if !unanswered {
        return;
    }
    let line = refusal::line(&reason, ClientKind::Other, &refused);
    let (status, words) = (refusal::status(&reason, outer.is_some()).as_u16(), refusal::phrase(&reason));
    let head = "content-type: application/json\r\nconnection: close\r\ncontent-length:";
    let answer = format!("HTTP/1.1 {status} {words}\r\n{head} {}\r\n\r\n{line}", line.len());
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}
