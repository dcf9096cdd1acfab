//! Masking in whole texts: what is masked, what is blocked, and that of a value nothing is left and the rest is untouched.

use std::sync::Arc;

use proptest::prelude::*;

use super::mask::MAX_PLACES;
use super::*;

const SECRET: &str = "correct-horse/battery+staple";

/// Assembled here, so that repository scanners do not report it.
fn token() -> String {
    ["ghp_", "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx"].concat()
}

fn scanner(secrets: &[&str], dlp: &Dlp, always: Option<Action>) -> Scanner {
    let secrets: Vec<String> = secrets.iter().map(|&secret| secret.to_owned()).collect();
    let rules = Rules::with(&dlp.rules, Direction::Request).unwrap();
    let scanner = Scanner::new(&secrets, Arc::new(rules), Arc::new(Actions::new(dlp)));
    scanner.for_request(always, Arc::new(|_| {}))
}

/// Masks as egress does, until nothing is found; the rule of what is blocked.
fn mask(scanner: &Scanner, format: &BodyFormat, body: &[u8]) -> Result<Vec<u8>, String> {
    let mut body = body.to_vec();
    for _ in 0..5 {
        match format.look(scanner, &body, &mut Budget::of(body.len())).map_err(|error| error.to_string())? {
            Look::Clean => return Ok(body),
            Look::Masked(masked, counts) => {
                assert!(masked.len() == body.len() && masked != body && !counts.is_empty());
                body = masked;
            }
            Look::Blocked(finding, _) => return Err(finding.rule),
        }
    }
    Err("it does not end".to_owned())
}

fn format(kind: &str) -> BodyFormat {
    BodyFormat::read(kind, &[], None).unwrap()
}

/// A PEM file, whose lines look random.
fn key_file(lines: usize) -> String {
    let line = data_encoding::BASE64.encode(&(0..48_u8).map(|at| at.wrapping_mul(77)).collect::<Vec<_>>());
    let lines: String = (0..lines).map(|at| line[at % 9..].to_owned() + &line[..at % 9] + "\n").collect();
    ["-----BEGIN RSA PRIV", "ATE KEY-----\n", &lines, "-----END RSA PRIV", "ATE KEY-----"].concat()
}

