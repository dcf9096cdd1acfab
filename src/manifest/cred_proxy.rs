//! `cred_proxy` as users write it: routes at `http://cred-proxy:9099/<path>/`, each to one host with one credential.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use url::Url;

/// Most routes of one bottle.
const MAX_ROUTES: usize = 32;

/// The cred-proxy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CredProxySection {
    /// The routes; the longest path wins.
    #[serde(deserialize_with = "routes")]
    pub routes: Vec<RouteSection>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteSection {
    /// The first segments of the path, as in `anthropic` for `http://cred-proxy:9099/anthropic/`.
    pub path: String,
    /// Where it leads: `https://HOST[:PORT][/BASE]`. The allowlist must have the host.
    pub upstream: String,
    /// The name of the credential that requests get. It must be declared for the host.
    pub credential: String,
    /// The only methods; all by default.
    #[serde(default)]
    pub methods: Vec<String>,
    /// The only paths behind the route's own, as in `egress.allow`; all by default.
    #[serde(default)]
    pub paths: Vec<String>,
    /// What the agent is set up with so that its programs use the route.
    pub role: Option<RouteRole>,
}

/// How an agent's programs come to use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RouteRole {
    /// `ANTHROPIC_BASE_URL`.
    AnthropicBaseUrl,
    /// `OPENAI_BASE_URL`. The upstream usually ends in `/v1`.
    OpenaiBaseUrl,
    /// `PIP_INDEX_URL`. The upstream is the index, as in `https://pypi.example.com/simple`.
    PipIndex,
    /// The configuration of `tea`, Gitea's command line.
    TeaLogin,
    /// git fetches from the upstream by the route, without a change to any URL. There may be several.
    GitInsteadof,
}

impl RouteRole {
    /// The word in the manifest.
    pub fn word(self) -> &'static str {
        match self {
            Self::AnthropicBaseUrl => "anthropic-base-url",
            Self::OpenaiBaseUrl => "openai-base-url",
            Self::PipIndex => "pip-index",
            Self::TeaLogin => "tea-login",
            Self::GitInsteadof => "git-insteadof",
        }
    }
}

/// A place on the internet, of TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path, with a slash at its beginning and none at its end; empty for none.
    pub base: String,
}

impl RouteSection {
    /// Where it leads.
    ///
    /// # Errors
    /// The URL is malformed, is not of TLS, or says more than a place.
    pub fn upstream(&self) -> Result<Upstream, String> {
        let bad = |why: &str| format!("upstream: {:?}: {why}", self.upstream);
        let url = Url::parse(&self.upstream).map_err(|error| bad(&error.to_string()))?;
        if url.scheme() != "https" {
            return Err(bad("it is not https://, and a credential is sent inside TLS only"));
        }
        let extra = !url.username().is_empty() || url.password().is_some();
        if extra || url.query().is_some() || url.fragment().is_some() {
            return Err(bad("it is a host, a port and a path, nothing more"));
        }
        let host = url.host_str().ok_or_else(|| bad("it has no host"))?.to_owned();
        let base = url.path().trim_end_matches('/').to_owned();
        Ok(Upstream { host, port: url.port().unwrap_or(443), base })
    }

    fn check(&self) -> Result<(), String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let segment = |part: &str| !part.is_empty() && !part.starts_with('.') && part.chars().all(plain);
        if !self.path.split('/').all(segment) {
            return Err(format!("path: {:?}: segments of letters, digits, '-', '_' and '.', as in api/v1", self.path));
        }
        self.upstream().map(drop)
    }
}

fn routes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<RouteSection>, D::Error> {
    let routes = Vec::<RouteSection>::deserialize(from)?;
    check(&routes).map_err(serde::de::Error::custom)?;
    Ok(routes)
}

fn check(routes: &[RouteSection]) -> Result<(), String> {
    if routes.is_empty() || routes.len() > MAX_ROUTES {
        return Err(format!("cred_proxy: from 1 to {MAX_ROUTES} routes, not {}", routes.len()));
    }
    let (mut paths, mut roles) = (BTreeSet::new(), BTreeSet::new());
    for route in routes {
        route.check().map_err(|why| format!("route {}: {why}", route.path))?;
        if !paths.insert(&route.path) {
            return Err(format!("route {}: there are two of this path", route.path));
        }
        if let Some(role) = route.role.filter(|role| *role != RouteRole::GitInsteadof)
            && !roles.insert(role)
        {
            return Err(format!("route {}: another route has the role {}, too", route.path, role.word()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_in_a_route_is_named() {
        let read = |routes: &str| serde_yaml::from_str::<CredProxySection>(&format!("routes: {routes}"));
        let route = "upstream: 'https://api.example.com/v1/', credential: key";
        let good = read(&format!("[{{path: api/x, {route}}}]")).unwrap();
        let upstream = Upstream { host: "api.example.com".into(), port: 443, base: "/v1".into() };
        assert_eq!(good.routes[0].upstream().unwrap(), upstream);
        for (routes, words) in [
            ("[]".to_owned(), "from 1 to"),
            (format!("[{{path: '', {route}}}]"), "segments"),
            (format!("[{{path: '../x', {route}}}]"), "segments"),
            (format!("[{{path: '/x', {route}}}]"), "segments"),
            (format!("[{{path: x, {route}}}, {{path: x, {route}}}]"), "two of this path"),
            (format!("[{{path: x, {route}, role: pip-index}}, {{path: y, {route}, role: pip-index}}]"), "the role"),
            ("[{path: x, upstream: 'http://a.example', credential: k}]".to_owned(), "inside TLS"),
            ("[{path: x, upstream: 'https://u:p@a.example', credential: k}]".to_owned(), "nothing more"),
            ("[{path: x, upstream: 'https://a.example?q', credential: k}]".to_owned(), "nothing more"),
            ("[{path: x, upstream: a.example, credential: k}]".to_owned(), "upstream"),
            (format!("[{{path: x, {route}, typo: 1}}]"), "typo"),
        ] {
            let error = read(&routes).unwrap_err().to_string();
            assert!(error.contains(words), "{routes}: {error}");
        }
    }
}
