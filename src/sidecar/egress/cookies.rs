//! The cookies that sites have handed out to this bottle. A host that has a credential gets no others.
//!
//! Rules:
//! * A cookie belongs to the site, the registrable domain, of the host that set it.
//! * What is not known, because it comes from elsewhere or was forgotten, is left out of the request; the request goes on.
//!
//! Attack that this stops: a session of an attacker's account at an allowed host, to which the agent then uploads.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;

use hyper::header::{self, HeaderMap, HeaderValue};

use crate::net::Host;
use crate::sync::lock;

/// Maximum number of cookies that are known; the oldest are forgotten.
const MAX_COOKIES: usize = 4096;

/// Hashes of the cookies that were handed out.
#[derive(Default)]
pub(super) struct HandedOut {
    known: Mutex<(HashSet<u64>, VecDeque<u64>)>,
    hasher: RandomState,
}

impl HandedOut {
    /// Notes the cookies of a response.
    pub(super) fn note(&self, host: &Host, headers: &HeaderMap) {
        for value in headers.get_all(header::SET_COOKIE) {
            let pair = value.as_bytes().split(|&byte| byte == b';').next().unwrap_or_default();
            let hash = self.hash(host, pair);
            let (known, order) = &mut *lock(&self.known);
            if known.insert(hash) {
                order.push_back(hash);
            }
            if order.len() > MAX_COOKIES
                && let Some(oldest) = order.pop_front()
            {
                known.remove(&oldest);
            }
        }
    }

    /// Leaves out the cookies of a request that its site has not handed out; says whether there was one.
    pub(super) fn keep_own(&self, host: &Host, headers: &mut HeaderMap) -> bool {
        let Some(value) = headers.get(header::COOKIE) else { return false };
        let all: Vec<&[u8]> = value.as_bytes().split(|&byte| byte == b';').map(<[u8]>::trim_ascii).collect();
        let is_known = |pair: &&&[u8]| pair.is_empty() || lock(&self.known).0.contains(&self.hash(host, pair));
        let own: Vec<&[u8]> = all.iter().filter(is_known).copied().collect();
        if own.len() == all.len() {
            return false;
        }
        let own = own.join(&b"; "[..]);
        match HeaderValue::from_bytes(&own) {
            Ok(own) if !own.is_empty() => drop(headers.insert(header::COOKIE, own)),
            _ => drop(headers.remove(header::COOKIE)),
        }
        true
    }

    fn hash(&self, host: &Host, pair: &[u8]) -> u64 {
        let host = host.to_string();
        let site = psl::domain_str(&host).unwrap_or(&host);
        self.hasher.hash_one((site, pair.trim_ascii()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &header::HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn only_what_a_site_handed_out_goes_back_to_it() {
        let handed = HandedOut::default();
        let host = |name: &str| Host::parse(name).unwrap();
        handed.note(&host("auth.example.com"), &headers(&header::SET_COOKIE, &["a=b; Path=/; Secure", "c=d"]));
        handed.note(&host("evil.example.org"), &headers(&header::SET_COOKIE, &["session=evil"]));
        for (to, sent, kept) in [
            ("api.example.com", "a=b; c=d", "a=b; c=d"),
            ("api.example.com", "a=b;c=d; session=evil", "a=b; c=d"),
            ("api.example.com", "a=c", ""),
            ("api.example.com", "session=evil", ""),
            ("example.com.evil.org", "a=b", ""),
            ("evil.example.org", "session=evil", "session=evil"),
        ] {
            let mut headers = headers(&header::COOKIE, &[sent]);
            let left_out = handed.keep_own(&host(to), &mut headers);
            let now = headers.get(header::COOKIE).map_or("", |value| value.to_str().unwrap());
            assert_eq!((now, left_out), (kept, kept != sent), "{to}: {sent}");
        }
        // Under a public suffix, everybody is a site of their own.
        handed.note(&host("evil.github.io"), &headers(&header::SET_COOKIE, &["x=y"]));
        assert!(handed.keep_own(&host("good.github.io"), &mut headers(&header::COOKIE, &["x=y"])));
        // The oldest are forgotten.
        let many: Vec<String> = (0..MAX_COOKIES).map(|number| format!("n={number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        handed.note(&host("example.com"), &headers(&header::SET_COOKIE, &many));
        assert!(handed.keep_own(&host("example.com"), &mut headers(&header::COOKIE, &["a=b"])));
        assert!(!handed.keep_own(&host("example.com"), &mut headers(&header::COOKIE, &["n=4095"])));
        assert_eq!(lock(&handed.known).0.len(), MAX_COOKIES);
    }
}
