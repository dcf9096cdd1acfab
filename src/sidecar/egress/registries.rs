//! Tokens that a registry of images hands out by itself, for the bottle's credential (the token protocol of the OCI
//! distribution specification): a client logs in at the registry's token service with its credential, and then uses the token
//! that it gets. A host that has a credential takes no other one, but these.
//!
//! Rules:
//! * A token service is one that a host with a credential names in its answer 401 to a request below `/v2/`, and that has a
//!   credential as well.
//! * A token is taken from its answer to a request that carried the credential: the `token` or `access_token` of a JSON object.
//!   It is taken by the hosts of that credential only.
//!
//! Attack that this stops: a token of an attacker's account that the agent got elsewhere, or had the host serve as content.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, Hash, RandomState};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use hyper::header::{self, HeaderMap};
use hyper::{StatusCode, Uri};
use serde::Deserialize;

use super::bodies::IncomingBody;
use crate::net::{Host, canonical};
use crate::policy::Intent;
use crate::sync::lock;

/// Maximum number of token services, and of tokens, that are known; the oldest are forgotten.
const MAX_SERVICES: usize = 64;
const MAX_TOKENS: usize = 4096;
/// Maximum size of an answer with a token, in bytes.
const MAX_ANSWER: usize = 64 << 10;
const HTTPS: u16 = 443;

/// What registries have said to this bottle.
#[derive(Default)]
pub(super) struct Registries {
    services: Mutex<Known>,
    tokens: Mutex<Known>,
    hasher: RandomState,
}

/// Hashes, the oldest first.
#[derive(Default)]
struct Known {
    all: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Known {
    fn insert(&mut self, hash: u64, most: usize) {
        if self.all.insert(hash) {
            self.order.push_back(hash);
        }
        if self.order.len() > most
            && let Some(oldest) = self.order.pop_front()
        {
            self.all.remove(&oldest);
        }
    }
}

impl Registries {
    /// Notes the token service that a host with a credential names; `has_credential` says whether a host has one.
    pub(super) fn note_challenge(
        &self,
        intent: &Intent,
        status: StatusCode,
        headers: &HeaderMap,
        has_credential: impl Fn(&Host, u16) -> bool,
    ) {
        let below = intent.path.as_deref().is_some_and(|path| path.starts_with("/v2/"));
        if status != StatusCode::UNAUTHORIZED || !below || !has_credential(&intent.host, intent.port) {
            return;
        }
        let challenges = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        for (host, port, path) in challenges.filter_map(realm) {
            if has_credential(&host, port) {
                lock(&self.services).insert(self.hash((host, port, path)), MAX_SERVICES);
            }
        }
    }

    /// Whether a request is one for a token.
    pub(super) fn is_service(&self, intent: &Intent) -> bool {
        let path = intent.path.as_deref().unwrap_or("/");
        let alone = path.split_once('?').map_or(path, |(alone, _)| alone).to_owned();
        lock(&self.services).all.contains(&self.hash((intent.host.clone(), intent.port, alone)))
    }

    /// Whether a token was handed out for a credential.
    pub(super) fn handed_out(&self, credential: &str, token: &str) -> bool {
        lock(&self.tokens).all.contains(&self.hash((credential, token)))
    }

    fn note_token(&self, credential: &str, token: &str) {
        lock(&self.tokens).insert(self.hash((credential, token)), MAX_TOKENS);
    }

    fn hash(&self, what: impl Hash) -> u64 {
        self.hasher.hash_one(what)
    }
}

/// The token service of a challenge: `Bearer realm="https://HOST/PATH",service="…"` (RFC 9110, section 11.6.1).
fn realm(challenge: &str) -> Option<(Host, u16, String)> {
    let (scheme, rest) = challenge.trim().split_once(' ')?;
    let parameter = |part: &str| part.trim().strip_prefix("realm=\"")?.strip_suffix('"').map(str::to_owned);
    let realm = scheme.eq_ignore_ascii_case("bearer").then(|| rest.split(',').find_map(parameter))??;
    let uri: Uri = realm.parse().ok()?;
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
    let host = Host::parse(authority.host()).ok()?;
    let path = canonical(uri.path()).ok()?;
    (uri.scheme_str() == Some("https")).then(|| (host, authority.port_u16().unwrap_or(HTTPS), path))
}

/// The answer of a token service (distribution specification, "Token Response Fields").
#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
}

/// The body of a token service's answer: its tokens are known before the client has the whole of it.
pub(super) struct Noted<B> {
    pub(super) inner: B,
    /// The registries, and the names of the credentials that the request carried; `None` for any other answer.
    pub(super) handing: Option<(Arc<Registries>, Vec<String>)>,
    pub(super) answer: Vec<u8>,
}

