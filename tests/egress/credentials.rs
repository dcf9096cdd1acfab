//! Credentials that the agent has placeholders of: where a value goes, and where it does not.

use bottler::credential::{Credential, Place, Slot};
use bottler::scan::ExactMatcher;
use bottler::sidecar::egress::{Ask, Update};
use bottler::sidecar::{Action, CommandOutcome};
use data_encoding::BASE64;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::lab::{Lab, PATIENCE, PUBLIC, SCRIPTED, in_namespace};

pub const HOST: &str = "api.example.com";
/// Another host, which has no credential.
pub const OTHER: &str = "other.example.com";
pub const VALUE: &str = "sk-live-4fJ9xqZt7LmPw2Rb/+==";
pub const HELD: &str = "sk-none-0123456789abcdefghij";
/// Allows both, in both protocols, and the tests' own port.
pub const SPEC: &str = "allow: [api.example.com, other.example.com, 'api.example.com:8444', 'other.example.com:8444']";

pub fn credential(name: &str, held: &str, value: &str, places: &[(&str, Slot)]) -> Credential {
    let place = |(host, slot): &(&str, Slot)| Place {
        host: (*host).to_owned(),
        slot: slot.clone(),
        methods: Vec::new(),
        paths: Vec::new(),
    };
    let places = places.iter().map(place).collect();
    Credential { name: name.into(), placeholder: held.into(), value: value.into(), places }
}

/// Egress with one credential, in a slot of the host.
pub async fn lab(slot: Slot) -> Lab {
    let names = [(HOST, vec![PUBLIC]), (OTHER, vec![PUBLIC])].into();
    let mut lab = Lab::new(SPEC, &names, &[]).await;
    let places = [(HOST, slot.clone()), ("api.example.com:8444", slot)];
    lab.update(Update::Credentials(vec![credential("own", HELD, VALUE, &places)])).await;
    lab
}

/// Bytes inside TLS to a host and port, and everything that comes back.
pub async fn exchange(lab: &Lab, host: &str, port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = lab.tls(&format!("{host}:{port}"), host, false).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection stays open: {}", String::from_utf8_lossy(&answer));
    answer
}

pub fn get(path: &str, headers: &str) -> Vec<u8> {
    let port = SCRIPTED;
    format!("GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n{headers}\r\n").into_bytes()
}

/// Whether a text holds the value, in any encoding.
pub fn shows(text: &[u8]) -> bool {
    ExactMatcher::new(&[VALUE.to_owned()]).matches(text)
}

fn basic(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}\r\n", BASE64.encode(format!("{user}:{password}").as_bytes()))
}

#[test]
fn promise_08_a_value_is_sent_in_its_slot_and_nowhere_else() {
    if in_namespace("credentials::promise_08_a_value_is_sent_in_its_slot_and_nowhere_else") {
        slots();
    }
}

