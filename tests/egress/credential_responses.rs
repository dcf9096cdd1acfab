//! Servers that give a credential back to the agent, in every way that HTTP has. The value that a server gives back is the
//! one that it was sent, so that every case shows that there was one.

use std::io::Write;
use std::sync::Arc;

use bottler::credential::{Credential, Slot};
use bottler::sidecar::egress::Update;
use data_encoding::{BASE64, HEXLOWER};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::credentials::{HELD, HOST, OTHER, VALUE, credential, exchange, get, http2, lab, shows};
use crate::lab::{Lab, SCRIPTED, Script, in_namespace};

/// The token of a request's `Authorization`.
fn token(head: &str) -> String {
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with("authorization: "));
    line.and_then(|line| line.rsplit(' ').next()).unwrap_or("there is none").to_owned()
}

fn script(answer: impl Fn(&str) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Script {
    Arc::new(move |head| answer(&token(head)))
}

fn one(text: String) -> Vec<Vec<u8>> {
    vec![text.into_bytes()]
}

/// A whole answer with a length.
fn body(text: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len())
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n";

fn chunk(text: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat()
}

/// A name, a script, and what the agent sees at least.
type Leak = (&'static str, Script, &'static str);

/// Parts of an answer.
fn parts() -> Vec<Leak> {
    vec![
        ("a body", script(|value| one(body(&format!("you are {value}.")))), "you are sk-none-0123456789abcdefghij."),
        ("a body without an end", script(|value| one(format!("HTTP/1.1 200 OK\r\n\r\nyou are {value}"))), HELD),
        ("HTTP/1.0", script(|value| one(format!("HTTP/1.0 200 OK\r\n\r\nyou are {value}"))), HELD),
        (
            "a header",
            script(|value| one(format!("HTTP/1.1 200 OK\r\nx-key: <{value}>\r\ncontent-length: 0\r\n\r\n"))),
            HELD,
        ),
        (
            "the name of a header",
            script(|_| one("HTTP/1.1 200 OK\r\nx-ab9xq-77-token: a\r\ncontent-length: 3\r\n\r\nend".into())),
            "end",
        ),
        (
            "the status line",
            script(|value| one(format!("HTTP/1.1 200 {value}\r\ncontent-length: 3\r\n\r\nend"))),
            "end",
        ),
        (
            "a cookie",
            script(|value| {
                one(format!(
                    "HTTP/1.1 200 OK\r\nset-cookie: a={value}\r\nset-cookie: b=c\r\ncontent-length: 3\r\n\r\nend"
                ))
            }),
            "end",
        ),
        (
            "what a server says about itself",
            script(|value| {
                one(format!("HTTP/1.1 200 OK\r\nauthentication-info: rspauth={value}\r\ncontent-length: 3\r\n\r\nend"))
            }),
            "end",
        ),
        (
            "a challenge and an error page",
            script(|value| {
                let page = format!("<h1>Bad key: {value}</h1>");
                let length = page.len();
                one(format!(
                    "HTTP/1.1 403 No\r\nwww-authenticate: Bearer error=\"{value}\"\r\ncontent-length: {length}\r\n\r\n{page}"
                ))
            }),
            "<h1>Bad key: sk-none-0123456789abcdefghij</h1>",
        ),
        (
            "answers before the answer",
            script(|value| {
                let early = format!("HTTP/1.1 103 Early Hints\r\nlink: <{value}>\r\n\r\n").repeat(3);
                one(early + &body("end"))
            }),
            "end",
        ),
        (
            "a redirect to another host",
            script(|value| {
                let to = url::form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>();
                one(format!("HTTP/1.1 302 Found\r\nlocation: https://{OTHER}/?key={to}\r\ncontent-length: 0\r\n\r\n"))
            }),
            "location: https://other.example.com/?key=sk-none-0123456789abcdefghij",
        ),
    ]
}

/// Encodings of text.
fn encoded() -> Vec<Leak> {
    let json = |value: &str| value.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<Vec<_>>().concat();
    vec![
        ("escapes of JSON", script(move |value| one(body(&format!("{{\"a\": \"{}\"}}", json(value))))), "\\u"),
        (
            "escapes of URLs",
            script(|value| one(body(&value.bytes().map(|b| format!("%{b:02x}")).collect::<Vec<_>>().concat()))),
            "%",
        ),
        ("hexadecimal", script(|value| one(body(&HEXLOWER.encode(value.as_bytes())))), "736b2d6e6f6e65"),
        ("backwards", script(|value| one(body(&value.chars().rev().collect::<String>()))), "enon-ks"),
        (
            "UTF-16",
            script(|value| {
                let text: Vec<u8> = value.encode_utf16().flat_map(u16::to_le_bytes).collect();
                vec![format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", text.len()).into_bytes(), text]
            }),
            "HTTP/1.1 200",
        ),
        (
            "Basic",
            script(|value| {
                let all =
                    ["", "a", "ab", "abc"].map(|user| BASE64.encode(format!("{user}:{value}").as_bytes())).join("\n");
                one(body(&all))
            }),
            "\n",
        ),
    ]
}

/// Pieces of a body, and encodings of the whole.
fn framed() -> Vec<Leak> {
    vec![
        (
            "single bytes in chunks",
            script(|value| {
                let mut pieces = vec![format!("{CHUNKED}\r\n").into_bytes()];
                pieces.extend(format!("you are {value}.").bytes().map(|byte| chunk(&[byte])));
                pieces.push(b"0\r\n\r\n".to_vec());
                pieces
            }),
            "0\r\n\r\n",
        ),
        (
            "trailers",
            script(|value| {
                one(format!(
                    "{CHUNKED}trailer: x-key\r\n\r\n3\r\nend\r\n0\r\nx-key: {value}\r\nx-key: a{value}\r\n\r\n"
                ))
            }),
            "end",
        ),
        (
            "events",
            script(|value| {
                let (first, second) = value.split_at(9);
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: hello\n\n";
                vec![
                    head.into(),
                    format!("data: {first}").into(),
                    format!("{second}\n\n").into(),
                    b"data: end\n\n".to_vec(),
                ]
            }),
            "data: sk-none-0123456789abcdefghij\n\ndata: end",
        ),
        (
            "gzip, which nobody asked for",
            script(|value| {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
                encoder.write_all(value.as_bytes()).unwrap();
                let text = encoder.finish().unwrap();
                let head =
                    format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", text.len());
                vec![head.into_bytes(), text]
            }),
            "\"code\":\"not_decoded\"",
        ),
        (
            "an encoding that is not known",
            script(|value| one(format!("HTTP/1.1 200 OK\r\ncontent-encoding: rot13\r\n\r\n{value}"))),
            "\"code\":\"not_decoded\"",
        ),
        (
            "an encoding of the transfer",
            script(|value| {
                one(format!(
                    "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n3\r\n{}\r\n0\r\n\r\n",
                    &value[..3]
                ))
            }),
            "\"code\":\"not_decoded\"",
        ),
    ]
}

#[test]
fn promise_08_no_server_gives_a_value_back() {
    if in_namespace("credential_responses::promise_08_no_server_gives_a_value_back") {
        responses();
    }
}

#[tokio::main]
async fn responses() {
    let mut lab = lab(Slot::Bearer).await;
    let named = credential("named", "placeholder-in-a-name", "Ab9xQ-77-TOKEN", &[(OTHER, Slot::Bearer)]);
    let own = credential("own", HELD, VALUE, &[("api.example.com:8444", Slot::Bearer), (HOST, Slot::Bearer)]);
    lab.update(Update::Credentials(vec![own, named])).await;
    let request = get("/", &format!("Authorization: Bearer {HELD}\r\nTE: trailers\r\n"));
    for (name, script, expected) in [parts(), encoded(), framed()].concat() {
        lab.seen.lock().unwrap().script = Some(script);
        let answer = exchange(&lab, HOST, SCRIPTED, &request).await;
        let text = String::from_utf8_lossy(&answer);
        assert!(text.contains(expected), "{name}: {text}");
        assert!(
            !shows(&answer) && !answer.windows(12).any(|part| VALUE.as_bytes()[8..].starts_with(part)),
            "{name}: {text}"
        );
        assert!(!text.contains("ab9xq"), "{name}: {text}");
        // A server that is given the value has got it.
        let head = lab.seen.lock().unwrap().heads.pop().unwrap();
        assert!(shows(head.as_bytes()), "{name}: {head}");
    }
    // However it is split.
    for cut in 1..VALUE.len() {
        lab.seen.lock().unwrap().script = Some(script(move |value| {
            let text = format!("you are {value}.");
            let (first, second) = text.as_bytes().split_at("you are ".len() + cut);
            vec![format!("{CHUNKED}\r\n").into_bytes(), chunk(first), chunk(second), b"0\r\n\r\n".to_vec()]
        }));
        let answer = exchange(&lab, HOST, SCRIPTED, &request).await;
        let text: String = String::from_utf8_lossy(&answer).lines().filter(|line| line.len() > 3).collect();
        assert!(text.contains("you are ") && !shows(text.as_bytes()) && text.contains("sk-none-"), "{cut}: {text}");
        assert!(!text.contains(&VALUE[8..]) && !text.contains("4fJ9xqZt"), "{cut}: {text}");
    }
    // What a request without it is answered is redacted as well: the host has been told the value before.
    lab.seen.lock().unwrap().script = Some(Arc::new(|_| one(body(&format!("you were {VALUE}")))));
    let answer = exchange(&lab, HOST, SCRIPTED, &get("/", "")).await;
    assert!(answer.ends_with(HELD.as_bytes()), "{}", String::from_utf8_lossy(&answer));
    // An encoded answer to a HEAD has nothing that is encoded.
    lab.seen.lock().unwrap().script =
        Some(Arc::new(|_| one("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 9\r\n\r\n".into())));
    let head = String::from_utf8(request.clone()).unwrap().replacen("GET", "HEAD", 1);
    let answer = exchange(&lab, HOST, SCRIPTED, head.as_bytes()).await;
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    // Over HTTP/2: a header, a body in two frames, and a trailer.
    let (head, text) = http2(&lab, HOST, "/reflect", &format!("Bearer {HELD}")).await;
    assert!(!shows(format!("{head}{text}").as_bytes()), "{head} {text}");
    assert!(
        head.contains(HELD) && text.starts_with(&format!("Bearer {HELD} ")) && text.matches(HELD).count() == 2,
        "{text}"
    );
    assert!(lab.seen.lock().unwrap().heads.last().unwrap().contains(VALUE));
    // What was refused was used all the same.
    let events = lab.decisions().await;
    assert!(events.iter().any(|event| event.kind.code == "not_decoded"));
    assert!(!shows(lab.told.as_bytes()), "{}", lab.told);
}

#[test]
fn a_large_response_arrives_as_it_was_sent() {
    if in_namespace("credential_responses::a_large_response_arrives_as_it_was_sent") {
        large();
    }
}

#[tokio::main]
async fn large() {
    let lab = lab(Slot::Bearer).await;
    // Beginnings of the value, and none of it whole.
    let piece: Vec<u8> = VALUE.as_bytes()[..VALUE.len() - 1].repeat(40);
    let text = Arc::new([piece, (0..=255).collect::<Vec<u8>>().repeat(4), b"sk-l".to_vec()].concat().repeat(600));
    let sent = text.clone();
    lab.seen.lock().unwrap().script = Some(Arc::new(move |_| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", sent.len());
        std::iter::once(head.into_bytes()).chain(sent.chunks(7919).map(<[u8]>::to_vec)).collect()
    }));
    let answer = exchange(&lab, HOST, SCRIPTED, &get("/", &format!("Authorization: Bearer {HELD}\r\n"))).await;
    assert!(answer.ends_with(&text), "{} of {}", answer.len(), text.len());
    let head = String::from_utf8_lossy(&answer[..400]).into_owned();
    assert!(head.contains(&format!("content-length: {}", text.len())), "{head}");
}

/// A frame of a server.
fn frame(first: u8, content: &[u8]) -> Vec<u8> {
    assert!(content.len() < 126);
    [&[first, u8::try_from(content.len()).unwrap()][..], content].concat()
}

/// The frames that came, as their first bytes and contents.
fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut all = Vec::new();
    while let [first, length, rest @ ..] = bytes {
        let length = usize::from(*length);
        assert!(length < 126);
        all.push((*first, rest[..length].to_vec()));
        bytes = &rest[length..];
    }
    all
}

