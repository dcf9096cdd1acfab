//! Egress' behaviour besides refusing: the real one, in a namespace where public addresses lead to this test.

use std::collections::BTreeMap;

use crate::lab::{Lab, MEANT, Message, PATIENCE, PUBLIC, in_namespace, leak, upstream_proxy};
use bottler::policy::{AllowSpec, EgressSpec, EnforcedPolicy};
use bottler::sidecar::egress::{Ask, Notice, Update};
use bottler::sidecar::{Action, CommandOutcome};
use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::Request;
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::client::TlsStream;

const HOST: &str = "api.example.com";
const SECRET: &str = "correct-horse/battery+staple";

fn names() -> BTreeMap<&'static str, Vec<&'static str>> {
    [
        (HOST, vec![PUBLIC]),
        ("other.example.com", vec![PUBLIC]),
        // Nothing listens at the first address.
        ("two.example.com", vec!["93.184.215.15", PUBLIC]),
        ("rebind.example.com", vec![PUBLIC, "127.0.0.1"]),
    ]
    .into()
}

fn get(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

/// Sends a request on a kept connection; returns the status line and the body.
async fn ask(stream: &mut TlsStream<tokio::net::TcpStream>, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return text;
            }
        }
        answer.push(stream.read_u8().await.expect("the connection stays"));
    }
}

fn enforce(generation: u64, spec: &str, roots: &EgressSpec, once: &[(u64, &str)]) -> EnforcedPolicy {
    let mut spec: EgressSpec = serde_yaml::from_str(spec).unwrap();
    spec.roots.clone_from(&roots.roots);
    let once = once.iter().map(|(grant, host)| (*grant, AllowSpec::Host((*host).to_owned()))).collect();
    EnforcedPolicy { generation, once, ..EnforcedPolicy::first(spec) }
}

/// Sends egress a policy; returns the reason if it refuses.
async fn told(lab: &mut Lab, policy: &EnforcedPolicy) -> Option<String> {
    match lab.ctl(Action::Update(Update::Policy(Box::new(policy.clone())))).await {
        CommandOutcome::Done => None,
        CommandOutcome::Refused(why) => Some(why),
        CommandOutcome::Answer(_) => panic!("that is no question"),
    }
}

#[test]
fn a_reload_is_whole_or_not_at_all_and_ends_no_connection() {
    if in_namespace("changes::a_reload_is_whole_or_not_at_all_and_ends_no_connection") {
        reloads();
    }
}

#[tokio::main]
async fn reloads() {
    let mut lab = Lab::new("allow: [api.example.com]", &names(), &[SECRET]).await;
    let mut kept = lab.tls(&format!("{HOST}:443"), HOST, false).await.unwrap();
    assert!(ask(&mut kept, "/one").await.ends_with("here"));
    let first = lab.spec.clone();
    // An invalid policy changes nothing.
    for (spec, expected) in [
        ("allow: ['*.com']", "allow: "),
        ("dlp: {rules: ['rules = [{id = \"x\", regex = \"(\"}]']}", "rule \"x\""),
        ("tcp: [db.example.com:5432]", "fixed at the launch"),
        ("upstream_proxy: {url: 'socks5://x:1'}", "upstream_proxy"),
    ] {
        let why = told(&mut lab, &enforce(2, spec, &first, &[])).await.expect(spec);
        assert!(why.contains(expected), "{spec}: {why}");
    }
    assert!(ask(&mut kept, "/two").await.ends_with("here"));
    // A change applies from the next request on, also on existing connections.
    let narrower = enforce(2, "allow: [{host: api.example.com, paths: [/allowed]}]", &first, &[]);
    assert_eq!(told(&mut lab, &narrower).await, None);
    // The same policy again is accepted; an older one is refused.
    assert_eq!(told(&mut lab, &narrower).await, None);
    assert!(told(&mut lab, &enforce(1, "allow: [api.example.com]", &first, &[])).await.is_some());
    assert!(ask(&mut kept, "/two").await.contains("path_not_allowed"));
    assert!(ask(&mut kept, "/allowed").await.ends_with("here"));
    // Secrets are still searched for.
    assert!(ask(&mut kept, &format!("/allowed?q={SECRET}")).await.contains("secret_found"));
    assert_eq!(told(&mut lab, &enforce(3, "allow: []", &first, &[])).await, None);
    assert!(ask(&mut kept, "/allowed").await.contains("host_not_allowed"));
    let CommandOutcome::Answer(stats) = lab.ctl(Action::Ask(Ask::Stats)).await else { panic!("it counts") };
    assert_eq!((stats.generation, stats.open), (3, 1));
    let count = |decision: &str, code: &str| {
        stats.decisions.iter().find(|row| (&*row.decision, &*row.code) == (decision, code)).map_or(0, |row| row.count)
    };
    // Including the CONNECT.
    assert_eq!(
        (count("allow", "allowed"), count("refuse", "path_not_allowed"), count("refuse", "secret_found")),
        (4, 1, 1)
    );
    assert!(stats.prometheus("lab").contains("bottler_egress_policy_generation{bottle=\"lab\"} 3\n"));
    // An invalid request is answered, too.
    assert_eq!(lab.decisions().await.iter().map(|event| event.count).sum::<u64>(), 7);
}

