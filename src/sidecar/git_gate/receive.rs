//! Receives a push: commands, then the pack into a quarantine. Nothing is decided here but what needs no pack.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::OwnedSemaphorePermit;

use super::commands::{self, CommandsError, Request, ZERO};
use super::early::Early;
use super::gate::{Gate, Served};
use super::mirror::MirrorError;
use super::opening::Opening;
use super::pkt;
use super::quarantine::{Quarantine, Unpacking};
use super::terms::Refusal;
use crate::git_ref::is_printable_name;
use crate::scan::Budget;

/// How long a client may take for its commands: in a request, and after it has been told the references.
const IDLE: Duration = Duration::from_mins(1);
const HOOK: Duration = Duration::from_mins(10);
/// What the client may use. Nothing that configures the server, and packs are complete by themselves.
const CAPABILITIES: &str = "report-status report-status-v2 delete-refs side-band-64k quiet atomic ofs-delta object-format=sha1 no-thin agent=bottler";

/// A push that has arrived.
pub(super) struct Push {
    /// Held until it is decided: only so many pushes are unpacked and inspected at a time.
    permit: Option<OwnedSemaphorePermit>,
    /// Its commands.
    pub(super) request: Request,
    /// Its pack, if there is one.
    pub(super) pack: Option<(Quarantine, Unpacking)>,
    /// The conversation with the upstream, unless the push was refused at once.
    pub(super) opening: Option<Opening>,
    /// What was refused at once: the reference, or all of them.
    pub(super) refused: Vec<(Option<String>, Refusal)>,
}

/// Lists the branches and tags of the upstream, as `receive-pack` does. The upstream's own `receive-pack` is asked,
/// and its conversation kept for the push that follows.
///
/// # Errors
/// The upstream cannot be asked.
pub(super) async fn advertisement(served: &Arc<Served>) -> Result<Vec<u8>, MirrorError> {
    let _turn = served.kept.turn().await;
    let (conversation, listed) = Opening::anew(served).done().await.map_err(|why| served.mirror.error(why))?;
    // A push is made on what is listed, and its objects alone are no history.
    if !served.mirror.has(&listed.refs).await {
        served.mirror.refresh().await?;
    }
    let named = listed.refs.iter().filter(|(name, _)| is_printable_name(name));
    let mut refs: Vec<_> = named.map(|(name, id)| (id.as_str(), name.as_str())).collect();
    if refs.is_empty() {
        refs.push((ZERO, "capabilities^{}"));
    }
    let mut response = Vec::new();
    for (number, (id, name)) in refs.iter().enumerate() {
        let text = if number == 0 { format!("{id} {name}\0{CAPABILITIES}\n") } else { format!("{id} {name}\n") };
        response.extend(pkt::line(text));
    }
    response.extend_from_slice(pkt::FLUSH);
    served.kept.put(conversation, listed);
    Ok(response)
}

/// Receives a push. `ends` says that the input ends with the pack.
///
/// # Errors
/// The commands are malformed: then there is nobody to report to.
pub(super) async fn receive(
    gate: &Arc<Gate>,
    served: &Arc<Served>,
    from: &mut (impl AsyncRead + Unpin),
    ends: bool,
) -> Result<Push, CommandsError> {
    // Over git's own protocol, a hook of the client may run before it sends anything; nothing is held for it.
    let patience = if ends { IDLE } else { HOOK };
    let request = tokio::time::timeout(patience, commands::read(from)).await.map_err(|_| CommandsError::Silent)??;
    let refused = refused_by_name(gate, served, &request);
    let mut push = Push { permit: None, refused, request, pack: None, opening: None };
    if !push.refused.is_empty() {
        if ends && push.request.has_pack() {
            drain(from, served.terms.max_push).await;
        }
        return Ok(push);
    }
    // A client asks whether it may push before it sends much, and ends without commands if there is nothing to push.
    if push.request.commands.is_empty() {
        return Ok(push);
    }
    push.permit = gate.pushes.clone().acquire_owned().await.ok();
    push.opening = Some(Opening::begin(served, &push.request));
    if !push.request.has_pack() {
        return Ok(push);
    }
    match begin(gate, served, from, ends).await {
        Ok(pack) => push.pack = Some(pack),
        Err(refusal) => {
            push.refused.push((None, refusal));
            if ends {
                drain(from, served.terms.max_push).await;
            }
        }
    }
    Ok(push)
}

async fn begin(
    gate: &Gate,
    served: &Served,
    from: &mut (impl AsyncRead + Unpin),
    ends: bool,
) -> Result<(Quarantine, Unpacking), Refusal> {
    let mirror = served.mirror.git.repository();
    let quarantine = Quarantine::new(&served.program, &served.folder, mirror);
    let quarantine =
        quarantine.map_err(|error| Refusal::new("git_gate_failed", format!("make room for the pack: {error}")))?;
    let inspector = gate.inspector().ok_or_else(not_ready)?;
    let early = Early::start(inspector, served.terms.clone());
    let unpacking = quarantine.receive(from, ends, served.terms.max_push, early).await;
    unpacking.map(|unpacking| (quarantine, unpacking)).map_err(|error| error.refusal())
}

/// Reads what is not used, so that the client reads the response; not without end.
async fn drain(from: &mut (impl AsyncRead + Unpin), most: u64) {
    let _ = tokio::io::copy(&mut from.take(most), &mut tokio::io::sink()).await;
}

fn not_ready() -> Refusal {
    let reason = "the bottle has not been released yet: no push is accepted before its secrets are known";
    Refusal::new("git_not_ready", reason)
}

/// What the names alone refuse.
fn refused_by_name(gate: &Gate, served: &Served, request: &Request) -> Vec<(Option<String>, Refusal)> {
    let Some(inspector) = gate.inspector() else {
        return vec![(None, not_ready())];
    };
    let own = served.own();
    let refused = request.commands.iter().filter_map(|command| {
        let name = command.name.as_bytes();
        let found = inspector.findings(name, &mut Budget::of(name.len()));
        let found = found.map(|found| found.into_iter().find(|finding| inspector.refuses(finding)));
        let refusal = match found {
            Ok(None) => served.terms.judge(command, &own).err()?,
            Ok(Some(finding)) => Refusal::new("secret_found", format!("the name contains a secret: {finding}")),
            Err(exhausted) => Refusal::new("git_uninspectable", exhausted.to_string()),
        };
        Some((Some(command.name.clone()), refusal))
    });
    refused.collect()
}
