//! Limits of requests with a credential: at the wire, with the SDKs of models, and with the real Claude Code.

use std::path::PathBuf;

use bottler::credential::{Shape, Slot};
use bottler::policy::{EnforcedPolicy, RequestLimits};
use bottler::sidecar::egress::{Ask, LimitUse, Stats, Update};
use bottler::sidecar::{Action, CommandOutcome, Event};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::client::TlsStream;

use crate::credential_sdks::{link_sdks, sdks};
use crate::credentials::{HELD, HOST, OTHER, SPEC, VALUE, credential};
use crate::desk::{Desk, key, node};
use crate::lab::{Lab, PATIENCE, PUBLIC, in_namespace};
use crate::support::pypi;

/// Egress with the credential `own`, in a slot of two hosts, and limits.
async fn lab(limits: &str) -> Lab {
    let names = [(HOST, vec![PUBLIC]), (OTHER, vec![PUBLIC])].into();
    let mut lab = Lab::new(SPEC, &names, &[]).await;
    lab.update(Update::Credentials(vec![credential("own", HELD, VALUE, &[(HOST, Slot::Bearer)])])).await;
    enforce(&mut lab, 2, limits).await;
    lab
}

async fn enforce(lab: &mut Lab, generation: u64, limits: &str) {
    let limits: RequestLimits = serde_yaml::from_str(limits).unwrap();
    let policy = EnforcedPolicy { generation, limits, ..EnforcedPolicy::first(lab.spec.clone()) };
    lab.update(Update::Policy(Box::new(policy))).await;
}

/// A request with the placeholder.
fn request(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {HELD}\r\n{more}\r\n")
}

/// The whole answer to a request.
async fn ask(lab: &Lab, path: &str) -> String {
    lab.inside(HOST, request(path, "Connection: close\r\n").as_bytes()).await
}

async fn stats(lab: &Lab) -> Stats {
    let CommandOutcome::Answer(stats) = lab.ctl(Action::Ask(Ask::Stats)).await else { panic!("it counts") };
    stats
}

async fn used(lab: &Lab) -> LimitUse {
    stats(lab).await.credentials.into_iter().find(|row| row.name == "own").and_then(|row| row.limit).unwrap()
}