#[test]
fn a_grant_for_one_request_is_for_one() {
    if in_namespace("changes::a_grant_for_one_request_is_for_one") {
        once();
    }
}

#[tokio::main]
async fn once() {
    let mut lab = Lab::new("allow: []", &names(), &[]).await;
    let roots = lab.spec.clone();
    assert!(lab.tls(&format!("{HOST}:443"), HOST, false).await.is_err());
    assert_eq!(told(&mut lab, &enforce(2, "allow: []", &roots, &[(7, HOST)])).await, None);
    // Several requests at the same time; one of them gets it.
    let mut streams = Vec::new();
    for _ in 0..8 {
        streams.push(lab.tls(&format!("{HOST}:443"), HOST, false).await.unwrap());
    }
    let asked = streams.iter_mut().map(|stream| ask(stream, "/x"));
    let answers = futures_util::future::join_all(asked).await;
    let passed = answers.iter().filter(|answer| answer.ends_with("here")).count();
    let refused = answers.iter().filter(|answer| answer.contains("host_not_allowed")).count();
    assert_eq!((passed, refused), (1, 7), "{answers:?}");
    assert!(lab.tls(&format!("{HOST}:443"), HOST, false).await.is_err(), "it is used up");
    while !matches!(lab.message().await, Message::Notice(Notice::Spent(7))) {}
    // Sending the policy again, before its use was reported, does not renew the grant.
    assert_eq!(told(&mut lab, &enforce(3, "allow: []", &roots, &[(7, HOST)])).await, None);
    assert!(lab.tls(&format!("{HOST}:443"), HOST, false).await.is_err());
}

#[test]
fn what_is_forbidden_ends_in_the_middle() {
    if in_namespace("changes::what_is_forbidden_ends_in_the_middle") {
        forbidden();
    }
}

#[tokio::main]
async fn forbidden() {
    let spec = "allow: [api.example.com, {host: other.example.com, tls: tunnel}]";
    let mut lab = Lab::new(spec, &names(), &[]).await;
    let roots = lab.spec.clone();
    let mut socket = tokio::net::TcpStream::connect(lab.proxy).await.unwrap();
    let handshake = format!(
        "GET http://{HOST}/socket HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    socket.write_all(handshake.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    let proxy = lab.proxy.to_string();
    let mut tunnel = tunnel(&proxy).await;
    // Another policy that allows both: both continue.
    assert_eq!(told(&mut lab, &enforce(2, spec, &roots, &[])).await, None);
    assert!(tunnel.try_wait().unwrap().is_none());
    assert_eq!(told(&mut lab, &enforce(3, &format!("{spec}\ndeny: [other.example.com]"), &roots, &[])).await, None);
    tokio::time::timeout(PATIENCE, tunnel.wait()).await.expect("the tunnel ends").unwrap();
    lab.until_refused("the tunnel", Some("denied")).await;
    // A tunnel that is to be inspected from now on ends, too.
    assert_eq!(told(&mut lab, &enforce(4, spec, &roots, &[])).await, None);
    let mut tunnel = self::tunnel(&proxy).await;
    let read = "allow: [api.example.com, other.example.com]";
    assert_eq!(told(&mut lab, &enforce(5, read, &roots, &[])).await, None);
    tokio::time::timeout(PATIENCE, tunnel.wait()).await.expect("the tunnel ends").unwrap();
    lab.until_refused("a tunnel that is to be read", Some("not_tls")).await;
    // A request whose body has not arrived yet is not sent any more.
    let mut late = tokio::net::TcpStream::connect(lab.proxy).await.unwrap();
    let head = format!(
        "POST http://{HOST}/late HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\
         Connection: close\r\n\r\n"
    );
    late.write_all(head.as_bytes()).await.unwrap();
    let arrived = lab.arrived();
    // The body is requested once the head was judged.
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        asked.push(late.read_u8().await.unwrap());
    }
    assert!(asked.starts_with(b"HTTP/1.1 100"), "{}", String::from_utf8_lossy(&asked));
    assert_eq!(told(&mut lab, &enforce(6, "allow: []", &roots, &[])).await, None);
    late.write_all(b"abcd").await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, late.read_to_string(&mut answer)).await.expect("it is answered").unwrap();
    assert!(answer.contains("host_not_allowed"), "{answer}");
    assert_eq!(lab.arrived(), arrived);
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, socket.read_to_end(&mut rest)).await.expect("the WebSocket ends").unwrap();
    assert!(String::from_utf8_lossy(&rest).contains("refused by bottler: host_not_allowed"), "{rest:?}");
}

