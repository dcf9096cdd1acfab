//! Known secrets and tokens are found near escapes exactly where they are found when every layer is searched as a whole.

use std::io::Write;
use std::sync::Arc;

use super::{Action, Actions, Budget, Direction, Dlp, KNOWN_SECRET, Rules, Scanner};

/// Texts that are compared: a secret is found in about half of them.
const TEXTS: u64 = 6000;

/// Of letters, words, lines, escapes, and what URLs and JSON escape.
const SECRETS: [&str; 6] = [
    "Zt8-Qk2_Wm5Yx7Rv",
    "correct horse battery",
    "a\"b\\c/d%41e\nf+g&h",
    "first line of it\nand a second\n",
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+/9",
    // Long, and nowhere a run of digits that would be kept as a whole.
    "one two; three four, five six: seven eight. nine ten (eleven twelve) thirteen fourteen! fifteen sixteen? seventeen \
     eighteen. nineteen twenty; and so on, until it is long. It goes on like that for a while, as keys in words do: a b c d",
];

/// A generator of numbers (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }

    /// Filler: often a little more or less than the reach, in one run, in words, or in lines.
    fn filler(&mut self, reach: usize) -> String {
        let length = match self.below(4) {
            0 => self.below(8),
            1 => self.below(3 * reach),
            _ => reach + self.below(40) - 20,
        };
        let (each, between) = match self.below(5) {
            0 => (length.max(1), ""),
            1 => (76, "\n"),
            2 => (64, "\r\n"),
            3 => (1, "; "),
            _ => (9, " "),
        };
        let mut text = String::new();
        while text.len() < length {
            for _ in 0..each {
                text.push(char::from(b"aGVsbG8gd29ybGQKfQ"[self.below(18)]));
            }
            text.push_str(between);
        }
        text
    }

    /// A text in an encoding, or as it is.
    fn encode(&mut self, text: &str) -> String {
        let wrapped = |line_end: &str| {
            let lines: Vec<String> = data_encoding::BASE64
                .encode(text.as_bytes())
                .as_bytes()
                .chunks(40)
                .map(|line| String::from_utf8_lossy(line).into_owned())
                .collect();
            lines.join(line_end)
        };
        match self.below(12) {
            0 => data_encoding::BASE64.encode(text.as_bytes()),
            1 => data_encoding::HEXLOWER.encode(text.as_bytes()),
            2 => wrapped("\n"),
            3 => wrapped("\r\n"),
            4 => text.replace(' ', "+"),
            5 => text.chars().rev().collect(),
            _ => text.to_owned(),
        }
    }

    /// Escapes all of a text that JSON or a URL escapes, or some of its letters, whatever they are.
    fn escape(&mut self, text: &str) -> String {
        match self.below(8) {
            0 => serde_json::to_string(text).unwrap().trim_matches('"').to_owned(),
            1 => url::form_urlencoded::byte_serialize(text.as_bytes()).collect(),
            2..5 => {
                let every = [2, 10, 300, 2000][self.below(4)];
                let mut escaped = String::new();
                for letter in text.chars() {
                    match self.below(every) {
                        0 if letter.is_ascii() => escaped.push_str(&match self.below(4) {
                            0 => format!("%{:02x}", u32::from(letter)),
                            1 => format!("\\u{:04X}", u32::from(letter)),
                            2 => format!("%25{:02X}", u32::from(letter)),
                            _ => format!("\\\\u{:04x}", u32::from(letter)),
                        }),
                        _ => escaped.push(letter),
                    }
                }
                escaped
            }
            _ => text.to_owned(),
        }
    }

    fn text(&mut self, secrets: &[&str], reach: usize) -> String {
        let mut text = String::new();
        for _ in 0..=self.below(6) {
            let secret = self.of(secrets);
            let piece = match self.below(6) {
                0 => secret.to_owned(),
                1 => secret.chars().take(self.below(secret.len())).collect(),
                2 => secret.chars().skip(self.below(secret.len())).collect(),
                3 => self
                    .of(&["%", "\\", "\\n", "\\u00", "\\u0000", "%00", "%2", "%25", "\\\\", "5c", "\\%", "\u{e9}"])
                    .into(),
                _ => self.filler(reach),
            };
            let piece = self.encode(&piece);
            text.push_str(&self.escape(&piece));
        }
        for _ in 0..self.below(4) {
            text = self.escape(&text);
        }
        if self.below(6) == 0 {
            text = self.encode(&text);
        }
        text
    }
}

