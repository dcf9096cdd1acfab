//! Named destinations of plain TCP.

use std::time::Duration;

use bottler::policy::{DenySpec, EnforcedPolicy};
use bottler::sidecar::egress::Update;
use bottler::sidecar::{Action, CommandOutcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::lab::{Lab, PUBLIC, in_namespace};
use crate::secrets::SECRET;

/// Pieces that are sent one after the other, each after the previous one has come back.
pub fn pieces() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let secret = SECRET.as_bytes();
    vec![
        ("a secret in a stream", vec![secret.to_vec()]),
        ("a secret in two pieces of a stream", vec![secret[..9].to_vec(), secret[9..].to_vec()]),
        ("a secret's first half in a stream", vec![b"so it begins: ".to_vec(), secret[..20].to_vec()]),
        ("a secret in base64 in a stream", vec![data_encoding::BASE64.encode(secret).into_bytes()]),
        ("SSH in a stream", vec![b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()]),
        ("a git push in a stream", vec![b"0032git-receive-pack /a.git\0host=x\0".to_vec()]),
    ]
}

#[test]
fn promise_09_named_destinations_are_looked_at_and_lead_nowhere_else() {
    if in_namespace("streams::promise_09_named_destinations_are_looked_at_and_lead_nowhere_else") {
        attempt();
    }
}

#[tokio::main]
async fn attempt() {
    let names = [("db.example.com", vec![PUBLIC]), ("private.example.com", vec!["10.0.0.1"])].into();
    let spec =
        "tcp: [db.example.com:5432, private.example.com:5432, denied.example.com:5432]\ndeny: [denied.example.com]";
    let mut lab = Lab::new(spec, &names, &[SECRET]).await;
    let socket = |index: usize| lab.folder.path().join(bottler::sidecar::egress::tcp_socket(index));
    let (first, others) = (socket(0), [socket(1), socket(2)]);
    // The destination speaks first, and echoes.
    let mut stream = UnixStream::connect(&first).await.unwrap();
    assert_eq!(exchange(&mut stream, b"").await.as_deref(), Some(&b"hello"[..]));
    assert_eq!(exchange(&mut stream, b"select 1").await.as_deref(), Some(&b"select 1"[..]));
    for (name, pieces) in pieces() {
        let mut stream = UnixStream::connect(&first).await.unwrap();
        assert_eq!(exchange(&mut stream, b"").await.as_deref(), Some(&b"hello"[..]));
        let mut answers = Vec::new();
        for piece in &pieces {
            answers.push(exchange(&mut stream, piece).await);
        }
        assert_eq!(answers.last().unwrap(), &None, "{name}: it goes on");
        let arrived = String::from_utf8_lossy(&lab.seen.lock().unwrap().bytes).into_owned();
        assert!(
            !arrived.contains(SECRET) && !arrived.contains("SSH") && !arrived.contains("git-"),
            "{name}: {arrived}"
        );
        lab.until_refused(name, None).await;
    }
    // However their beginnings are split: between the pieces, egress handles something else.
    for marker in ["SSH-2.0-OpenSSH_9.2\r\n", "0032git-receive-pack /a.git\0host=x\0"] {
        for cut in 1..marker.len().min(20) {
            let mut stream = UnixStream::connect(&first).await.unwrap();
            assert_eq!(exchange(&mut stream, b"").await.as_deref(), Some(&b"hello"[..]));
            let (one, two) = marker.as_bytes().split_at(cut);
            stream.write_all(one).await.unwrap();
            let told = lab.decisions().await.iter().any(|event| event.kind.code == "bad_request");
            assert_eq!(exchange(&mut stream, two).await, None, "{marker} cut at {cut}");
            let arrived = lab.seen.lock().unwrap().bytes.clone();
            let there = |what: &[u8]| arrived.windows(what.len()).any(|window| window == what);
            assert!(!there(b"SSH") && !there(b"git-"), "{marker} cut at {cut}");
            if !told {
                lab.until_refused(marker, Some("bad_request")).await;
            }
        }
    }
    for (path, code) in others.iter().zip(["address_not_public", "denied"]) {
        let mut stream = UnixStream::connect(path).await.unwrap();
        assert_eq!(exchange(&mut stream, b"").await, None, "{code}");
        lab.until_refused(code, Some(code)).await;
    }
    // A connection that becomes forbidden ends.
    let mut stream = UnixStream::connect(&first).await.unwrap();
    assert_eq!(exchange(&mut stream, b"").await.as_deref(), Some(&b"hello"[..]));
    let mut denied = lab.spec.clone();
    denied.deny.push(DenySpec::Host("db.example.com".into()));
    let policy = EnforcedPolicy { generation: 2, ..EnforcedPolicy::first(denied) };
    assert!(matches!(lab.ctl(Action::Update(Update::Policy(Box::new(policy)))).await, CommandOutcome::Done));
    assert_eq!(exchange(&mut stream, b"select 2").await, None, "it goes on");
    lab.until_refused("what is forbidden later", Some("denied")).await;
    let connections = lab.seen.lock().unwrap().connections.clone();
    assert!(connections.iter().all(|at| at.to_string() == format!("{PUBLIC}:5432")), "{connections:?}");
}

/// Sends something and returns the response; `None` at the end.
async fn exchange(stream: &mut UnixStream, words: &[u8]) -> Option<Vec<u8>> {
    stream.write_all(words).await.ok()?;
    let mut buffer = vec![0; 4096];
    let read =
        tokio::time::timeout(Duration::from_secs(20), stream.read(&mut buffer)).await.expect("it answers or ends");
    buffer.truncate(read.ok()?);
    if buffer.is_empty() { None } else { Some(buffer) }
}
