//! A plain reading of HTTP/1.1, as RFC 9112 says it and no more, and the texts that are read: for the fuzz target that compares
//! it with our parser, and for the test that compares it with nginx (`tests/egress/nginx.rs`).

use hyper::{Method, Uri};

/// Pieces of requests, and what is nearly one.
pub const PIECES: [&str; 57] = [
    "GET / HTTP/1.1\r\n",
    "POST /a?b=c HTTP/1.1\r\n",
    "PUT http://a.example/b HTTP/1.1\r\n",
    "GET /a?b=\"<c>\" HTTP/1.1\r\n",
    "CONNECT a.example:443 HTTP/1.1\r\n",
    "OPTIONS * HTTP/1.1\r\n",
    "HEAD / HTTP/1.0\r\n",
    "GET /a#b HTTP/1.1\r\n",
    "get / HTTP/1.1\r\n",
    "GET  / HTTP/1.1\r\n",
    "GET / HTTP/2.0\r\n",
    "GET /\r\n",
    "Host: a.example\r\n",
    "hOsT:b.example \r\n",
    "Host : a\r\n",
    " Host: a\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: 5\r\n",
    "content-length:\t3 \r\n",
    "Content-Length: +5\r\n",
    "Content-Length: 5, 5\r\n",
    "Content-Length: 0x5\r\n",
    "Content-Length: 18446744073709551616\r\n",
    "Content-Length : 5\r\n",
    "Content_Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "transfer-encoding:\tCHUNKED\t\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: chunked, chunked\r\n",
    "Transfer-Encoding: \x0bchunked\r\n",
    "Transfer-Encoding:\r\n chunked\r\n",
    "Connection: keep-alive\r\n",
    "Connection: close\r\n",
    "Connection: content-length\r\n",
    "Upgrade: websocket\r\nConnection: upgrade\r\n",
    "Expect: 100-continue\r\n",
    "X: \u{e4}\r\n",
    "X: a\rb\r\n",
    "X: a\nY: b\r\n",
    "X\r\n",
    "X:\r\n",
    "\r\n",
    "\n",
    "\r",
    "\0",
    "hello",
    "abc",
    "5\r\nhello\r\n",
    "3\r\nabc\r\n",
    "05\r\nhello\r\n",
    "5;a=b\r\nhello\r\n",
    "5 \r\nhello\r\n",
    "-5\r\nhello\r\n",
    "FFFFFFFFFFFFFFFF\r\n",
    "0\r\n",
    "0\r\nX: y\r\n\r\n",
];

/// A request as somebody reads it.
#[derive(Debug, PartialEq, Eq)]
pub struct Read {
    pub method: String,
    pub target: Uri,
    pub hosts: Vec<Vec<u8>>,
    pub body: Vec<u8>,
    /// Whether its body is complete.
    pub whole: bool,
}

/// The text of an input, and the size of the pieces in which it arrives.
pub fn text_of(input: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (&choice, rest) = input.split_first()?;
    let text = if choice & 1 == 0 {
        rest.to_vec()
    } else {
        rest.iter().flat_map(|&byte| PIECES[usize::from(byte) % PIECES.len()].bytes()).collect()
    };
    Some((text, usize::from(choice >> 1) + 1))
}

/// The requests of a text, read as RFC 9112 says and no more: what is not well-formed ends it.
pub fn plainly(text: &[u8]) -> Vec<Read> {
    let (mut all, mut rest) = (Vec::new(), text);
    while let Some((read, left)) = request(rest) {
        let ends = !read.whole || read.method == "CONNECT";
        all.push(read);
        rest = left;
        if ends {
            break;
        }
    }
    all
}

fn line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let line = &rest[..end];
    *rest = &rest[end + 2..];
    Some(line)
}

fn request(mut rest: &[u8]) -> Option<(Read, &[u8])> {
    let first = std::str::from_utf8(line(&mut rest)?).ok()?;
    let mut words = first.split(' ');
    let (method, target) = (Method::from_bytes(words.next()?.as_bytes()).ok()?, words.next()?);
    let target = if method == Method::CONNECT && !target.contains('/') {
        let authority = target.parse().ok()?;
        Uri::builder().authority::<hyper::http::uri::Authority>(authority).build().ok()?
    } else {
        target.parse().ok()?
    };
    let (mut hosts, mut length, mut chunked) = (Vec::new(), 0_u64, false);
    loop {
        let field = line(&mut rest)?;
        if field.is_empty() {
            break;
        }
        let colon = field.iter().position(|byte| *byte == b':')?;
        let (name, value) = (field[..colon].to_ascii_lowercase(), field[colon + 1..].trim_ascii());
        match &name[..] {
            b"host" => hosts.push(value.to_vec()),
            b"content-length" => length = std::str::from_utf8(value).ok()?.parse().ok()?,
            b"transfer-encoding" => chunked = true,
            _ => {}
        }
    }
    let mut read = Read { method: method.to_string(), target, hosts, body: Vec::new(), whole: true };
    if method == Method::CONNECT {
        return Some((read, rest));
    }
    if !chunked {
        let taken = rest.len().min(usize::try_from(length).unwrap_or(usize::MAX));
        read.body = rest[..taken].to_vec();
        read.whole = taken as u64 == length;
        return Some((read, &rest[taken..]));
    }
    read.whole = chunks(&mut rest, &mut read.body).is_some();
    Some((read, rest))
}

/// Reads chunks and trailers; `None` if they do not end.
fn chunks(rest: &mut &[u8], body: &mut Vec<u8>) -> Option<()> {
    loop {
        let size = std::str::from_utf8(line(rest)?).ok()?;
        let size = usize::try_from(u64::from_str_radix(size, 16).ok()?).ok()?;
        if size == 0 {
            while !line(rest)?.is_empty() {}
            return Some(());
        }
        body.extend_from_slice(&rest[..size.min(rest.len())]);
        *rest = rest.get(size..)?;
        if !line(rest)?.is_empty() {
            return None;
        }
    }
}
