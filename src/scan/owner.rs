//! The hosts that a provider's token may be sent to. A token that is sent to its own provider, in a place for
//! credentials, is not a leak. Anywhere else it is: also in another place of a request to its provider, which may show
//! it to others.
//!
//! This does not weaken: a host for which the bottle holds a credential accepts no other token, so that the agent does
//! not work under somebody else's account; no token passes outside TLS; and known secrets are searched for before this
//! table is consulted.

use std::sync::{LazyLock, OnceLock};

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;

/// The table, with the source of each row.
const TABLE: &str = include_str!("owners.toml");
/// Headers for credentials: RFC 9110, section 11.6.2, and the usual ones of APIs.
const CREDENTIALS: [&str; 6] = ["authorization", "x-api-key", "api-key", "apikey", "x-auth-token", "x-access-token"];
/// The rule of the ids of AWS' keys, and the parameter that has one in a signed link.
const AWS_KEY: &str = "aws-access-key";
const AWS_SIGNER: Location<'static> = Location::Query("X-Amz-Credential");
/// The rule of tokens that name their issuer.
const JWT: &str = "jwt";

/// The location of a text in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location<'a> {
    /// A header, by its name in lower case.
    Header(&'a str),
    /// A parameter of the query, by its name.
    Query(&'a str),
    /// The path, without the query.
    Path,
    /// The body, a message in it, or a trailer.
    Body,
    /// Where no credential belongs: host, method.
    Other,
}

/// The destination of a request.
#[derive(Debug, Clone)]
pub struct RequestTarget {
    host: String,
    path: String,
    /// The id of the key that its body is signed with, where the body is a form that was signed.
    signer: Option<Vec<u8>>,
    /// The rows of the table for this host. Computed at the first token, because most requests contain none.
    owners: OnceLock<Vec<&'static Owner>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    owners: Vec<Owner>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Owner {
    rules: Vec<String>,
    hosts: Vec<String>,
    /// Hosts that `hosts` does not cover.
    #[serde(default)]
    except: Vec<String>,
    #[serde(default)]
    issuer: Option<String>,
    #[serde(default)]
    headers: Vec<String>,
    #[serde(default)]
    query: Vec<String>,
    /// Whether a token may be in the path.
    #[serde(default)]
    path: bool,
    #[serde(default)]
    body: Vec<String>,
    /// For readers of the table.
    #[serde(rename = "source")]
    _source: String,
}

static OWNERS: LazyLock<Vec<Owner>> =
    LazyLock::new(|| toml::from_str::<Table>(TABLE).expect("it is compiled in, and a test reads it").owners);

/// Whether a header, by its name in lower case, holds a credential at some provider.
pub fn is_key_header(name: &str) -> bool {
    CREDENTIALS.contains(&name) || OWNERS.iter().any(|owner| owner.headers.iter().any(|header| header == name))
}

impl RequestTarget {
    /// A request to this host and path.
    pub fn new(host: &str, path: &str) -> Self {
        let path = path.split_once('?').map_or(path, |(path, _)| path).to_owned();
        Self { host: host.to_owned(), path, signer: None, owners: OnceLock::new() }
    }

    /// The same for a body that is signed with the key of this id. The id, and no other, may be in the body of a request to a
    /// host that may have it in a signed link: a form that somebody was given to upload a file has it in a field, and in the
    /// policy that is signed.
    pub(super) fn signed_with(&self, id: &[u8]) -> Self {
        Self { signer: Some(id.to_owned()), ..self.clone() }
    }

    /// Whether a token may be at this location of the request.
    pub(super) fn is_own_token(&self, rule: &str, token: &[u8], location: Location<'_>) -> bool {
        let is_signer = rule == AWS_KEY && self.signer.as_deref() == Some(token);
        let location = if is_signer && location == Location::Body { AWS_SIGNER } else { location };
        let issued = if rule == JWT { issuer(token) } else { None };
        let known = |owner: &Owner| issued.is_some() && owner.issuer == issued;
        let own = self.owners.get_or_init(|| OWNERS.iter().filter(|owner| owner.has_host(&self.host)).collect());
        if OWNERS.iter().any(known) && !own.iter().any(|owner| known(owner)) {
            return false;
        }
        // The issuer in the token takes precedence over its format.
        let of = |owner: &Owner| owner.issuer.is_none() || owner.issuer == issued;
        let owners = own.iter().filter(|owner| of(owner) && owner.rules.iter().any(|known| known == rule));
        owners.into_iter().any(|owner| owner.accepts(location, &self.path))
    }
}

impl Owner {
    fn has_host(&self, host: &str) -> bool {
        let matches = |patterns: &[String]| patterns.iter().any(|pattern| matches_host(pattern, host));
        matches(&self.hosts) && !matches(&self.except)
    }

    fn accepts(&self, location: Location<'_>, path: &str) -> bool {
        match location {
            Location::Header(name) => CREDENTIALS.contains(&name) || self.headers.iter().any(|header| header == name),
            Location::Query(name) => self.query.iter().any(|parameter| parameter == name),
            Location::Path => self.path,
            Location::Body => self.body.iter().any(|pattern| matches_parts(pattern, path, '/')),
            Location::Other => false,
        }
    }
}

/// Whether a pattern of the table matches a host.
fn matches_host(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        None => matches_parts(pattern, host, '.'),
        Some(rest) => host.strip_suffix(rest).is_some_and(|name| !name.is_empty()),
    }
}

