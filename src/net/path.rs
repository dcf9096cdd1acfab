//! One canonical path: what is judged is what is sent (promise 4).
//!
//! A canonical path may still mean different things to different servers. Where requests to a host are judged by their
//! path, one that does is refused ([`ambiguity`]); at other hosts it is forwarded as it is. These are the readings:
//!
//! | in the path | who reads it differently |
//! | --- | --- |
//! | `//`, also with an encoded separator | nginx (`merge_slashes`), Apache and Python's `http.server` see one slash |
//! | `;x=1` and `..;`, also as `%3B` | Tomcat, Jetty and Spring cut parameters off a segment, some before `..` is resolved |
//! | `%2F`, `%5C` beside `.` or `..` | nginx and `http.server` decode first and resolve then |
//! | a backslash | IIS and .NET see a slash |
//! | `%00` to `%1F`, `%7F` | the path ends there for C strings; tabs and line ends are left out |
//! | `%25` before two hexadecimal digits | whatever decodes twice: a proxy, then its backend |
//! | `%3F`, `%23` | the path ends there for what decodes before it splits |
//! | `%C0%AF`, other bytes that are no UTF-8 | lenient decoders see `/` and `.` |
//! | full-width and other likenesses of `/`, `\`, `.`, `;` | Windows' best fit, NFKC |
//! | characters without a width | HFS+ leaves them out |
//! | `...`, segments that end in a dot or a space | Windows leaves the end off |
//! | `::$DATA` | NTFS: the file itself |
//!
//! What is judged in all its readings: an encoded separator without a dot segment (registries and forges use it in names), a
//! slash at the end, and, for what is denied, upper and lower case and full-width letters. What no proxy sees are other names of one thing at the
//! server: links, rewrites, the short names of FAT.

/// Maximum length of a path with its query, in bytes.
const MAX_PATH: usize = 32 << 10;

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with a slash.
    #[error("the path does not begin with a slash")]
    Relative,
    /// It is too long.
    #[error("the path is longer than {MAX_PATH} bytes")]
    TooLong,
    /// Servers read it in different ways, and a rule checks the paths of this host.
    #[error("servers read {0} in different ways, and requests to this host are judged by their path")]
    Ambiguous(&'static str),
    /// No canonical path matches the pattern.
    #[error("it is not in canonical form, so no path fits it")]
    NotCanonical,
    /// A percent sign without two hexadecimal digits.
    #[error("the path has a percent sign without two hexadecimal digits")]
    Percent,
    /// More `..` than segments.
    #[error("the path leads above its root")]
    AboveRoot,
    /// A control character in a query.
    #[error("the query holds a control character")]
    Control,
}

/// The canonical form of a path with its query (RFC 3986, section 6.2.2): unreserved characters are decoded, non-ASCII
/// ones encoded with upper-case digits, and dot segments removed. Everything else is kept.
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
        Some(query) if query.bytes().any(|byte| byte.is_ascii_control()) => return Err(PathError::Control),
        Some(query) => format!("{path}?{query}"),
        None => path,
    })
}

fn normal(segment: &str) -> Result<String, PathError> {
    let mut text = String::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(first) = bytes.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let byte = match first {
            b'%' => {
                let (high, low) = digit(bytes.next()).zip(digit(bytes.next())).ok_or(PathError::Percent)?;
                u8::try_from(high * 16 + low).map_err(|_| PathError::Percent)?
            }
            first if first.is_ascii() && !first.is_ascii_control() => {
                text.push(char::from(first));
                continue;
            }
            first => first,
        };
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    Ok(text)
}

/// What servers read in different ways in a canonical path without its query; the module's header lists it.
pub fn ambiguity(path: &str) -> Option<&'static str> {
    let decoded = decoded(path);
    if memchr::memmem::find(path.as_bytes(), b"%25").is_some_and(|_| {
        path.split("%25").skip(1).any(|rest| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2)
    }) {
        return Some("an escape that is escaped again");
    }
    let Ok(text) = std::str::from_utf8(&decoded) else { return Some("bytes that are not UTF-8") };
    for (found, what) in [
        (text.contains('\\') && path.contains('\\'), "a backslash"),
        (text.contains(|letter: char| letter.is_control()), "a control character"),
        (text.contains(';'), "parameters in a segment (`;`)"),
        (text.contains(['?', '#']), "an encoded `?` or `#`"),
        (text.contains(is_lookalike), "a character that looks like a separator, or is not seen"),
        (text.contains(":$"), "the name of a stream of NTFS"),
    ] {
        if found {
            return Some(what);
        }
    }
    let resolved = separated(path);
    let mut segments = resolved[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        if segment.is_empty() && !last {
            return Some("two slashes in a row");
        }
        if matches!(segment, "." | "..") {
            return Some("a dot segment behind an encoded separator");
        }
        if segment.ends_with("%20") || (segment.ends_with('.') && (!last || segment.bytes().all(|byte| byte == b'.'))) {
            return Some("a segment that ends in a dot or a space");
        }
    }
    None
}

