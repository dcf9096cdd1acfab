//! What egress does besides refusing: the real one, in a namespace of its own, where public addresses lead to this test.

use std::collections::BTreeMap;

use crate::lab::{Lab, MEANT, PUBLIC, in_namespace, leak, upstream_proxy};
use bottler::policy::{AllowSpec, EgressSpec};
use bottler::sidecar::ctl::{Answer, Question};
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
        // Nobody has the first one.
        ("two.example.com", vec!["93.184.215.15", PUBLIC]),
        ("rebind.example.com", vec![PUBLIC, "127.0.0.1"]),
    ]
    .into()
}

fn get(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

/// One request on a connection that stays: the answer's first line and its body.
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

fn reload(spec: &str, roots: &EgressSpec) -> Question {
    let mut spec: EgressSpec = serde_yaml::from_str(spec).unwrap();
    spec.roots.clone_from(&roots.roots);
    Question::Reload(Box::new(spec))
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
    let Answer::Goes { generation: 1, by: first } = lab.ctl(&Question::Show).await else {
        panic!("it goes by something")
    };
    assert_eq!(first.allow, [AllowSpec::Host(HOST.into())]);
    // A mistake changes nothing.
    for (spec, expected) in [
        ("allow: ['*.com']", "allow: "),
        ("dlp: {rules: ['rules = [{id = \"x\", regex = \"(\"}]']}", "rule \"x\""),
        ("tcp: [db.example.com:5432]", "fixed at the launch"),
        ("upstream_proxy: {url: 'socks5://x:1'}", "upstream_proxy"),
    ] {
        let Answer::Failed(why) = lab.ctl(&reload(spec, &first)).await else { panic!("{spec}") };
        assert!(why.contains(expected), "{spec}: {why}");
    }
    assert!(ask(&mut kept, "/two").await.ends_with("here"));
    // A change counts from the next request on, also on a connection that was there.
    let narrower = reload("allow: [{host: api.example.com, paths: [/allowed]}]", &first);
    assert!(matches!(lab.ctl(&narrower).await, Answer::Goes { generation: 2, .. }));
    assert!(ask(&mut kept, "/two").await.contains("path_not_allowed"));
    assert!(ask(&mut kept, "/allowed").await.ends_with("here"));
    // Secrets are looked for as before.
    assert!(ask(&mut kept, &format!("/allowed?q={SECRET}")).await.contains("secret_found"));
    assert!(matches!(lab.ctl(&reload("allow: []", &first)).await, Answer::Goes { generation: 3, .. }));
    assert!(ask(&mut kept, "/allowed").await.contains("host_not_allowed"));
    let Answer::Stats(stats) = lab.ctl(&Question::Stats).await else { panic!("it counts") };
    assert_eq!((stats.generation, stats.open), (3, 1));
    let count = |decision: &str, code: &str| {
        stats.decisions.iter().find(|row| (&*row.decision, &*row.code) == (decision, code)).map_or(0, |row| row.count)
    };
    // With the CONNECT.
    assert_eq!(
        (count("allow", "allowed"), count("refuse", "path_not_allowed"), count("refuse", "secret_found")),
        (4, 1, 1)
    );
    assert!(stats.prometheus("lab").contains("bottler_egress_policy_generation{bottle=\"lab\"} 3\n"));
    // What cannot be read is an answer, too.
    assert_eq!(lab.decisions().await.iter().map(|event| event.count).sum::<u64>(), 7);
}

#[test]
fn destinations_are_reached_through_the_users_proxy_and_its_credentials_go_nowhere_else() {
    if in_namespace("changes::destinations_are_reached_through_the_users_proxy_and_its_credentials_go_nowhere_else") {
        chained();
    }
}

#[tokio::main]
async fn chained() {
    // Names that do not resolve here: the proxy knows them.
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
    // What resolves here to what is not public does not go there either, and what is looked for is found.
    let answer = lab.connect("inner.example.com:443").await.unwrap_err();
    assert!(answer.contains("address_not_public"), "{answer}");
    let answer = lab.inside(HOST, get(HOST, &format!("/?{SECRET}")).as_bytes()).await;
    assert!(answer.contains("secret_found"), "{answer}");
    let expected = [format!("CONNECT {HOST}:443"), format!("GET http://{HOST}/plain")];
    let mut noted: Vec<String> = noted.lock().unwrap().clone();
    noted.dedup();
    assert_eq!(noted, expected);
    // With other credentials than it wants it says so, and nothing goes around it.
    let Answer::Goes { by, .. } = lab.ctl(&Question::Show).await else { panic!("it goes by something") };
    assert!(!serde_json::to_string(&by).unwrap().contains("password"));
    let before = lab.arrived();
    let dead = reload(&spec.replace("3128", "3129"), &by);
    assert!(matches!(lab.ctl(&dead).await, Answer::Goes { generation: 2, .. }));
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
    // A secret is refused all the same; what is only warned of passes and is told.
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
    // One that changes its mind is not followed.
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
    let Answer::Goes { by, .. } = lab.ctl(&Question::Show).await else { panic!("it goes by something") };
    for (responses, passes, expected) in [
        ("off", true, vec!["allow", "allow"]),
        ("warn", true, vec!["allow", "allow", "warn"]),
        ("block", false, vec!["allow", "allow", "refuse"]),
    ] {
        let spec = reload(&format!("allow: [api.example.com]\ndlp: {{responses: {responses}}}"), &by);
        assert!(matches!(lab.ctl(&spec).await, Answer::Goes { .. }));
        let answer = lab.inside(HOST, get(HOST, "/leak").as_bytes()).await;
        assert_eq!(answer.contains(&leak()), passes, "{responses}: {answer}");
        let mut told: Vec<String> = lab.decisions().await.into_iter().map(|event| event.kind.decision).collect();
        told.sort();
        assert_eq!(told, expected, "{responses}");
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
    // Only now, when the first has come back, is there a second: nothing is held back until more comes.
    let half = &SECRET[..6];
    say.send(message(half)).unwrap();
    assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), message(half));
    say.send(message(&SECRET[6..])).unwrap();
    assert!(!matches!(answer.frame().await, Some(Ok(_))), "the second half of a secret has come back");
    // A client that waits for 100 Continue gets it, and what it says then is looked at.
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
