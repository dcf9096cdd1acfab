//! Raw requests to the adapter: no form may bypass the policy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};

use super::capacity::{TIMEOUTS, Timeouts};
use super::connect::Ways;
use super::connection_permit::ConnectionPermit;
use super::{Config, Egress, Pair, Registration, http};
use crate::net::Host;
use crate::policy::{AllowSpec, Decision, EgressSpec, EnforcedPolicy, Form, Intent, Reason, authorize};
use crate::scan::KnownSecret;
use crate::sidecar::dialer::{Outside, Resolver};
use crate::sidecar::host_service::Channel;

/// The time limit for one request.
const PATIENCE: Duration = Duration::from_secs(10);

/// An egress whose only reachable host is `upstream`, a listener of this test.
pub(super) fn egress(upstream: SocketAddr) -> Arc<Egress> {
    let allow = vec![AllowSpec::Host("allowed.bottler.invalid".into())];
    let sidecars = [("upstream".to_owned(), upstream.into())].into();
    let spec = EgressSpec { allow, ..EgressSpec::default() };
    let own = vec!["egress:8888".into()];
    new_egress(&Config { own, sidecars, ..Config::new("test", EnforcedPolicy::first(spec)) })
}

/// An egress that resolves no names.
pub(super) fn new_egress(config: &Config) -> Arc<Egress> {
    new_egress_with(config, TIMEOUTS)
}

/// The same, with other timeouts.
pub(super) fn new_egress_with(config: &Config, times: Timeouts) -> Arc<Egress> {
    let ways = Ways { outside: Outside::Network(Resolver::none()), host: Channel::closed() };
    Arc::new(Egress::new(config, ways, times).unwrap())
}

/// Sends bytes and reads until egress closes the connection.
pub(super) async fn ask(egress: &Arc<Egress>, request: &[u8]) -> String {
    let (mut near, far) = UnixStream::pair().unwrap();
    let served = crate::task::spawn(http::serve(Box::new(far), egress.clone(), ConnectionPermit::new(egress, None)));
    near.write_all(request).await.unwrap();
    near.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, near.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "egress keeps the connection open: {}", String::from_utf8_lossy(&answer));
    read.unwrap().unwrap();
    served.await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

pub(super) fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("closed")
}

