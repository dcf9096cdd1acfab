//! Findings in nested encodings, and the actions for them.

use std::sync::{Arc, Mutex};

use super::*;

const SECRET: &str = "correct-horse/battery+staple";

fn token() -> String {
    // Assembled here, so that repository scanners do not report it.
    ["ghp_", "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx"].concat()
}

fn scanner(dlp: &Dlp) -> Scanner {
    Scanner::new(&[SECRET.to_owned()], Arc::new(Rules::providers().unwrap()), Arc::new(Actions::new(dlp)))
}

fn found(scanner: &Scanner, bytes: &[u8]) -> Option<String> {
    scanner.scan_unbounded(bytes).map(|finding| finding.rule)
}

fn in_head(scanner: &Scanner, head: &Head<'_>) -> Option<(Finding, &'static str)> {
    scanner.scan_head(head, &mut Budget::unbounded()).unwrap()
}

fn in_path(scanner: &Scanner, path: &str) -> Option<Finding> {
    scanner.scan_path(path, &mut Budget::unbounded()).unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    to.write_all(bytes).unwrap();
    to.finish().unwrap()
}

/// As base64(1) writes it.
fn wrapped(bytes: &[u8], end: &str) -> String {
    let line = data_encoding::BASE64.encode(bytes);
    let lines: Vec<&[u8]> = line.as_bytes().chunks(76).collect();
    String::from_utf8(lines.join(end.as_bytes())).unwrap() + end
}

#[test]
fn promise_09_secrets_are_found_through_what_is_wrapped_around_them() {
    let scanner = scanner(&Dlp::default());
    let long = format!("{}{SECRET}{}", "x".repeat(61), "y".repeat(200));
    let binary: Vec<u8> = (0..=255).chain(SECRET.bytes()).chain(0..=255).collect();
    for (name, bytes) in [
        ("base64 in lines", wrapped(long.as_bytes(), "\n").into_bytes()),
        ("base64 in lines of CR LF", wrapped(long.as_bytes(), "\r\n").into_bytes()),
        ("binary as base64 in lines", wrapped(&binary, "\n").into_bytes()),
        ("base64 in lines in JSON", serde_json::to_vec(&wrapped(long.as_bytes(), "\n")).unwrap()),
        ("gzip that does not say so", gzip(SECRET.as_bytes())),
        ("gzip as base64", data_encoding::BASE64.encode(&gzip(long.as_bytes())).into_bytes()),
        ("gzip as base64 in lines", wrapped(&gzip(&[long.as_bytes(), &binary].concat()), "\n").into_bytes()),
    ] {
        assert_eq!(found(&scanner, &bytes).as_deref(), Some(KNOWN_SECRET), "{name}");
    }
    assert_eq!(found(&scanner, wrapped("just text. ".repeat(50).as_bytes(), "\n").as_bytes()), None);
}

fn head<'a>(path: &'a str, headers: &[(&'a str, &'a str)]) -> Head<'a> {
    Head { method: "POST", path, headers: headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect() }
}

#[test]
fn what_is_found_in_a_header_does_not_depend_on_the_others() {
    let scanner = scanner(&Dlp::default());
    let found =
        |headers: &[(&str, &str)]| in_head(&scanner, &head("/", headers)).map(|(finding, _)| finding.to_string());
    // The checksum is wrong, with or without the letters of the next value.
    let wrong = format!("Bearer {}", ["gho_", "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUy"].concat());
    let short = ["Bearer eyJhbGciOiJIUzI1NiJ9", ".eyJzdWIiOiIxMjM0NTY3ODkwIn0", ".abcd"].concat();
    for value in [&wrong, &short] {
        for neighbour in ["", "GitHubCopilotCLI", "copilot/1.0 (client/github)", "abcdefghijklmnopqrstuvwxyz"] {
            assert_eq!(found(&[("authorization", value), ("user-agent", neighbour), ("accept", "*/*")]), None);
            assert_eq!(found(&[("user-agent", neighbour), ("authorization", value)]), None);
        }
        assert_eq!(in_path(&scanner, &format!("/?a={}&b=GitHubCopilotCLI", &value[7..])), None);
    }
    let alone = found(&[("x-note", &token())]).unwrap();
    assert!(alone.starts_with("github-token:"), "{alone}");
    for neighbour in ["", "a", "GitHubCopilotCLI", "_x"] {
        assert_eq!(found(&[("a", neighbour), ("x-note", &token()), ("z", neighbour)]).as_ref(), Some(&alone));
        assert_eq!(
            in_path(&scanner, &format!("/a?b={neighbour}&c={}&d={neighbour}", token())).unwrap().to_string(),
            alone
        );
    }
    // A known secret is found in the concatenation.
    let (one, two) = SECRET.split_at(11);
    assert_eq!(found(&[("x-a", one), ("x-b", two)]).as_deref(), Some(KNOWN_SECRET));
    assert_eq!(found(&[("x-b", two), ("x-a", one)]).as_deref(), Some(KNOWN_SECRET));
}