#[test]
fn what_is_plain_is_masked_and_what_is_not_is_blocked() {
    let scanner = scanner(&[SECRET], &Dlp::default(), Some(Action::Mask));
    let (token, stars) = (token(), "*".repeat(token().len()));
    let gone = "*".repeat(SECRET.len());
    let json = |text: &str| serde_json::to_string(&serde_json::json!({ "a": text, "b": 1 })).unwrap();
    let escaped = token.bytes().map(|byte| format!("\\u{byte:04x}")).collect::<Vec<_>>().concat();
    let partly = token.replace("WPw5", "\\u0057Pw5");
    let base64 = data_encoding::BASE64.encode(format!("key {token} key").as_bytes());
    for (kind, body, expected) in [
        ("", format!("a {token} b"), Ok(format!("a {stars} b"))),
        ("", format!("{SECRET}{SECRET}"), Ok(format!("{gone}{gone}"))),
        ("application/json", json(&format!("x\n{token}\ty")), Ok(json(&format!("x\n{stars}\ty")))),
        // Hidden by escapes, wholly or in part, at one level or two.
        ("application/json", format!("[\"{escaped}\"]"), Ok(format!("[\"{}\"]", "*".repeat(6 * token.len())))),
        ("application/json", format!("[\"{partly}\"]"), Ok(format!("[\"{}\"]", "*".repeat(token.len() + 5)))),
        ("application/json", json(&json(&format!("\n{token}"))), Ok(json(&json(&format!("\n{stars}"))))),
        // A JSON text that does not say so.
        ("text/plain", json(SECRET).replace('/', "\\/"), Ok(json(&format!("{gone}*")))),
        ("application/x-www-form-urlencoded", format!("a={token}&b=c"), Ok(format!("a={stars}&b=c"))),
        (
            "application/x-www-form-urlencoded",
            format!("a={}&b=c", SECRET.replace('/', "%2F").replace('+', "%2b")),
            Ok(format!("a={gone}****&b=c")),
        ),
        ("text/event-stream", format!("data: {}\n\n", json(&token)), Ok(format!("data: {}\n\n", json(&stars)))),
        (
            "",
            format!("postgres://me:{}@db.example.com/x", "pA9-xQ2_zR7"),
            Ok("postgres://me:***********@db.example.com/x".to_owned()),
        ),
        // Not plain.
        ("", base64.clone(), Err("github-token")),
        ("application/json", json(&base64), Err("github-token")),
        ("", SECRET.chars().rev().collect(), Err("known-secret")),
        ("", data_encoding::HEXLOWER.encode(SECRET.as_bytes()), Err("known-secret")),
        // In pieces.
        ("application/json", format!("[\"{}\", \"{}\"]", &SECRET[..9], &SECRET[9..]), Err("known-secret")),
        ("application/x-www-form-urlencoded", format!("a={}&b={}", &SECRET[..9], &SECRET[9..]), Err("known-secret")),
        ("multipart/form-data; boundary=b", format!("--b\r\nA: {token}\r\n\r\nx\r\n--b--\r\n"), Err("github-token")),
        (
            "multipart/form-data; boundary=b",
            format!("--b\r\n\r\n{SECRET}\r\n--b\r\n\r\n{{\"a\": \"{token}\"}}\r\n--b--\r\n"),
            Ok(format!("--b\r\n\r\n{gone}\r\n--b\r\n\r\n{{\"a\": \"{stars}\"}}\r\n--b--\r\n")),
        ),
        // Beside a token that can be masked, one that cannot.
        ("", format!("{token} {base64}"), Err("github-token")),
    ] {
        let masked = mask(&scanner, &format(kind), body.as_bytes());
        let masked = masked.map(|masked| String::from_utf8(masked).unwrap());
        assert_eq!(
            masked.as_deref().map_err(String::as_str),
            expected.as_deref().map_err(|rule| *rule),
            "{kind} {body}"
        );
    }
    // What is not UTF-8 is not text.
    assert!(mask(&scanner, &format(""), &[b"\xff ", token.as_bytes()].concat()).is_err());
    // Outside of strings, JSON would not stay JSON.
    let number = Scanner::new(&["1234567890".to_owned()], Arc::new(Rules::none()), scanner.actions.clone());
    let number = number.for_request(Some(Action::Mask), Arc::new(|_| {}));
    assert_eq!(mask(&number, &format(""), b"{\"a\": 1234567890}"), Err(KNOWN_SECRET.to_owned()));
}

#[test]
fn the_users_word_about_a_rule_holds_at_a_host_that_masks() {
    let text = format!("{} {SECRET}", token());
    let run = |dlp: &Dlp, always| {
        let masked = mask(&scanner(&[SECRET], dlp, always), &format(""), text.as_bytes());
        masked.map(|masked| String::from_utf8(masked).unwrap().replace('*', ""))
    };
    let dlp = |rule: &str, action| Dlp { actions: [(rule.to_owned(), action)].into(), ..Dlp::default() };
    let host = Some(Action::Mask);
    for (dlp, always, expected) in [
        (Dlp::default(), None, Err("known-secret".to_owned())),
        (Dlp::default(), host, Ok(" ".to_owned())),
        (Dlp { action: Action::Mask, ..Dlp::default() }, None, Ok(" ".to_owned())),
        (dlp(KNOWN_SECRET, Action::Block), host, Err("known-secret".to_owned())),
        (dlp("github-token", Action::Block), host, Err("github-token".to_owned())),
        (dlp("github-token", Action::Warn), host, Ok(format!("{} ", token()))),
        (dlp("github-token", Action::Mask), None, Err("known-secret".to_owned())),
        (dlp(KNOWN_SECRET, Action::Mask), None, Err("github-token".to_owned())),
        (dlp("github-token", Action::Mask), Some(Action::Off), Ok(text.clone())),
    ] {
        assert_eq!(run(&dlp, always), expected, "{dlp:?} {always:?}");
    }
    // Where nothing is masked, what would be masked is blocked.
    let scanner = scanner(&[SECRET], &Dlp::default(), host);
    assert!(scanner.scan_unbounded(text.as_bytes()).is_some());
    assert!(scanner.scan_host(&token(), &mut Budget::unbounded()).unwrap().is_some());
    assert!(scanner.scan_path("/?a=correct-horse&b=x", &mut Budget::unbounded()).unwrap().is_none());
    let split = format!("/?a={}&b={}", &SECRET[..9], &SECRET[9..]);
    assert!(scanner.scan_path(&split, &mut Budget::unbounded()).unwrap().is_some());
    let mut overlap = Overlap::messages();
    assert!(overlap.scan(&scanner, &SECRET.as_bytes()[..20]).is_some());
    let format = BodyFormat::read("", &["gzip"], None).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gzip, text.as_bytes()).unwrap();
    let look = format.look(&scanner, &gzip.finish().unwrap(), &mut Budget::unbounded()).unwrap();
    assert!(matches!(look, Look::Blocked(_, true)), "{look:?}");
}

