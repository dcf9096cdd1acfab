//! Findings in nested encodings, the actions for them, and the forms of tokens.

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

#[test]
fn promise_09_a_secret_that_looks_escaped_is_found_under_escapes_and_joined_as_it_is() {
    let secret = "pass%41word\\x \"of mine\"";
    let rules = Arc::new(Rules::none());
    let scanner = Scanner::new(&[secret.to_owned()], rules, Arc::new(Actions::new(&Dlp::default())));
    let json = |text: &str| serde_json::to_string(text).unwrap();
    let reversed: String = secret.chars().rev().collect();
    for text in [json(secret), json(&json(secret)), json(&json(&json(secret))), json(&reversed), json(&json(&reversed))]
    {
        assert_eq!(found(&scanner, text.as_bytes()).as_deref(), Some(KNOWN_SECRET), "{text}");
    }
    let harmless = json(&json(&secret.replace("word", "wort")));
    assert_eq!(found(&scanner, harmless.as_bytes()), None);
    // Cut at a space: the line end before a boundary is no part of the content, and everything else is.
    for (at, _) in secret.match_indices([' ', '%', 'w']) {
        for at in [at, at + 1] {
            let (one, two) = secret.split_at(at);
            let part = |text: &str| format!("--b\r\nContent-Disposition: form-data; name=a\r\n\r\n{text}\r\n");
            let body = format!("{}{}--b--\r\n", part(one), part(two));
            let format = BodyFormat::read("multipart/form-data; boundary=b", &[], None).unwrap();
            let found = format.scan(&scanner, body.as_bytes(), &mut Budget::unbounded()).unwrap();
            assert_eq!(found.map(|finding| finding.rule).as_deref(), Some(KNOWN_SECRET), "{one}|{two}");
        }
    }
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
    // In the path, where a provider has it there.
    let bot = ["/bot123456789:AA", "HdqTcvCH1vGWJxfSeofSAs0K5PALDsawx", "/getMe"].concat();
    let telegram = scanner.for_target(RequestTarget::new("api.telegram.org", &bot));
    assert_eq!(in_path(&telegram, &bot), None);
    assert_eq!(in_path(&elsewhere, &bot).unwrap().rule, "telegram-bot");
    assert!(telegram.scan_unbounded(bot.as_bytes()).is_some(), "in a message it may be shown to others");
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
        let warn: Warn = Arc::new(move |passed: Passed| {
            let Passed::Warned(finding) = passed else { panic!("{passed:?}") };
            crate::sync::lock(&told).push(finding.to_string());
        });
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

/// The rule of the first token in a text.
fn first(rules: &Rules, text: &str) -> Option<String> {
    rules.find(text.as_bytes(), &mut Budget::unbounded(), &mut |_, rule, _| Some(rule.to_owned())).unwrap()
}

/// Letters that look random, the same each time.
pub(super) fn letters(alphabet: &str, count: usize) -> String {
    let alphabet: Vec<char> = alphabet.chars().collect();
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        alphabet[usize::try_from(state >> 33).unwrap() % alphabet.len()]
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn newer_forms_of_tokens_are_found_whole() {
    const HEX: &str = "0123456789abcdef";
    const LOWER: &str = "abcdefghijklmnopqrstuvwxyz0123456789";
    const ALL: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    const URL: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    const BECH32: &str = "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L";
    let rules = Rules::providers().unwrap();
    let jwt = format!("eyJ{}.eyJ{}.{}", letters(ALL, 33), letters(ALL, 180), letters(ALL, 86));
    for (id, prefix, body) in [
        ("github-installation-token", "ghs_1234567_", jwt.clone()),
        ("github-refresh-token", "ghr_", letters(ALL, 76)),
        ("gitlab-token", "glpat-", format!("{}.01.{}", letters(URL, 60), letters(LOWER, 9))),
        ("gitlab-token", "glwt-", letters(URL, 20)),
        ("slack-legacy", "xoxc-", format!("1234567890-1234567890-1234567890-{}", letters(HEX, 64))),
        ("slack-legacy", "xoxd-", format!("{}%2B{}%3D", letters(ALL, 40), letters(ALL, 40))),
        ("stripe-key", "sk_live_51", letters(ALL, 180)),
        ("stripe-key", "sk_org_live_", letters(ALL, 60)),
        ("openai-key", "sk-service-", format!("{}T3BlbkFJ{}", letters(URL, 58), letters(ALL, 58))),
        ("google-api-key", "AQ.Ab", letters(ALL, 48)),
        ("sendinblue-key", "xsmtpsib-", format!("{}-{}", letters(HEX, 64), letters(ALL, 16))),
        ("crates-io-token", "cio_tp_", letters(ALL, 32)),
        ("hugging-face-token", "hf_oauth_", jwt.clone()),
        ("shopify-token", "shptka_", letters(HEX, 32)),
        ("shopify-token", "prtapi_", letters(HEX, 32)),
        ("atlassian-token", "ATCTT3xFfG", format!("{}={}", letters(URL, 170), letters(HEX, 8))),
        ("new-relic-key", "NRIQ-", letters(ALL, 25)),
        ("new-relic-key", "", format!("{}FFFFNRAL", letters(HEX, 32))),
        ("sentry-token", "sntryi_", letters(HEX, 64)),
        ("dropbox-token", "sl.u.", letters(ALL, 600)),
        ("figma-token", "figp_", letters(ALL, 54)),
        ("figma-token", "figor_", letters(ALL, 40)),
        ("linear-key", "lin_oauth_", letters(HEX, 64)),
        ("atlassian-token", "ATSTT3xFfG", letters(URL, 180)),
        ("age-secret-key", "AGE-SECRET-KEY-PQ-1", letters(BECH32, 58)),
        ("alibaba-access-key", "LTAI", letters(ALL, 12)),
        ("replicate-token", "r8_", letters(URL, 37)),
        ("supabase-token", "sbp_oauth_", letters(HEX, 40)),
        ("supabase-secret-key", "sb_secret_", format!("{}_{}", letters(URL, 22), letters(ALL, 8))),
        ("sonar-token", "sqco_", letters(ALL, 59)),
        ("posthog-key", "phx_", letters(ALL, 47)),
        ("posthog-key", "pha_", letters(ALL, 42)),
        ("buildkite-token", "bkua_", letters(LOWER, 53)),
        ("buildkite-token", "bkaj_", jwt),
        ("cloudflare-token", "cfut_", format!("{}{}", letters(ALL, 40), letters(HEX, 8))),
        ("cloudflare-access-secret", "cfast_", letters(ALL, 48)),
        ("vercel-token", "vcp_", letters(ALL, 56)),
        ("grafana-service-account", "glsa_", format!("{}_{}", letters(ALL, 32), letters(HEX, 8))),
        ("facebook-access-token", "EAAG", letters(ALL, 180)),
        ("aws-bedrock-key", "bedrock-api-key-", letters(ALL, 300)),
    ] {
        let token = [prefix, &body].concat();
        let text = format!("TOKEN=\"{token}\"\n");
        let found = rules.find(text.as_bytes(), &mut Budget::unbounded(), &mut |_, rule, found| {
            Some((rule.to_owned(), String::from_utf8_lossy(found).into_owned()))
        });
        assert_eq!(found.unwrap(), Some((id.to_owned(), token)), "{text}");
    }
    // By what stands beside it.
    let square = format!("EAAA{}", letters(ALL, 60));
    let mailgun = format!("{}-{}-{}", letters(HEX, 32), letters(HEX, 8), letters(HEX, 8));
    let flow = format!("/workflows/x/invoke?sp=%2Ftriggers&sig={}", letters(ALL, 43));
    for (id, beside, token) in [
        ("square-access-token", "SQUARE_ACCESS_TOKEN=", &square),
        ("mailgun-key", "MAILGUN_API_KEY=", &mailgun),
        ("discord-webhook", "https://discord.com/api/v10/webhooks/12345678901234567/", &letters(URL, 68)),
        ("power-automate-webhook", "https://prod-1.westus.logic.azure.com:443", &flow),
    ] {
        assert_eq!(first(&rules, &format!("{beside}{token}\n")).as_deref(), Some(id), "{beside}{token}");
        assert_eq!(first(&rules, &format!("x = {token}\n")), None, "{token}");
    }
    // Base64 of a program, and a hash that begins like a token.
    let program = "EAAMAAEGJzEmJ9UmJ1kGJz0kB7EiF7X4YSItCEEiNFOgPH0AATAMgSIPACEg".repeat(3);
    for text in [program.replace("EAAM", "EAAX"), format!("r8_{}", letters(URL, 40)), "hf_oauth_scopes".into()] {
        assert_eq!(first(&rules, &text), None, "{text}");
    }
}

#[test]
fn the_documentation_says_how_many_formats_there_are() {
    let formats = format!(" {} formats", Rules::providers().unwrap().len());
    for page in [include_str!("../../README.md"), include_str!("../policy/README.md")] {
        assert!(page.contains(&formats), "not{formats}");
    }
}

#[test]
fn promise_09_a_secret_with_escapes_of_its_own_is_found_in_json_in_json() {
    // Of the last two, too little is left without escapes.
    for secret in [r"pass%41\word", r#"a"%5c%22"word"#, r"100%25\%5cu0067-word", r#"aA%5cA"aA%5c%5cA"#, r#"%41%41%41""#]
    {
        let (rules, actions) = (Arc::new(Rules::providers().unwrap()), Arc::new(Actions::new(&Dlp::default())));
        let scanner = Scanner::new(&[secret.to_owned()], rules, actions);
        let mut text = secret.to_owned();
        for depth in 0..5 {
            assert!(found(&scanner, text.as_bytes()).is_some(), "{depth}: {text}");
            text = serde_json::to_string(&[text]).unwrap();
        }
    }
}

/// Each layer is removed by its reader; what is deeper than is looked at does not pass.
#[test]
fn promise_09_layers_of_json_and_forms_hide_nothing_however_many() {
    let scanner = scanner(&Dlp::default());
    let passes = |text: &str| matches!(scanner.scan(text.as_bytes(), &mut Budget::of(text.len())), Ok(None));
    let quoted = |text: &str| serde_json::to_string(text).unwrap();
    let form = |text: &str| url::form_urlencoded::Serializer::new(String::new()).append_pair("d", text).finish();
    // One escape of the token that is itself escaped in the form between.
    let mixed = r#"d={"a":"{\"b\":\"\\u%5cu0030067hp_REST\"}"}"#.replace("REST", &token()[4..]);
    assert!(!passes(&mixed), "{mixed}");
    for value in [SECRET, &token()] {
        for order in 0..32 {
            let mut text = value.to_owned();
            for layer in 0..9 {
                text = if order >> (layer % 5) & 1 == 0 { quoted(&text) } else { form(&text) };
                assert!(!passes(&text), "{order} {layer}: {text}");
            }
        }
        let mut text = format!("{value} and what makes it long enough");
        for layer in 0..9 {
            text = data_encoding::BASE64.encode(text.as_bytes());
            assert!(!passes(&text), "{layer}");
        }
    }
    // A letter of two units, as Python writes it.
    let scanner = Scanner::new(&["pässwörd-🦀crab".to_owned()], scanner.rules.clone(), scanner.actions.clone());
    for text in [r#"{"m":"p\u00e4ssw\u00f6rd-\ud83e\udd80crab"}"#, r#"{"m":"p\u00E4ssw\u00F6rd-\uD83E\uDD80crab"}"#] {
        assert!(scanner.scan_unbounded(text.as_bytes()).is_some(), "{text}");
    }
}

#[test]
fn promise_09_messages_of_grpc_in_base64_are_looked_into() {
    let scanner = scanner(&Dlp::default());
    let frame = |message: &[u8]| [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat();
    // Among bytes that are no text, so that nothing but the format tells what is in it.
    let within =
        |text: &str| [&[0, 1, 2, 0xf0, 0xff].repeat(40)[..], text.as_bytes(), &[0xfe, 0, 3].repeat(90)].concat();
    let (one, two) = SECRET.split_at(9);
    let text = |frames: &[Vec<u8>]| frames.iter().map(|frame| data_encoding::BASE64.encode(frame)).collect::<String>();
    for kind in ["application/grpc-web-text", "application/grpc-web-text+proto; charset=utf-8"] {
        let format = BodyFormat::read(kind, &[], None).unwrap();
        assert!(format.needs_whole());
        let scan = |text: &str| format.scan(&scanner, text.as_bytes(), &mut Budget::unbounded());
        for passes in [String::new(), text(&[frame(&within("hello"))]), text(&[frame(b""), frame(b"a")])] {
            assert_eq!(scan(&passes), Ok(None), "{passes}");
        }
        for held in [
            text(&[frame(&within(&token()))]),
            text(&[frame(b"a"), frame(&within(SECRET))]),
            text(&[frame(one.as_bytes()), frame(two.as_bytes())]),
            text(&[[frame(one.as_bytes()), frame(two.as_bytes())].concat()]),
        ] {
            assert!(matches!(scan(&held), Ok(Some(_))), "{held}");
        }
        for malformed in ["hello", "AAAA", &text(&[frame(b"abcd")])[..8], "AAAAAAFh\n", "AgAAAAFh"] {
            assert!(scan(malformed).is_err(), "{malformed}");
        }
    }
}