#[test]
fn promise_08_web_sockets_take_a_value_and_give_none_back() {
    if in_namespace("credential_responses::promise_08_web_sockets_take_a_value_and_give_none_back") {
        web_sockets();
    }
}

/// A handshake with some headers: the answer's head, and what followed it.
async fn handshake(lab: &Lab, headers: &str) -> (String, Vec<u8>) {
    let mut stream = lab.tls(&format!("{HOST}:{SCRIPTED}"), HOST, false).await.unwrap();
    let request = format!(
        "GET /socket HTTP/1.1\r\nHost: {HOST}:{SCRIPTED}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n").unwrap() + 4;
    (String::from_utf8_lossy(&answer[..end]).into_owned(), answer[end..].to_vec())
}

#[tokio::main]
async fn web_sockets() {
    let mut lab = lab(Slot::Bearer).await;
    let value = "sk-live.4fJ9xqZt7LmPw2Rb.!!";
    let stand_in = "sk-none-0123456789abcdefghi";
    let at = "api.example.com:8444";
    let socket: Vec<Credential> =
        vec![credential("own", stand_in, value, &[(at, Slot::Bearer), (at, Slot::WebSocket)])];
    lab.update(Update::Credentials(socket)).await;
    for cut in 1..value.len() {
        let shown = value.to_owned();
        lab.seen.lock().unwrap().script = Some(Arc::new(move |_| {
            let (first, second) = shown.as_bytes().split_at(cut);
            let head = format!(
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
                 sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nsec-websocket-protocol: key.{shown}\r\n\r\n"
            );
            vec![
                head.into_bytes(),
                // One message in one frame, one in three with a ping between them, and a ping with the value.
                frame(0x81, format!("<{shown}>").as_bytes()),
                [frame(0x01, first), frame(0x89, b"?"), frame(0x00, second), frame(0x80, b"end")].concat(),
                frame(0x89, shown.as_bytes()),
                // One that is split over two messages.
                [frame(0x81, first), frame(0x81, second)].concat(),
                frame(0x88, &[&[3, 232][..], shown.as_bytes()].concat()),
            ]
        }));
        let (head, rest) = handshake(&lab, &format!("Sec-WebSocket-Protocol: realtime, key.{stand_in}\r\n")).await;
        assert!(
            head.starts_with("HTTP/1.1 101") && head.contains(&format!("key.{stand_in}")) && !head.contains(value),
            "{head}"
        );
        let sent = lab.seen.lock().unwrap().heads.pop().unwrap();
        assert!(sent.contains(&format!("sec-websocket-protocol: realtime, key.{value}")), "{sent}");
        let frames = frames(&rest);
        assert_eq!(frames[0], (0x81, format!("<{stand_in}>").into_bytes()));
        // Messages are what their frames make together.
        let (mut messages, mut message, mut controls) = (Vec::new(), Vec::new(), Vec::new());
        for (first, content) in &frames {
            if first & 0x08 != 0 {
                controls.push(String::from_utf8_lossy(content).into_owned());
                continue;
            }
            message.extend_from_slice(content);
            if first & 0x80 != 0 {
                messages.push(String::from_utf8(std::mem::take(&mut message)).unwrap());
            }
        }
        assert_eq!(messages[..2], [format!("<{stand_in}>"), format!("{stand_in}end")], "{cut}");
        assert_eq!(controls[..2], ["?".to_owned(), stand_in.to_owned()], "{cut}");
        assert!(controls[2].ends_with(stand_in), "{controls:?}");
        // Of two messages that must not wait for each other, less than half of it.
        let both = messages[2..].concat();
        assert_eq!((messages.len(), both.len()), (4, value.len()));
        let kept = both.bytes().zip(value.bytes()).take_while(|(one, other)| one == other).count();
        assert!(kept * 2 <= value.len() + 1 && !both.ends_with(&value[value.len() - 9..]), "{cut}: {both}");
    }
    // Another one is not taken there, and none in a request that is no handshake.
    for (headers, code) in [
        ("Sec-WebSocket-Protocol: realtime, insecure-api-key.of-somebody-else\r\n".to_owned(), "foreign_credential"),
        (format!("Sec-WebSocket-Protocol: realtime, {stand_in}x\r\n"), "placeholder_misplaced"),
    ] {
        let (head, rest) = handshake(&lab, &headers).await;
        assert!(String::from_utf8_lossy(&rest).contains(code), "{head} {}", String::from_utf8_lossy(&rest));
    }
    let answer =
        exchange(&lab, HOST, SCRIPTED, &get("/", &format!("Sec-WebSocket-Protocol: key.{stand_in}\r\n"))).await;
    assert!(String::from_utf8_lossy(&answer).contains("placeholder_misplaced"));
}