#[test]
fn promise_09_nothing_is_missed_that_is_searched_near_escapes_only() {
    let (rules, actions) = (Arc::new(Rules::none()), Arc::new(Actions::new(&Dlp::default())));
    let secrets = SECRETS.map(str::to_owned);
    let scanner = Scanner::new(&secrets, rules, actions);
    let reach = scanner.exact.reach();
    // The user wants nothing else.
    let actions = [(KNOWN_SECRET.to_owned(), Action::Block)].into();
    let actions = Arc::new(Actions::new(&Dlp { action: Action::Off, actions, ..Dlp::default() }));
    let known = Scanner::new(&secrets, Arc::new(Rules::providers().unwrap()), actions);
    let (mut found, mut deeper) = (0, 0);
    for seed in 1..=TEXTS {
        let text = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)).text(&SECRETS, reach);
        let whole = scanner.found(text.as_bytes(), false, None).is_some();
        assert_eq!(scanner.found(text.as_bytes(), false, Some(reach)).is_some(), whole, "text {seed}: {text:?}");
        assert_eq!(known.scan_unbounded(text.as_bytes()).is_some(), whole, "text {seed}: {text:?}");
        found += u64::from(whole);
        deeper += u64::from(whole && !scanner.exact.matches(text.as_bytes()));
    }
    assert!(found > TEXTS / 4 && found < TEXTS * 3 / 4 && deeper > TEXTS / 10, "{found} {deeper}");
}

/// Rules of a user's own: of a token that is as long as a window, without a run in it, and of one whose line says what it is.
const OWN_RULES: &str = r##"
    [[rules]]
    id = "long"
    regex = 'acme\[(?:[a-z]; ){200,330}\]'
    keywords = ["acme["]
    [[rules]]
    id = "line"
    regex = 'acme=[a-z]{8};'
    keywords = ["acme="]
    [[rules.allowlists]]
    regexTarget = "line"
    regexes = ["# public"]
"##;

/// Tokens, put together here so that nothing finds them in this file: of one run of characters, of several, and with what is far
/// from their keyword.
fn tokens() -> Vec<String> {
    let hex = "0123456789abcdef".repeat(4);
    let (long, far) = ("a; ".repeat(300), " b;".repeat(300));
    [
        &["acme[", &long, "]"][..],
        &["eyJ", &hex, ".eyJ", &"aGVsbG8gd29ybGQKfQ0x".repeat(150), ".", &hex],
        &["acme=", "abcdefgh;", &far],
        &["acme=", "abcdefgh;", &far, "# public"],
        &["ghp_", "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx"],
        &["AKIA", "QYLPMN5HHHFPZAM2"],
        &["https", "://", "a-user", ":", "Tr0ub4dor-x9!", "@api.example.com/"],
        &["pat", "aB3dE6gH9jK2mN", ".", &hex],
        &["https", "://hooks.slack.com/services/", "T00000000/B00000000/", "aB3dE6gH9jK2mNpQ4rS7tU1v"],
        &["-----BEGIN ", "PRIVATE KEY-----\n", &hex, "\n", &hex, "\n-----END ", "PRIVATE KEY-----"],
        // None of them, though each has a keyword.
        &["https://", "a-user", ":", "password", "@example.com"],
        &["ghp_", "and AKIA and ://"],
        &["ghp_", "a placeholder of this bottle"],
    ]
    .iter()
    .map(|parts| parts.concat())
    .collect()
}

fn scanner_of_tokens() -> Scanner {
    let rules = Rules::with(&[OWN_RULES.to_owned()], Direction::Request).unwrap();
    let (rules, actions) = (Arc::new(rules), Arc::new(Actions::new(&Dlp::default())));
    let placeholder = ["ghp_", "a placeholder of this bottle"].concat();
    Scanner::new(&[], rules, actions).with_placeholders([placeholder.as_str()].into_iter())
}