/// Lookalikes of `/`, `\`, `.` and `;` (Unicode's compatibility mappings and Windows' best fit), and characters that
/// some file systems ignore (as git lists them for HFS+).
fn is_lookalike(letter: char) -> bool {
    matches!(letter,
        '\u{2024}'..='\u{2026}' | '\u{2044}' | '\u{2215}' | '\u{2216}' | '\u{29f5}' | '\u{29f8}' | '\u{29f9}' | '\u{3002}'
        | '\u{fe52}' | '\u{fe54}' | '\u{fe68}' | '\u{ff0e}' | '\u{ff0f}' | '\u{ff1b}' | '\u{ff3c}' | '\u{ff61}'
        | '\u{037e}' | '\u{00ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}')
}

/// Maps full-width letters to ASCII, as Windows' best fit and NFKC do.
fn narrow(letter: char) -> char {
    match u32::from(letter) {
        wide @ 0xff01..=0xff5e => char::from_u32(wide - 0xfee0).unwrap_or(letter),
        _ => letter,
    }
}

fn decoded(path: &str) -> Vec<u8> {
    percent_encoding::percent_decode_str(path).collect()
}

/// A path as the most lenient server may read it: repeatedly decoded, in lower case, with every separator as a slash,
/// and without parameters and ignored characters. For names that are never allowed.
pub fn folded(path: &str) -> String {
    if is_plain(path) { path.to_ascii_lowercase() } else { resolved(path) }
}

/// Whether every server reads the path alike, except for case: most paths are plain.
fn is_plain(path: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_~.".contains(&byte);
    let mut segments = path.split('/');
    let rooted = segments.next() == Some("");
    rooted && segments.all(|segment| !segment.is_empty() && !segment.ends_with('.') && segment.bytes().all(is_letter))
}

fn resolved(path: &str) -> String {
    let mut bytes = path.as_bytes().to_vec();
    for _ in 0..3 {
        bytes = percent_encoding::percent_decode(&bytes).collect();
    }
    // By way of upper case, which maps some letters to ASCII: the Kelvin sign, the long s, ligatures.
    let text: String = String::from_utf8_lossy(&bytes).chars().map(narrow).collect();
    let text = text.to_uppercase().to_lowercase();
    let text = text.split(['\0', '?', '#']).next().unwrap_or_default();
    let text: String = text.chars().filter(|letter| !letter.is_control() && !is_lookalike(*letter)).collect();
    let segments = text
        .split(['/', '\\'])
        .map(|segment| segment.split(';').next().unwrap_or_default().trim_end_matches(['.', ' ']));
    segments.filter(|segment| !segment.is_empty()).fold(String::new(), |path, segment| path + "/" + segment)
}

/// A path pattern: `*` matches anything within a segment, `**` anything at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// Parses a pattern.
    ///
    /// # Errors
    /// It does not begin with a slash, or no accepted path can match it.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if canonical(text)? != text || text.contains('?') {
            return Err(PathError::NotCanonical);
        }
        match ambiguity(text) {
            Some(what) => Err(PathError::Ambiguous(what)),
            None => Ok(Self(text.to_owned())),
        }
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it has a star, so that it can match several paths.
    pub fn is_pattern(&self) -> bool {
        self.0.contains('*')
    }

    /// Whether a canonical path without its query matches in any reading of a server: with encoded separators resolved,
    /// and in any case.
    pub fn may_match(&self, path: &str) -> bool {
        let pattern = self.0.to_ascii_lowercase();
        let resolved = separated(&pattern);
        [path.to_ascii_lowercase(), separated(path).to_ascii_lowercase(), folded(path)].iter().any(|path| {
            let fits =
                |path: &str| fits(pattern.as_bytes(), path.as_bytes()) || fits(resolved.as_bytes(), path.as_bytes());
            fits(path) || fits(path.trim_end_matches('/'))
        })
    }

    /// Whether a canonical path without its query matches in every reading.
    pub fn matches(&self, path: &str) -> bool {
        let fit = |path: &str| fits(self.0.as_bytes(), path.as_bytes());
        // A pattern with an encoded separator matches only that.
        let means = self.0.contains("%2F") || self.0.contains("%5C");
        ambiguity(path).is_none() && fit(path) && (means || fit(&separated(path)))
    }
}

/// A canonical path with encoded separators resolved, as some servers read it.
fn separated(path: &str) -> String {
    path.replace("%2F", "/").replace("%5C", "/")
}

