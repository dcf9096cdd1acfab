//! Named destinations of plain TCP: each has a socket of its own, and what the agent says there is looked at.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connect::Stream;
use super::{Egress, Outcome};
use crate::policy::{Decision, Form, Intent, Reason, authorize};
use crate::scan::Seam;

/// Bytes carried at once, each way.
const BUFFER: usize = 64 << 10;

/// Serves one connection to a destination, by its place in the list.
pub(super) async fn serve(mut stream: Stream, index: usize, egress: &Arc<Egress>) {
    let Some(target) = egress.state().policy.tcp.get(index).cloned() else { return };
    let intent = Intent { form: Form::Tcp, method: String::new(), host: target.host, port: target.port, path: None };
    // The connection ends when it was told why.
    if let Err(reason) = carry(&mut stream, &intent, egress).await {
        egress.decided(Some(&intent), Outcome::Refuse(&reason));
    }
}

async fn carry(near: &mut Stream, intent: &Intent, egress: &Arc<Egress>) -> Result<(), Reason> {
    let state = egress.state();
    let destination = match authorize(&state.policy, intent) {
        Decision::Allow(destination) | Decision::Audit(destination, _) => destination,
        Decision::Refuse(reason) => return Err(reason),
    };
    let Some(pinned) = state.connector.pin(&intent.host, destination).await? else { return Ok(()) };
    let far = pinned.dial().await?;
    egress.decided(Some(intent), Outcome::Allow);
    let scanner = state.scanner(egress, intent);
    let (mut from_near, mut to_near) = tokio::io::split(near);
    let (mut from_far, mut to_far) = tokio::io::split(far);
    let out = async {
        let (mut buffer, mut seam, mut first) = (vec![0; BUFFER], Seam::default(), true);
        while let Ok(length @ 1..) = from_near.read(&mut buffer).await {
            let bytes = &buffer[..length];
            if std::mem::take(&mut first) && is_gated(bytes) {
                return Err(Reason::BadRequest("SSH and git do not go this way"));
            }
            if let Some(finding) = seam.look(&scanner, bytes) {
                return Err(Reason::SecretFound(finding, "stream"));
            }
            if to_far.write_all(bytes).await.is_err() {
                break;
            }
            egress.counters.request_bytes.fetch_add(length as u64, Ordering::Relaxed);
        }
        let _ = to_far.shutdown().await;
        Ok(())
    };
    let back = async {
        let mut buffer = vec![0; BUFFER];
        while let Ok(length @ 1..) = from_far.read(&mut buffer).await {
            egress.counters.response_bytes.fetch_add(length as u64, Ordering::Relaxed);
            if to_near.write_all(&buffer[..length]).await.is_err() {
                break;
            }
        }
        let _ = to_near.shutdown().await;
    };
    tokio::pin!(out, back);
    tokio::select! {
        // What ends either way ends when both have; a refusal ends both.
        sent = &mut out => {
            sent?;
            back.await;
            Ok(())
        }
        () = &mut back => out.await,
    }
}

/// Whether a conversation is one that has a gate of its own: RFC 4253 section 4.2, and git's pack protocol, whose first
/// line has its length in four digits before it.
fn is_gated(bytes: &[u8]) -> bool {
    bytes.starts_with(b"SSH-") || bytes.get(4..).is_some_and(|line| line.starts_with(b"git-receive-pack"))
}