#[tokio::test]
async fn promise_04_no_shape_of_request_finds_another_way() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let egress = egress(listener.local_addr().unwrap());
    for (name, request, expected) in [
        ("forbidden, absolute", "GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n", "403"),
        ("forbidden, CONNECT", "CONNECT evil.example:22 HTTP/1.1\r\nHost: evil.example:22\r\n\r\n", "403"),
        // Its requests are refused inside TLS.
        ("forbidden, CONNECT to 443", "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n", "200"),
        ("forbidden, HTTP/1.0", "GET http://evil.example/ HTTP/1.0\r\n\r\n", "403"),
        ("forbidden, lower-case method", "get http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n", "403"),
        ("origin form", "GET / HTTP/1.1\r\nHost: upstream\r\n\r\n", "400"),
        ("asterisk form", "OPTIONS * HTTP/1.1\r\nHost: upstream\r\n\r\n", "400"),
        (
            "CONNECT without port",
            "CONNECT allowed.bottler.invalid HTTP/1.1\r\nHost: allowed.bottler.invalid\r\n\r\n",
            "400",
        ),
        ("CONNECT with a URL", "CONNECT http://allowed.bottler.invalid:443/ HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
        (
            "CONNECT to port 0",
            "CONNECT allowed.bottler.invalid:0 HTTP/1.1\r\nHost: allowed.bottler.invalid:0\r\n\r\n",
            "400",
        ),
        (
            "https in absolute form",
            "GET https://allowed.bottler.invalid/ HTTP/1.1\r\nHost: allowed.bottler.invalid\r\n\r\n",
            "400",
        ),
        ("ftp", "GET ftp://allowed.bottler.invalid/ HTTP/1.1\r\nHost: allowed.bottler.invalid\r\n\r\n", "400"),
        (
            "user information",
            "GET http://allowed.bottler.invalid@evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
            "400",
        ),
        ("another Host", "GET http://evil.example/ HTTP/1.1\r\nHost: allowed.bottler.invalid\r\n\r\n", "421"),
        (
            "another Host on CONNECT",
            "CONNECT allowed.bottler.invalid:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n",
            "421",
        ),
        // The proxy's own name is accepted for `CONNECT` alone, and there is at most one `Host`.
        ("the proxy as Host of a request", "GET http://evil.example/ HTTP/1.1\r\nHost: egress:8888\r\n\r\n", "421"),
        (
            "the proxy as Host of a CONNECT to elsewhere",
            "CONNECT evil.example:22 HTTP/1.1\r\nHost: egress:8888\r\n\r\n",
            "403",
        ),
        (
            "two Hosts on CONNECT",
            "CONNECT upstream:1 HTTP/1.1\r\nHost: egress:8888\r\nHost: egress:8888\r\n\r\n",
            "400",
        ),
        (
            "another port in Host",
            "CONNECT allowed.bottler.invalid:443 HTTP/1.1\r\nHost: allowed.bottler.invalid:22\r\n\r\n",
            "421",
        ),
        ("two Hosts", "GET http://upstream/ HTTP/1.1\r\nHost: upstream\r\nHost: evil.example\r\n\r\n", "400"),
        ("TRACE", "TRACE http://allowed.bottler.invalid/ HTTP/1.1\r\nHost: allowed.bottler.invalid\r\n\r\n", "400"),
        (
            "h2c upgrade",
            "GET http://allowed.bottler.invalid/ HTTP/1.1\r\nHost: allowed.bottler.invalid\r\nUpgrade: h2c, tls/1.0\r\nConnection: Upgrade\r\n\r\n",
            "400",
        ),
        ("percent in the host", "GET http://allowed%2ebottler.invalid/ HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
        (
            "port 22 of an allowed host",
            "CONNECT allowed.bottler.invalid:22 HTTP/1.1\r\nHost: allowed.bottler.invalid:22\r\n\r\n",
            "403",
        ),
        ("another port of a sidecar", "CONNECT upstream:1 HTTP/1.1\r\nHost: upstream:1\r\n\r\n", "403"),
        (
            "both lengths",
            "POST http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "400",
        ),
        (
            "two lengths",
            "POST http://upstream/ HTTP/1.1\r\nHost: upstream\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
            "400",
        ),
        (
            "bad chunked",
            "POST http://upstream/ HTTP/1.1\r\nHost: upstream\r\nTransfer-Encoding: xchunked\r\n\r\n",
            "400",
        ),
        ("obsolete folding", "GET http://upstream/ HTTP/1.1\r\nHost: upstream\r\nX: a\r\n b\r\n\r\n", "400"),
        ("space before the colon", "GET http://upstream/ HTTP/1.1\r\nHost : upstream\r\n\r\n", "400"),
        ("no version", "GET http://upstream/\r\n\r\n", "400"),
        ("h2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "closed"),
        ("TLS to the proxy", "\x16\x03\x01\x02\x00\x01\x00", "400"),
        ("SOCKS", "\x05\x01\x00", "400"),
    ] {
        let answer = ask(&egress, request.as_bytes()).await;
        let got = status(&answer);
        // What the parser refuses is closed with or without a response.
        let fits = got == expected || (expected == "400" && got == "closed") || (expected == "closed" && got == "400");
        assert!(fits, "{name}: {answer}");
        assert!(listener_is_silent(&listener).await, "{name}: something was dialled");
    }
}

async fn listener_is_silent(listener: &TcpListener) -> bool {
    tokio::time::timeout(Duration::from_millis(1), listener.accept()).await.is_err()
}

#[tokio::test]
async fn what_passes_is_one_clean_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let egress = egress(address);
    let received = crate::task::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = vec![0; 4096];
        let length = stream.read(&mut bytes).await.unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: X-Hop, close\r\nX-Hop: 1\r\n\r\nok")
            .await
            .unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    });
    let host = format!("upstream:{}", address.port());
    let request = format!(
        "GET http://{host}/a?b HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: Basic eA==\r\nProxy-Connection: close\r\nConnection: X-Mine, Host\r\nX-Mine: 1\r\nX-Kept: 1\r\n\r\n"
    );
    let answer = ask(&egress, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let received = received.await.unwrap().to_ascii_lowercase();
    assert!(received.starts_with("get /a?b http/1.1\r\n"), "{received}");
    assert!(received.contains(&format!("host: {host}\r\n")) && received.contains("x-kept: 1"), "{received}");
    for gone in ["proxy-", "x-mine", "connection"] {
        assert!(!received.contains(gone), "{gone}: {received}");
    }
    assert!(answer.ends_with("ok"), "{answer}");
    assert!(!answer.to_ascii_lowercase().contains("x-hop"), "{answer}");
}

