//! TCP destinations that the policy names: each has its own socket, and what the agent sends is scanned. Requests of HTTP/1 to a
//! service of the user's machine are served as the proxy serves them, because clients that know no proxy send them here.
//!
//! Attacks that this stops: SSH and `git push`, which must not leave without a gate; a secret in a compressed or chunked body
//! that a service would receive, and in which a stream of bytes shows nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::connection_permit::ConnectionPermit;
use super::inspect::scan_message;
use super::peeked::Peeked;
use super::strict::MAX_HEAD;
use super::{Egress, LoggedDecision, after_connect};
use crate::policy::{Decision, Destination, Form, Intent, Reason, authorize};
use crate::scan::Overlap;
use crate::sidecar::dialer::Connection;

/// How long a connection stays open whose client sends nothing more.
const HALF_CLOSED: Duration = Duration::from_mins(2);
/// Buffer size in each direction, in bytes.
const BUFFER: usize = 64 << 10;

/// Serves one connection to the destination with this index.
pub(super) async fn serve(mut stream: Connection, index: usize, egress: &Arc<Egress>, permit: &ConnectionPermit) {
    let Some(target) = egress.snapshot().policy.tcp.get(index).cloned() else { return };
    let intent = Intent { form: Form::Tcp, method: String::new(), host: target.host, port: target.port, path: None };
    let intent = Arc::new(intent);
    match carry(&mut stream, &intent, egress).await {
        Ok(None) => {}
        Ok(Some(first)) => after_connect::direct(egress, Peeked::with(first.into(), stream), &intent, permit).await,
        // The connection ends; the event says why.
        Err(reason) => egress.record(Some(&intent), LoggedDecision::Refuse(&reason)),
    }
}