impl<B: IncomingBody> hyper::body::Body for Noted<B> {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        let this = &mut *self;
        if let (Some((registries, credentials)), Some(Ok(frame))) = (&this.handing, &frame)
            && let Some(data) = frame.data_ref()
        {
            this.answer.extend_from_slice(data);
            if this.answer.len() > MAX_ANSWER {
                this.handing = None;
            } else if let Ok(Answer { token, access_token }) = serde_json::from_slice(&this.answer) {
                for token in [token, access_token].into_iter().flatten() {
                    for credential in credentials {
                        registries.note_token(credential, &token);
                    }
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Form;
    use hyper::header::HeaderValue;

    fn intent(host: &str, path: &str) -> Intent {
        let host = Host::parse(host).unwrap();
        Intent { form: Form::Inside, method: "GET".into(), host, port: 443, path: Some(path.into()) }
    }

    #[test]
    fn only_a_service_that_the_registry_names_hands_out_tokens() {
        let names = |challenge: &str, path: &str, status: StatusCode| {
            let registries = Registries::default();
            let headers = [(header::WWW_AUTHENTICATE, HeaderValue::from_str(challenge).unwrap())].into_iter().collect();
            let has = |host: &Host, port| host.to_string().ends_with(".example.com") && port == 443;
            registries.note_challenge(&intent("registry.example.com", path), status, &headers, has);
            registries.is_service(&intent("auth.example.com", "/token?service=a&scope=b"))
        };
        let challenge = "Bearer realm=\"https://auth.example.com/token\",service=\"a\",scope=\"b\"";
        assert!(names(challenge, "/v2/", StatusCode::UNAUTHORIZED));
        assert!(names(
            "bearer service=\"a\", realm=\"https://AUTH.example.com:443/x/../token\"",
            "/v2/a",
            StatusCode::UNAUTHORIZED
        ));
        for (challenge, path, status) in [
            (challenge, "/raw/v2/", StatusCode::UNAUTHORIZED),
            (challenge, "/v2/", StatusCode::OK),
            ("Bearer realm=\"http://auth.example.com/token\"", "/v2/", StatusCode::UNAUTHORIZED),
            ("Bearer realm=\"https://x@auth.example.com/token\"", "/v2/", StatusCode::UNAUTHORIZED),
            ("Bearer realm=\"https://auth.example.com/raw/token\"", "/v2/", StatusCode::UNAUTHORIZED),
            ("Bearer realm=\"https://auth.example.org/token\"", "/v2/", StatusCode::UNAUTHORIZED),
            ("Basic realm=\"https://auth.example.com/token\"", "/v2/", StatusCode::UNAUTHORIZED),
            ("Bearer", "/v2/", StatusCode::UNAUTHORIZED),
        ] {
            assert!(!names(challenge, path, status), "{challenge} {path} {status}");
        }
    }

    #[tokio::test]
    async fn services_and_their_answers_are_bounded() {
        use http_body_util::BodyExt;
        let (registries, has) = (Registries::default(), |_: &Host, _| true);
        let challenge = |number: usize| {
            let value = format!("Bearer realm=\"https://auth{number}.example.com/token\",service=\"a\"");
            let headers = [(header::WWW_AUTHENTICATE, HeaderValue::from_str(&value).unwrap())].into_iter().collect();
            registries.note_challenge(&intent("registry.example.com", "/v2/"), StatusCode::UNAUTHORIZED, &headers, has);
        };
        let is_known = |number: usize| registries.is_service(&intent(&format!("auth{number}.example.com"), "/token"));
        (0..MAX_SERVICES).for_each(challenge);
        assert!((0..MAX_SERVICES).all(is_known));
        challenge(MAX_SERVICES);
        assert!(!is_known(0) && (1..=MAX_SERVICES).all(is_known));
        let registries = Arc::new(Registries::default());
        for (token, length, expected) in [("fits", MAX_ANSWER, true), ("long", MAX_ANSWER + 1, false)] {
            let json = format!("{{\"token\":\"{token}\",\"more\":\"\"}}");
            let answer = json.replace("\"\"}", &format!("\"{}\"}}", "x".repeat(length - json.len())));
            assert_eq!(answer.len(), length);
            let frames = answer.into_bytes().chunks(10_000).map(Bytes::copy_from_slice).collect::<Vec<_>>();
            let frames = frames.into_iter().map(|data| Ok::<_, hyper::Error>(Frame::data(data)));
            let inner = http_body_util::StreamBody::new(futures_util::stream::iter(frames));
            let handing = Some((registries.clone(), vec!["one".to_owned()]));
            let passed = Noted { inner, handing, answer: Vec::new() }.collect().await.unwrap().to_bytes();
            assert_eq!(passed.len(), length, "it passes in any case");
            assert_eq!(registries.handed_out("one", token), expected, "{token}");
        }
    }

    #[test]
    fn a_token_belongs_to_its_credential_and_the_oldest_are_forgotten() {
        let registries = Registries::default();
        registries.note_token("one", "abc");
        assert!(registries.handed_out("one", "abc"));
        assert!(!registries.handed_out("other", "abc") && !registries.handed_out("one", "abd"));
        (0..MAX_TOKENS).for_each(|number| registries.note_token("one", &number.to_string()));
        assert!(!registries.handed_out("one", "abc") && registries.handed_out("one", "4095"));
    }
}
