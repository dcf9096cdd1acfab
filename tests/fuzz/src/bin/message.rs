//! A secret in every form, encoding, carrier and cut: it never passes, and another text in its place always does.

#![no_main]

use std::sync::Arc;

use bottler_fuzz::message::{Form, Message, gzip, json, noise, percent, twin};
use bottler_fuzz::scan::{
    Action, Actions, BodyFormat, Budget, DecodeError, Dlp, GrpcMessages, Head, Look, Overlap, Rules, Scanner, Windows,
};
use libfuzzer_sys::arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::{Corpus, fuzz_target};

/// What a message stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carrier {
    Text,
    Gzip,
    Json,
    Pairs,
    Part,
    PartInBase64,
    FileName,
    Query,
    Path,
    Header,
    Cookie,
    Grpc { compressed: bool },
    Messages,
    Windows,
}

const CARRIERS: [Carrier; 15] = [
    Carrier::Text,
    Carrier::Gzip,
    Carrier::Json,
    Carrier::Pairs,
    Carrier::Part,
    Carrier::PartInBase64,
    Carrier::FileName,
    Carrier::Query,
    Carrier::Path,
    Carrier::Header,
    Carrier::Cookie,
    Carrier::Grpc { compressed: false },
    Carrier::Grpc { compressed: true },
    Carrier::Messages,
    Carrier::Windows,
];

const SEPARATOR: &str = "b0undary";

fuzz_target!(|bytes: &[u8]| -> Corpus { run(&mut Unstructured::new(bytes)).unwrap_or(Corpus::Reject) });

fn run(u: &mut Unstructured<'_>) -> Result<Corpus> {
    let carrier = *u.choose(&CARRIERS)?;
    let mask = u.arbitrary()?;
    let cuts: Vec<u16> = (0..u.int_in_range(0..=3)?).map(|_| u.arbitrary()).collect::<Result<_>>()?;
    let beside = noise(u)?;
    let message = Message::arbitrary(u)?;
    let is_binary = matches!(
        carrier,
        Carrier::Text
            | Carrier::Gzip
            | Carrier::Part
            | Carrier::PartInBase64
            | Carrier::Grpc { .. }
            | Carrier::Messages
    );
    // The reverse of the bytes of a letter is none.
    let is_whole = message.form != Form::Reversed || message.secret.is_ascii();
    if !message.is_looked_through() || !is_whole || !(message.is_text() || is_binary) {
        return Ok(Corpus::Reject);
    }
    // What is cut is joined with what stands beside it, and only the forms themselves are looked for in that: strings of JSON
    // are joined as they are written.
    let is_form = |text: &str| {
        let written = String::from_utf8_lossy(&message.form.write(text)).into_owned();
        carrier != Carrier::Json || message.form == Form::Plain || json(&written) == written.as_bytes()
    };
    let cut = message.outer.is_empty() && message.is_text() && is_form(&message.secret);
    let cuts = if cut { &cuts[..] } else { &[] };
    let dlp = Dlp { action: if mask { Action::Mask } else { Action::Block }, ..Dlp::default() };
    let scanner = Scanner::new(&[message.secret.clone()], Arc::new(Rules::none()), Arc::new(Actions::new(&dlp)));
    let strict =
        Scanner::new(&[message.secret.clone()], Arc::new(Rules::none()), Arc::new(Actions::new(&Dlp::default())));
    let harmless = twin(&message.secret);
    assert_eq!(harmless.len(), message.secret.len());
    for (text, is_secret) in [(&message.secret, true), (&harmless, false)] {
        let sent = send(carrier, &scanner, &message, text, &beside, cuts);
        let what = || format!("{carrier:?} {message:?} {cuts:?} {mask}");
        match sent {
            Sent::Refused => assert!(is_secret, "a harmless text is refused: {}", what()),
            Sent::Masked(left) => {
                assert!(is_secret, "a harmless text is masked: {}", what());
                assert!(mask && strict.scan_unbounded(&left).is_none(), "it is masked, and still there: {}", what());
            }
            Sent::Whole => assert!(!is_secret, "a secret passes: {}", what()),
            // Every layer has its own noise, and that its own escapes: together they may be too many.
            Sent::TooDeep => assert!(message.outer.len() > 1, "it is too much work: {}", what()),
        }
    }
    Ok(Corpus::Keep)
}

enum Sent {
    Whole,
    Masked(Vec<u8>),
    Refused,
    TooDeep,
}