/// What destinations send and browsers read, and what clients offer and servers may ignore.
#[tokio::test]
async fn many_and_folded_headers_equal_lengths_and_an_offer_of_h2c_pass() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let egress = egress(address);
    let many = |count: usize| (0..count).map(|number| format!("X-{number}: {number}\r\n")).collect::<Vec<_>>().concat();
    let response = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\nX-Folded: a\r\n b\r\n{}\r\nok",
        many(300)
    );
    let received = crate::task::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut head, mut piece) = (Vec::new(), [0; 4096]);
        while !head.ends_with(b"\r\n\r\n") {
            let length = stream.read(&mut piece).await.unwrap();
            head.extend_from_slice(&piece[..length]);
        }
        stream.write_all(response.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&head).to_ascii_lowercase()
    });
    let host = format!("upstream:{}", address.port());
    let offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    let request = format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n{offer}{}\r\n", many(300));
    let answer = ask(&egress, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\nok"), "{answer}");
    let answer = answer.to_ascii_lowercase();
    assert!(answer.contains("x-folded: a   b\r\n") || answer.contains("x-folded: a b\r\n"), "{answer}");
    assert!(answer.contains("x-299: 299\r\n"), "{answer}");
    assert_eq!(answer.matches("content-length").count(), 1, "{answer}");
    let received = received.await.unwrap();
    assert!(
        received.contains("x-299: 299\r\n") && !received.contains("h2c") && !received.contains("http2-settings"),
        "{received}"
    );
}

#[tokio::test]
async fn a_refusal_is_one_line_of_json_with_code_and_hint() {
    let egress = egress("127.0.0.1:9".parse().unwrap());
    let answer = ask(&egress, b"GET http://10.0.0.1/ HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n").await;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(body.lines().count(), 1);
    let json: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(json["error"]["code"], "address_not_public");
    let message = json["error"]["message"].as_str().unwrap();
    assert!(message.contains("10.0.0.1 is a private address; ") && message.contains("sidecar"), "{message}");
}

/// Two requests that were judged by one policy, before either used the grant.
#[tokio::test]
async fn a_grant_for_one_request_is_used_once_whoever_judged_first() {
    let mut policy = EnforcedPolicy::first(EgressSpec::default());
    policy.once = vec![(7, AllowSpec::Host("once.example.com".into()))];
    let egress = new_egress(&Config::new("test", policy));
    let snapshot = egress.snapshot();
    let host = Host::parse("once.example.com").unwrap();
    let intent = Intent { form: Form::Absolute, method: "GET".into(), host, port: 80, path: Some("/".into()) };
    assert!(matches!(authorize(&snapshot.policy, &intent), Decision::Allow(_)));
    assert_eq!(egress.spend(&snapshot, &intent), Ok(()));
    assert_eq!(egress.spend(&snapshot, &intent), Err(Reason::HostNotAllowed(intent.host.clone())));
    assert!(matches!(authorize(&egress.snapshot().policy, &intent), Decision::Refuse(_)));
}

