//! The head of a request: every piece of it by itself, so that what is found, and its fingerprint, does not depend on what stands
//! beside it; and known secrets also in what pieces make when they are put together, for one may be split over several.

use super::body::joined;
use super::owner::Place;
use super::{Finding, Scanner};

/// What is looked at.
pub struct Head<'a> {
    /// The request's method.
    pub method: &'a str,
    /// The path with its query.
    pub path: &'a str,
    /// Names, in lower case, and values, in the order in which they came.
    pub headers: Vec<(&'a str, &'a [u8])>,
}

impl Scanner {
    /// Looks at a head; what was found, and in which part of it.
    pub fn head(&self, head: &Head<'_>) -> Option<(Finding, &'static str)> {
        let place = |place| move |finding| (finding, place);
        let method = self.at(Place::Elsewhere, head.method.as_bytes()).map(place("method"));
        let path = || self.path(head.path).map(place("path or query"));
        method.or_else(path).or_else(|| self.headers(&head.headers).map(place("headers")))
    }

    /// Looks at headers.
    fn headers(&self, headers: &[(&str, &[u8])]) -> Option<Finding> {
        let line = |name: &str, value: &[u8]| [name.as_bytes(), b": ", value].concat();
        for (name, value) in headers {
            if let Some(finding) = self.at(Place::Header(name), &line(name, value)) {
                return Some(finding);
            }
        }
        // As they came, and by their names: the two orders in which a receiver would put the parts together.
        let mut headers = headers.to_vec();
        for _ in 0..2 {
            let values: Vec<u8> = headers.iter().flat_map(|(_, value)| value.iter().copied()).collect();
            if let Some(finding) = self.known(&values) {
                return Some(finding);
            }
            headers.sort_by_key(|(name, _)| *name);
        }
        None
    }

    /// Looks at a path with its query: the path, every parameter, and known secrets in the whole and in the values together.
    pub fn path(&self, path: &str) -> Option<Finding> {
        let (alone, query) = path.split_once('?').unwrap_or((path, ""));
        let parameters = || {
            query.split('&').filter(|pair| !pair.is_empty()).find_map(|pair| {
                let name = pair.split_once('=').map_or(pair, |(name, _)| name);
                // With what stands before it, by which some formats are told.
                self.at(Place::Query(name), format!("&{pair}").as_bytes())
            })
        };
        let whole = || self.known(path.as_bytes()).or_else(|| self.known(&joined(query.as_bytes())));
        self.at(Place::Elsewhere, alone.as_bytes()).or_else(parameters).or_else(whole)
    }

    /// Looks at a host's name before anybody is asked about it: as it is, and with its dots taken out.
    pub fn host(&self, host: &str) -> Option<Finding> {
        let joined = || self.at(Place::Elsewhere, host.replace('.', "").as_bytes());
        self.at(Place::Elsewhere, host.as_bytes()).or_else(joined)
    }
}