/// The pieces of a form: never within a character, because carriers of text hold whole ones.
fn pieces(bytes: Vec<u8>, cuts: &[u16]) -> Vec<Vec<u8>> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| usize::from(*cut) % (bytes.len() + 1)).collect();
    ends.retain(|end| bytes.get(*end).is_none_or(|byte| byte & 0xc0 != 0x80));
    ends.push(bytes.len());
    ends.sort_unstable();
    let mut from = 0;
    ends.into_iter().map(|to| bytes[std::mem::replace(&mut from, to)..to].to_vec()).collect()
}

/// Sends as egress does.
fn send(carrier: Carrier, scanner: &Scanner, message: &Message, secret: &str, beside: &str, cuts: &[u16]) -> Sent {
    let text = if cuts.is_empty() { message.bytes(secret) } else { message.form.write(secret) };
    let all = pieces(text, cuts);
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match carrier {
        Carrier::Text => body(scanner, "text/plain", &[], all.concat()),
        Carrier::Gzip => body(scanner, "text/plain", &["gzip"], gzip(&all.concat())),
        Carrier::Json => {
            let strings: Vec<String> = all.iter().map(|piece| format!("\"{}\"", lossy(&json(&lossy(piece))))).collect();
            let text = format!("{{\"e\": {}, \"a\": [{}]}}", serde_json::json!(beside), strings.join(", "));
            body(scanner, "application/json", &[], text.into_bytes())
        }
        Carrier::Pairs => {
            let pairs: Vec<String> = all
                .iter()
                .map(|piece| format!("a={}", lossy(&percent(piece, false, true)).replace("%20", "+")))
                .collect();
            let pairs = format!("e={}&{}", lossy(&percent(beside.as_bytes(), false, true)), pairs.join("&"));
            body(scanner, "application/x-www-form-urlencoded", &[], pairs.into_bytes())
        }
        Carrier::Part | Carrier::PartInBase64 | Carrier::FileName => {
            let part = |piece: &Vec<u8>| {
                let (head, content) = match carrier {
                    Carrier::Part => (String::new(), piece.clone()),
                    Carrier::PartInBase64 => {
                        let content = data_encoding::BASE64.encode(piece).into_bytes();
                        ("\r\nContent-Transfer-Encoding: base64".to_owned(), content)
                    }
                    _ => {
                        let name = lossy(&percent(piece, false, true));
                        (format!("; filename=\"{name}\""), beside.as_bytes().to_vec())
                    }
                };
                let head = format!("--{SEPARATOR}\r\nContent-Disposition: form-data; name=\"a\"{head}\r\n\r\n");
                [head.as_bytes(), &content, b"\r\n"].concat()
            };
            // File names are not joined.
            let all = if carrier == Carrier::FileName { vec![all.concat()] } else { all };
            let parts: Vec<u8> = all.iter().flat_map(part).collect();
            let text = [&parts[..], format!("--{SEPARATOR}--\r\n").as_bytes()].concat();
            body(scanner, &format!("multipart/form-data; boundary={SEPARATOR}"), &[], text)
        }
        Carrier::Query | Carrier::Path | Carrier::Header | Carrier::Cookie => {
            let all: Vec<String> = all.iter().map(|piece| lossy(piece)).collect();
            head(carrier, scanner, &all, beside)
        }
        Carrier::Grpc { compressed } => grpc(scanner, &all, beside, compressed),
        Carrier::Messages => {
            let mut overlap = Overlap::messages();
            let found = all.iter().any(|piece| overlap.scan(scanner, piece).is_some());
            if found { Sent::Refused } else { Sent::Whole }
        }
        Carrier::Windows => windows(scanner, &all.concat(), usize::from(cuts.first().copied().unwrap_or_default())),
    }
}

/// A body that is inspected whole.
fn body(scanner: &Scanner, kind: &str, encodings: &[&str], body: Vec<u8>) -> Sent {
    let format = BodyFormat::read(kind, encodings, None).expect("it can be read");
    let mut text = body;
    let mut masked = false;
    for _ in 0..=4 {
        let look = match format.look(scanner, &text, &mut Budget::of(text.len())) {
            Err(DecodeError::Exhausted(_)) => return Sent::TooDeep,
            look => look.unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&text))),
        };
        match look {
            Look::Clean if masked => return Sent::Masked(text),
            Look::Clean => return Sent::Whole,
            Look::Blocked(..) => return Sent::Refused,
            Look::Masked(next, _) => {
                assert_eq!(next.len(), text.len());
                (text, masked) = (next, true);
            }
        }
    }
    Sent::Refused
}