#[test]
fn promise_09_no_token_is_missed_near_escapes() {
    let (scanner, tokens) = (scanner_of_tokens(), tokens());
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let reach = scanner.reach().unwrap();
    assert!(reach > 1152, "{reach}");
    let (mut found, mut deeper, mut more) = (0, 0, 0);
    for seed in 1..=TEXTS / 3 {
        let text = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)).text(&tokens, reach);
        let whole = scanner.found(text.as_bytes(), true, None);
        let near = scanner.found(text.as_bytes(), true, Some(reach));
        assert!(near.is_some() || whole.is_none(), "text {seed}: {whole:?} {text:?}");
        // Keywords that are close together share a window. Which they are depends on what is in front of them.
        more += u64::from(near.is_some() && whole.is_none());
        found += u64::from(whole.is_some());
        let plain = scanner.rules.find(text.as_bytes(), &mut Budget::unbounded(), &mut |_, _, _| Some(()));
        deeper += u64::from(whole.is_some() && plain.unwrap().is_none());
    }
    assert!(found > TEXTS / 15 && found < TEXTS / 4 && deeper > TEXTS / 30, "{found} {deeper}");
    assert!(more < TEXTS / 300, "{more}");
}

/// One escape at each place of a token, and of what is around it, far from both ends of a text.
#[test]
fn promise_09_a_token_is_found_however_far_its_only_escape_is() {
    let scanner = scanner_of_tokens();
    let reach = scanner.reach().unwrap();
    let filler = "; ".repeat(2 * reach);
    let mut found = 0;
    for token in tokens() {
        let text = format!("{filler}{token}{filler}");
        let (from, to) = (filler.len() - 40, filler.len() + token.len() + 40);
        let step = 1 + token.len() / 200;
        for at in (from..to).step_by(step).chain((filler.len() - 2 * reach..filler.len() + 2 * reach).step_by(97)) {
            let text = with_escape(text.as_bytes(), at);
            let whole = scanner.found(&text, true, None);
            assert_eq!(scanner.found(&text, true, Some(reach)), whole, "{token} {at}");
            found += usize::from(whole.is_some());
        }
    }
    assert!(found > 500, "{found}");
}

/// An escape makes a keyword, and with it the window in which another one and a token are.
#[test]
fn promise_09_a_token_is_found_whichever_keyword_its_window_begins_with() {
    let scanner = scanner_of_tokens();
    let part = |length: usize| -> String { "aGVsbG8gd29ybGQKfQ0x7zY".chars().cycle().take(length).collect() };
    let token = ["eyJ", &part(200), ".eyJ", &part(740), ".", &part(40)].concat();
    for keyword in ["e%79J", "ey\\u004a"] {
        for gap in (1..600).step_by(16) {
            let text = format!("{}{keyword}{}eyJ{}{token}", "; ".repeat(100), "; ".repeat(gap), "; ".repeat(48));
            let whole = scanner.found(text.as_bytes(), true, None);
            assert!(whole.is_some(), "{keyword} {gap}");
            assert_eq!(scanner.found(text.as_bytes(), true, scanner.reach()), whole, "{keyword} {gap}");
        }
    }
}

/// A known secret is found in a text that is searched as a whole, and near its escapes only.
fn assert_found(scanner: &Scanner, text: &[u8], what: &str) {
    let reach = scanner.exact.reach();
    assert!(scanner.found(text, false, None).is_some(), "{what}: not as a whole: {:?}", String::from_utf8_lossy(text));
    assert!(
        scanner.found(text, false, Some(reach)).is_some(),
        "{what}: not near escapes: {:?}",
        String::from_utf8_lossy(text)
    );
}

fn scanner_of(secrets: &[&str]) -> Scanner {
    let secrets: Vec<String> = secrets.iter().map(|&secret| secret.to_owned()).collect();
    Scanner::new(&secrets, Arc::new(Rules::none()), Arc::new(Actions::new(&Dlp::default())))
}

/// A text with a `%` escape for one of its bytes.
fn with_escape(text: &[u8], at: usize) -> Vec<u8> {
    [&text[..at], format!("%{:02x}", text[at]).as_bytes(), &text[at + 1..]].concat()
}

