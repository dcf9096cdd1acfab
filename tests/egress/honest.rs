//! What ordinary tools send, and is let through: credentials to whom they are of, published examples, S3's uploads, plain HTTP
//! after a CONNECT, names with an underscore. Beside each what is like it and is refused.

use std::collections::BTreeMap;

use bottler::scan::Known;
use bottler::sidecar::Message;
use bottler::sidecar::egress::Update;
use data_encoding::{BASE64, BASE64URL_NOPAD};

use crate::lab::{Lab, PUBLIC, in_namespace};

/// Where the tools' requests go.
const HOSTS: [&str; 34] = [
    "api.anthropic.com",
    "api.example.com",
    "api.github.com",
    "api.openai.com",
    "api.stripe.com",
    "auth.docker.io",
    "auth.openai.com",
    "bucket.s3.eu-west-1.amazonaws.com",
    "cdn01.quay.io",
    "chatgpt.com",
    "discord.com",
    "generativelanguage.googleapis.com",
    "ghcr.io",
    "github-cloud.s3.amazonaws.com",
    "github.com",
    "gitlab.com",
    "huggingface.co",
    "identitytoolkit.googleapis.com",
    "k8s.example.com",
    "login.microsoftonline.com",
    "my_bucket.example.com",
    "npm.pkg.github.com",
    "oauth2.googleapis.com",
    "platform.claude.com",
    "productionresultssa0.blob.core.windows.net",
    "pypi.org",
    "registry-1.docker.io",
    "registry.npmjs.org",
    "release-assets.githubusercontent.com",
    "slack.com",
    "sts.amazonaws.com",
    "upload.pypi.org",
    "vault.example.com",
    "wss.example.com",
];

fn names() -> BTreeMap<&'static str, Vec<&'static str>> {
    HOSTS.map(|host| (host, vec![PUBLIC])).into()
}

fn spec() -> String {
    let denied = "deny: [{host: api.example.com, paths: [/admin/**]}]";
    format!("allow: [{}]\n{denied}\n", HOSTS.map(|host| format!("'{host}'")).join(", "))
}

// All are put together here, so that no scanner of repositories takes them for real ones.

fn jwt(issuer: &str) -> String {
    let part = |text: String| BASE64URL_NOPAD.encode(text.as_bytes());
    let claims = format!("{{\"iss\":\"{issuer}\",\"sub\":\"1234567890\",\"aud\":\"a-service\",\"exp\":1999999999}}");
    format!(
        "{}.{}.{}",
        part("{\"alg\":\"RS256\",\"typ\":\"JWT\"}".into()),
        part(claims),
        "dBjftJeZ4CVPmB92K27uhbUJU1p1rwW1gFWFOEjXk"
    )
}

fn github() -> String {
    ["ghp_", "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx"].concat()
}

fn anthropic(kind: &str) -> String {
    format!("sk-ant-{kind}-{}xyzAA", "aB3-dE6_gH".repeat(9))
}

fn aws() -> String {
    ["AKIA", "QYLPMN5HHHFPZAM2"].concat()
}

fn google() -> String {
    ["AIza", "SyD4f7Kq9Lm2Np5Rs8Tu1Vw3Xy6Za0Bc4De"].concat()
}

struct Request {
    name: &'static str,
    host: &'static str,
    head: String,
    body: Vec<u8>,
}

