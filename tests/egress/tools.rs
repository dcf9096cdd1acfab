//! Requests as ordinary tools send them, with a credential in each, and the same where it does not belong.

use data_encoding::{BASE64, BASE64URL_NOPAD};

/// The hosts of the tools' requests.
pub const HOSTS: [&str; 34] = [
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

// All are assembled at run time, so that scanners of repositories do not take them for real ones.

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

pub fn github() -> String {
    ["ghp_", "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx"].concat()
}

pub fn anthropic(kind: &str) -> String {
    format!("sk-ant-{kind}-{}xyzAA", "aB3-dE6_gH".repeat(9))
}

fn aws() -> String {
    ["AKIA", "QYLPMN5HHHFPZAM2"].concat()
}

fn google() -> String {
    ["AIza", "SyD4f7Kq9Lm2Np5Rs8Tu1Vw3Xy6Za0Bc4De"].concat()
}

pub struct Request {
    pub name: &'static str,
    pub host: &'static str,
    head: String,
    body: Vec<u8>,
}

pub fn get(name: &'static str, host: &'static str, path: &str, header: &str) -> Request {
    let header = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
    Request { name, host, head: format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{header}"), body: Vec::new() }
}

pub fn post(name: &'static str, host: &'static str, path: &str, header: &str, body: impl Into<Vec<u8>>) -> Request {
    let (request, body) = (get(name, host, path, header), body.into());
    let head = request.head.replacen("GET", "POST", 1) + &format!("Content-Length: {}\r\n", body.len());
    Request { head, body, ..request }
}

impl Request {
    pub fn bytes(&self) -> Vec<u8> {
        [self.head.as_bytes(), b"Connection: close\r\n\r\n", &self.body].concat()
    }
}

const FORM: &str = "Content-Type: application/x-www-form-urlencoded";
const JSON: &str = "Content-Type: application/json";
const SIGV4: &str = "20261128/eu-west-1/s3/aws4_request, SignedHeaders=host;x-amz-date, Signature=";

/// Requests of the named tools with something that looks like a credential.
pub fn ordinary() -> Vec<Request> {
    [registries(), storage(), services(), identities(), models(), texts()].into_iter().flatten().collect()
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

fn basic(login: &str) -> String {
    format!("Authorization: Basic {}", BASE64.encode(login.as_bytes()))
}

/// A link to an object, signed with a key (AWS Signature Version 4).
fn presigned(rest: &str) -> String {
    let head = "/o?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=";
    let scope = "%2F20261128%2Feu-west-1%2Fs3%2Faws4_request&X-Amz-Signature=";
    format!("{head}{}{scope}{}{rest}", aws(), "0123456789abcdef".repeat(4))
}

const SAS: &str = "sp=r&sv=2025-11-05&sr=b&sig=aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC01XM6EaaB3dE6g%3D";

/// Pulls from and pushes to registries of images and packages.
fn registries() -> Vec<Request> {
    let token = jwt("https://issuer.example");
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
    ]
}

/// Objects and links to them, signed by their owner.
fn storage() -> Vec<Request> {
    let token = jwt("https://issuer.example");
    let sha = "0123456789abcdef".repeat(4);
    let signed = format!("Authorization: AWS4-HMAC-SHA256 Credential={}/{SIGV4}{sha}", aws());
    vec![
        get("aws s3 cp", "bucket.s3.eu-west-1.amazonaws.com", "/o", &signed),
        get("a presigned link of S3", "bucket.s3.eu-west-1.amazonaws.com", &presigned("&x-id=GetObject"), ""),
        get("git lfs: an object at S3", "github-cloud.s3.amazonaws.com", &presigned("&actor_id=1"), ""),
        get(
            "gh release download",
            "release-assets.githubusercontent.com",
            &format!("/github-production-release-asset/1?{SAS}&jwt={token}"),
            "",
        ),
        get(
            "an artifact of GitHub Actions",
            "productionresultssa0.blob.core.windows.net",
            &format!("/actions-results/a.zip?{SAS}"),
            "",
        ),
        get("a name with an underscore", "my_bucket.example.com", "/o", ""),
    ]
}

/// Forges, clusters and self-hosted services.
fn services() -> Vec<Request> {
    let token = jwt("https://issuer.example");
    vec![
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
        get("gh api", "api.github.com", "/user", &format!("Authorization: token {}", github())),
        get(
            "git clone with a token",
            "github.com",
            "/me/repo.git/info/refs?service=git-upload-pack",
            &basic(&format!("x-access-token:{}", github())),
        ),
        get("glab", "gitlab.com", "/api/v4/user", &format!("PRIVATE-TOKEN: glpat-{}", "x1Yz9-Kq_7Lm3Nop2RsT")),
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
    ]
}

/// Exchanges of one credential for another.
fn identities() -> Vec<Request> {
    let token = jwt("https://issuer.example");
    vec![
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
    ]
}

/// Models, with keys and with logins.
fn models() -> Vec<Request> {
    let openai = jwt("https://auth.openai.com");
    vec![
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
    ]
}

/// Text with examples, public keys, and things that only look like a key.
fn texts() -> Vec<Request> {
    vec![
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
    ]
}

/// The same to other hosts, or in other places.
pub fn stolen() -> Vec<Request> {
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