/// Opens a response that stays in progress: nobody reads its body.
async fn in_progress(lab: &Lab) -> TlsStream<tokio::net::TcpStream> {
    let mut stream = lab.tls(&format!("{HOST}:443"), HOST, false).await.unwrap();
    stream.write_all(request("/big", "").as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    stream
}

fn refusals(events: &[Event]) -> u64 {
    events.iter().filter(|event| event.kind.code == "limit_reached").map(|event| event.count).sum()
}

#[test]
fn a_budget_is_refused_with_what_raises_it_and_outlives_a_change_of_the_policy() {
    if in_namespace("credential_limits::a_budget_is_refused_with_what_raises_it_and_outlives_a_change_of_the_policy") {
        budgets();
    }
}

#[tokio::main]
async fn budgets() {
    let mut lab = lab("{credentials: {own: {total: 2}}}").await;
    assert!(ask(&lab, "/one").await.ends_with("here") && ask(&lab, "/two").await.ends_with("here"));
    let answer = ask(&lab, "/three").await;
    let lower = answer.to_ascii_lowercase();
    for words in [
        "http/1.1 429 ",
        "x-should-retry: false",
        "\"type\":\"rate_limit_error\"",
        "limit_reached: this bottle may make 2 requests with the credential own, and has made them",
        "`bottler policy limit lab own --total n`",
        "`limits` of the credential own in the manifest",
    ] {
        assert!(lower.contains(words), "{words}: {answer}");
    }
    assert!(!lower.contains("retry-after"), "{answer}");
    // Requests without it are not counted, and not refused.
    let without = format!("GET /free HTTP/1.1\r\nHost: {OTHER}\r\nConnection: close\r\n\r\n");
    assert!(lab.inside(OTHER, without.as_bytes()).await.ends_with("here"));
    // A raised limit counts what was used before; the new value of a credential does not begin anew.
    enforce(&mut lab, 3, "{credentials: {own: {total: 3}}}").await;
    lab.update(Update::Credentials(vec![credential("own", HELD, "another-value", &[(HOST, Slot::Bearer)])])).await;
    assert!(ask(&lab, "/four").await.ends_with("here"));
    assert!(ask(&lab, "/five").await.contains("may make 3 requests"));
    let used = used(&lab).await;
    assert_eq!((used.requests, used.in_progress, used.limits.to_string().as_str()), (3, 0, "3 in all"));
    assert!(stats(&lab).await.prometheus("lab").contains("requests_left{bottle=\"lab\",credential=\"own\"} 0\n"));
    // The limit of all together.
    enforce(&mut lab, 4, "{all: {total: 4}}").await;
    assert!(ask(&lab, "/six").await.ends_with("here"));
    let answer = ask(&lab, "/seven").await;
    assert!(answer.contains("4 requests with credentials") && answer.contains("`bottler policy limit lab --total N`"));
    assert_eq!(stats(&lab).await.limit.map(|limit| limit.requests), Some(4));
    enforce(&mut lab, 5, "{}").await;
    assert!(ask(&lab, "/eight").await.ends_with("here"));
    let arrived: Vec<String> = std::mem::take(&mut lab.seen.lock().unwrap().requests);
    assert_eq!(arrived, ["/one", "/two", "/free", "/four", "/six", "/eight"].map(|path| format!("GET {path} ")));
    let counted = stats(&lab).await.decisions;
    let refused = counted.iter().find(|row| row.code == "limit_reached").unwrap();
    assert_eq!((refused.decision.as_str(), refused.count), ("refuse", 3));
    lab.decisions().await;
    let told = r#""decision":"refuse","code":"limit_reached","reason":"this bottle may make 3 requests with the credential own"#;
    assert!(lab.told.contains(told), "{}", lab.told);
}

#[test]
fn a_rate_is_refused_and_says_when_the_next_request_is_allowed() {
    if in_namespace("credential_limits::a_rate_is_refused_and_says_when_the_next_request_is_allowed") {
        rates();
    }
}

#[tokio::main]
async fn rates() {
    let mut lab = lab("{credentials: {own: {requests: 1, per: 30s}}}").await;
    assert!(ask(&lab, "/one").await.ends_with("here"));
    let wait = |answer: &str| {
        let lower = answer.to_ascii_lowercase();
        let after = lower.split_once("the next one is allowed in ").unwrap().1.split_once('s').unwrap().0.to_owned();
        let header = lower.lines().find_map(|line| line.strip_prefix("retry-after: ").map(str::to_owned));
        (after.parse::<u64>().unwrap(), header)
    };
    let (seconds, header) = wait(&ask(&lab, "/two").await);
    assert!((1..=31).contains(&seconds) && header == Some(seconds.to_string()), "{seconds} {header:?}");
    // Nobody is told to sleep for an hour.
    enforce(&mut lab, 3, "{credentials: {own: {requests: 1, per: 1h}}}").await;
    let (seconds, header) = wait(&ask(&lab, "/three").await);
    assert!((3500..=3661).contains(&seconds) && header.is_none(), "{seconds} {header:?}");
    assert_eq!(used(&lab).await.in_period, Some(1));
    assert_eq!(lab.seen.lock().unwrap().requests.len(), 1);
}

#[test]
fn a_request_waits_while_too_many_are_in_progress() {
    if in_namespace("credential_limits::a_request_waits_while_too_many_are_in_progress") {
        concurrent();
    }
}

#[tokio::main]
async fn concurrent() {
    let mut lab = lab("{credentials: {own: {concurrent: 1}}}").await;
    for (generation, raised) in [(3, false), (4, true)] {
        let first = in_progress(&lab).await;
        let mut second = lab.tls(&format!("{HOST}:443"), HOST, false).await.unwrap();
        second.write_all(request("/waits", "Connection: close\r\n").as_bytes()).await.unwrap();
        let waits = async { while used(&lab).await.waiting == 0 {} };
        tokio::time::timeout(PATIENCE, waits).await.expect("it waits");
        assert_eq!(used(&lab).await.in_progress, 1);
        assert_eq!(lab.seen.lock().unwrap().requests.len(), 0);
        if raised {
            enforce(&mut lab, generation, "{credentials: {own: {concurrent: 2}}}").await;
        } else {
            drop(first);
        }
        let mut answer = String::new();
        let read = tokio::time::timeout(PATIENCE, second.read_to_string(&mut answer)).await;
        read.expect("it has its turn").unwrap();
        assert!(answer.ends_with("here"), "{answer}");
        assert_eq!(std::mem::take(&mut lab.seen.lock().unwrap().requests), ["GET /waits "]);
    }
    // Two in progress have ended by now, or end with their connection.
    let idle = async { while used(&lab).await.in_progress > 0 {} };
    tokio::time::timeout(PATIENCE, idle).await.expect("they end");
    assert_eq!(used(&lab).await.waiting, 0);
}

#[test]
fn a_web_socket_counts_as_a_request_and_each_of_its_messages_too() {
    if in_namespace("credential_limits::a_web_socket_counts_as_a_request_and_each_of_its_messages_too") {
        web_socket();
    }
}

#[tokio::main]
async fn web_socket() {
    let mut lab = lab("{credentials: {own: {total: 3}}}").await;
    let mut stream = lab.tls(&format!("{HOST}:443"), HOST, false).await.unwrap();
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    stream.write_all(request("/socket", upgrade).as_bytes()).await.unwrap();
    // Masked by zeros: text, a ping that counts for nothing, text, text.
    for (opcode, content) in [(0x81, "one"), (0x89, "?"), (0x81, "two"), (0x81, "six")] {
        let length = u8::try_from(content.len()).unwrap();
        stream.write_all(&[&[opcode, 0x80 | length, 0, 0, 0, 0], content.as_bytes()].concat()).await.unwrap();
    }
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection stays open: {}", String::from_utf8_lossy(&answer));
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n").unwrap() + 4;
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    let [0x88, length, 3, 240, why @ ..] = &answer[end..] else { panic!("{:?}", &answer[end..]) };
    let why = String::from_utf8_lossy(why);
    assert!(
        why.starts_with("refused by bottler: limit_reached; refusal d") && usize::from(*length) == why.len() + 2,
        "{why}"
    );
    lab.until_refused("a message", Some("limit_reached")).await;
    let used = used(&lab).await;
    assert_eq!((used.requests, used.in_progress), (3, 0));
}

const PYTHON_CALLS: &str = "
import anthropic, openai
messages = [{'role': 'user', 'content': 'x'}]
claude, gpt = anthropic.Anthropic(), openai.OpenAI()
for number in range(2):
    for name, call in [('anthropic', lambda: claude.messages.create(model='m', max_tokens=9, messages=messages)),
                       ('openai', lambda: gpt.responses.create(model='gpt-5', input='x'))]:
        try:
            call()
            print(name, number, 'answered')
        except Exception as error:
            print(name, number, type(error).__name__, error)
";

const NODE_CALLS: &str = r#"
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
const messages = [{ role: "user", content: "x" }];
for (const [name, call] of [["anthropic", () => new Anthropic().messages.create({ model: "m", max_tokens: 9, messages })],
                            ["openai", () => new OpenAI().responses.create({ model: "gpt-5", input: "x" })]]) {
  try { await call(); console.log(name, "answered"); } catch (error) { console.log(name, error.constructor.name, error.message); }
}
"#;

/// A desk with the models' servers, both keys, and this limit for each of them.
async fn desk(limits: &str) -> Desk {
    let (mut desk, anthropic, openai) = Desk::with_models().await;
    let x_api_key = Slot::Header("x-api-key".into());
    let at = "api.anthropic.com";
    desk.credentials(vec![
        key("ANTHROPIC_API_KEY", &anthropic, Shape::Anthropic, &[(at, x_api_key), (at, Slot::Bearer)]),
        key("OPENAI_API_KEY", &openai, Shape::Openai, &[("api.openai.com", Slot::Bearer)]),
    ])
    .await;
    enforce(&mut desk.lab, 2, limits).await;
    desk
}

#[test]
fn sdks_of_models_make_one_request_beyond_a_limit_and_show_the_reason() {
    node();
    sdks();
    if in_namespace("credential_limits::sdks_of_models_make_one_request_beyond_a_limit_and_show_the_reason") {
        models();
    }
}

#[tokio::main]
async fn models() {
    let mut desk =
        desk("{credentials: {ANTHROPIC_API_KEY: {total: 1}, OPENAI_API_KEY: {requests: 1, per: 30s}}}").await;
    let (python, node) = link_sdks(&desk);
    std::fs::write(desk.path("calls.py"), PYTHON_CALLS).unwrap();
    std::fs::write(desk.path("calls.mjs"), NODE_CALLS).unwrap();
    let said = desk.run(&format!("{python} calls.py")).await;
    for name in ["anthropic", "openai"] {
        assert!(said.contains(&format!("{name} 0 answered")), "{said}\n{}", desk.log());
        assert!(said.contains(&format!("{name} 1 RateLimitError")), "{said}");
    }
    assert_eq!(refusals(&desk.lab.decisions().await), 2, "{said}");
    let more = desk.run(&format!("{node} calls.mjs")).await;
    assert_eq!(more.matches("RateLimitError").count(), 2, "{more}");
    assert_eq!(refusals(&desk.lab.decisions().await), 2, "{more}");
    for said in [said, more] {
        assert_eq!(said.matches("refused by bottler: limit_reached").count(), 2, "{said}");
        assert!(
            said.contains("the credential ANTHROPIC_API_KEY") && said.contains("`bottler policy limit lab"),
            "{said}"
        );
    }
    desk.end(&[]).await;
}

/// The real Claude Code, which the tests' Debian has, too.
fn claude() -> PathBuf {
    pypi::install("claude-0.2.189", &["claude-agent-sdk==0.2.189"]).join("claude_agent_sdk/_bundled/claude")
}

#[test]
fn claude_code_stops_at_a_limit_and_shows_the_reason() {
    claude();
    if in_namespace("credential_limits::claude_code_stops_at_a_limit_and_shows_the_reason") {
        claude_code();
    }
}

#[tokio::main]
async fn claude_code() {
    let mut desk = desk("{}").await;
    let ask = format!(
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 DISABLE_AUTOUPDATER=1 IS_SANDBOX=1 {} -p 'What is the answer?'; \
         echo code=$?",
        claude().display()
    );
    desk.must("the first request", &ask, "The answer is forty-two.").await;
    desk.lab.decisions().await;
    // It has asked for more than the answer.
    let uses = stats(&desk.lab).await.credentials.iter().find(|row| row.name == "ANTHROPIC_API_KEY").unwrap().count;
    enforce(&mut desk.lab, 3, &format!("{{credentials: {{ANTHROPIC_API_KEY: {{total: {uses}}}}}}}")).await;
    let said = desk.must("the second", &ask, "API Error: ").await;
    assert!(said.contains("refused by bottler: limit_reached") && said.contains("code=1"), "{said}");
    assert!(said.contains("`bottler policy limit lab ANTHROPIC_API_KEY --total N`"), "{said}");
    let events = desk.lab.decisions().await;
    let asked: Vec<Event> = events.iter().filter(|event| event.kind.method == "POST").cloned().collect();
    assert_eq!(refusals(&asked), 1, "{events:?}");
    desk.end(&[]).await;
}