/// Whether a pattern matches a text of parts; `*` matches one part.
fn matches_parts(pattern: &str, text: &str, separator: char) -> bool {
    let (mut wanted, mut given) = (pattern.split(separator), text.split(separator));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some("*"), Some(part)) if !part.is_empty() => {}
            (Some(wanted), Some(given)) if wanted == given => {}
            _ => return false,
        }
    }
}

/// The issuer of a JWT (RFC 7519, section 4.1.1).
fn issuer(token: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        iss: String,
    }
    let claims = BASE64URL_NOPAD.decode(token.split(|&byte| byte == b'.').nth(1)?).ok()?;
    serde_json::from_slice::<Claims>(&claims).ok().map(|claims| claims.iss)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::Rules;

    #[test]
    fn every_row_names_rules_that_there_are_and_hosts() {
        let rules = Rules::providers().unwrap();
        for owner in &*OWNERS {
            let unknown: Vec<_> = owner.rules.iter().filter(|id| !rules.has(id)).collect();
            assert!(unknown.is_empty() && !owner.rules.is_empty(), "{unknown:?}");
            let plain = |host: &String| {
                let rest = host.strip_prefix("*.").unwrap_or(host);
                // The last two labels are written out.
                host == "*"
                    || rest.contains('.')
                        && rest.rsplit('.').take(2).all(|label| label != "*")
                        && rest.split('.').all(|label| {
                            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
                            label == "*" || !label.is_empty() && label.bytes().all(plain)
                        })
            };
            assert!(!owner.hosts.is_empty() && owner.hosts.iter().chain(&owner.except).all(plain), "{owner:?}");
            assert!(owner.headers.iter().all(|name| *name == name.to_ascii_lowercase()), "{owner:?}");
            assert!(owner.body.iter().all(|path| path.starts_with('/')), "{owner:?}");
        }
    }

    #[test]
    fn tokens_go_to_no_host_that_runs_or_keeps_what_others_wrote() {
        let places = [
            Location::Header("authorization"),
            Location::Header("x-api-key"),
            Location::Query("access_token"),
            Location::Query("token"),
            Location::Query("key"),
            Location::Query("sig"),
            Location::Path,
            Location::Body,
        ];
        let token = jwt("https://kubernetes.default.svc");
        for (host, path, rule, given) in [
            // A load balancer, a gateway, a machine and a function of anybody's.
            ("name-1.us-east-1.elb.amazonaws.com", "/", "aws-bedrock-key", 0),
            ("a1b2c3.execute-api.us-east-1.amazonaws.com", "/", "aws-bedrock-key", 0),
            ("ec2-192-0-2-1.compute-1.amazonaws.com", "/", "aws-bedrock-key", 0),
            ("bedrock-runtime.us-east-1.amazonaws.com.evil.example", "/", "aws-bedrock-key", 0),
            ("bedrock-runtime.us-east-1.amazonaws.com", "/model/m/invoke", "aws-bedrock-key", 2),
            // Buckets, where what is posted is kept, and queues. A JWT goes to any host in a header.
            ("sts.s3.amazonaws.com", "/", "jwt", 2),
            ("sqs.us-east-1.amazonaws.com", "/", "jwt", 2),
            ("sts.us-east-1.amazonaws.com", "/", "jwt", 3),
            ("storage.googleapis.com", "/tokeninfo", "google-oauth-token", 2),
            ("oauth2.googleapis.com", "/tokeninfo", "google-oauth-token", 5),
            ("storage.googleapis.com", "/bucket/object", "google-api-key", 2),
            ("bucket.storage.googleapis.com", "/object", "google-api-key", 2),
            ("generativelanguage.googleapis.com", "/v1beta/models", "google-api-key", 3),
            ("name.blob.core.windows.net", "/container/blob", "jwt", 2),
            ("name.blob.core.windows.net", "/container/blob", "azure-sas", 3),
            ("name.us-east-1.aws.endpoints.huggingface.cloud", "/", "hugging-face-token", 0),
            ("name.hf.space", "/", "hugging-face-token", 0),
            ("name.supabase.co", "/rest/v1/t", "supabase-token", 0),
            ("name.supabase.co", "/rest/v1/t", "supabase-secret-key", 2),
            ("gitlab.com", "/api/v4/projects/1/trigger/pipeline", "gitlab-token", 4),
        ] {
            let target = RequestTarget::new(host, path);
            let passes = places.iter().filter(|place| target.is_own_token(rule, &token, **place)).count();
            assert_eq!(passes, given, "{rule} to {host}{path}");
        }
    }

    fn jwt(issuer: &str) -> Vec<u8> {
        let part = |text: String| BASE64URL_NOPAD.encode(text.as_bytes());
        format!(
            "{}.{}.{}",
            part("{\"alg\":\"none\"}".into()),
            part(format!("{{\"iss\":\"{issuer}\"}}")),
            "x".repeat(20)
        )
        .into()
    }

    #[test]
    fn a_token_passes_to_its_own_provider_in_its_own_place() {
        use Location::{Body, Header, Other, Path, Query};
        let openai = jwt("https://auth.openai.com");
        let other = jwt("https://kubernetes.default.svc");
        for (host, path, rule, token, location, given) in [
            ("api.github.com", "/user", "github-token", &b"t"[..], Header("authorization"), true),
            ("api.github.com", "/user", "github-token", b"t", Header("cookie"), false),
            ("api.github.com", "/user", "github-token", b"t", Header("user-agent"), false),
            ("api.github.com", "/repos/a/b/issues", "github-token", b"t", Body, false),
            ("github.com", "/login/oauth/access_token?a=b", "github-token", b"t", Body, true),
            ("api.github.com", "/user", "github-token", b"t", Other, false),
            ("evilgithub.com", "/user", "github-token", b"t", Header("authorization"), false),
            ("api.github.com.evil.example", "/", "github-token", b"t", Header("authorization"), false),
            ("x.api.github.com", "/", "github-token", b"t", Header("authorization"), false),
            ("npm.pkg.github.com", "/", "github-token", b"t", Header("authorization"), true),
            ("pkg.github.com", "/", "github-token", b"t", Header("authorization"), false),
            ("api.openai.com", "/", "github-token", b"t", Header("authorization"), false),
            ("api.anthropic.com", "/v1/messages", "anthropic-key", b"t", Header("x-api-key"), true),
            ("api.anthropic.com", "/v1/messages", "anthropic-key", b"t", Body, false),
            ("platform.claude.com", "/v1/oauth/token", "anthropic-key", b"t", Body, true),
            ("s3.eu-west-1.amazonaws.com", "/b/o", "aws-access-key", b"t", Query("X-Amz-Credential"), true),
            ("s3.eu-west-1.amazonaws.com", "/b/o", "aws-access-key", b"t", Query("q"), false),
            ("k8s.example.com", "/api", "jwt", &other, Header("authorization"), true),
            ("k8s.example.com", "/api", "jwt", &other, Body, false),
            ("chatgpt.com", "/backend-api/codex/responses", "jwt", &openai, Header("authorization"), true),
            ("auth.openai.com", "/oauth/token", "jwt", &openai, Body, true),
            ("auth.openai.com", "/oauth/tokens", "jwt", &openai, Body, false),
            ("k8s.example.com", "/api", "jwt", &openai, Header("authorization"), false),
            ("vault.example.com", "/v1/secret", "vault-token", b"t", Header("x-vault-token"), true),
            ("vault.example.com", "/v1/secret", "vault-token", b"t", Header("x-note"), false),
            ("login.microsoftonline.com", "/tenant/oauth2/v2.0/token", "jwt", &other, Body, true),
            ("login.microsoftonline.com", "/a/b/oauth2/v2.0/token", "jwt", &other, Body, false),
            ("api.telegram.org", "/bot1:t/getMe", "telegram-bot", b"t", Path, true),
            ("api.telegram.org", "/bot1:t/sendMessage", "telegram-bot", b"t", Body, false),
            ("api.telegram.org.evil.example", "/bot1:t/getMe", "telegram-bot", b"t", Path, false),
            ("api.github.com", "/repos/t", "github-token", b"t", Path, false),
            ("api.github.com", "/user", "github-installation-token", b"t", Header("authorization"), true),
            ("gateway-us-east1-b.discord.gg", "/", "discord-bot", b"t", Body, true),
            ("cloud.digitalocean.com", "/v1/oauth/token", "digitalocean-token", b"t", Query("refresh_token"), true),
            ("app.eu.terraform.io", "/api/v2/ping", "terraform-cloud-token", b"t", Header("authorization"), true),
            ("protected.example.com", "/", "cloudflare-access-secret", b"t", Header("cf-access-client-secret"), true),
            ("protected.example.com", "/", "cloudflare-token", b"t", Header("authorization"), false),
        ] {
            assert_eq!(
                RequestTarget::new(host, path).is_own_token(rule, token, location),
                given,
                "{rule} to {host}{path}: {location:?}"
            );
        }
    }
}
