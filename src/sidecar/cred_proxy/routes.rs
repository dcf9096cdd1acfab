//! Routes: which one a path belongs to, where it leads, and what a redirect becomes. Pure.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use crate::net::{Glob, ambiguity, canonical};

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The first segments of the path here, without slashes at its ends: `anthropic`.
    pub path: String,
    /// The host that it leads to.
    pub host: String,
    /// The port there, of TLS.
    pub port: u16,
    /// The beginning of every path there, with a slash at its beginning and none at its end; empty for none.
    pub base: String,
    /// What is put into a request.
    pub put: Put,
    /// The only methods; all where it is empty.
    pub methods: Vec<String>,
    /// The only paths behind the route's own, as in `egress.allow`; all where it is empty.
    pub paths: Vec<String>,
}

/// What a route puts into a request: a placeholder, in its slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Put {
    /// A header, by its name in lower case, and its whole value.
    Header(String, String),
    /// A parameter of the query, and its value.
    Query(String, String),
}

/// Why a request is refused: the status, and a sentence.
pub(super) type Refused = (u16, String);

/// The route of a path, and the rest of it with its query. The longest path wins.
pub(super) fn find<'a>(routes: &'a [Route], target: &'a str) -> Result<(&'a Route, &'a str), Refused> {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let fits = |route: &&Route| {
        let rest = path.strip_prefix('/').and_then(|path| path.strip_prefix(route.path.as_str()));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let Some(route) = routes.iter().filter(fits).max_by_key(|route| route.path.len()) else {
        let known: Vec<String> = routes.iter().map(|route| format!("/{}/", route.path)).collect();
        return Err((404, format!("no route for this path; the routes are {}", known.join(", "))));
    };
    Ok((route, &target[1 + route.path.len()..]))
}

impl Route {
    /// The target at the destination for the rest of a path and its query.
    pub(super) fn target(&self, method: &str, rest: &str) -> Result<String, Refused> {
        let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
        let refused = |why: String| (400, format!("the path is not accepted: {why}; send a plain path"));
        // Resolved within the route: a path that leads above the route's own is refused.
        let path = canonical(if path.is_empty() { "/" } else { path }).map_err(|error| refused(error.to_string()))?;
        if let Some(what) = ambiguity(&path) {
            return Err(refused(format!("it has {what}")));
        }
        if !self.methods.is_empty() && !self.methods.iter().any(|known| known == method) {
            return Err((403, format!("the route {} is for {} only", self.path, self.methods.join(", "))));
        }
        let fits = |pattern: &String| Glob::parse(pattern).is_ok_and(|glob| glob.matches(&path));
        if !self.paths.is_empty() && !self.paths.iter().any(fits) {
            return Err((403, format!("the route {} is for the paths {} only", self.path, self.paths.join(", "))));
        }
        let mut target = format!("{}{path}", self.base);
        let own = match &self.put {
            Put::Header(..) => None,
            Put::Query(name, value) => {
                let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
                // The client's own parameter of this name goes: the host would see two.
                let name = encode(name);
                Some((name.clone(), format!("{name}={}", encode(value))))
            }
        };
        let kept = query.unwrap_or_default().split('&').filter(|pair| {
            let named = |name: &String| {
                let key = pair.split('=').next().unwrap_or_default();
                let decoded = percent_encoding::percent_decode_str(key).decode_utf8_lossy();
                utf8_percent_encode(&decoded, NON_ALPHANUMERIC).to_string() == *name
            };
            !pair.is_empty() && !own.as_ref().is_some_and(|(name, _)| named(name))
        });
        let pairs: Vec<&str> = kept.chain(own.as_ref().map(|(_, pair)| pair.as_str())).collect();
        if !pairs.is_empty() {
            target = format!("{target}?{}", pairs.join("&"));
        }
        Ok(target)
    }

