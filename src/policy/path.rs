//! One canonical path: what is judged is what is sent (promise 4).

/// Longest path with its query, in bytes.
const MAX_PATH: usize = 32 << 10;

/// Why a path was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// No slash at its beginning.
    #[error("the path does not begin with a slash")]
    Relative,
    /// Longer than is looked at.
    #[error("the path is longer than {MAX_PATH} bytes")]
    TooLong,
    /// A character that servers read in different ways.
    #[error("the path holds a character that servers read in different ways: a backslash or a control character")]
    Ambiguous,
    /// A percent sign without two digits.
    #[error("the path has a percent sign without two hexadecimal digits")]
    Percent,
    /// More `..` than segments.
    #[error("the path leads above its root")]
    AboveRoot,
}

/// The canonical form of a path with its query (RFC 3986, section 6.2.2): unreserved characters are not encoded, digits of
/// encoded ones are upper case, dot segments are gone. What servers read in different ways is refused; encoded slashes,
/// which registries use in names, stay as they are and fit no pattern.
///
/// # Errors
/// See [`PathError`].
pub fn canonical(text: &str) -> Result<String, PathError> {
    if text.len() > MAX_PATH {
        return Err(PathError::TooLong);
    }
    let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
    let rest = path.strip_prefix('/').ok_or(PathError::Relative)?;
    let mut segments: Vec<String> = Vec::new();
    let mut parts = rest.split('/').peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        match normal(part)?.as_str() {
            "." if last => segments.push(String::new()),
            "." => {}
            ".." => {
                segments.pop().ok_or(PathError::AboveRoot)?;
                if last {
                    segments.push(String::new());
                }
            }
            part => segments.push(part.to_owned()),
        }
    }
    let path = format!("/{}", segments.join("/"));
    Ok(match query {
        Some(query) if query.bytes().any(|byte| byte.is_ascii_control()) => return Err(PathError::Ambiguous),
        Some(query) => format!("{path}?{query}"),
        None => path,
    })
}

fn normal(segment: &str) -> Result<String, PathError> {
    let mut text = String::with_capacity(segment.len());
    let mut rest = segment;
    while let Some(first) = rest.chars().next() {
        if first == '%' {
            let digits = rest.get(1..3).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
            let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).ok_or(PathError::Percent)?;
            match byte {
                0..=0x1f | 0x7f => return Err(PathError::Ambiguous),
                byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => text.push(char::from(byte)),
                byte => text.push_str(&format!("%{byte:02X}")),
            }
            rest = &rest[3..];
            continue;
        }
        if first == '\\' || first.is_control() || !first.is_ascii() {
            return Err(PathError::Ambiguous);
        }
        text.push(first);
        rest = &rest[1..];
    }
    Ok(text)
}

/// A pattern of paths: `*` stands for anything within a segment, `**` for anything at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// It does not begin with a slash, or is not canonical itself.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if canonical(text)? == text && !text.contains('?') {
            Ok(Self(text.to_owned()))
        } else {
            Err(PathError::Ambiguous)
        }
    }

    /// Whether a canonical path, without its query, fits as some server may read it: with its encoded separators
    /// resolved, and in any case.
    pub fn may_fit(&self, path: &str) -> bool {
        let path = separated(path).to_ascii_lowercase();
        let pattern = self.0.to_ascii_lowercase();
        fits(pattern.as_bytes(), path.as_bytes()) || fits(pattern.as_bytes(), path.trim_end_matches('/').as_bytes())
    }

    /// Whether a canonical path, without its query, fits.
    pub fn fits(&self, path: &str) -> bool {
        // Some servers take them for separators: then the path would be another than the one that is judged.
        let ambiguous = path.contains("%2F") || path.contains("%5C");
        !ambiguous && fits(self.0.as_bytes(), path.as_bytes())
    }
}

/// A canonical path with its encoded separators resolved, as some servers read it.
pub(super) fn separated(path: &str) -> String {
    path.replace("%2F", "/").replace("%5C", "/")
}

/// Linear in the path's length for every pattern without `**` in its middle, and bounded by the product otherwise.
fn fits(pattern: &[u8], path: &[u8]) -> bool {
    // For each prefix of the pattern, which prefixes of the path it fits: one row at a time.
    let mut row: Vec<bool> = vec![false; path.len() + 1];
    row[0] = true;
    let mut rest = pattern;
    while let Some((&first, after)) = rest.split_first() {
        let any = first == b'*' && after.first() == Some(&b'*');
        let mut next = vec![false; path.len() + 1];
        match first {
            b'*' => {
                for at in 0..=path.len() {
                    let reach = at > 0 && next[at - 1] && (any || path[at - 1] != b'/');
                    next[at] = row[at] || reach;
                }
            }
            byte => {
                for at in 1..=path.len() {
                    next[at] = row[at - 1] && path[at - 1] == byte;
                }
            }
        }
        row = next;
        rest = if any { &after[1..] } else { after };
    }
    row[path.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn promise_04_one_canonical_path() {
        for (given, wanted) in [
            ("/", "/"),
            ("/a/b?c=%2f", "/a/b?c=%2f"),
            ("/a/./b/../c", "/a/c"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/..", "/"),
            ("/%61%2a", "/a%2A"),
            ("/a//b", "/a//b"),
            ("/@scope%2fname", "/@scope%2Fname"),
            ("/a/.", "/a/"),
        ] {
            assert_eq!(canonical(given).as_deref(), Ok(wanted), "{given}");
        }
        for (given, why) in [
            ("", PathError::Relative),
            ("a", PathError::Relative),
            ("/..", PathError::AboveRoot),
            ("/a/../../b", PathError::AboveRoot),
            ("/a\\b", PathError::Ambiguous),
            ("/a%00", PathError::Ambiguous),
            ("/a%0a", PathError::Ambiguous),
            ("/a%zz", PathError::Percent),
            ("/a%2", PathError::Percent),
            ("/ä", PathError::Ambiguous),
        ] {
            assert_eq!(canonical(given), Err(why), "{given}");
        }
    }

    #[test]
    fn globs_fit_within_and_across_segments() {
        for (glob, path, wanted) in [
            ("/acme/**", "/acme/a/b", true),
            ("/acme/**", "/acme/", true),
            ("/acme/**", "/acme", false),
            ("/acme/**", "/evil/acme/a", false),
            ("/acme/*/x", "/acme/a/x", true),
            ("/acme/*/x", "/acme/a/b/x", false),
            ("/v1/messages", "/v1/messages", true),
            ("/v1/messages", "/v1/messages/x", false),
            ("/**/x", "/a/b/x", true),
            ("/*", "/", true),
            ("/**", "/acme%2F..%2Fevil", false),
        ] {
            assert_eq!(Glob::parse(glob).unwrap().fits(path), wanted, "{glob} {path}");
        }
        assert!(Glob::parse("a").is_err() && Glob::parse("/a/../b").is_err());
    }

    proptest! {
        #[test]
        fn what_is_canonical_stays_as_it_is(path in "/[a-z0-9%./~-]{0,40}") {
            if let Ok(once) = canonical(&path) {
                prop_assert_eq!(canonical(&once), Ok(once.clone()));
                prop_assert!(!once.contains("/../") && !once.contains("/./"));
            }
        }
    }
}