/// The context that rules search is shorter than a key; a mask is not.
#[test]
fn a_long_key_is_masked_to_its_end() {
    let scanner = scanner(&[], &Dlp::default(), Some(Action::Mask));
    for lines in [1, 14, 16, 50, 3000] {
        let file = key_file(lines);
        let plain = mask(&scanner, &format(""), format!("a\n{file}\nb").as_bytes()).unwrap();
        let plain = String::from_utf8(plain).unwrap();
        let rest: String = plain.chars().filter(|letter| *letter != '*').collect();
        // Line endings stay.
        let ends = "\n".repeat(lines + 1);
        let around = |ends: &str| {
            ["a\n-----BEGIN RSA PRIV", "ATE KEY-----", ends, "-----END RSA PRIV", "ATE KEY-----\nb"].concat()
        };
        assert_eq!(rest, around(&ends), "{lines}");
        let json = serde_json::to_string(&[&file, "next"]).unwrap();
        let masked = mask(&scanner, &format("application/json"), json.as_bytes()).unwrap();
        let [masked, next]: [String; 2] = serde_json::from_slice(&masked).unwrap();
        assert_eq!((masked.replace('*', ""), next.as_str()), (around("")[2..around("").len() - 2].to_owned(), "next"));
    }
    // A key that ends with its text: the delimiter of a part stays where it is.
    let cut = key_file(20);
    let cut = &cut[..cut.find("-----END").unwrap()];
    let body = format!("--b\r\n\r\n{cut}\r\n--b--\r\n");
    let masked = mask(&scanner, &format("multipart/form-data; boundary=b"), body.as_bytes()).unwrap();
    assert!(masked.ends_with(b"*\n\r\n--b--\r\n"), "{}", String::from_utf8_lossy(&masked));
    // A token in lines, of which the first is one by itself.
    let long = format!("sk-ant-{}", "api03-") + &"aB3-dE6_gH".repeat(16);
    for end in ["\n", "\r\n"] {
        let text = format!("a {}{end}{} b", &long[..110], &long[110..]);
        let stars = format!("a {}{end}{} b", "*".repeat(110), "*".repeat(long.len() - 110));
        assert_eq!(
            mask(&scanner, &format(""), text.as_bytes()).map(|text| String::from_utf8(text).unwrap()),
            Ok(stars)
        );
    }
    // So a word that such a token may continue with goes with it.
    let masked = mask(&scanner, &format(""), format!("{long}\nword and\n").as_bytes()).unwrap();
    assert_eq!(masked, format!("{}\n**** and\n", "*".repeat(long.len())).as_bytes());
    let token = token();
    let masked = mask(&scanner, &format(""), format!("{token}\nword").as_bytes()).unwrap();
    assert_eq!(masked, format!("{}\nword", "*".repeat(token.len())).as_bytes());
    // A token longer than the context: all of it.
    let long = format!("sk-ant-{}", "api03-") + &"aB3-dE6_gH".repeat(400);
    let masked = mask(&scanner, &format(""), format!("{long} b").as_bytes()).unwrap();
    assert_eq!(masked, format!("{} b", "*".repeat(long.len())).as_bytes());
}

