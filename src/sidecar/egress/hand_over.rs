//! Hands the agent's git requests for a declared repository over to the git gate, which inspects what is pushed.
//!
//! The gate has the key; the agent's own credentials, cookies and every other header that git does not need end here.
//! The body is not scanned: a pack is compressed, and the gate looks into every object of it.

use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::body::Body as _;
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Request, Response};

use super::Egress;
use super::bodies::{Body, Uninspected, empty};
use super::body::check_head;
use super::drain::RequestBody;
use super::forward::{answered, frame, slot, unreachable};
use super::headers::aim;
use super::snapshot::Snapshot;
use crate::layout::git_gate;
use crate::net::Host;
use crate::policy::{Form, Intent, Reason};
use crate::sidecar::hop_by_hop::strip;

/// The headers that the gate receives (git, `gitprotocol-http(5)`).
const KEPT: [HeaderName; 6] = [
    header::ACCEPT,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::USER_AGENT,
    HeaderName::from_static("git-protocol"),
];

/// Sends a request to the gate, as `target`, and returns its response.
///
/// # Errors
/// The head holds a secret, or there is no gate.
pub(super) async fn hand_over(
    egress: &Arc<Egress>,
    snapshot: &Snapshot,
    intent: &Arc<Intent>,
    target: &str,
    request: Request<RequestBody>,
) -> Result<Response<Body>, Reason> {
    if !snapshot.policy.sidecars.contains_key(git_gate::NAME) {
        return Err(Reason::Unreachable(intent.host.clone(), "the git gate is not up".to_owned()));
    }
    let slot = slot(egress).await?;
    let (mut head, body) = request.into_parts();
    head.headers = kept(&head.headers);
    let scanner = egress.scanner(snapshot, intent);
    check_head(&egress.capacity, &scanner, &head, intent.path.as_deref().unwrap_or("/")).await?;
    egress.recheck(snapshot, intent)?;
    let bare = body.is_end_stream();
    let counters = egress.counters.clone();
    let body = if bare {
        empty()
    } else {
        Uninspected { inner: body, counters, counter: |counters| &counters.request_bytes }.boxed()
    };
    let gate = Intent {
        form: Form::Absolute,
        method: intent.method.clone(),
        host: Host::Name(git_gate::NAME.to_owned()),
        port: git_gate::PORT,
        path: None,
    };
    aim(&mut head, &gate, target, "http")?;
    frame(&mut head, &body, bare);
    let sent = answered(egress, snapshot.client.request(Request::from_parts(head, body))).await;
    let (mut head, body) = sent.map_err(|error| unreachable(&gate.host, &error))?.into_parts();
    strip(&mut head.headers);
    let counters = egress.counters.clone();
    let body = Uninspected { inner: body, counters, counter: |counters| &counters.response_bytes }.boxed();
    Ok(egress.responses.track(Arc::downgrade(egress), intent, Response::from_parts(head, body), slot))
}

fn kept(headers: &HeaderMap) -> HeaderMap {
    let kept = headers.iter().filter(|(name, _)| KEPT.contains(name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}
