//! A known secret and a provider's token, in every place and encoding that a request has.

use std::io::Write;

use data_encoding::{BASE32, BASE64, BASE64URL, HEXLOWER, HEXUPPER};

use crate::attempt::{Attempt, HOST, How, inside, run};
use crate::lab::{Lab, PUBLIC, in_namespace};

pub const SECRET: &str = "correct-horse/battery+staple";

/// Assembled at run time, so that scanners of repositories do not take it for a real token.
pub fn token() -> String {
    ["ghp_", "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx"].concat()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    to.write_all(bytes).unwrap();
    to.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut to = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    to.write_all(bytes).unwrap();
    to.finish().unwrap()
}

fn post(name: &'static str, head: &str, body: impl AsRef<[u8]>, expected: &'static str) -> Attempt {
    let body = body.as_ref();
    let request = format!(
        "POST /v1 HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n{head}Content-Length: {}\r\n\r\n",
        body.len()
    );
    inside(name, [request.as_bytes(), body].concat(), expected)
}

fn chunked(name: &'static str, head: &str, pieces: &[&[u8]], end: &str) -> Attempt {
    let request =
        format!("POST /v1 HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n{head}Transfer-Encoding: chunked\r\n\r\n");
    let mut bytes = request.into_bytes();
    for piece in pieces {
        bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        bytes.extend_from_slice(piece);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(format!("0\r\n{end}\r\n").as_bytes());
    inside(name, bytes, "secret_found")
}

fn grpc(message: &[u8], flag: u8) -> Vec<u8> {
    [&[flag][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

/// A secret of several words, and a key of several lines.
pub const WORDS: &str = "correct horse battery staple";
pub const KEY: &str = "-----BEGIN PRIVATE KEY-----
MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj
MzEfYyjiWA4R4/M2bS1GB4t7NXp98C3SC6dVMvDuictGeurT8jNbvJZHtCSuYEvu
-----END PRIVATE KEY-----
";

const FOUND: &str = "secret_found";

/// The same body with and without a length, also over HTTP/2: it must be refused in every framing.
fn framed(
    names: [&'static str; 3],
    head: &'static [(&'static str, &'static str)],
    body: &[u8],
    expected: &'static str,
) -> Vec<Attempt> {
    let lines = head.iter().map(|(name, value)| [name, ": ", value, "\r\n"].concat()).collect::<Vec<_>>().concat();
    let pieces: Vec<&[u8]> = body.chunks(1000).collect();
    let headers = head.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let mut all = vec![
        post(names[0], &lines, body, expected),
        chunked(names[1], &lines, &pieces, ""),
        Attempt { name: names[2], how: How::Stream(format!("https://{HOST}/"), headers, body.to_vec()), expected },
    ];
    all[1].expected = expected;
    all
}

/// An archive as tar(1) writes it, too large to be recognised by its beginning alone.
fn tar(secret: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    // Hardly compressible, so that the secret is far behind the start.
    let mut state = 1_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let noise: Vec<u8> = (0..20_000).map(|_| noise()).collect();
    for (name, content) in [("noise", &noise[..]), ("secret", secret)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append_data(&mut header, name, content).unwrap();
    }
    tar.into_inner().unwrap()
}

const FORM: &[(&str, &str)] = &[("content-type", "application/x-www-form-urlencoded")];
const PARTS: &[(&str, &str)] = &[("content-type", "multipart/form-data; boundary=b")];

/// Bodies of every kind, in every framing.
pub fn framings() -> Vec<Attempt> {
    let secret = SECRET.as_bytes();
    let archive = gzip(&tar(secret));
    let lines = BASE64.encode(&archive).as_bytes().chunks(76).collect::<Vec<_>>().join(&b"\n"[..]);
    let quoted = SECRET.bytes().map(|byte| format!("={byte:02X}")).collect::<Vec<_>>().join("=\r\n");
    let quoted = part("Content-Transfer-Encoding: quoted-printable", &quoted);
    let packed = [b"--b\r\nContent-Type: application/gzip\r\n\r\n", &archive[..], b"\r\n--b--\r\n"].concat();
    let percent = percent();
    let fields = format!("a={}&b={}", &percent[..33], &percent[33..]);
    let form = url::form_urlencoded::byte_serialize(KEY.replace('\n', "\r\n").as_bytes()).collect::<String>();
    [
        framed(["tar.gz", "tar.gz in chunks", "tar.gz in HTTP/2"], &[], &archive, FOUND),
        framed(["base64 of tar.gz", "base64 of tar.gz in chunks", "base64 of tar.gz in HTTP/2"], &[], &lines, FOUND),
        framed(
            ["tar.gz as it says", "tar.gz as it says in chunks", "tar.gz as it says in HTTP/2"],
            &[("content-encoding", "gzip")],
            &archive,
            FOUND,
        ),
        framed(
            ["a quoted part", "a quoted part in chunks", "a quoted part in HTTP/2"],
            PARTS,
            quoted.as_bytes(),
            FOUND,
        ),
        framed(["a packed part", "a packed part in chunks", "a packed part in HTTP/2"], PARTS, &packed, FOUND),
        framed(["no parts", "no parts in chunks", "no parts in HTTP/2"], PARTS, b"nothing", "not_decoded"),
        framed(["two fields", "two fields in chunks", "two fields in HTTP/2"], FORM, fields.as_bytes(), FOUND),
        framed(
            ["words in a form", "words in a form in chunks", "words in a form in HTTP/2"],
            FORM,
            b"a=correct+horse+battery+staple",
            FOUND,
        ),
        framed(
            [
                "words in a form, otherwise",
                "words in a form, otherwise in chunks",
                "words in a form, otherwise in HTTP/2",
            ],
            FORM,
            b"a=%63orrect+horse%20batter%79+staple",
            FOUND,
        ),
        framed(
            ["a key in a form", "a key in a form in chunks", "a key in a form in HTTP/2"],
            FORM,
            format!("key={form}").as_bytes(),
            FOUND,
        ),
        framed(
            ["a key that is indented", "a key that is indented in chunks", "a key that is indented in HTTP/2"],
            &[],
            KEY.replace('\n', "\n    ").as_bytes(),
            FOUND,
        ),
    ]
    .into_iter()
    .chain(more_framings())
    .flatten()
    .collect()
}

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

/// What receivers would join, or decode differently.
#[expect(clippy::too_many_lines, reason = "a table")]
fn more_framings() -> Vec<Vec<Attempt>> {
    let archive = gzip(&tar(SECRET.as_bytes()));
    let (one, two) = SECRET.split_at(11);
    let (two, three) = two.split_at(3);
    let values = format!("{{\"a\": \"{one}\", \"b\": [1, \"{two}\"], \"c\": {{\"d\": \"{three}\"}}}}");
    let letters = SECRET.chars().map(|letter| format!("\"{letter}\"")).collect::<Vec<_>>().join(", ");
    let quoted = SECRET.bytes().map(|byte| format!("={byte:02X}")).collect::<Vec<_>>().concat();
    let as_quoted = |middle: &str| {
        format!("--b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nx{middle}\r\n\r\n{quoted}\r\n--b--\r\n")
    };
    let carriage = format!("--b\r\nA: b\rContent-Transfer-Encoding: quoted-printable\r\n\r\n{quoted}\r\n--b--\r\n");
    let windows = url::form_urlencoded::byte_serialize(KEY.replace('\n', "\r\n").as_bytes()).collect::<String>();
    let (first, second) = windows.split_at(150);
    vec![
        framed(
            [
                "zlib that does not say so",
                "zlib that does not say so, in chunks",
                "zlib that does not say so, in HTTP/2",
            ],
            &[],
            &zlib(SECRET.as_bytes()),
            FOUND,
        ),
        framed(
            ["bare deflate", "bare deflate in chunks", "bare deflate in HTTP/2"],
            &[("content-encoding", "deflate")],
            &bare(&tar(SECRET.as_bytes())),
            FOUND,
        ),
        framed(
            ["tar in zlib", "tar in zlib in chunks", "tar in zlib in HTTP/2"],
            &[("content-encoding", "deflate")],
            &zlib(&tar(SECRET.as_bytes())),
            FOUND,
        ),
        framed(
            ["frames of zstd", "frames of zstd in chunks", "frames of zstd in HTTP/2"],
            &[],
            &[zstd(one.as_bytes()), zstd(two.as_bytes()), zstd(three.as_bytes())].concat(),
            FOUND,
        ),
        framed(
            ["brotli as it says", "brotli as it says in chunks", "brotli as it says in HTTP/2"],
            &[("content-encoding", "br")],
            &brotli(SECRET.as_bytes()),
            FOUND,
        ),
        framed(
            ["tar.gz in gzip", "tar.gz in gzip in chunks", "tar.gz in gzip in HTTP/2"],
            &[("content-encoding", "gzip")],
            &gzip(&archive),
            FOUND,
        ),
        framed(
            ["gzip cut off", "gzip cut off in chunks", "gzip cut off in HTTP/2"],
            &[],
            &archive[..archive.len() - 1],
            FOUND,
        ),
        framed(
            ["values of JSON", "values of JSON in chunks", "values of JSON in HTTP/2"],
            JSON,
            values.as_bytes(),
            FOUND,
        ),
        framed(
            ["letters in JSON", "letters in JSON in chunks", "letters in JSON in HTTP/2"],
            &[("content-type", "application/vnd.api+json; charset=utf-8")],
            format!("[{letters}]").as_bytes(),
            FOUND,
        ),
        framed(
            ["a line like a boundary", "a line like a boundary in chunks", "a line like a boundary in HTTP/2"],
            PARTS,
            as_quoted("\r\n--bx").as_bytes(),
            "not_decoded",
        ),
        framed(
            ["a boundary after CR", "a boundary after CR in chunks", "a boundary after CR in HTTP/2"],
            PARTS,
            as_quoted("\r--b").as_bytes(),
            "not_decoded",
        ),
        framed(
            ["CR in a part's head", "CR in a part's head in chunks", "CR in a part's head in HTTP/2"],
            PARTS,
            carriage.as_bytes(),
            "not_decoded",
        ),
        framed(
            ["another boundary besides", "another boundary besides in chunks", "another boundary besides in HTTP/2"],
            &[("content-type", "multipart/form-data; boundary=b; boundary*=utf-8''c")],
            as_quoted("").as_bytes(),
            "not_decoded",
        ),
        framed(
            ["a key in two fields", "a key in two fields in chunks", "a key in two fields in HTTP/2"],
            FORM,
            format!("a={first}&b={second}").as_bytes(),
            FOUND,
        ),
        framed(
            ["words in JSON of a form", "words in JSON of a form in chunks", "words in JSON of a form in HTTP/2"],
            JSON,
            b"{\"q\": \"a=correct+horse%2Bbattery+staple\"}",
            FOUND,
        ),
    ]
}

fn bare(bytes: &[u8]) -> Vec<u8> {
    let mut to = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    to.write_all(bytes).unwrap();
    to.finish().unwrap()
}

/// gzip of a content, with a file name.
fn gzip_named(content: &[u8], name: &[u8]) -> Vec<u8> {
    [&[0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 255][..], name, &[0], &gzip(content)[10..]].concat()
}

/// A secret beside the compressed data.
#[expect(clippy::too_many_lines, reason = "a table")]
pub fn beside() -> Vec<Attempt> {
    let secret = SECRET.as_bytes();
    // RFC 1952, section 2.3: a name, a comment, an extra field.
    let header = |flag: u8, field: &[u8]| {
        let packed = gzip(b"hello");
        [&[0x1f, 0x8b, 8, flag, 0, 0, 0, 0, 0, 255][..], field, &packed[10..]].concat()
    };
    let extra = [&u16::try_from(secret.len()).unwrap().to_le_bytes()[..], secret].concat();
    let named = header(8, &[secret, &[0]].concat());
    let skipped = [&[0x50, 0x2a, 0x4d, 0x18, u8::try_from(secret.len()).unwrap(), 0, 0, 0][..], secret].concat();
    // RFC 7932, section 9.2: a meta-block of metadata.
    let metadata = 0b11_u32 << 2 | 0b01 << 5 | u32::try_from(secret.len() - 1).unwrap() << 7;
    let metadata = [&metadata.to_le_bytes()[..2], secret, &[3]].concat();
    let unreadable = "not_decoded";
    vec![
        post("bytes after gzip", "Content-Encoding: gzip\r\n", [&gzip(b"a")[..], secret].concat(), unreadable),
        post("bytes after deflate", "Content-Encoding: deflate\r\n", [&zlib(b"a")[..], secret].concat(), unreadable),
        post("bytes after brotli", "Content-Encoding: br\r\n", [&brotli(b"a")[..], secret].concat(), unreadable),
        post("bytes after zstd", "Content-Encoding: zstd\r\n", [&zstd(b"a")[..], secret].concat(), unreadable),
        post("a second frame of zstd", "Content-Encoding: zstd\r\n", [zstd(b"a"), zstd(secret)].concat(), FOUND),
        post(
            "a frame of zstd that is skipped",
            "Content-Encoding: zstd\r\n",
            [zstd(b"a"), skipped.clone()].concat(),
            FOUND,
        ),
        post(
            "a first one that is skipped",
            "Content-Encoding: zstd\r\n",
            [skipped.clone(), zstd(b"a")].concat(),
            FOUND,
        ),
        post("a second member", "Content-Encoding: gzip\r\n", [gzip(b"a"), gzip(secret)].concat(), FOUND),
        post("a name in gzip", "Content-Encoding: gzip\r\n", &named, FOUND),
        post("a name in a second member", "Content-Encoding: gzip\r\n", [&gzip(b"a")[..], &named].concat(), FOUND),
        post("a name in gzip that does not say so", "", &named, FOUND),
        post("a comment in gzip", "Content-Encoding: gzip\r\n", header(16, &[secret, &[0]].concat()), FOUND),
        post("an extra field in gzip", "Content-Encoding: gzip\r\n", header(4, &extra), FOUND),
        post("a name in gzip in gzip", "Content-Encoding: gzip, gzip\r\n", gzip(&named), FOUND),
        post("metadata in brotli", "Content-Encoding: br\r\n", &metadata, unreadable),
        post(
            "a name in a message of gRPC",
            "Content-Type: application/grpc\r\ngrpc-encoding: gzip\r\n",
            grpc(&named, 1),
            FOUND,
        ),
        post(
            "bytes after a message of gRPC",
            "Content-Type: application/grpc\r\ngrpc-encoding: deflate\r\n",
            grpc(&[&zlib(b"a")[..], secret].concat(), 1),
            unreadable,
        ),
        post(
            "a second frame in a message of gRPC",
            "Content-Type: application/grpc+proto\r\ngrpc-encoding: zstd\r\n",
            grpc(&[zstd(b"a"), zstd(secret)].concat(), 1),
            FOUND,
        ),
        post(
            "a frame that is skipped in a message of gRPC",
            "Content-Type: application/grpc-web+proto\r\ngrpc-encoding: zstd\r\n",
            grpc(&[zstd(b"a"), skipped.clone()].concat(), 1),
            FOUND,
        ),
        post(
            "metadata in a message of gRPC",
            "Content-Type: application/grpc\r\ngrpc-encoding: br\r\n",
            grpc(&metadata, 1),
            unreadable,
        ),
        post(
            "a message of gRPC that is compressed unsaid",
            "Content-Type: application/grpc\r\n",
            grpc(&gzip(&tar(secret)), 0),
            FOUND,
        ),
        post("a name in gzip twice", "Content-Encoding: gzip, gzip\r\n", gzip_named(&gzip(b"a"), secret), FOUND),
        post(
            "bytes after bare deflate",
            "Content-Encoding: deflate\r\n",
            [&bare(b"a")[..], secret].concat(),
            unreadable,
        ),
        post("bytes after gzip unsaid", "", [&gzip(b"a")[..], secret].concat(), FOUND),
        post("a member after bytes unsaid", "", [&gzip(b"a")[..], &gzip(secret)].concat(), FOUND),
        post(
            "gRPC in gzip",
            "Content-Type: application/grpc\r\nContent-Encoding: gzip\r\n",
            gzip(&grpc(secret, 0)),
            unreadable,
        ),
        inside(
            "words in a query",
            format!("GET /?a=correct+horse%20battery+staple HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"),
            FOUND,
        ),
        inside(
            "words in two fields of a query",
            format!("GET /?a=correct+horse&b=+battery+staple HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"),
            FOUND,
        ),
        post(
            "layers without end",
            "",
            (0..2).fold(vec![b' '; 24 << 20], |text, _| BASE64.encode(&gzip(&text)).into_bytes()),
            "too_much_work",
        ),
    ]
}

/// A secret in the body.
pub fn bodies() -> Vec<Attempt> {
    let (secret, token, percent) = (SECRET.as_bytes(), token(), percent());
    let units = SECRET.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<Vec<_>>().concat();
    let wrapped = BASE64.encode(&[&[b'x'; 61][..], secret].concat());
    let wrapped = format!("{}\n{}", &wrapped[..76], &wrapped[76..]);
    let (one, two) = SECRET.split_at(11);
    vec![
        post("plain", "", SECRET, FOUND),
        post("base64", "", BASE64.encode(format!("user:{SECRET}").as_bytes()), FOUND),
        post("base64 for URLs", "", BASE64URL.encode(format!("us:{SECRET}").as_bytes()), FOUND),
        post("base64 of crypt", "", data_encoding_of_crypt(secret), FOUND),
        post("base64 in lines", "", wrapped, FOUND),
        post("base32", "", BASE32.encode(secret), FOUND),
        post("hexadecimal", "", HEXLOWER.encode(secret), FOUND),
        post("hexadecimal in capitals", "", HEXUPPER.encode(secret), FOUND),
        post("percent", "Content-Type: application/x-www-form-urlencoded\r\n", format!("a={percent}"), FOUND),
        post("JSON", "Content-Type: application/json\r\n", format!("{{\"a\":\"{units}\"}}"), FOUND),
        post(
            "JSON in JSON",
            "Content-Type: application/json\r\n",
            serde_json::to_string(&format!("{{\"a\":\"{units}\"}}")).unwrap(),
            FOUND,
        ),
        post("reversed", "", SECRET.chars().rev().collect::<String>(), FOUND),
        post("UTF-16", "", SECRET.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>(), FOUND),
        post("gzip", "Content-Encoding: gzip\r\n", gzip(secret), FOUND),
        post("gzip twice", "Content-Encoding: gzip, gzip\r\n", gzip(&gzip(secret)), FOUND),
        post("gzip in two headers", "Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n", gzip(&gzip(secret)), FOUND),
        post("deflate", "Content-Encoding: deflate\r\n", zlib(secret), FOUND),
        post("gzip that does not say so", "", gzip(secret), FOUND),
        post("gzip in base64", "", BASE64.encode(&gzip(&[secret, &[b'z'; 40]].concat())), FOUND),
        post("brotli", "Content-Encoding: br\r\n", brotli(secret), FOUND),
        post("zstd", "Content-Encoding: zstd\r\n", zstd(secret), FOUND),
        post(
            "two fields of a form",
            "Content-Type: application/x-www-form-urlencoded\r\n",
            format!("a={}&b={}", &percent[..33], &percent[33..]),
            FOUND,
        ),
        post(
            "a file's name",
            MULTI,
            part(&format!("Content-Disposition: form-data; name=f; filename=\"{SECRET}\""), "x"),
            FOUND,
        ),
        post("a part in base64", MULTI, part("Content-Transfer-Encoding: base64", &BASE64.encode(secret)), FOUND),
        post(
            "a part in quoted-printable",
            MULTI,
            part(
                "Content-Transfer-Encoding: quoted-printable",
                &SECRET.bytes().map(|byte| format!("={byte:02X}")).collect::<Vec<_>>().join("=\r\n"),
            ),
            FOUND,
        ),
        post("two parts", MULTI, format!("--b\r\n\r\n{one}\r\n--b\r\n\r\n{two}\r\n--b--\r\n"), FOUND),
        post("a provider's token", "", &token, FOUND),
        post(
            "a provider's token in hexadecimal in base64",
            "",
            BASE64.encode(HEXLOWER.encode(token.as_bytes()).as_bytes()),
            FOUND,
        ),
        post(
            "a private key",
            "",
            ["-----BEGIN OPENSSH ", "PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAA\n"].concat(),
            FOUND,
        ),
    ]
}

/// A secret elsewhere, and in pieces.
pub fn places() -> Vec<Attempt> {
    let (secret, token, percent) = (SECRET.as_bytes(), token(), percent());
    let (one, two) = SECRET.split_at(11);
    let long = vec![b'y'; 9 << 20];
    let pieces: Vec<&[u8]> = secret.chunks(1).collect();
    let get = |name, path: String, expected| {
        inside(name, format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"), expected)
    };
    vec![
        post("a header", &format!("X-Note: {SECRET}\r\n"), "x", FOUND),
        post("a header's name", &format!("X-{}: a\r\n", HEXLOWER.encode(secret)), "x", FOUND),
        post(
            "Basic authorization",
            &format!("Authorization: Basic {}\r\n", BASE64.encode(format!("u:{SECRET}").as_bytes())),
            "x",
            FOUND,
        ),
        post("a cookie", &format!("Cookie: a=b; c={token}\r\n"), "x", FOUND),
        post("two headers", &format!("X-A: {one}\r\nX-B: {two}\r\n"), "x", FOUND),
        post("two headers the other way round", &format!("X-B: {two}\r\nX-A: {one}\r\n"), "x", FOUND),
        inside("a method", format!("{} / HTTP/1.1\r\nHost: {HOST}\r\n\r\n", HEXUPPER.encode(secret)), FOUND),
        get("a path", format!("/{percent}"), FOUND),
        get("a path that is denied anyway", format!("/admin/{percent}"), "denied"),
        get(
            "a Host that is another one",
            format!("/ HTTP/1.1\r\nHost: {HOST}\r\nHost: {}", HEXLOWER.encode(secret)),
            "bad_request",
        ),
        inside(
            "a secret as another Host",
            format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", HEXLOWER.encode(secret)),
            "host_mismatch",
        ),
        get("a query", format!("/?q={percent}"), FOUND),
        get("a query's name", format!("/?{percent}=1"), FOUND),
        get("two fields of a query", format!("/?a={}&b={}", &percent[..33], &percent[33..]), FOUND),
        chunked("chunks of one byte", "", &pieces, ""),
        chunked("the end of a long stream", "", &[&long, secret], ""),
        chunked("a trailer", "Trailer: X-T\r\n", &[b"x"], &format!("X-T: {SECRET}\r\n")),
        chunked("gzip in chunks", "Content-Encoding: gzip\r\n", &gzip(secret).chunks(7).collect::<Vec<_>>(), ""),
        chunked("a message of gRPC", "Content-Type: application/grpc\r\n", &[&grpc(secret, 0)], ""),
        chunked(
            "a compressed message of gRPC",
            "Content-Type: application/grpc\r\ngrpc-encoding: gzip\r\n",
            &[&grpc(&gzip(secret), 1)],
            "",
        ),
        chunked(
            "two messages of gRPC",
            "Content-Type: application/grpc\r\n",
            &[&grpc(&secret[..13], 0), &grpc(&secret[13..], 0)],
            "",
        ),
        Attempt {
            name: "a secret in HTTP/2",
            how: How::Http2("POST", format!("https://{HOST}/"), vec![], secret.to_vec()),
            expected: FOUND,
        },
        Attempt {
            name: "a secret in a header of HTTP/2",
            how: How::Http2("GET", format!("https://{HOST}/"), vec![("x-note", BASE64.encode(secret))], vec![]),
            expected: FOUND,
        },
        Attempt { name: "a host under an allowed star", how: How::After(host(), b"x".to_vec()), expected: FOUND },
        Attempt { name: "a host of several labels", how: How::After(labels(), b"x".to_vec()), expected: FOUND },
    ]
}

/// What cannot be inspected.
pub fn unreadable() -> Vec<Attempt> {
    vec![
        post("an encoding that nobody knows", "Content-Encoding: compress\r\n", "x", "not_decoded"),
        post("gzip that is none", "Content-Encoding: gzip\r\n", "no gzip", "not_decoded"),
        post("a bomb", "Content-Encoding: gzip\r\n", gzip(&vec![0; 300 << 20]), "too_much_work"),
        post("multipart without a boundary", "Content-Type: multipart/form-data\r\n", "x", "not_decoded"),
        post("multipart with another boundary", MULTI, "--c\r\n\r\nx\r\n--c--", "not_decoded"),
        post(
            "a part in an encoding that nobody knows",
            MULTI,
            part("Content-Transfer-Encoding: x-uuencode", "x"),
            "not_decoded",
        ),
        post(
            "gRPC in an encoding that nobody knows",
            "Content-Type: application/grpc\r\ngrpc-encoding: snappy\r\n",
            grpc(b"x", 1),
            "not_decoded",
        ),
        post(
            "two content types",
            "Content-Type: text/plain\r\nContent-Type: multipart/form-data; boundary=b\r\n",
            "x",
            "bad_request",
        ),
    ]
}

const MULTI: &str = "Content-Type: multipart/form-data; boundary=b\r\n";

fn part(head: &str, body: &str) -> String {
    format!("--b\r\n{head}\r\n\r\n{body}\r\n--b--\r\n")
}

fn percent() -> String {
    SECRET.bytes().map(|byte| format!("%{byte:02x}")).collect::<Vec<_>>().concat()
}

fn host() -> &'static str {
    format!("{}.wild.example.com:443", HEXLOWER.encode(SECRET.as_bytes())).leak()
}

fn labels() -> &'static str {
    let hex = HEXLOWER.encode(SECRET.as_bytes());
    format!("{}.{}.wild.example.com:443", &hex[..20], &hex[20..]).leak()
}

fn data_encoding_of_crypt(bytes: &[u8]) -> String {
    let mut specification = data_encoding::Specification::new();
    specification.symbols.push_str("./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");
    specification.encoding().unwrap().encode(bytes)
}

/// A stored block of brotli (RFC 7932, section 9.2): a window of 16 bits, one uncompressed meta-block, the end.
fn brotli(bytes: &[u8]) -> Vec<u8> {
    // WBITS=16 is the bit 0; then ISLAST 0, MNIBBLES 00, MLEN-1 in 16 bits, ISUNCOMPRESSED 1.
    let bits = u32::try_from(bytes.len() - 1).unwrap() << 4 | 1 << 20;
    let mut out = bits.to_le_bytes()[..3].to_vec();
    out.extend_from_slice(bytes);
    // ISLAST 1, ISLASTEMPTY 1.
    out.push(3);
    out
}

/// A frame of zstd with one raw block (RFC 8878, section 3.1.1).
fn zstd(bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).unwrap();
    // A single segment with its size in one byte; the last block, raw.
    let block = (u32::from(length) << 3 | 1).to_le_bytes();
    [&[0x28, 0xb5, 0x2f, 0xfd, 0x20, length][..], &block[..3], bytes].concat()
}

const SPEC: &str = "
allow: [api.example.com, '*.wild.example.com']
deny: [{host: api.example.com, paths: [/admin/**]}]
";

#[test]
fn promise_09_a_secret_leaves_in_no_place_and_no_wrapping() {
    if in_namespace("secrets::promise_09_a_secret_leaves_in_no_place_and_no_wrapping") {
        attempt();
    }
}

#[tokio::main]
async fn attempt() {
    let names = [(HOST, vec![PUBLIC])].into();
    let mut lab = Lab::new(SPEC, &names, &[SECRET, WORDS, KEY]).await;
    // The same encodings without a secret pass, so that refusing everything would fail.
    let text = b"just a text, of a length that is like that of others";
    for (head, body) in [
        ("", text.to_vec()),
        ("Content-Encoding: gzip\r\n", gzip(text)),
        ("Content-Encoding: deflate\r\n", zlib(text)),
        ("Content-Encoding: br\r\n", brotli(text)),
        ("Content-Encoding: zstd\r\n", zstd(text)),
        ("Content-Type: application/grpc\r\ngrpc-encoding: gzip\r\n", grpc(&gzip(text), 1)),
        ("Content-Type: multipart/form-data; boundary=b\r\n", b"--b\r\nA: b\r\n\r\nx\r\n--b--\r\n".to_vec()),
        ("Content-Encoding: zstd\r\n", [zstd(text), zstd(text)].concat()),
        ("Content-Encoding: gzip\r\n", [gzip(text), gzip(text)].concat()),
        ("Content-Type: application/json\r\n", b"{\"correct-horse/\": \"battery\", \"a\": [\"+staple\"]}".to_vec()),
        (MULTI, b"--b \r\n\r\ncorrect-horse/ --bx\r\n--b\t\r\n\r\nstaple\r\n--b--\r\nan epilogue".to_vec()),
        // Only together with the next field it would be a token.
        (
            "Content-Type: application/x-www-form-urlencoded\r\n",
            format!("a={}&b={}&c=d", &token()[..20], &token()[20..]).into(),
        ),
        (
            "Content-Type: application/x-www-form-urlencoded\r\n",
            format!("a=gho_{}&b=GitHubCopilotCLI", "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUy").into(),
        ),
        (MULTI, format!("--b\r\n\r\n{}\r\n--b\r\n\r\n{}\r\n--b--\r\n", &token()[..20], &token()[20..]).into()),
        // Repeated a thousand times.
        ("Content-Encoding: gzip\r\n", gzip(&text.repeat(20_000))),
        ("", BASE64.encode(&gzip(&tar(text))).into_bytes()),
    ] {
        let Attempt { how: How::Inside(bytes), .. } = post("fine", head, body, "") else { unreachable!() };
        let answer = lab.inside(HOST, &bytes).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{head}: {answer}");
    }
    run(&mut lab, [bodies(), places(), unreadable(), framings(), beside()].into_iter().flatten().collect()).await;
    // Neither the reports, nor what arrived, nor a resolved name contains it.
    let hex = HEXLOWER.encode(SECRET.as_bytes());
    let told = lab.told.to_lowercase();
    let forms = [SECRET, &token().to_lowercase(), &hex, &hex[..20], &percent(), &percent()[..60]];
    assert!(forms.iter().all(|form| !told.contains(form)), "{}", lab.told);
    let seen = lab.seen.lock().unwrap();
    assert!(seen.names.iter().all(|name| !name.contains(&hex[..20])), "{:?}", seen.names);
    assert!(seen.requests.iter().all(|request| !request.contains(SECRET)), "{:?}", seen.requests);
}