/// Carries bytes until the connection ends; or returns the first ones, if they begin a request that is served by itself.
async fn carry(near: &mut Connection, intent: &Arc<Intent>, egress: &Arc<Egress>) -> Result<Option<Vec<u8>>, Reason> {
    let snapshot = egress.snapshot();
    let destination = match authorize(&snapshot.policy, intent) {
        Decision::Allow(destination) | Decision::Audit(destination, _) => destination,
        Decision::Refuse(reason) => return Err(reason),
    };
    let is_service = matches!(destination, Destination::Sidecar(_));
    let Some(pinned) = snapshot.connector.pin(&intent.host, destination).await? else { return Ok(None) };
    let far = pinned.dial().await?;
    egress.record(Some(intent), LoggedDecision::Allow);
    let scanner = egress.scanner(&snapshot, intent);
    let (mut from_near, mut to_near) = tokio::io::split(near);
    let (mut from_far, mut to_far) = tokio::io::split(far);
    // Of HTTP, the client speaks first.
    let has_spoken = AtomicBool::new(false);
    let out = async {
        let (mut buffer, mut overlap) = (vec![0; BUFFER], Overlap::pieces());
        // The bytes so far, until the protocol is known.
        let mut first = Some(Vec::new());
        while let Ok(length @ 1..) = from_near.read(&mut buffer).await {
            let mut bytes = Bytes::copy_from_slice(&buffer[..length]);
            if let Some(prefix) = &mut first {
                prefix.extend_from_slice(&bytes);
                match sniff(prefix, is_service && !has_spoken.load(Ordering::Relaxed)) {
                    Sniffed::Closed => return Err(Reason::BadRequest("SSH and git do not go this way")),
                    Sniffed::Undecided => continue,
                    Sniffed::Http => return Ok(first),
                    Sniffed::Open => bytes = std::mem::take(prefix).into(),
                }
                first = None;
            }
            scan_message(egress, &scanner, &mut overlap, bytes.clone(), "stream").await?;
            if to_far.write_all(&bytes).await.is_err() {
                break;
            }
            egress.counters.request_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        // A connection that ends before the protocol is known is neither SSH nor git.
        if let Some(prefix) = first.filter(|prefix| !prefix.is_empty()) {
            scan_message(egress, &scanner, &mut overlap, prefix.clone().into(), "stream").await?;
            let _ = to_far.write_all(&prefix).await;
        }
        let _ = to_far.shutdown().await;
        Ok(None)
    };
    let back = async {
        let mut buffer = vec![0; BUFFER];
        while let Ok(length @ 1..) = from_far.read(&mut buffer).await {
            has_spoken.store(true, Ordering::Relaxed);
            egress.counters.response_bytes.fetch_add(length as u64, Ordering::Relaxed);
            if to_near.write_all(&buffer[..length]).await.is_err() {
                break;
            }
        }
        let _ = to_near.shutdown().await;
    };
    tokio::pin!(out, back);
    let forbidden = egress.until_forbidden(&snapshot.policy, intent);
    let carried = async {
        tokio::select! {
        // The connection ends when both directions have ended; a refusal ends both.
        sent = &mut out => {
            let request = sent?;
            if request.is_none() {
                // A client that is gone looks like one that only has nothing more to send.
                let _ = timeout(HALF_CLOSED, back).await;
            }
            Ok(request)
        }
        () = &mut back => out.await,
        }
    };
    tokio::select! {
        carried = carried => carried,
        reason = forbidden => Err(reason),
    }
}

/// Whether a connection may continue.
#[derive(Debug, PartialEq, Eq)]
enum Sniffed {
    Open,
    Closed,
    /// It is served as HTTP.
    Http,
    /// More bytes are needed; the first ones are held back.
    Undecided,
}

/// Decides by the first bytes: SSH (RFC 4253, section 4.2) and git's pack protocol are refused. The first line of the
/// latter begins with its length in four hexadecimal digits. `may_be_http` says whether HTTP is told from other protocols.
fn sniff(bytes: &[u8], may_be_http: bool) -> Sniffed {
    const SSH: &[u8] = b"SSH-";
    const PUSH: &[u8] = b"git-receive-pack";
    let (digits, line) = bytes.split_at(bytes.len().min(4));
    let packs = digits.iter().all(u8::is_ascii_hexdigit);
    if bytes.starts_with(SSH) || packs && line.starts_with(PUSH) {
        Sniffed::Closed
    } else if SSH.starts_with(bytes) || packs && PUSH.starts_with(line) {
        Sniffed::Undecided
    } else if may_be_http {
        sniff_http(bytes)
    } else {
        Sniffed::Open
    }
}

/// Whether the first line is that of a request of HTTP/1 (RFC 9112, section 3): a method, a target and the version.
fn sniff_http(bytes: &[u8]) -> Sniffed {
    if let Some(end) = memchr::memchr(b'\n', bytes) {
        let version = bytes[..end].trim_ascii_end().rsplit(u8::is_ascii_whitespace).next();
        let is_http = version.is_some_and(|version| version.to_ascii_uppercase().starts_with(b"HTTP/1."));
        return if is_http { Sniffed::Http } else { Sniffed::Open };
    }
    let method = bytes.iter().take_while(|byte| byte.is_ascii_alphabetic() || b"-_".contains(byte)).count();
    let goes_on = bytes.get(method).is_none_or(|byte| *byte == b' ') && !bytes.contains(&0) && bytes.len() <= MAX_HEAD;
    if goes_on { Sniffed::Undecided } else { Sniffed::Open }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssh_and_git_are_known_however_their_beginning_is_cut() {
        for closed in ["SSH-2.0-OpenSSH_9.2\r\n", "0032git-receive-pack /a.git\0host=x\0", "00AFgit-receive-pack x"] {
            let whole = closed.as_bytes();
            let decided =
                (1..=whole.len()).map(|length| sniff(&whole[..length], false)).find(|gate| *gate != Sniffed::Undecided);
            assert_eq!(decided, Some(Sniffed::Closed), "{closed}");
        }
        for open in [
            "SSL",
            "GET / HTTP/1.1",
            "\0\0\0\x08\x04",
            "0032git-upload-pack /a",
            "*1\r\n$4",
            "12345",
            "git-receive-pack",
        ] {
            let whole = open.as_bytes();
            let decided =
                (1..=whole.len()).map(|length| sniff(&whole[..length], false)).find(|gate| *gate != Sniffed::Undecided);
            assert_eq!(decided, Some(Sniffed::Open), "{open}");
        }
    }

    #[test]
    fn requests_to_services_are_known_however_their_first_line_is_cut() {
        let decided = |text: &str| {
            let whole = text.as_bytes();
            (1..=whole.len()).map(|length| sniff(&whole[..length], true)).find(|it| *it != Sniffed::Undecided)
        };
        for request in ["GET / HTTP/1.1\r\n", "POST /a b HTTP/1.0\n", "M-SEARCH * HTTP/1.1\r\n", "Get / http/1.1 \r\n"]
        {
            assert_eq!(decided(request), Some(Sniffed::Http), "{request}");
            assert_eq!(sniff(request.as_bytes(), false), Sniffed::Open);
        }
        let other = [
            "GET key\r\n",
            "PING\r\n",
            "*1\r\n$4",
            "\0\0\0\x08",
            "AMQP\0\0\x09\x01",
            "PRI * HTTP/2.0\r\n",
            "CONNECT {}\r\n",
        ];
        for other in other {
            assert_eq!(decided(other), Some(Sniffed::Open), "{other}");
        }
        assert_eq!(sniff(&vec![b'A'; MAX_HEAD + 1], true), Sniffed::Open);
        assert_eq!(decided("SSH-2.0-x HTTP/1.1\r\n"), Some(Sniffed::Closed));
    }
}