fn head(carrier: Carrier, scanner: &Scanner, pieces: &[String], beside: &str) -> Sent {
    let escaped = |text: &str| String::from_utf8_lossy(&percent(text.as_bytes(), false, true)).into_owned();
    // A header's value has no line ends: a client escapes them, or the whole of it.
    let is_plain = pieces.iter().all(|piece| piece.bytes().all(|byte| byte >= b' '));
    let value = |text: &String| if is_plain { text.clone() } else { escaped(text) };
    let beside = escaped(beside);
    let (path, values) = match carrier {
        Carrier::Query => {
            let pairs: Vec<String> =
                pieces.iter().map(|piece| format!("a={}", escaped(piece).replace("%20", "+"))).collect();
            (format!("/e?e={beside}&{}", pairs.join("&")), Vec::new())
        }
        Carrier::Path => (format!("/{beside}/{}", escaped(&pieces.concat())), Vec::new()),
        Carrier::Cookie => ("/".to_owned(), vec![("cookie", format!("e=1; a={}; o=2", value(&pieces.concat())))]),
        _ => ("/".to_owned(), pieces.iter().map(|piece| ("x-a", value(piece))).collect()),
    };
    let headers = values.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    let head = Head { method: "POST", path: &path, headers };
    match scanner.scan_head(&head, &mut Budget::of(path.len())) {
        Err(_) => Sent::TooDeep,
        Ok(Some(_)) => Sent::Refused,
        Ok(None) => Sent::Whole,
    }
}

/// Each piece in a message of its own, with a field of text.
fn grpc(scanner: &Scanner, pieces: &[Vec<u8>], beside: &str, compressed: bool) -> Sent {
    let mut wire = Vec::new();
    for piece in pieces {
        let field = |number: u8, text: &[u8]| {
            let mut bytes = vec![number << 3 | 2];
            let mut length = text.len();
            while length > 0x7f {
                bytes.push(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
                length >>= 7;
            }
            bytes.push(u8::try_from(length).expect("seven bits"));
            [&bytes, text].concat()
        };
        // A secret that is cut is joined where nothing is between: without fields.
        let message =
            if pieces.len() == 1 { [field(1, beside.as_bytes()), field(2, piece)].concat() } else { piece.clone() };
        let message = if compressed { gzip(&message) } else { message };
        wire.push(u8::from(compressed));
        wire.extend_from_slice(&u32::try_from(message.len()).expect("it is short").to_be_bytes());
        wire.extend_from_slice(&message);
    }
    let mut messages = GrpcMessages::new(Some("gzip")).expect("it is known");
    let mut overlap = Overlap::messages();
    for piece in wire.chunks(1 + wire.len() / 3) {
        messages.push(&bytes::Bytes::copy_from_slice(piece));
        while let Some((_, message, encoding)) = messages.take().expect("it is well-formed") {
            let mut budget = Budget::of(message.len());
            let (text, found) = match scanner.scan_message(&message, encoding, &mut budget) {
                Err(DecodeError::Exhausted(_)) => return Sent::TooDeep,
                scanned => scanned.expect("it can be read"),
            };
            let meets = overlap.scan_overlap(scanner, &text, &mut budget).expect("it is short");
            if found.or(meets).or_else(|| overlap.accept(scanner, &text)).is_some() {
                return Sent::Refused;
            }
        }
    }
    Sent::Whole
}

/// A body that is too long to be inspected whole, with the text about where its first window ends.
fn windows(scanner: &Scanner, text: &[u8], place: usize) -> Sent {
    const AROUND: &[u8] = b"a e i o u, ";
    let before = (256 << 10) + 300 - place % 17_000;
    let whole = AROUND.iter().copied().cycle().take(before).chain(text.iter().copied());
    let whole: Vec<u8> = whole.chain(AROUND.iter().copied().cycle().take(20_000)).collect();
    let (mut windows, mut left) = (Windows::new(scanner), Vec::new());
    for (index, piece) in whole.chunks(100_000).enumerate() {
        windows.push(piece);
        let end = (index + 1) * 100_000 >= whole.len();
        match windows.offer(end) {
            Some(window) => {
                match scanner.scan(&window, &mut Budget::of(window.len())) {
                    Err(_) => return Sent::TooDeep,
                    Ok(Some(_)) => return Sent::Refused,
                    Ok(None) => {}
                }
                left.extend_from_slice(&windows.accept(window, end));
            }
            None if end => left.extend_from_slice(&windows.end()),
            None => {}
        }
    }
    assert_eq!(left, whole, "a body changes on its way");
    Sent::Whole
}