/// A rule of the user's own may match anything.
#[test]
fn a_match_across_strings_or_with_an_escape_changes_no_structure() {
    let rules = "[[rules]]\nid = 'wide'\nregex = 'password.{3,40}end'\nkeywords = ['password']\n\
                 [[rules]]\nid = 'word'\nregex = 'code=([^\\s\"]+)'\nkeywords = ['code']\n";
    let dlp = Dlp { rules: vec![rules.to_owned()], ..Dlp::default() };
    let scanner = scanner(&[], &dlp, Some(Action::Mask));
    let json = format("application/json");
    assert_eq!(mask(&scanner, &json, br#"{"password": "x", "y": "end"}"#), Err("wide".to_owned()));
    assert!(mask(&scanner, &json, br#"{"a": "password x end"}"#).is_ok());
    // The match ends with the backslash of an escaped quotation mark, which stays one.
    let masked = mask(&scanner, &json, br#"{"a": "code=abcdef\",\"role\":\"x"}"#).unwrap();
    assert_eq!(String::from_utf8(masked).unwrap(), r#"{"a": "code=******\",\"role\":\"x"}"#);
    let inner = r#"{"a": "code=abcdef\",\"role\":\"x"}"#;
    let outer = serde_json::to_string(&[inner]).unwrap();
    let masked: [String; 1] = serde_json::from_slice(&mask(&scanner, &json, outer.as_bytes()).unwrap()).unwrap();
    let masked: std::collections::BTreeMap<String, String> = serde_json::from_str(&masked[0]).unwrap();
    assert_eq!(masked.len(), 1);
}

#[test]
fn what_masking_costs_is_bounded() {
    let scanner = scanner(&["aaaaaaaa"], &Dlp::default(), Some(Action::Mask));
    // Places within places, and tokens within a token that is as long as the text.
    for text in ["a".repeat(2 << 20), "sk-ant-api03-".repeat(150_000), format!("{} ", token()).repeat(50_000)] {
        let mut budget = Budget::of(text.len());
        let look = scanner.look(text.as_bytes(), Carrier::Text, &mut budget);
        assert!(matches!(look, Ok(Look::Masked(..)) | Err(DecodeError::Exhausted(_))), "{}", text.len());
    }
}

#[test]
fn promise_15_so_many_places_are_masked_and_no_more() {
    let scanner = scanner(&["hunter2-hunter2"], &Dlp::default(), Some(Action::Mask));
    for (places, fits) in [(MAX_PLACES, true), (MAX_PLACES + 1, false)] {
        let text = "hunter2-hunter2 ".repeat(places);
        let look = scanner.look(text.as_bytes(), Carrier::Text, &mut Budget::of(text.len()));
        match look {
            Ok(Look::Masked(_, found)) => assert!(fits && found == [(Finding::known_secret(), places as u64)]),
            other => assert!(!fits && other == Err(DecodeError::Exhausted(Exhausted)), "{places}"),
        }
    }
}

/// Tokens in the formats of providers, some of them with a checksum.
fn tokens() -> impl Strategy<Value = String> {
    let with_sum = |prefix: &'static str| {
        "[A-Za-z0-9]{30}".prop_map(move |text| {
            let sum = String::from_utf8(crc32_base62(text.as_bytes()).to_vec()).unwrap();
            format!("{prefix}{text}{sum}")
        })
    };
    prop_oneof![
        with_sum("ghp_"),
        with_sum("npm_"),
        "[A-Z2-7]{16}".prop_map(|text| format!("AKIA{text}")),
        "[A-Za-z0-9_-]{84}".prop_map(|text| format!("sk-ant-api03-{text}AA")),
        "[0-9]{12}-[A-Za-z0-9]{24}".prop_map(|text| format!("xoxb-{text}")),
        "[A-Za-z0-9_-]{30}\\.eyJ[A-Za-z0-9_-]{40}\\.[A-Za-z0-9_-]{43}".prop_map(|text| format!("eyJ{text}")),
        (1_usize..40).prop_map(key_file),
    ]
}

/// A text of a conversation.
fn prose() -> impl Strategy<Value = String> {
    r#"[a-z \n\t"{}:,<\\/é→%-]{0,60}"#
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn of_a_value_nothing_is_left_and_the_rest_is_untouched(
        token in tokens(), secret in r#"[a-zA-Z0-9]([!-~]|%[46]1|%5c|%22|[\\"]){3,30}[g-zA-Z]"#, is_known: bool, carrier in 0..7,
        before in prose(), after in prose(), left in "[ \n\t\"=:]", right in "[ \t\":,]",
    ) {
        let scanner = scanner(&[&secret], &Dlp::default(), Some(Action::Mask));
        let value = if is_known { secret.clone() } else { token };
        prop_assume!(scanner.scan_unbounded(format!(" {value} ").as_bytes()).is_some());
        let (before, after) = (format!("{before}{left}"), format!("{right}{after}"));
        let around = [&before, &after];
        // What is around it is no finding by itself, and nothing becomes one by what it is beside.
        prop_assume!(scanner.scan_unbounded(format!("{before} {after}").as_bytes()).is_none());
        let text = format!("{before}{value}{after}");
        let quoted = |text: &str| serde_json::to_string(&serde_json::json!({ "role": "user", "content": [text] })).unwrap();
        let (kind, body) = match carrier {
            0 => ("", text.clone()),
            1 => ("application/json", quoted(&text)),
            2 => ("application/json", quoted(&quoted(&text))),
            3 => ("text/event-stream", format!("event: x\ndata: {}\n\n", quoted(&text))),
            4 => ("application/x-www-form-urlencoded", url::form_urlencoded::Serializer::new(String::new()).append_pair("a", &text).append_pair("b", "c").finish()),
            5 => ("multipart/form-data; boundary=xX0", format!("--xX0\r\nContent-Disposition: form-data; name=a\r\n\r\n{text}\r\n--xX0--\r\n")),
            _ => ("application/json", quoted(&quoted(&quoted(&text)))),
        };
        let masked = mask(&scanner, &format(kind), body.as_bytes());
        let masked = masked.map_err(|why| TestCaseError::fail(format!("{why} in {body}")))?;
        prop_assert_eq!(masked.len(), body.len());
        prop_assert!(scanner.scan_unbounded(&masked).is_none());
        let masked = String::from_utf8(masked).unwrap();
        let unquoted = |text: &str| -> String {
            let whole: serde_json::Value = serde_json::from_str(text).unwrap();
            assert_eq!(whole["role"], "user");
            whole["content"][0].as_str().unwrap().to_owned()
        };
        let read = match carrier {
            1 => unquoted(&masked),
            2 => unquoted(&unquoted(&masked)),
            3 => unquoted(masked.strip_prefix("event: x\ndata: ").unwrap().trim_end()),
            4 => url::form_urlencoded::parse(masked.as_bytes()).next().unwrap().1.into_owned(),
            5 => masked.split("\r\n\r\n").nth(1).unwrap().strip_suffix("\r\n--xX0--\r\n").map_or_else(|| masked.clone(), str::to_owned),
            6 => unquoted(&unquoted(&unquoted(&masked))),
            _ => masked.clone(),
        };
        if carrier == 5 {
            prop_assert!(masked.contains(around[0].as_str()) && masked.contains(around[1].as_str()));
        } else {
            prop_assert!(read.starts_with(around[0].as_str()) && read.ends_with(around[1].as_str()), "{read:?} from {text:?}");
            let middle = &read[around[0].len()..read.len() - around[1].len()];
            let middle: String = middle.replace("-----BEGIN RSA PRIVATE KEY-----", "").replace("-----END RSA PRIVATE KEY-----", "");
            prop_assert!(middle.bytes().all(|byte| matches!(byte, b'*' | b'\n')), "{middle:?} is left of {value:?}");
        }
    }
}