#[test]
fn tokens_pass_to_whom_they_are_of_and_examples_pass_anywhere() {
    let scanner = scanner(&Dlp::default());
    let github = scanner.for_target(RequestTarget::new("api.github.com", "/user"));
    let elsewhere = scanner.for_target(RequestTarget::new("api.example.com", "/user"));
    let bearer = format!("Bearer {}", token());
    let basic = format!("Basic {}", data_encoding::BASE64.encode(format!("x-access-token:{}", token()).as_bytes()));
    for value in [&bearer, &basic] {
        let head = head("/user", &[("authorization", value)]);
        assert_eq!(in_head(&github, &head), None);
        assert!(in_head(&elsewhere, &head).is_some() && in_head(&scanner, &head).is_some());
    }
    assert!(github.scan_unbounded(token().as_bytes()).is_some(), "in a body it may be shown to others");
    // An action for the rule itself takes precedence.
    let said = Dlp { actions: [("github-token".to_owned(), Action::Block)].into(), ..Dlp::default() };
    let blocking = Scanner::new(&[], scanner.rules.clone(), Arc::new(Actions::new(&said)));
    let said = blocking.for_target(RequestTarget::new("api.github.com", "/user"));
    assert!(in_head(&said, &head("/user", &[("authorization", &bearer)])).is_some());
    // A known secret is one whatever its format and destination.
    let known = Scanner::new(&[token()], scanner.rules.clone(), scanner.actions.clone());
    let known = known.for_target(RequestTarget::new("api.github.com", "/user"));
    assert_eq!(in_head(&known, &head("/", &[("authorization", &bearer)])).unwrap().0.rule, KNOWN_SECRET);
    let example = ["sk_test_", "4eC39HqLyjWDarjtT1zdp7dc"].concat();
    assert_eq!(found(&scanner, example.as_bytes()), None);
    assert_eq!(found(&scanner, data_encoding::BASE64.encode(format!("key: {example}").as_bytes()).as_bytes()), None);
    for other in [format!("{example}a"), example.replace('7', "8"), example.replace("test", "live")] {
        assert!(found(&scanner, other.as_bytes()).is_some(), "{other}");
    }
}

#[test]
fn a_finding_may_be_let_through_by_rule_and_by_fingerprint() {
    let text = format!("{} {SECRET}", token());
    let print = scanner(&Dlp::default()).scan_unbounded(token().as_bytes()).unwrap().fingerprint.unwrap();
    assert!(print.starts_with("github-token:") && !print.contains(&token()));
    let of = |dlp: Dlp| {
        let warnings: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = warnings.clone();
        let warn: Warn = Arc::new(move |finding: Finding| crate::sync::lock(&told).push(finding.to_string()));
        let found = found(&scanner(&dlp).for_request(None, warn), text.as_bytes());
        (found, crate::sync::lock(&warnings).clone())
    };
    let actions = |rule: &str, action| Dlp { actions: [(rule.to_owned(), action)].into(), ..Dlp::default() };
    assert_eq!(of(actions(KNOWN_SECRET, Action::Off)), (Some("github-token".into()), vec![]));
    assert_eq!(of(actions(KNOWN_SECRET, Action::Warn)), (Some("github-token".into()), vec![KNOWN_SECRET.into()]));
    let warn = Dlp { action: Action::Warn, ..Dlp::default() };
    assert_eq!(of(warn), (None, vec![KNOWN_SECRET.into(), print.clone()]));
    let allowed = Dlp { allow: vec![print], ..actions(KNOWN_SECRET, Action::Off) };
    assert_eq!(of(allowed), (None, vec![]));
}