#[tokio::main]
async fn slots() {
    let mut lab = lab(Slot::Bearer).await;
    let encoded = "sk-live-4fJ9xqZt7LmPw2Rb%2F%2B%3D%3D";
    for (slot, path, headers, expected) in [
        (Slot::Bearer, "/", format!("Authorization: Bearer {HELD}\r\n"), format!("authorization: Bearer {VALUE}")),
        (Slot::Bearer, "/", format!("AUTHORIZATION: bearer   {HELD}\r\n"), format!("authorization: Bearer {VALUE}")),
        (Slot::Token, "/", format!("Authorization: token {HELD}\r\n"), format!("authorization: token {VALUE}")),
        (Slot::Basic("x-access-token".into()), "/", basic("x-access-token", HELD), basic("x-access-token", VALUE)),
        (Slot::Header("X-Api-Key".into()), "/", format!("X-API-KEY: {HELD}\r\n"), format!("x-api-key: {VALUE}")),
        (
            Slot::Query("key".into()),
            &format!("/v1?a=b&key={HELD}"),
            String::new(),
            format!("GET /v1?a=b&key={encoded} "),
        ),
        (Slot::Path, &format!("/bot{HELD}/getMe"), String::new(), format!("GET /bot{encoded}/getMe ")),
    ] {
        let places = [("api.example.com:8444", slot.clone())];
        lab.update(Update::Credentials(vec![credential("own", HELD, VALUE, &places)])).await;
        // What is not its slot passes as it is.
        let headers = format!("{headers}User-Agent: {HELD}\r\nAccept-Encoding: gzip\r\nRange: bytes=0-3\r\n");
        let answer = exchange(&lab, HOST, SCRIPTED, &get(path, &headers)).await;
        assert!(answer.ends_with(b"here"), "{slot:?}: {}", String::from_utf8_lossy(&answer));
        let head = lab.seen.lock().unwrap().heads.pop().unwrap();
        let lower = head.to_ascii_lowercase();
        assert!(
            lower.contains(expected.trim().to_ascii_lowercase().as_str()) && shows(head.as_bytes()),
            "{slot:?}: {head}"
        );
        assert!(head.contains(&format!("user-agent: {HELD}")), "{head}");
        assert!(lower.contains("accept-encoding: identity") && !lower.contains("range:"), "{head}");
        assert_eq!(head.matches(HELD).count(), 1, "{head}");
        assert_eq!(lower.matches("authorization:").count(), usize::from(lower.contains("authorization")), "{head}");
    }
    // Over HTTP/2, on both sides.
    lab.update(Update::Credentials(vec![credential("own", HELD, VALUE, &[(HOST, Slot::Bearer)])])).await;
    let (head, body) = http2(&lab, HOST, "/x", &format!("Bearer {HELD}")).await;
    assert!(body.ends_with("here"), "{head} {body}");
    let head = lab.seen.lock().unwrap().heads.pop().unwrap();
    assert!(head.contains(&format!("authorization: Bearer {VALUE}")) && head.contains("HTTP/2"), "{head}");
    // Each use is an event that names the credential, the method, the path and the status.
    let events = lab.decisions().await;
    let used: Vec<_> = events.iter().filter(|event| event.kind.code == "credential_used").collect();
    assert!(used.iter().any(|event| event.kind.reason == "own for /x: 200" && event.kind.method == "GET"), "{used:?}");
    assert!(events.iter().any(|event| event.kind.code == "placeholder_passed" && event.kind.decision == "warn"));
    let CommandOutcome::Answer(stats) = lab.ctl(Action::Ask(Ask::Stats)).await else { panic!("it counts") };
    assert_eq!(stats.credentials.iter().map(|row| (row.name.as_str(), row.count)).collect::<Vec<_>>(), [("own", 8)]);
    assert!(stats.prometheus("lab").contains("credential_requests_total{bottle=\"lab\",credential=\"own\"} 8\n"));
    assert!(!shows(lab.told.as_bytes()), "{}", lab.told);
}

/// A request over HTTP/2: the head of the answer, and its body with the trailers.
pub async fn http2(lab: &Lab, host: &str, path: &str, authorization: &str) -> (String, String) {
    use http_body_util::BodyExt;
    let stream = lab.tls(&format!("{host}:443"), host, true).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let handshake = hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await;
    let (mut sender, connection) = handshake.unwrap();
    let connection = tokio::spawn(connection);
    let request = hyper::Request::get(format!("https://{host}{path}")).header("authorization", authorization);
    let request = request.header("te", "trailers").body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let head = format!("{} {:?}", answer.status(), answer.headers());
    let body = answer.into_body().collect().await.unwrap();
    let trailers = format!("{:?}", body.trailers());
    let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    connection.abort();
    (head, if trailers == "None" { text } else { format!("{text} {trailers}") })
}

#[test]
fn promise_08_no_way_around_the_slot() {
    if in_namespace("credentials::promise_08_no_way_around_the_slot") {
        bypasses();
    }
}