/// One escape, at each place of a secret, far from both ends of a text.
#[test]
fn promise_09_a_secret_is_found_however_far_its_ends_are_from_its_only_escape() {
    // One that has escapes itself does not stand in a text with others.
    for secret in SECRETS.into_iter().filter(|secret| !secret.contains(['%', '\\'])) {
        // The reach is that of the longest form of this secret alone.
        let scanner = scanner_of(&[secret]);
        let filler = "; ".repeat(2 * scanner.exact.reach());
        for written in [secret.to_owned(), secret.replace(' ', "+"), secret.chars().rev().collect()] {
            for at in 0..written.len() {
                let text = [filler.as_bytes(), &with_escape(written.as_bytes(), at), filler.as_bytes()].concat();
                assert_found(&scanner, &text, &format!("{written} {at}"));
            }
        }
    }
}

/// An escape in a run that is to be decoded from its beginning, far from the secret in it.
#[test]
fn promise_09_a_run_with_an_escape_is_decoded_as_a_whole() {
    let scanner = scanner_of(&SECRETS[..1]);
    let filler = "some words of a text, ".repeat(scanner.exact.reach() / 4);
    let hidden = data_encoding::HEXLOWER.encode(SECRETS[0].as_bytes());
    let run = data_encoding::BASE64.encode(format!("{filler}{hidden}{filler}").as_bytes());
    let lines = |end: &str| {
        let lines: Vec<&str> = run.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
        lines.join(end)
    };
    let wide = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    let mut compared = 0;
    for text in [run.clone().into_bytes(), lines("\n").into_bytes(), lines("\r\n").into_bytes(), wide(&run)] {
        let text = [b"; ".repeat(scanner.exact.reach()), text, b" ; ".repeat(scanner.exact.reach())].concat();
        let run = text.iter().position(u8::is_ascii_alphanumeric).unwrap();
        let end = text.iter().rposition(u8::is_ascii_alphanumeric).unwrap();
        for at in (run..run + 9).chain(run + 20..run + 29).chain(end - 9..end) {
            let text = with_escape(&text, at);
            compared += 1;
            assert_found(&scanner, &text, &at.to_string());
        }
    }
    assert_eq!(compared, 4 * 27);
}

/// What is left out between two runs does not make one of them.
#[test]
fn promise_09_runs_of_two_pieces_stay_two() {
    let scanner = scanner_of(&SECRETS[..1]);
    let reach = scanner.exact.reach();
    let hidden = data_encoding::HEXLOWER.encode(SECRETS[0].as_bytes());
    let run =
        data_encoding::BASE64.encode(format!("{}{hidden}", "some words of a text, ".repeat(reach / 8)).as_bytes());
    // Far from the beginning of its run, and so that what follows is in no group by itself.
    let at = (reach + 60).next_multiple_of(4);
    for more in 0..4 {
        let other = [b"%41", "x".repeat(2 * reach + more).as_bytes(), &b";".repeat(4 * reach)].concat();
        let text = [&other[..], &with_escape(run.as_bytes(), at)].concat();
        assert!(!scanner.exact.matches(&text));
        assert_found(&scanner, &text, &more.to_string());
    }
}

/// Of compressed data, a part says nothing: an escape that is far from its beginning counts, too.
#[test]
fn promise_09_compressed_data_with_escapes_stays_whole() {
    let scanner = scanner_of(&SECRETS[..1]);
    let reach = scanner.exact.reach();
    let mut compared = 0;
    for seed in 1..3000_u64 {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let noise: String = (0..420).map(|_| char::from(b'!' + u8::try_from(random.below(90)).unwrap())).collect();
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        zlib.write_all(format!("{noise}{}", SECRETS[0]).as_bytes()).unwrap();
        let packed = zlib.finish().unwrap();
        // With zeros it would stay whole anyway, and with these there would be more escapes.
        let at = 2 * reach + packed[2 * reach..].iter().position(u8::is_ascii_alphanumeric).unwrap();
        if packed.iter().any(|byte| b"\0\\%".contains(byte)) || at + 60 > packed.len() {
            continue;
        }
        // In the middle, and so that it is no compressed data before its escapes are removed.
        for at in [at, 0] {
            assert_found(&scanner, &with_escape(&packed, at), &format!("{seed} {at}"));
        }
        compared += 1;
    }
    assert!(compared > 3, "{compared}");
}
