//! Secrets and tokens that only a certain reader sees: UTF-16, words before them, forms within JSON, lines of JSON.

use std::sync::Arc;

use super::inner::{MAX_DEPTH, MAX_ESCAPES};
use super::mask::MASK;
use super::tests::letters;
use super::*;

const SECRET: &str = "correct-horse/battery+staple";
const ALL: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const HEX: &str = "0123456789abcdef";

fn token() -> String {
    // Assembled here, so that repository scanners do not report it.
    ["ghp_", "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx"].concat()
}

fn scanner(secrets: &[&str], dlp: &Dlp) -> Scanner {
    let secrets: Vec<String> = secrets.iter().map(|&secret| secret.to_owned()).collect();
    Scanner::new(&secrets, Arc::new(Rules::providers().unwrap()), Arc::new(Actions::new(dlp)))
}

fn rule(scanner: &Scanner, bytes: &[u8]) -> Option<String> {
    scanner.scan(bytes, &mut Budget::of(bytes.len())).unwrap().map(|finding| finding.rule)
}

/// The rule of what is found in a body of this type.
fn in_body(scanner: &Scanner, kind: &str, body: &[u8]) -> Option<String> {
    let format = BodyFormat::read(kind, &[], None).unwrap();
    format.scan(scanner, body, &mut Budget::of(body.len())).unwrap().map(|finding| finding.rule)
}

fn utf16(text: &str) -> [Vec<u8>; 4] {
    let units = |mark: &str, bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
        [mark, text].concat().encode_utf16().flat_map(bytes).collect()
    };
    [
        units("", u16::to_le_bytes),
        units("", u16::to_be_bytes),
        units("\u{feff}", u16::to_le_bytes),
        units("\u{feff}", u16::to_be_bytes),
    ]
}

#[test]
fn promise_09_wide_text_is_read_with_everything_in_it() {
    let scanner = scanner(&[SECRET], &Dlp::default());
    let json = |text: &str| serde_json::to_string(&serde_json::json!({ "k": text })).unwrap();
    let base64 = |text: &[u8]| data_encoding::BASE64.encode(text);
    let twin = token().replace("ghp", "ghq");
    for (secret, other, expected) in
        [(token(), twin, "github-token"), (SECRET.to_owned(), SECRET.replace('h', "j"), KNOWN_SECRET)]
    {
        for (name, write) in [
            ("plain", &(|text: &str| format!("key = {text}\r\n")) as &dyn Fn(&str) -> String),
            ("JSON", &|text| json(text)),
            ("JSON with escapes", &|text| json(text).replace('e', "\\u0065").replace('h', "\\u0068")),
            ("JSON in JSON", &|text| json(&json(text))),
            ("base64", &|text| base64(format!("a key: {text}").as_bytes())),
            ("URL", &|text| format!("https://example.com/?q={}", text.replace('e', "%65"))),
            ("between other letters", &|text| format!("pässwörd € \u{5bc6}\u{7801} {text} € \u{5bc6}")),
        ] {
            for (number, wide) in utf16(&write(&secret)).into_iter().enumerate() {
                for (place, bytes) in [
                    ("whole", wide.clone()),
                    ("in a binary file", [&b"PK\x03\x04\x00\x01\xff"[..], &wide, &[0; 9]].concat()),
                    ("in base64", base64(&wide).into_bytes()),
                    ("in hexadecimal", data_encoding::HEXLOWER.encode(&wide).into_bytes()),
                ] {
                    // Encoded text is recognized by its beginning.
                    if place.starts_with("in ") && !place.ends_with("file") && name.starts_with("between") {
                        continue;
                    }
                    assert_eq!(rule(&scanner, &bytes).as_deref(), Some(expected), "{name} {number} {place}");
                }
                assert_eq!(rule(&scanner, &utf16(&write(&other))[number]), None, "{name} {number}");
            }
        }
    }
    // As PowerShell is given a script: https://learn.microsoft.com/powershell/…/about_powershell_exe, -EncodedCommand.
    let script = |text: &str| format!("$env:GITHUB_TOKEN = '{text}'; gh auth status");
    let command =
        |text: &str| format!("powershell.exe -NoProfile -EncodedCommand {}", base64(&utf16(&script(text))[0]));
    assert_eq!(rule(&scanner, command(&token()).as_bytes()).as_deref(), Some("github-token"));
    assert_eq!(rule(&scanner, command(SECRET).as_bytes()).as_deref(), Some(KNOWN_SECRET));
    assert_eq!(rule(&scanner, command("ghp_and-what-is-none").as_bytes()), None);
    // Split over the strings of a JSON text.
    let (one, two) = SECRET.split_at(11);
    let split = serde_json::json!([one, two]).to_string();
    for wide in utf16(&split) {
        assert_eq!(in_body(&scanner, "application/json", &wide).as_deref(), Some(KNOWN_SECRET));
    }
    assert_eq!(in_body(&scanner, "application/json", &utf16(&serde_json::json!([two, one]).to_string())[0]), None);
}