#[tokio::main]
async fn bypasses() {
    let mut lab = lab(Slot::Bearer).await;
    let own = format!("Authorization: Bearer {HELD}\r\n");
    let twice = HELD.bytes().map(|byte| format!("%25{byte:02x}")).collect::<Vec<_>>().concat();
    let base64 = BASE64.encode(HELD.as_bytes());
    let misplaced = "placeholder_misplaced";
    let attempts: Vec<(&str, &str, String, String, &str)> = vec![
        ("at another host", OTHER, "/".into(), own.clone(), misplaced),
        ("in the query of another host", OTHER, format!("/?q={HELD}"), String::new(), misplaced),
        ("in the path of another host", OTHER, format!("/{HELD}"), String::new(), misplaced),
        ("in another header for keys", HOST, "/".into(), format!("X-Api-Key: {HELD}\r\n"), misplaced),
        ("in a header that a proxy may rename", HOST, "/".into(), format!("X-Forwarded-{own}"), misplaced),
        ("in a cookie", HOST, "/".into(), format!("Cookie: a={HELD}\r\n"), misplaced),
        ("for a proxy", HOST, "/".into(), format!("Proxy-{own}"), misplaced),
        ("in another scheme", HOST, "/".into(), format!("Authorization: token {HELD}\r\n"), misplaced),
        ("as a password", HOST, "/".into(), basic("x", HELD), misplaced),
        ("in the query", HOST, format!("/?access_token={HELD}"), String::new(), misplaced),
        ("with double escapes", HOST, format!("/?a={twice}"), String::new(), misplaced),
        ("in base64", HOST, format!("/?a={base64}"), String::new(), misplaced),
        ("twice", HOST, "/".into(), format!("{own}{own}"), "foreign_credential"),
        ("beside another one", HOST, "/".into(), format!("{own}Authorization: Bearer x\r\n"), "foreign_credential"),
        (
            "the agent's own",
            HOST,
            "/".into(),
            "Authorization: Bearer of-somebody-else\r\n".into(),
            "foreign_credential",
        ),
        ("in another way", HOST, "/".into(), "X-Api-Key: of-somebody-else\r\n".into(), "foreign_credential"),
        ("in the query, too", HOST, "/?api_key=of-somebody-else".into(), String::new(), "foreign_credential"),
        ("the value, from wherever", HOST, "/".into(), format!("Authorization: Bearer {VALUE}\r\n"), "secret_found"),
        ("another Host", HOST, "/".into(), format!("{own}Host: {OTHER}\r\n"), "bad_request"),
        ("another method", HOST, "/".into(), format!("{own}X-HTTP-Method-Override: PUT\r\n"), "bad_request"),
    ];
    let before = lab.seen.lock().unwrap().heads.len();
    for (name, host, path, headers, expected) in attempts {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n");
        let answer = lab.inside(host, request.as_bytes()).await;
        assert!(answer.contains(&format!("\"code\":\"{expected}\"")), "{name}: {answer}");
        assert!(!shows(answer.as_bytes()) || expected == "secret_found", "{name}: {answer}");
        lab.until_refused(name, Some(expected)).await;
    }
    // Without TLS, by all three ways to say it.
    let absolute = format!("GET http://{HOST}/ HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n{own}\r\n");
    let answer = lab.raw(absolute.as_bytes()).await;
    assert!(answer.contains(misplaced) && answer.contains("inside TLS"), "{answer}");
    let mut stream = lab.connect(&format!("{HOST}:80")).await.unwrap();
    let plain = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n{own}\r\n");
    stream.write_all(plain.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains(misplaced), "{answer}");
    let within = format!("GET https://{OTHER}/ HTTP/1.1\r\nHost: {OTHER}\r\nConnection: close\r\n{own}\r\n");
    let answer = lab.inside(HOST, within.as_bytes()).await;
    assert!(answer.contains("host_mismatch"), "{answer}");
    assert_eq!(lab.seen.lock().unwrap().heads.len(), before, "{:?}", lab.seen.lock().unwrap().heads);
    // A body may quote it, at any host, and so may headers that are none for credentials.
    for host in [HOST, OTHER] {
        let body = format!("{{\"env\": \"KEY={HELD}\"}}");
        let length = body.len();
        let request = format!(
            "POST /v1 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nX-Note: {HELD}\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let answer = lab.inside(host, request.as_bytes()).await;
        assert!(answer.ends_with("here"), "{answer}");
        let seen = lab.seen.lock().unwrap();
        assert!(seen.requests.last().unwrap().contains(&body) && !shows(seen.heads.last().unwrap().as_bytes()));
    }
    assert!(!lab.seen.lock().unwrap().heads.iter().any(|head| shows(head.as_bytes())));
}

#[test]
fn placeholders_that_look_like_keys_pass_and_keys_do_not() {
    if in_namespace("credentials::placeholders_that_look_like_keys_pass_and_keys_do_not") {
        look_alikes();
    }
}

#[tokio::main]
async fn look_alikes() {
    use bottler::credential::{Shape, placeholder};
    let mut lab = lab(Slot::Bearer).await;
    let shapes = [Shape::Anthropic, Shape::Openai, Shape::Google, Shape::Gitlab, Shape::Jwt, Shape::GithubFineGrained];
    let texts: Vec<String> = shapes.iter().map(|shape| placeholder(shape, [5; 32]).unwrap()).collect();
    let post = async |lab: &Lab, body: &str| {
        let length = body.len();
        let head = format!("POST / HTTP/1.1\r\nHost: {OTHER}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
        lab.inside(OTHER, format!("{head}{body}").as_bytes()).await
    };
    for text in &texts {
        assert!(post(&lab, text).await.contains("secret_found"), "{text}");
    }
    let credentials = texts.iter().enumerate().map(|(index, text)| {
        let value = format!("the-value-of-credential-{index}");
        credential(&format!("c{index}"), text, &value, &[(HOST, Slot::Bearer)])
    });
    lab.update(Update::Credentials(credentials.collect())).await;
    for text in &texts {
        let encoded = BASE64.encode(format!("{{\"key\": \"{text}\"}}").as_bytes());
        for body in [text.clone(), format!("{{\"text\": \"KEY={text}\\nB=c\"}}"), encoded] {
            let answer = post(&lab, &body).await;
            assert!(answer.ends_with("here"), "{body}: {answer}");
        }
        // What is beside one is looked at as before.
        let leaked = crate::lab::leak();
        let token = leaked.split(' ').next_back().unwrap();
        for body in [format!("{text} {token}"), format!("{text}{token}"), format!("{token}{text}")] {
            assert!(post(&lab, &body).await.contains("secret_found"), "{body}");
        }
    }
    // The value of a credential is a secret like others.
    assert!(post(&lab, "a=the-value-of-credential-3").await.contains("secret_found"));
    lab.until_refused("a value", Some("secret_found")).await;
}

#[test]
fn credentials_change_as_a_whole() {
    if in_namespace("credentials::credentials_change_as_a_whole") {
        changes();
    }
}

#[tokio::main]
async fn changes() {
    let mut lab = lab(Slot::Bearer).await;
    let own = format!("Authorization: Bearer {HELD}\r\n");
    // One that cannot be used changes nothing.
    for value in ["short", "with\r\nX-Header: more", "with a space"] {
        let places = [("api.example.com:8444", Slot::Bearer)];
        let outcome = lab.ctl(Action::Update(Update::Credentials(vec![credential("own", HELD, value, &places)]))).await;
        let CommandOutcome::Refused(why) = outcome else { panic!("{value:?} is taken") };
        assert!(why.contains("own") && !why.contains(value), "{why}");
    }
    let script: crate::lab::Script = std::sync::Arc::new(|head| {
        let status = if head.contains("another-value") { "200 OK" } else { "403 Forbidden" };
        vec![format!("HTTP/1.1 {status}\r\ncontent-length: 4\r\n\r\nhere").into_bytes()]
    });
    lab.seen.lock().unwrap().script = Some(script);
    let places = [("api.example.com:8444", Slot::Bearer)];
    for (value, status) in [("a-third-value", "403"), ("another-value", "200")] {
        lab.update(Update::Credentials(vec![credential("own", HELD, value, &places)])).await;
        let answer = exchange(&lab, HOST, SCRIPTED, &get("/", &own)).await;
        assert!(answer.starts_with(format!("HTTP/1.1 {status}").as_bytes()), "{}", String::from_utf8_lossy(&answer));
    }
    // A policy that is replaced leaves them as they are; without credentials, the placeholder is nothing.
    let policy =
        bottler::policy::EnforcedPolicy { generation: 2, ..bottler::policy::EnforcedPolicy::first(lab.spec.clone()) };
    lab.update(Update::Policy(Box::new(policy))).await;
    assert!(exchange(&lab, HOST, SCRIPTED, &get("/", &own)).await.starts_with(b"HTTP/1.1 200"));
    lab.update(Update::Credentials(Vec::new())).await;
    assert!(exchange(&lab, HOST, SCRIPTED, &get("/", &own)).await.starts_with(b"HTTP/1.1 403"));
    let head = lab.seen.lock().unwrap().heads.pop().unwrap();
    assert!(head.contains(HELD) && !head.contains("value"), "{head}");
    for value in ["a-third-value", "another-value", VALUE] {
        assert!(!lab.told.contains(value), "{}", lab.told);
    }
}

#[test]
fn a_host_with_a_credential_gets_only_its_own_cookies() {
    if in_namespace("credentials::a_host_with_a_credential_gets_only_its_own_cookies") {
        cookies();
    }
}

#[tokio::main]
async fn cookies() {
    let mut lab = lab(Slot::Bearer).await;
    let script: crate::lab::Script = std::sync::Arc::new(|_| {
        vec![b"HTTP/1.1 200 OK\r\nset-cookie: own=1; Path=/; Secure\r\ncontent-length: 0\r\n\r\n".to_vec()]
    });
    lab.seen.lock().unwrap().script = Some(script);
    let own = format!("Authorization: Bearer {HELD}\r\n");
    let sent = async |lab: &Lab, cookies: &str| {
        let answer = exchange(lab, HOST, SCRIPTED, &get("/", &format!("{own}Cookie: {cookies}\r\n"))).await;
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        let head = lab.seen.lock().unwrap().heads.pop().unwrap();
        head.lines().find_map(|line| line.strip_prefix("cookie: ")).unwrap_or_default().to_owned()
    };
    assert_eq!(sent(&lab, "own=1; session=of-somebody-else").await, "");
    lab.until_left_out().await;
    // Now it has handed one out.
    assert_eq!(sent(&lab, "own=1; session=of-somebody-else").await, "own=1");
    assert_eq!(sent(&lab, "own=1").await, "own=1");
}

impl Lab {
    async fn until_left_out(&mut self) {
        let events = self.decisions().await;
        let left_out =
            events.iter().any(|event| event.kind.code == "cookies_left_out" && event.kind.decision == "warn");
        assert!(left_out, "{events:?}");
    }
}

#[test]
fn a_host_that_is_not_inspected_takes_no_credential() {
    if in_namespace("credentials::a_host_that_is_not_inspected_takes_no_credential") {
        tunnels();
    }
}

#[tokio::main]
async fn tunnels() {
    let mut lab = lab(Slot::Bearer).await;
    let mut spec = lab.spec.clone();
    spec.allow = vec![serde_yaml::from_str("{host: api.example.com, tls: tunnel}").unwrap()];
    let policy = bottler::policy::EnforcedPolicy { generation: 2, ..bottler::policy::EnforcedPolicy::first(spec) };
    let outcome = lab.ctl(Action::Update(Update::Policy(Box::new(policy.clone())))).await;
    assert!(matches!(outcome, CommandOutcome::Refused(why) if why.contains("own") && why.contains("tunnel")));
    lab.update(Update::Credentials(Vec::new())).await;
    lab.update(Update::Policy(Box::new(policy))).await;
    let credentials = vec![credential("own", HELD, VALUE, &[(HOST, Slot::Bearer)])];
    let outcome = lab.ctl(Action::Update(Update::Credentials(credentials))).await;
    assert!(matches!(outcome, CommandOutcome::Refused(why) if why.contains("tunnel")));
}

#[test]
fn a_registry_takes_the_tokens_that_it_hands_out_for_the_credential_and_no_others() {
    if in_namespace("credentials::a_registry_takes_the_tokens_that_it_hands_out_for_the_credential_and_no_others") {
        registry();
    }
}

/// A token of the form that a registry signs.
fn signed(number: u32) -> String {
    let part = |text: String| data_encoding::BASE64URL_NOPAD.encode(text.as_bytes());
    let claims = format!("{{\"iss\":\"registry.example.com\",\"sub\":\"somebody\",\"jti\":\"{number}\"}}");
    format!(
        "{}.{}.{}",
        part("{\"alg\":\"ES256\",\"typ\":\"JWT\"}".into()),
        part(claims),
        "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0"
    )
}

#[tokio::main]
async fn registry() {
    let mut lab = lab(Slot::Basic("*".into())).await;
    let script: crate::lab::Script = std::sync::Arc::new(|head| {
        let lower = head.to_ascii_lowercase();
        let answer = |status: &str, more: &str, text: &str| {
            let length = text.len();
            vec![format!("HTTP/1.1 {status}\r\n{more}content-length: {length}\r\n\r\n{text}").into_bytes()]
        };
        let realm = format!("www-authenticate: Bearer realm=\"https://{HOST}:{SCRIPTED}/token\",service=\"r\"\r\n");
        match head.split(' ').nth(1).unwrap() {
            "/token?service=r" if lower.contains("basic ") => {
                answer("200 OK", "", &format!("{{\"token\": \"{}\"}}", signed(1)))
            }
            "/raw/token.json" => answer("200 OK", "", &format!("{{\"token\": \"{}\"}}", signed(2))),
            "/v2/" if head.contains(&signed(1)) => answer("200 OK", "", "here"),
            _ => answer("401 Unauthorized", &realm, ""),
        }
    });
    lab.seen.lock().unwrap().script = Some(script);
    let ask = async |path: &str, headers: &str| {
        let answer = exchange(&lab, HOST, SCRIPTED, &get(path, headers)).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    let (one, two) =
        (format!("Authorization: Bearer {}\r\n", signed(1)), format!("Authorization: Bearer {}\r\n", signed(2)));
    // Before anything was handed out, and when what the host serves was content.
    assert!(ask("/v2/", &one).await.contains("foreign_credential"));
    let login = basic("somebody", HELD);
    assert!(ask("/token?service=r", &login).await.contains(&signed(1)), "no registry has named it yet");
    assert!(ask("/v2/", &one).await.contains("foreign_credential"));
    // As clients do it.
    assert!(ask("/v2/", "").await.starts_with("HTTP/1.1 401"));
    assert!(
        ask("/token?service=r", "").await.starts_with("HTTP/1.1 401"),
        "without the credential, nothing is handed out"
    );
    assert!(ask("/token?service=r", &login).await.contains(&signed(1)));
    assert!(ask("/v2/", &one).await.ends_with("here"));
    assert!(ask("/raw/token.json", &login).await.contains(&signed(2)));
    assert!(ask("/v2/", &two).await.contains("foreign_credential"));
    // At another host it is nothing that was handed out.
    let body = format!(
        "POST / HTTP/1.1\r\nHost: {OTHER}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{}",
        signed(1).len(),
        signed(1)
    );
    assert!(lab.inside(OTHER, body.as_bytes()).await.contains("secret_found"));
    lab.until_refused("a token", Some("foreign_credential")).await;
}