/// A client of a tunnel, which does not end by itself.
async fn tunnel(proxy: &str) -> tokio::process::Child {
    let mut tunnel = tokio::process::Command::new("openssl")
        .args(["s_client", "-proxy", proxy, "-connect", "other.example.com:443", "-servername", "other.example.com"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut said = tokio::io::BufReader::new(tunnel.stdout.take().unwrap());
    let mut seen = String::new();
    while !seen.contains("Verify return code") {
        let mut line = String::new();
        assert!(tokio::io::AsyncBufReadExt::read_line(&mut said, &mut line).await.unwrap() > 0, "{seen}");
        seen.push_str(&line);
    }
    // Discard its further output, so that it does not block.
    tokio::spawn(async move { tokio::io::copy(&mut said, &mut tokio::io::sink()).await });
    tunnel
}

#[test]
fn destinations_are_reached_through_the_users_proxy_and_its_credentials_go_nowhere_else() {
    if in_namespace("changes::destinations_are_reached_through_the_users_proxy_and_its_credentials_go_nowhere_else") {
        chained();
    }
}

#[tokio::main]
async fn chained() {
    // Names that do not resolve here, but at the proxy.
    let elsewhere = [("other.example.com", vec![PUBLIC]), ("inner.example.com", vec!["10.1.2.3"])].into();
    let spec = format!(
        "allow: [api.example.com, other.example.com, inner.example.com]
upstream_proxy: {{url: 'http://{MEANT}:3128', no_proxy: [other.example.com]}}"
    );
    let mut lab = Lab::new(&spec, &elsewhere, &[SECRET]).await;
    let noted = upstream_proxy(crate::lab::PROXY_CREDENTIALS).await;
    let answer = lab.inside(HOST, get(HOST, "/").as_bytes()).await;
    assert!(answer.ends_with("here"), "{answer}");
    let plain = format!("GET http://{HOST}/plain HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    let answer = lab.raw(plain.as_bytes()).await;
    assert!(answer.ends_with("from the proxy"), "{answer}");
    let answer = lab.inside("other.example.com", get("other.example.com", "/").as_bytes()).await;
    assert!(answer.ends_with("here"), "{answer}");
    // Names that resolve here to private addresses are refused, too, and secrets are found.
    let answer = lab.connect("inner.example.com:443").await.unwrap_err();
    assert!(answer.contains("address_not_public"), "{answer}");
    let answer = lab.inside(HOST, get(HOST, &format!("/?{SECRET}")).as_bytes()).await;
    assert!(answer.contains("secret_found"), "{answer}");
    let expected = [format!("CONNECT {HOST}:443"), format!("GET http://{HOST}/plain")];
    let mut noted: Vec<String> = noted.lock().unwrap().clone();
    noted.dedup();
    assert_eq!(noted, expected);
    // With wrong credentials it refuses, and nothing bypasses it.
    let roots = lab.spec.clone();
    assert!(!serde_json::to_string(&roots).unwrap().contains("password"));
    let before = lab.arrived();
    assert_eq!(told(&mut lab, &enforce(2, &spec.replace("3128", "3129"), &roots, &[])).await, None);
    let answer = lab.inside(HOST, get(HOST, "/").as_bytes()).await;
    assert!(answer.contains("through the upstream proxy"), "{answer}");
    assert_eq!(lab.arrived(), before);
    lab.until_refused("a proxy that is down", Some("unreachable")).await;
}

#[test]
fn where_nothing_is_enforced_it_passes_and_the_audit_says_so() {
    if in_namespace("changes::where_nothing_is_enforced_it_passes_and_the_audit_says_so") {
        audited();
    }
}

#[tokio::main]
async fn audited() {
    let spec =
        "mode: audit\nallow: [api.example.com]\ndlp: {actions: {github-token: warn}}\nip_allow: [93.184.215.0/24]";
    let mut lab = Lab::new(spec, &names(), &[SECRET]).await;
    let answer = lab.inside("other.example.com", get("other.example.com", "/").as_bytes()).await;
    assert!(answer.ends_with("here"), "{answer}");
    let told: Vec<(String, String)> =
        lab.decisions().await.into_iter().map(|event| (event.kind.decision, event.kind.code)).collect();
    let audit = ("audit".to_owned(), "host_not_allowed".to_owned());
    assert_eq!(told, [audit.clone(), audit]);
    // Secrets are refused nevertheless; what only causes a warning passes and is reported.
    let answer = lab.inside("other.example.com", get("other.example.com", &format!("/?{SECRET}")).as_bytes()).await;
    assert!(answer.contains("secret_found"), "{answer}");
    lab.decisions().await;
    let token = leak().replace(' ', "-");
    let answer = lab.inside(HOST, get(HOST, &format!("/{token}")).as_bytes()).await;
    assert!(answer.ends_with("here"), "{answer}");
    let warned: Vec<String> = lab
        .decisions()
        .await
        .into_iter()
        .filter(|event| event.kind.decision == "warn")
        .map(|event| event.kind.reason)
        .collect();
    assert!(warned.iter().any(|reason| reason.contains("github-token:")), "{warned:?}");
    // All addresses of a name are tried.
    let answer = lab.inside("two.example.com", get("two.example.com", "/").as_bytes()).await;
    assert!(answer.ends_with("here"), "{answer}");
    // A name whose address changes is refused.
    let answer = lab.inside("rebind.example.com", get("rebind.example.com", "/").as_bytes()).await;
    assert!(answer.contains("address_not_public"), "{answer}");
}

#[test]
fn an_answer_is_looked_at_where_the_user_wants_it() {
    if in_namespace("changes::an_answer_is_looked_at_where_the_user_wants_it") {
        answers();
    }
}

#[tokio::main]
async fn answers() {
    let mut lab = Lab::new("allow: [api.example.com]", &names(), &[]).await;
    let roots = lab.spec.clone();
    for (generation, (responses, passes, expected)) in (2..).zip([
        ("off", true, vec!["allow", "allow"]),
        ("warn", true, vec!["allow", "allow", "warn"]),
        ("block", false, vec!["allow", "allow", "refuse"]),
    ]) {
        let spec = format!("allow: [api.example.com]\ndlp: {{responses: {responses}}}");
        assert_eq!(told(&mut lab, &enforce(generation, &spec, &roots, &[])).await, None);
        let answer = lab.inside(HOST, get(HOST, "/leak").as_bytes()).await;
        assert_eq!(answer.contains(&leak()), passes, "{responses}: {answer}");
        let mut decisions: Vec<String> = lab.decisions().await.into_iter().map(|event| event.kind.decision).collect();
        decisions.sort();
        assert_eq!(decisions, expected, "{responses}");
    }
}

#[test]
fn messages_go_both_ways_one_by_one_and_a_client_may_wait_to_be_asked() {
    if in_namespace("changes::messages_go_both_ways_one_by_one_and_a_client_may_wait_to_be_asked") {
        both_ways();
    }
}

#[tokio::main]
async fn both_ways() {
    let lab = Lab::new("allow: [api.example.com]", &names(), &[SECRET]).await;
    let stream = lab.tls(&format!("{HOST}:443"), HOST, true).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (say, heard) = tokio::sync::mpsc::unbounded_channel::<Bytes>();
    let said = futures_util::stream::unfold(heard, |mut heard| async move {
        let message: Bytes = heard.recv().await?;
        Some((Ok::<_, hyper::Error>(Frame::data(message)), heard))
    });
    let request = Request::post(format!("https://{HOST}/echo"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(StreamBody::new(Box::pin(said)))
        .unwrap();
    let message = |text: &str| {
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        Bytes::from([&[0][..], &length, text.as_bytes()].concat())
    };
    say.send(message("one")).unwrap();
    let mut answer = sender.send_request(request).await.unwrap().into_body();
    assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), message("one"));
    // The second message is sent only after the first has come back: nothing is held back until more arrives.
    let half = &SECRET[..6];
    say.send(message(half)).unwrap();
    assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), message(half));
    say.send(message(&SECRET[6..])).unwrap();
    assert!(!matches!(answer.frame().await, Some(Ok(_))), "the second half of a secret has come back");
    // A client that waits for 100 Continue gets it, and its body is scanned.
    for (body, expected) in [("just a text", "here"), (SECRET, "secret_found")] {
        let mut stream = lab.tls(&format!("{HOST}:443"), HOST, false).await.unwrap();
        let request = format!(
            "POST / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut asked = vec![0; 25];
        stream.read_exact(&mut asked).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&asked), "HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(body.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains(expected), "{answer}");
    }
}
