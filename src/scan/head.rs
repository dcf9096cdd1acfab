//! Scans the head of a request. Each field is scanned by itself, so that a finding and its fingerprint do not depend on
//! neighbouring fields. Known secrets are searched for in the concatenated values as well, because one may be split
//! over several.

use super::body_format::{joined, spaced};
use super::budget::{Budget, Exhausted};
use super::finding::Finding;
use super::owner::Location;
use super::scanner::Scanner;

/// Standard methods (RFC 9110, section 9, and RFC 5789), which need no scan.
const METHODS: [&str; 7] = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"];

/// The head of a request.
pub struct Head<'a> {
    /// The method.
    pub method: &'a str,
    /// The path with its query.
    pub path: &'a str,
    /// Names in lower case and values, in the order in which they arrived.
    pub headers: Vec<(&'a str, &'a [u8])>,
}

impl Scanner {
    /// The first blocked finding, and the part of the head that contains it.
    ///
    /// # Errors
    /// The budget is exhausted.
    pub fn scan_head(
        &self,
        head: &Head<'_>,
        budget: &mut Budget,
    ) -> Result<Option<(Finding, &'static str)>, Exhausted> {
        if !METHODS.contains(&head.method)
            && let Some(finding) = self.scan_at(Location::Other, head.method.as_bytes(), budget)?
        {
            return Ok(Some((finding, "method")));
        }
        if let Some(finding) = self.scan_path(head.path, budget)? {
            return Ok(Some((finding, "path or query")));
        }
        Ok(self.scan_headers(&head.headers, budget)?.map(|finding| (finding, "headers")))
    }

    /// Scans each header by itself, and the concatenated values for known secrets.
    fn scan_headers(&self, headers: &[(&str, &[u8])], budget: &mut Budget) -> Result<Option<Finding>, Exhausted> {
        let mut line = Vec::new();
        for (name, value) in headers {
            line.clear();
            for part in [name.as_bytes(), b": ", value] {
                line.extend_from_slice(part);
            }
            if let Some(finding) = self.scan_at(Location::Header(name), &line, budget)? {
                return Ok(Some(finding));
            }
        }
        // In the order of arrival, and sorted by name: the two orders in which a receiver would join the parts.
        let mut values = line;
        let mut together = |headers: &[(&str, &[u8])], budget: &mut Budget| {
            values.clear();
            for (_, value) in headers {
                values.extend_from_slice(value);
            }
            self.scan_known(&values, budget)
        };
        if let Some(finding) = together(headers, budget)? {
            return Ok(Some(finding));
        }
        if headers.is_sorted_by_key(|(name, _)| *name) {
            return Ok(None);
        }
        let mut headers = headers.to_vec();
        headers.sort_by_key(|(name, _)| *name);
        together(&headers, budget)
    }

    /// Scans a path and its query: each parameter by itself, also with spaces for pluses; and the whole, and the
    /// concatenated values, for known secrets.
    ///
    /// # Errors
    /// The budget is exhausted.
    pub fn scan_path(&self, path: &str, budget: &mut Budget) -> Result<Option<Finding>, Exhausted> {
        let (alone, query) = path.split_once('?').map_or((path, None), |(alone, query)| (alone, Some(query)));
        if let Some(finding) = self.scan_at(Location::Path, alone.as_bytes(), budget)? {
            return Ok(Some(finding));
        }
        let Some(query) = query else { return Ok(None) };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let name = pair.split_once('=').map_or(pair, |(name, _)| name);
            // With its separator, because some rules require a character before the token.
            let pair = format!("&{pair}").into_bytes();
            for text in [spaced(&pair), Some(pair)].into_iter().flatten() {
                if let Some(finding) = self.scan_at(Location::Query(name), &text, budget)? {
                    return Ok(Some(finding));
                }
            }
        }
        let query = query.as_bytes();
        let spaced = spaced(query);
        let whole = [Some(path.as_bytes().to_vec()), Some(joined(query)), spaced.as_deref().map(joined), spaced];
        for text in whole.into_iter().flatten() {
            if let Some(finding) = self.scan_known(&text, budget)? {
                return Ok(Some(finding));
            }
        }
        Ok(None)
    }

    /// Scans a host name before it is resolved: as it is, and without its dots.
    ///
    /// # Errors
    /// The budget is exhausted.
    pub fn scan_host(&self, host: &str, budget: &mut Budget) -> Result<Option<Finding>, Exhausted> {
        match self.scan_at(Location::Other, host.as_bytes(), budget)? {
            None => self.scan_at(Location::Other, host.replace('.', "").as_bytes(), budget),
            found => Ok(found),
        }
    }
}
