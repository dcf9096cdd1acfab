//! What is found through layers, and what happens with it.

use std::sync::Mutex;

use super::*;

const SECRET: &str = "correct-horse/battery+staple";

fn token() -> String {
    // Put together here, so that no scanner of repositories takes it for a real one.
    ["ghp_", "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx"].concat()
}

fn scanner(dlp: &Dlp) -> Scanner {
    Scanner::new(&[SECRET.to_owned()], Arc::new(Rules::providers().unwrap()), Arc::new(Actions::new(dlp)))
}

fn found(scanner: &Scanner, bytes: &[u8]) -> Option<String> {
    scanner.whole(bytes).map(|finding| finding.rule)
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

#[test]
fn a_finding_may_be_let_through_by_rule_and_by_fingerprint() {
    let text = format!("{} {SECRET}", token());
    let print = scanner(&Dlp::default()).whole(token().as_bytes()).unwrap().fingerprint.unwrap();
    assert!(print.starts_with("github-token:") && !print.contains(&token()));
    let of = |dlp: Dlp| {
        let warned: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = warned.clone();
        let warn: Warn = Arc::new(move |finding: Finding| crate::sync::lock(&told).push(finding.to_string()));
        let found = found(&scanner(&dlp).of_request(None, warn), text.as_bytes());
        (found, crate::sync::lock(&warned).clone())
    };
    let actions = |rule: &str, action| Dlp { actions: [(rule.to_owned(), action)].into(), ..Dlp::default() };
    assert_eq!(of(actions(KNOWN_SECRET, Action::Off)), (Some("github-token".into()), vec![]));
    assert_eq!(of(actions(KNOWN_SECRET, Action::Warn)), (Some("github-token".into()), vec![KNOWN_SECRET.into()]));
    let warn = Dlp { action: Action::Warn, ..Dlp::default() };
    assert_eq!(of(warn), (None, vec![KNOWN_SECRET.into(), print.clone()]));
    let allowed = Dlp { allow: vec![print], ..actions(KNOWN_SECRET, Action::Off) };
    assert_eq!(of(allowed), (None, vec![]));
}