/// A registration opens no private address, and only the agent reaches the sidecar by it.
#[tokio::test]
async fn a_sidecar_is_registered_by_the_socket_of_its_pair_alone() {
    let pairs = vec![Pair { name: "one".into(), folder: "/run/bottler-pairs/1".into() }];
    let policy = EnforcedPolicy::first(EgressSpec::default());
    let egress = new_egress(&Config { pairs, ..Config::new("test", policy) });
    let register = |name: &str, socket: &str| {
        egress.register(Registration { name: name.into(), port: 9000, socket: socket.into() })
    };
    for (name, socket) in [
        ("two", "/run/bottler-pairs/1/sidecar"),
        ("one", "/run/bottler-pairs/2/sidecar"),
        ("one", "/run/bottler-pairs/1/../2/sidecar"),
        ("one", "/run/bottler-pairs/1"),
        ("one", "sidecar"),
        ("one", "/run/bottler-pairs/1/.."),
    ] {
        assert!(register(name, socket).is_err(), "{name} {socket}");
    }
    assert_eq!(register("one", "/run/bottler-pairs/1/sidecar"), Ok(()));
    let decided = |egress: &Egress, host: &str, port: u16| {
        let host = Host::parse(host).unwrap();
        let intent = Intent { form: Form::Absolute, method: "GET".into(), host, port, path: Some("/".into()) };
        authorize(&egress.snapshot().policy, &intent)
    };
    let code = |decision: Decision| match decision {
        Decision::Refuse(reason) => reason.code(),
        Decision::Allow(_) | Decision::Audit(..) => "allowed",
    };
    let sidecar = egress.of_sidecar("one");
    for _ in 0..2 {
        assert_eq!(code(decided(&egress, "one", 9000)), "allowed");
        assert_eq!(code(decided(&egress, "one", 9001)), "port_not_allowed");
        assert_eq!(code(decided(&egress, "two", 9000)), "host_not_allowed");
        assert_eq!(code(decided(&egress, "127.0.3.1", 9000)), "address_not_public");
        assert_eq!(code(decided(&sidecar, "one", 9000)), "host_not_allowed");
        // Another policy does not change it.
        let next = EnforcedPolicy { generation: 2, ..EnforcedPolicy::first(EgressSpec::default()) };
        egress.enforce(&next).unwrap();
    }
}

/// A destination that keeps its connections open, and counts them.
pub(super) async fn keep_alive(listener: TcpListener, accepted: Arc<AtomicUsize>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        accepted.fetch_add(1, Ordering::Relaxed);
        crate::task::spawn(async move {
            let mut head = Vec::new();
            while let Ok(byte) = stream.read_u8().await {
                head.push(byte);
                if head.ends_with(b"\r\n\r\n") {
                    head.clear();
                    let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
                }
            }
        });
    }
}

/// A connection to a destination survives every change that it does not depend on, and no other.
#[tokio::test]
async fn connections_are_kept_across_changes_that_do_not_concern_them() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let egress = egress(listener.local_addr().unwrap());
    let accepted = Arc::<AtomicUsize>::default();
    crate::task::spawn(keep_alive(listener, accepted.clone()));
    let request = format!("GET http://upstream:{port}/ HTTP/1.1\r\nHost: upstream:{port}\r\nConnection: close\r\n\r\n");
    let connector = |egress: &Egress| egress.of_sidecar("one").snapshot().connector.policy.clone();
    let of_sidecars = connector(&egress);
    let spec = |text: &str| serde_yaml::from_str::<EgressSpec>(text).unwrap();
    let policy = |generation, text: &str| EnforcedPolicy { generation, ..EnforcedPolicy::first(spec(text)) };
    let secret = KnownSecret { value: "correct-horse-battery".into(), hosts: Vec::new() };
    let mut once = policy(2, "{allow: [other.example.com], deny: [evil.example.com]}");
    once.once = vec![(7, AllowSpec::Host("once.example.com".into()))];
    let host = Host::parse("once.example.com").unwrap();
    let intent = Intent { form: Form::Absolute, method: "GET".into(), host, port: 80, path: Some("/".into()) };
    let changes: [(&str, &dyn Fn()); 3] = [
        ("secrets", &|| egress.set_secrets(std::slice::from_ref(&secret))),
        ("the lists", &|| egress.enforce(&once).unwrap()),
        ("a used grant", &|| egress.spend(&egress.snapshot(), &intent).unwrap()),
    ];
    assert_eq!(status(&ask(&egress, request.as_bytes()).await), "204");
    for (name, change) in changes {
        change();
        assert_eq!(status(&ask(&egress, request.as_bytes()).await), "204", "{name}");
        assert_eq!(accepted.load(Ordering::Relaxed), 1, "{name}");
        assert!(Arc::ptr_eq(&of_sidecars, &connector(&egress)), "{name}");
    }
    for (generation, change) in [(3, "ip_allow: [10.1.0.0/16]"), (4, "upstream_proxy: {url: 'http://10.1.2.3:3128'}")] {
        egress.enforce(&policy(generation, change)).unwrap();
        assert_eq!(status(&ask(&egress, request.as_bytes()).await), "204", "{change}");
        assert_eq!(accepted.load(Ordering::Relaxed), usize::try_from(generation).unwrap() - 1, "{change}");
    }
}