/// Linear in the path's length for patterns without `**` in the middle; otherwise bounded by the product of the
/// lengths.
fn fits(pattern: &[u8], path: &[u8]) -> bool {
    // For each prefix of the pattern, the prefixes of the path that it matches: one row at a time.
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
            ("/a\\b", "/a\\b"),
            ("/a%00;b", "/a%00;b"),
            ("/\u{e4}", "/%C3%A4"),
        ] {
            assert_eq!(canonical(given).as_deref(), Ok(wanted), "{given}");
        }
        for (given, why) in [
            ("", PathError::Relative),
            ("a", PathError::Relative),
            ("/..", PathError::AboveRoot),
            ("/a/../../b", PathError::AboveRoot),
            ("/a%zz", PathError::Percent),
            ("/a%2", PathError::Percent),
            ("/a?\u{7f}", PathError::Control),
        ] {
            assert_eq!(canonical(given), Err(why), "{given}");
        }
    }

    /// Every known way to reach `/private/x` at some server.
    pub(crate) const WAYS: [&str; 33] = [
        "/private//x",
        "//private/x",
        "/private/%2Fx",
        "/%2Fprivate/x",
        "/a%2F..%2Fprivate/x",
        "/a/..%2Fprivate/x",
        "/a%5C..%5Cprivate/x",
        "/a/..;/private/x",
        "/private;a=b/x",
        "/private/x;a",
        "/private%3Bx=y/x",
        "/a/..%3B/private/x",
        "/private\\x",
        "\\private/x",
        "/private%00/x",
        "/private/x%00.png",
        "/private%0A/x",
        "/private/%09x",
        "/%2570rivate/x",
        "/a/%252e%252e/private/x",
        "/private%252Fx",
        "/private/x%3F.png",
        "/private/x%23.png",
        "/private%C0%AFx",
        "/a/%C0%AE%C0%AE/private/x",
        "/private%FFx",
        "/private%EF%BC%8Fx",
        "/private%E2%88%95x",
        "/pri%E2%80%8Bvate/x",
        "/private./x",
        "/private%20/x",
        "/private/x::$DATA",
        "/a/.../private/x",
    ];

    #[test]
    fn promise_04_what_servers_read_in_different_ways_is_named() {
        for way in WAYS.into_iter().filter(|way| way.starts_with('/')) {
            let path = canonical(way).unwrap();
            assert!(ambiguity(&path).is_some(), "{way}");
            assert!(!Glob::parse("/**").unwrap().matches(&path), "{way}");
        }
        for plain in [
            "/",
            "/a/",
            "/a.b/c-d_e~f",
            "/a%20b/c",
            "/a:b@c",
            "/a%2Fb",
            "/caf%C3%A9",
            "/a.",
            "/.well-known/x",
            "/a,b=c&d+e",
        ] {
            assert_eq!(ambiguity(plain), None, "{plain}");
        }
    }

    #[test]
    fn the_most_lenient_reading_is_folded() {
        for (path, wanted) in [
            ("/A//b/%2563;x=y/d.%20/", "/a/b/c/d"),
            ("/a.git%2F%5Cgit-Receive-pack%00.png", "/a.git/git-receive-pack"),
            ("/%EF%BD%81%E2%84%AA/%C5%BFt%EF%AC%81", "/ak/stfi"),
            ("/", ""),
        ] {
            assert_eq!(folded(path), wanted, "{path}");
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
            ("/**", "/acme/..;/evil", false),
            ("/projects/**", "/projects/group%2Fname", true),
            ("/projects/*", "/projects/group%2Fname", false),
            ("/projects/*%2Fname", "/projects/group%2Fname", true),
            ("/wiki/*", "/wiki/Acme_Inc.", true),
            ("/v1/*", "/v1/gemini:generate", true),
            ("/~*/**", "/~me/caf%C3%A9%20au%20lait", true),
        ] {
            assert_eq!(Glob::parse(glob).unwrap().matches(path), wanted, "{glob} {path}");
        }
        for pattern in ["a", "/a/../b", "/a//b", "/a;b", "/a?b", "/a%00"] {
            assert!(Glob::parse(pattern).is_err(), "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn a_plain_path_is_folded_as_every_other(path in "/[a-zA-Z0-9./~_-]{0,20}") {
            prop_assert_eq!(folded(&path), resolved(&path));
        }

        #[test]
        fn what_is_canonical_stays_as_it_is(path in "/[a-z0-9%./~-]{0,40}") {
            if let Ok(once) = canonical(&path) {
                prop_assert_eq!(canonical(&once), Ok(once.clone()));
                prop_assert!(!once.contains("/../") && !once.contains("/./"));
            }
        }
    }
}