    /// What a redirect becomes for the client: the same place by this route. `None` if it leaves the host or the route's base.
    pub(super) fn redirect(&self, location: &str) -> Option<String> {
        let port = if self.port == 443 { String::new() } else { format!(":{}", self.port) };
        let path = match location.split_once("://") {
            Some(_) => location.strip_prefix(&format!("https://{}{port}", self.host))?,
            None if location.starts_with("//") => location.strip_prefix(&format!("//{}{port}", self.host))?,
            // Relative to the requested path, which the client sees below this route.
            None if !location.starts_with('/') => return Some(location.to_owned()),
            None => location,
        };
        let rest = path.strip_prefix(self.base.as_str())?;
        if !(rest.is_empty() || rest.starts_with(['/', '?', '#'])) {
            return None;
        }
        let plain = rest.split(['?', '#']).next().unwrap_or_default();
        let same = plain.is_empty() || canonical(plain).is_ok_and(|path| path == plain && ambiguity(&path).is_none());
        same.then(|| format!("/{}{rest}", self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(path: &str, base: &str) -> Route {
        Route {
            path: path.into(),
            host: "api.example.com".into(),
            port: 443,
            base: base.into(),
            put: Put::Header("authorization".into(), "Bearer placeholder".into()),
            methods: Vec::new(),
            paths: Vec::new(),
        }
    }

    fn leads(routes: &[Route], target: &str) -> Result<String, u16> {
        let (route, rest) = find(routes, target).map_err(|(status, _)| status)?;
        route.target("GET", rest).map_err(|(status, _)| status)
    }

    #[test]
    fn the_longest_path_wins_and_no_spelling_leaves_it() {
        let routes = [route("api", "/v1"), route("api/beta", "/beta"), route("other", "")];
        for (target, expected) in [
            ("/api/messages?a=1", Ok("/v1/messages?a=1")),
            ("/api", Ok("/v1/")),
            ("/api/beta/x", Ok("/beta/x")),
            ("/api/betax", Ok("/v1/betax")),
            ("/other/", Ok("/")),
            ("/apix/y", Err(404)),
            ("/", Err(404)),
            ("api/x", Err(404)),
            ("/api/../admin", Err(400)),
            ("/api/%2e%2e/admin", Err(400)),
            ("/api/a/../b", Ok("/v1/b")),
            ("/api/group%2fname", Ok("/v1/group%2Fname")),
            ("/api/a%2f..%2f..%2fadmin", Err(400)),
            ("/api/%252e%252e/admin", Err(400)),
            ("/api//x", Err(400)),
            ("/api/..;/admin", Err(400)),
            ("/api/\\..\\admin", Err(400)),
        ] {
            assert_eq!(leads(&routes, target), expected.map(str::to_owned), "{target}");
        }
        let (_, why) = find(&routes, "/nothing").unwrap_err();
        assert!(why.contains("/api/, /api/beta/, /other/"), "{why}");
    }

    #[test]
    fn methods_and_paths_are_bounds_and_a_parameter_is_put_in_once() {
        let limited = Route { methods: vec!["GET".into()], paths: vec!["/models/**".into()], ..route("api", "") };
        assert!(limited.target("GET", "/models/x").is_ok());
        assert_eq!(limited.target("POST", "/models/x").unwrap_err().0, 403);
        assert_eq!(limited.target("GET", "/files").unwrap_err().0, 403);
        let query = Route { put: Put::Query("key".into(), "PLACE HOLDER".into()), ..route("api", "") };
        for (rest, expected) in
            [("/x", "/x?key=PLACE%20HOLDER"), ("/x?a=1&key=own&%6bey=own&b=2", "/x?a=1&b=2&key=PLACE%20HOLDER")]
        {
            assert_eq!(query.target("GET", rest).unwrap(), expected);
        }
    }

    #[test]
    fn a_redirect_stays_in_its_route_or_is_refused() {
        let route = route("api", "/v1");
        for (location, expected) in [
            ("https://api.example.com/v1/other?x=1", Some("/api/other?x=1")),
            ("/v1/other", Some("/api/other")),
            ("//api.example.com/v1/other", Some("/api/other")),
            ("other", Some("other")),
            ("https://api.example.com/v2/other", None),
            ("/v1x", None),
            ("/v1/../admin", None),
            ("/v1/%2e%2e/admin", None),
            ("https://api.example.com.evil.example/v1/x", None),
            ("https://evil.example/v1/x", None),
            ("http://api.example.com/v1/x", None),
            ("//evil.example/v1", None),
        ] {
            assert_eq!(route.redirect(location).as_deref(), expected, "{location}");
        }
    }
}