#[test]
fn wide_text_is_never_masked() {
    let scanner = scanner(&[SECRET], &Dlp { action: Action::Mask, ..Dlp::default() });
    for secret in [token(), SECRET.to_owned()] {
        for wide in utf16(&format!("key = {secret}\r\n")) {
            let look = scanner.look(&wide, Carrier::Text, &mut Budget::of(wide.len())).unwrap();
            assert!(matches!(look, Look::Blocked(_, true)), "{look:?}");
        }
    }
}

/// Tokens with a mark of their own, and such as another word may end like.
#[test]
fn promise_09_a_token_is_found_directly_behind_a_word_where_its_format_allows() {
    let scanner = scanner(&[], &Dlp::default());
    for (id, token) in [
        ("github-token", token()),
        ("github-fine-grained", format!("github_pat_{}_{}", letters(ALL, 22), letters(ALL, 59))),
        ("gitlab-token", format!("glpat-{}", letters(ALL, 20))),
        ("slack-bot", format!("xoxb-123456789012-{}", letters(ALL, 24))),
        ("anthropic-key", format!("sk-ant-api03-{}AA", letters(ALL, 93))),
        ("openai-key", format!("sk-proj-{}T3BlbkFJ{}", letters(ALL, 58), letters(ALL, 58))),
        ("pypi-token", format!("pypi-AgE{}", letters(ALL, 60))),
        ("digitalocean-token", format!("dop_v1_{}", letters(HEX, 64))),
        ("groq-key", format!("gsk_{}", letters(ALL, 52))),
        ("openrouter-key", format!("sk-or-v1-{}", letters(HEX, 64))),
        ("aws-access-key", format!("AKIA{}", letters("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16))),
    ] {
        for before in ["", "x", "token", "GITHUB_TOKEN_", "key7", "_", "n", "0"] {
            let text = format!("{{\"a\": \"{before}{token}\"}}");
            assert_eq!(rule(&scanner, text.as_bytes()).as_deref(), Some(id), "{text}");
            let masking = self::scanner(&[], &Dlp { action: Action::Mask, ..Dlp::default() });
            let look = masking.look(text.as_bytes(), Carrier::Json, &mut Budget::of(text.len())).unwrap();
            let Look::Masked(masked, _) = look else { panic!("{text}: {look:?}") };
            let stars = vec![MASK; token.len()];
            assert_eq!(masked, [format!("{{\"a\": \"{before}").as_bytes(), &stars, b"\"}"].concat(), "{text}");
        }
    }
    for text in [
        // With a wrong checksum.
        format!("token{}", token().replace("NUx", "NUy")),
        // Words that end like the beginning of a token.
        "task_test_configuration".to_owned(),
        format!("disk-{}", letters(HEX, 32)),
        format!("monkey-{}", letters(HEX, 32)),
        format!("SAUDIARABIA{}", letters("ABCDEFGHIJKLMNOPQRSTUVWXYZ", 16)),
        format!("mexico-{}", letters(ALL, 32)),
        format!("alpha_{}", letters(ALL, 44)),
        // In the base64 of a picture.
        format!("iVBORw0KGgo{}AIza{}+/", letters(ALL, 40), letters(ALL, 60)),
    ] {
        assert_eq!(rule(&scanner, text.as_bytes()), None, "{text}");
    }
}

/// Each reader removes its own layer: a form has pluses for spaces, and JSON escapes what the next layer has made.
#[test]
fn promise_09_secrets_with_spaces_and_escapes_are_found_in_json_and_forms_in_any_order() {
    let quoted = |text: &str| serde_json::to_string(text).unwrap();
    let form = |text: &str| url::form_urlencoded::Serializer::new(String::new()).append_pair("d", text).finish();
    for secret in [
        "correct horse battery",
        "pass%41word\\x \"of mine\"",
        "100% of it \\n and \\\\ 50%25 more",
        "two+two = 4 & 5%2B5",
        "a\tword and\nanother one",
        "{\"key\": \"a%20b\\nc d\"}",
    ] {
        let scanner = scanner(&[secret], &Dlp::default());
        let twin =
            secret.chars().rev().filter(|letter| !" %\\\"".contains(*letter)).collect::<String>() + " %41 \\\\ %5C";
        for order in 0..32 {
            let (mut text, mut other) = (secret.to_owned(), twin.clone());
            for layer in 0..5 {
                let write: &dyn Fn(&str) -> String = if order >> layer & 1 == 0 { &quoted } else { &form };
                (text, other) = (write(&text), write(&other));
                assert_eq!(
                    rule(&scanner, text.as_bytes()).as_deref(),
                    Some(KNOWN_SECRET),
                    "{order:05b} {layer}: {text}"
                );
                assert_eq!(rule(&scanner, other.as_bytes()), None, "{order:05b} {layer}: {other}");
            }
        }
    }
}

#[test]
fn promise_09_a_secret_split_over_lines_of_json_is_found() {
    let scanner = scanner(&[SECRET], &Dlp::default());
    let (one, two) = SECRET.split_at(13);
    let events = |one: &str, two: &str| {
        let event = |text: &str| format!("event: delta\ndata: {{\"type\":\"text\",\"delta\":\"{text}\"}}\n\n");
        format!("{}data: [DONE]\n\n{}", event(one), event(two))
    };
    let lines = |one: &str, two: &str| format!("{{\"id\":\"1\",\"t\":\"{one}\"}}\n{{\"id\":\"2\",\"t\":\"{two}\"}}\n");
    for (kind, write) in [
        ("text/event-stream", &events as &dyn Fn(&str, &str) -> String),
        ("text/event-stream; charset=utf-8", &events),
        ("application/x-ndjson", &lines),
        ("application/jsonl", &lines),
    ] {
        assert_eq!(in_body(&scanner, kind, write(one, two).as_bytes()).as_deref(), Some(KNOWN_SECRET), "{kind}");
        assert_eq!(in_body(&scanner, kind, write(two, one).as_bytes()), None, "{kind}");
        // It cannot be masked there, and what can be is.
        let masking = self::scanner(&[SECRET], &Dlp { action: Action::Mask, ..Dlp::default() });
        let format = BodyFormat::read(kind, &[], None).unwrap();
        let look = |text: String| format.look(&masking, text.as_bytes(), &mut Budget::of(text.len())).unwrap();
        assert!(matches!(look(write(one, two)), Look::Blocked(_, true)), "{kind}");
        assert!(matches!(look(write(SECRET, "x")), Look::Masked(..)), "{kind}");
        assert_eq!(look(write(two, one)), Look::Clean, "{kind}");
    }
}

#[test]
fn promise_09_a_secret_split_over_messages_of_json_is_found() {
    let scanner = scanner(&[SECRET], &Dlp::default());
    let message = |text: &str| format!("{{\"type\":\"append\",\"delta\":\"{text}\",\"last\":false}}").into_bytes();
    for at in 1..SECRET.len() {
        let (one, two) = SECRET.split_at(at);
        let mut overlap = Overlap::messages();
        assert_eq!(overlap.scan(&scanner, &message(one)), None);
        assert_eq!(overlap.scan(&scanner, b"a message of another kind"), None);
        assert_eq!(overlap.scan(&scanner, &message(two)), Some(Finding::known_secret()), "{one}|{two}");
        // Pieces of a text have no messages.
        let mut pieces = Overlap::pieces();
        assert!([one, two].iter().all(|text| pieces.scan(&scanner, &message(text)).is_none()), "{one}|{two}");
    }
    let mut overlap = Overlap::messages();
    for _ in 0..1000 {
        assert_eq!(overlap.scan(&scanner, &message("correct, but no horse of a battery")), None);
    }
    let lenient = self::scanner(&[SECRET], &Dlp { action: Action::Off, ..Dlp::default() });
    let (one, two) = SECRET.split_at(9);
    let mut overlap = Overlap::messages();
    assert!([one, two].iter().all(|text| overlap.scan(&lenient, &message(text)).is_none()));
}

#[test]
fn promise_15_so_many_layers_are_looked_through() {
    let scanner = scanner(&[SECRET], &Dlp::default());
    let scan = |text: &str| scanner.scan(text.as_bytes(), &mut Budget::unbounded());
    let base64 = |text: &str| data_encoding::BASE64.encode(text.as_bytes());
    let percent = |text: &str| text.replace('%', "%25");
    // The known secret's own forms are one layer more.
    for (most, first, write) in [
        (MAX_DEPTH, format!("{} and what makes it long enough", token()), &base64 as &dyn Fn(&str) -> String),
        (MAX_ESCAPES, token().replace("ghp", "g%68p"), &percent),
    ] {
        let harmless = first.replace("wWPw5k4aXcaT4", "0WPw5k4aXcaT4");
        let (mut text, mut other) = (first, harmless);
        let begun = usize::from(text.contains('%'));
        for layer in begun..most {
            (text, other) = (write(&text), write(&other));
            assert_eq!(scan(&text).unwrap().map(|finding| finding.rule).as_deref(), Some("github-token"), "{layer}");
            assert_eq!(scan(&other), Ok(None), "{layer}");
        }
        assert_eq!(scan(&write(&other)), Err(Exhausted), "what is deeper than {most} does not pass");
    }
}