fn get(name: &'static str, host: &'static str, path: &str, header: &str) -> Request {
    let header = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
    Request { name, host, head: format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{header}"), body: Vec::new() }
}

fn post(name: &'static str, host: &'static str, path: &str, header: &str, body: impl Into<Vec<u8>>) -> Request {
    let (request, body) = (get(name, host, path, header), body.into());
    let head = request.head.replacen("GET", "POST", 1) + &format!("Content-Length: {}\r\n", body.len());
    Request { head, body, ..request }
}

impl Request {
    fn bytes(&self) -> Vec<u8> {
        [self.head.as_bytes(), b"Connection: close\r\n\r\n", &self.body].concat()
    }
}

const FORM: &str = "Content-Type: application/x-www-form-urlencoded";
const JSON: &str = "Content-Type: application/json";
const SIGV4: &str = "20261128/eu-west-1/s3/aws4_request, SignedHeaders=host;x-amz-date, Signature=";

/// Requests with something in them that looks like a credential, as the tools of the name send them.
fn ordinary() -> Vec<Request> {
    let (token, openai) = (jwt("https://issuer.example"), jwt("https://auth.openai.com"));
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    let basic = |login: &str| format!("Authorization: Basic {}", BASE64.encode(login.as_bytes()));
    let sha = "0123456789abcdef".repeat(4);
    let signed = format!("Authorization: AWS4-HMAC-SHA256 Credential={}/{SIGV4}{sha}", aws());
    let presigned = |rest: &str| {
        format!(
            "/o?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}%2F20261128%2Feu-west-1%2Fs3%2Faws4_request&X-Amz-Signature={sha}{rest}",
            aws()
        )
    };
    let sas = "sp=r&sv=2025-11-05&sr=b&sig=aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC01XM6EaaB3dE6g%3D";
    vec![
        get(
            "docker pull: a token for a registry",
            "registry-1.docker.io",
            "/v2/library/alpine/manifests/latest",
            &bearer(&token),
        ),
        get(
            "docker pull: a login",
            "auth.docker.io",
            "/token?service=registry.docker.io",
            &basic(&format!("me:dckr_pat_{}", "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7")),
        ),
        get("docker pull from GitHub", "ghcr.io", "/token?service=ghcr.io", &basic(&format!("me:{}", github()))),
        get("docker pull: a layer at quay.io", "cdn01.quay.io", &presigned(""), ""),
        get(
            "kubectl",
            "k8s.example.com",
            "/api/v1/namespaces/default/pods",
            &bearer(&jwt("kubernetes/serviceaccount")),
        ),
        get(
            "oc",
            "k8s.example.com",
            "/apis",
            &bearer(&format!("sha256~{}", "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC01XM6EaZz9Yy8X")),
        ),
        get(
            "vault",
            "vault.example.com",
            "/v1/secret/data/a",
            &format!("X-Vault-Token: hvs.{}", "CAESIJ3dE6gH9jK2mN5pQ8sT1vW4yZ7bC01X"),
        ),
        get("a service of one's own with OIDC", "api.example.com", "/userinfo", &bearer(&token)),
        get("aws s3 cp", "bucket.s3.eu-west-1.amazonaws.com", "/o", &signed),
        get("a presigned link of S3", "bucket.s3.eu-west-1.amazonaws.com", &presigned("&x-id=GetObject"), ""),
        get("git lfs: an object at S3", "github-cloud.s3.amazonaws.com", &presigned("&actor_id=1"), ""),
        get(
            "gh release download",
            "release-assets.githubusercontent.com",
            &format!("/github-production-release-asset/1?{sas}&jwt={token}"),
            "",
        ),
        get(
            "an artifact of GitHub Actions",
            "productionresultssa0.blob.core.windows.net",
            &format!("/actions-results/a.zip?{sas}"),
            "",
        ),
        get("gh api", "api.github.com", "/user", &format!("Authorization: token {}", github())),
        get(
            "git clone with a token",
            "github.com",
            "/me/repo.git/info/refs?service=git-upload-pack",
            &basic(&format!("x-access-token:{}", github())),
        ),
        get("glab", "gitlab.com", "/api/v4/user", &format!("PRIVATE-TOKEN: glpat-{}", "x1Yz9-Kq_7Lm3Nop2RsT")),
        get(
            "npm view",
            "registry.npmjs.org",
            "/@me%2Fpackage",
            &bearer(&["npm_", "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC01XM6Ea"].concat()),
        ),
        get("npm from GitHub", "npm.pkg.github.com", "/@me%2Fpackage", &bearer(&github())),
        post(
            "twine upload",
            "upload.pypi.org",
            "/legacy/",
            &basic(&format!("__token__:pypi-AgE{}", "IcHlwaS5vcmcCJD".repeat(5))),
            "x",
        ),
        post(
            "a trusted publisher of PyPI",
            "pypi.org",
            "/_/oidc/mint-token",
            JSON,
            format!("{{\"token\": \"{token}\"}}"),
        ),
        post(
            "STS with an identity",
            "sts.amazonaws.com",
            "/",
            FORM,
            format!("Action=AssumeRoleWithWebIdentity&WebIdentityToken={token}"),
        ),
        post(
            "a service account of Google's",
            "oauth2.googleapis.com",
            "/token",
            FORM,
            format!("grant_type=jwt-bearer&assertion={token}"),
        ),
        post(
            "a workload identity of Azure's",
            "login.microsoftonline.com",
            "/common/oauth2/v2.0/token",
            FORM,
            format!("client_assertion={token}"),
        ),
        post(
            "gemini",
            "generativelanguage.googleapis.com",
            "/v1beta/models/m:generateContent",
            &format!("x-goog-api-key: {}\r\n{JSON}", google()),
            "{}",
        ),
        post(
            "Firebase in a browser's test",
            "identitytoolkit.googleapis.com",
            &format!("/v1/accounts:signUp?key={}", google()),
            JSON,
            "{}",
        ),
        post(
            "claude with a key",
            "api.anthropic.com",
            "/v1/messages",
            &format!("x-api-key: {}\r\n{JSON}", anthropic("api03")),
            "{}",
        ),
        post(
            "claude with a login",
            "api.anthropic.com",
            "/v1/messages?beta=true",
            &format!("{}\r\n{JSON}", bearer(&anthropic("oat01"))),
            "{}",
        ),
        post(
            "claude renews its login",
            "platform.claude.com",
            "/v1/oauth/token",
            JSON,
            format!("{{\"grant_type\":\"refresh_token\",\"refresh_token\":\"{}\"}}", anthropic("ort01")),
        ),
        post(
            "codex with a login",
            "chatgpt.com",
            "/backend-api/codex/responses",
            &format!("{}\r\n{JSON}", bearer(&openai)),
            "{}",
        ),
        post(
            "codex exchanges its login",
            "auth.openai.com",
            "/oauth/token",
            FORM,
            format!("grant_type=token-exchange&subject_token={openai}"),
        ),
        post(
            "codex with a key",
            "api.openai.com",
            "/v1/responses",
            &format!(
                "{}\r\n{JSON}",
                bearer(&format!("sk-proj-{}T3BlbkFJ{}", "aB3dE6gH9jK2mN5pQ8sT", "1vW4yZ7bC01XM6EaaB3d"))
            ),
            "{}",
        ),
        get(
            "stripe",
            "api.stripe.com",
            "/v1/charges",
            &format!("{}\r\nStripe-Version: 2026-01-01", bearer(&["sk_live_", "4eC39HqLyjWDarjtT1zdp7dc"].concat())),
        ),
        get(
            "slack",
            "slack.com",
            "/api/conversations.list",
            &bearer(&["xoxb-", "1234567890123-1234567890123-", "AbCdEfGhIjKlMnOpQrStUvWx"].concat()),
        ),
        get(
            "huggingface-cli",
            "huggingface.co",
            "/api/whoami-v2",
            &bearer(&format!("hf_{}", "aBcDeFgHiJkLmNoPqRsTuVwXyZaBcDeFgH")),
        ),
        get(
            "a copilot's placeholder before another header",
            "api.example.com",
            "/",
            &format!(
                "{}\r\nUser-Agent: GitHubCopilotCLI\r\nAccept: */*",
                bearer(&["gho_", "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUy"].concat())
            ),
        ),
        post(
            "a model is shown a tutorial",
            "api.example.com",
            "/v1/messages",
            JSON,
            format!(
                "{{\"text\": \"curl -u {}: ; jwt.io has {}.{}.{}; {} is AWS's\"}}",
                ["sk_test_", "4eC39HqLyjWDarjtT1zdp7dc"].concat(),
                "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9",
                "eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ",
                "SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c",
                ["AKIA", "IOSFODNN7EXAMPLE"].concat()
            ),
        ),
        post(
            "a page with public keys",
            "api.example.com",
            "/v1/messages",
            JSON,
            format!(
                "{{\"posthog\": \"phc_{}\", \"square\": \"sq0idp-{}\"}}",
                "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC01XM6EaaB3dE6g", "aB3dE6gH9jK2mN5pQ8sT1v"
            ),
        ),
        get("a name with an underscore", "my_bucket.example.com", "/o", ""),
    ]
}

/// The same elsewhere, or in another place.
fn stolen() -> Vec<Request> {
    let (token, openai) = (jwt("https://issuer.example"), jwt("https://auth.openai.com"));
    vec![
        get("GitHub's token to another host", "api.example.com", "/", &format!("Authorization: token {}", github())),
        post(
            "GitHub's token in an issue",
            "api.github.com",
            "/repos/a/b/issues",
            JSON,
            format!("{{\"body\": \"{}\"}}", github()),
        ),
        get("GitHub's token in a query", "api.github.com", &format!("/search?q={}", github()), ""),
        get("GitHub's token in a cookie", "api.github.com", "/", &format!("Cookie: a={}", github())),
        post("a key of a model in its conversation", "api.anthropic.com", "/v1/messages", JSON, anthropic("api03")),
        get(
            "a key of a model to another",
            "api.openai.com",
            "/v1/models",
            &format!("x-api-key: {}", anthropic("api03")),
        ),
        get("a login of a model to a service", "k8s.example.com", "/api", &format!("Authorization: Bearer {openai}")),
        post("a JWT in a body", "api.example.com", "/", JSON, token.clone()),
        get("a JWT in a query", "api.example.com", &format!("/?jwt={token}"), ""),
        get("a JWT in another header", "api.example.com", "/", &format!("X-Note: {token}")),
        get(
            "AWS' number to another host",
            "api.example.com",
            "/",
            &format!("Authorization: AWS4-HMAC-SHA256 Credential={}/{SIGV4}0", aws()),
        ),
        get("Google's key to another host", "api.example.com", &format!("/?key={}", google()), ""),
        post("nearly an example", "api.example.com", "/", JSON, ["sk_test_", "4eC39HqLyjWDarjtT1zdp7dd"].concat()),
    ]
}

#[test]
fn what_ordinary_tools_send_passes_and_what_is_stolen_does_not() {
    if in_namespace("honest::what_ordinary_tools_send_passes_and_what_is_stolen_does_not") {
        credentials();
    }
}

#[tokio::main]
async fn credentials() {
    let lab = Lab::new(&spec(), &names(), &[]).await;
    let mut refused = Vec::new();
    let all = ordinary();
    for request in &all {
        let answer = lab.inside(request.host, &request.bytes()).await;
        if !answer.starts_with("HTTP/1.1 200") {
            refused.push(format!("{}: {}", request.name, answer.lines().last().unwrap_or_default()));
        }
    }
    println!("{} of {} ordinary requests are refused", refused.len(), all.len());
    assert!(refused.is_empty(), "{refused:#?}");
    for request in stolen() {
        let arrived = lab.arrived().1;
        let answer = lab.inside(request.host, &request.bytes()).await;
        assert!(answer.contains("\"code\":\"secret_found\""), "{}: {answer}", request.name);
        assert_eq!(lab.arrived().1, arrived, "{}", request.name);
    }
    // What the bottle itself holds goes where it is held for, whose it ever is; and no other one goes there.
    let mut lab = lab;
    let known = |value: String, hosts: &[&str]| Known { value, hosts: hosts.iter().map(|&host| host.into()).collect() };
    let secrets = vec![known(github(), &[]), known(anthropic("api03"), &["api.anthropic.com"])];
    lab.tell(&Update { secrets: Some(secrets), ..Update::default() }).await;
    while !matches!(lab.message().await, Message::Updated) {}
    let key = |key: String| get("", "api.anthropic.com", "/v1/models", &format!("x-api-key: {key}"));
    let token = get("", "api.github.com", "/user", &format!("Authorization: token {}", github()));
    for (request, passes) in [(token, false), (key(anthropic("api03")), true), (key(anthropic("api04")), false)] {
        let answer = lab.inside(request.host, &request.bytes()).await;
        assert_eq!(answer.starts_with("HTTP/1.1 200"), passes, "{answer}");
    }
}

const SECRET: &str = "correct-horse/battery+staple";

/// A body in S3's framing, with chunks of a size.
fn frame(payload: &[u8], size: usize) -> Vec<u8> {
    let mut body = Vec::new();
    for chunk in payload.chunks(size) {
        body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        body.extend_from_slice(chunk);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\nx-amz-checksum-crc32:sOO8/Q==\r\n\r\n");
    body
}

fn upload(name: &'static str, encoding: &str, body: Vec<u8>) -> Request {
    let head = format!(
        "Content-Encoding: {encoding}\r\nX-Amz-Trailer: x-amz-checksum-crc32\r\nX-Amz-Content-Sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    );
    post(name, "bucket.s3.eu-west-1.amazonaws.com", "/o", &head, body)
}

#[test]
fn uploads_of_s3_pass_unchanged_and_promise_09_holds_in_them() {
    if in_namespace("honest::uploads_of_s3_pass_unchanged_and_promise_09_holds_in_them") {
        uploads();
    }
}

#[tokio::main]
async fn uploads() {
    let lab = Lab::new(&spec(), &names(), &[SECRET]).await;
    let ask = async |request: &Request| lab.inside(request.host, &request.bytes()).await;
    let long = "a line of an object that is long\n".repeat(300_000);
    let gzip = {
        use std::io::Write;
        let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        to.write_all(b"hello").unwrap();
        to.finish().unwrap()
    };
    for (request, body) in [
        (upload("short", "aws-chunked", frame(b"hello", 5)), frame(b"hello", 5)),
        (upload("in many chunks", "aws-chunked", frame(b"hello", 2)), frame(b"hello", 2)),
        (upload("long", "aws-chunked", frame(long.as_bytes(), 65536)), frame(long.as_bytes(), 65536)),
        (upload("gzip in it", "gzip,aws-chunked", frame(&gzip, 5)), frame(&gzip, 5)),
        (upload("gzip in it, the other way round", "aws-chunked, gzip", frame(&gzip, 5)), frame(&gzip, 5)),
    ] {
        let answer = ask(&request).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{}: {answer}", request.name);
        let arrived = lab.seen.lock().unwrap().requests.pop().unwrap();
        assert_eq!(arrived.len(), "POST /o ".len() + String::from_utf8_lossy(&body).len(), "{}", request.name);
        assert!(arrived.ends_with(&*String::from_utf8_lossy(&body)), "{}", request.name);
    }
    for request in [
        upload("a secret", "aws-chunked", frame(SECRET.as_bytes(), 100)),
        upload("a secret in two chunks", "aws-chunked", frame(SECRET.as_bytes(), 9)),
        upload(
            "a secret in two chunks behind much",
            "aws-chunked",
            frame(format!("{long}{SECRET}").as_bytes(), long.len() + 9),
        ),
        upload("a secret in a trailer", "aws-chunked", format!("1\r\na\r\n0\r\nx-amz-meta:{SECRET}\r\n\r\n").into()),
    ] {
        let arrived = lab.arrived().1;
        let answer = ask(&request).await;
        assert!(answer.contains("\"code\":\"secret_found\""), "{}: {answer}", request.name);
        assert_eq!(lab.arrived().1, arrived, "{}", request.name);
    }
    let answer = ask(&upload("no framing", "aws-chunked", b"hello".to_vec())).await;
    assert!(answer.contains("\"code\":\"not_decoded\""), "{answer}");
}

#[test]
fn promise_04_plain_http_after_a_connect_is_judged_like_the_absolute_form() {
    if in_namespace("honest::promise_04_plain_http_after_a_connect_is_judged_like_the_absolute_form") {
        plain();
    }
}

#[tokio::main]
async fn plain() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut lab = Lab::new(&spec(), &names(), &[SECRET]).await;
    let ask = async |authority: &str, bytes: &str| {
        let mut stream = lab.connect(authority).await.unwrap();
        let _ = stream.write_all(bytes.as_bytes()).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    let request = |line: &str, host: &str, more: &str| format!("{line} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n");
    let (here, at) = ("api.example.com", "api.example.com:80");
    let secret = request("POST /a", here, &format!("Content-Length: {}\r\n", SECRET.len())) + SECRET;
    for (name, authority, bytes, expected) in [
        ("a request", at, request("GET /a", here, ""), "here"),
        ("with its port", at, request("GET /a", at, ""), "here"),
        ("in absolute form", at, request("GET http://api.example.com/a", here, ""), "here"),
        ("two on one connection", at, request("GET /a", here, "") + &request("GET /admin/x", here, ""), "\"denied\""),
        ("a denied path", at, request("GET /admin/x", here, ""), "\"denied\""),
        ("another host", at, request("GET /a", "evil.example.org", ""), "\"host_mismatch\""),
        ("another port", at, request("GET /a", "api.example.com:8080", ""), "\"host_mismatch\""),
        ("another host in absolute form", at, request("GET http://evil.example.org/", here, ""), "\"host_mismatch\""),
        ("https without TLS", at, request("GET https://api.example.com/", here, ""), "\"bad_request\""),
        ("CONNECT in it", at, request("CONNECT evil.example.org:443", here, ""), "\"bad_request\""),
        ("TRACE", at, request("TRACE /", here, ""), "\"bad_request\""),
        ("a secret", at, secret, "\"secret_found\""),
        (
            "a token of its own host's, which is seen on its way",
            "api.github.com:80",
            request("GET /user", "api.github.com", &format!("Authorization: token {}\r\n", github())),
            "\"secret_found\"",
        ),
        ("HTTP/2 without TLS", at, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), "\"bad_request\""),
        ("SSH", at, "SSH-2.0-OpenSSH_9.2\r\n".to_owned(), "\"bad_request\""),
        ("bare LF", at, "GET / HTTP/1.1\nHost: api.example.com\n\n".to_owned(), "\"bad_request\""),
        ("a push", at, request("GET /a.git/info/refs?service=git-receive-pack", here, ""), "\"bad_request\""),
    ] {
        let arrived = lab.arrived().1;
        let answer = ask(authority, &bytes).await;
        assert!(answer.contains(expected), "{name}: {answer}");
        let passes = usize::from(expected == "here" || name.starts_with("two"));
        assert_eq!(lab.arrived().1 - arrived, passes, "{name}");
    }
    // Where TLS is due there is nothing else.
    let answer = ask("api.example.com:443", &request("GET /a", "api.example.com:443", "")).await;
    assert!(!answer.contains("HTTP/1.1"), "{answer}");
    // A WebSocket without TLS, as far as its handshake: the destination grants none.
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    assert!(ask("wss.example.com:80", &request("GET /chat", "wss.example.com", upgrade)).await.contains("here"));
    let events = lab.decisions().await;
    assert!(events.iter().any(|event| event.kind.form == "absolute" && event.kind.code == "denied"), "{events:?}");
}
