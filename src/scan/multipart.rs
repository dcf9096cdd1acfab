//! Multipart bodies (RFC 2046, section 5.1; RFC 7578): splits the parts and removes each part's own encodings.
//!
//! Attacks that this stops: a body that parsers split differently. Refused are a line that only begins with the
//! delimiter (a delimiter by the RFC, but not for most parsers), a delimiter after a bare CR, and a boundary in the
//! form of RFC 2231.

use std::borrow::Cow;

use memchr::memmem;

use super::budget::Budget;
use super::decode::{Decoded, decode};
use super::encoding::{DecodeError, Encoding};

/// Maximum number of parts.
const MAX_PARTS: usize = 4096;
/// Maximum length of a boundary, in bytes (RFC 2046, section 5.1.1).
const MAX_BOUNDARY: usize = 70;

/// The boundary of a multipart content type; `None` for other types.
///
/// # Errors
/// The type is multipart and its boundary is missing or malformed.
pub fn boundary(content_type: &str) -> Result<Option<String>, DecodeError> {
    let (kind, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    if !kind.trim().get(..10).is_some_and(|kind| kind.eq_ignore_ascii_case("multipart/")) {
        return Ok(None);
    }
    // Only some parsers read the form of RFC 2231: it is refused.
    let is_boundary = |piece: &&str| {
        let name = piece.split_once('=').unwrap_or_default().0.trim().to_ascii_lowercase();
        name == "boundary" || name.starts_with("boundary*")
    };
    let mut named = unquoted_pieces(parameters).into_iter().filter(is_boundary);
    let boundary = named.next().ok_or(DecodeError::Multipart("its type names no boundary"))?;
    // Also for a parser to which a quoted semicolon is the end of a parameter.
    if named.next().is_some() || parameters.split(';').filter(is_boundary).count() > 1 {
        return Err(DecodeError::Multipart("its type names two boundaries"));
    }
    let (name, value) = boundary.split_once('=').unwrap_or_default();
    let value = value.trim();
    let value = value.strip_prefix('"').map_or(Some(value), |value| value.strip_suffix('"')).unwrap_or_default();
    let printable = |byte: u8| (b' '..=b'~').contains(&byte) && !b"\"\\".contains(&byte);
    let fits = !name.contains('*') && (1..=MAX_BOUNDARY).contains(&value.len()) && value.bytes().all(printable);
    if fits { Ok(Some(value.to_owned())) } else { Err(DecodeError::Multipart("its boundary is malformed")) }
}

/// The parameters of a content type, split at semicolons that are not in a quoted string (RFC 9110, section 5.6.6).
fn unquoted_pieces(parameters: &str) -> Vec<&str> {
    let (mut pieces, mut from) = (Vec::new(), 0);
    let (mut quoted, mut escaped) = (false, false);
    for (at, letter) in parameters.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ';' if !quoted => {
                pieces.push(&parameters[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    pieces.push(&parameters[from..]);
    pieces
}

/// The decoded contents of the parts, in order.
///
/// # Errors
/// The parts cannot be split, there are too many, or a part has an unknown encoding.
pub fn parts<'a>(boundary: &str, body: &'a [u8], budget: &mut Budget) -> Result<Vec<Cow<'a, [u8]>>, DecodeError> {
    let delimiter = format!("--{boundary}");
    let finder = memmem::Finder::new(&delimiter);
    // A delimiter is on a line of its own.
    let at_line = |at: &usize| *at == 0 || matches!(body[*at - 1], b'\n' | b'\r');
    let places: Vec<usize> = finder.find_iter(body).filter(at_line).collect();
    let Some((&last, _)) = places.split_last() else {
        return Err(DecodeError::Multipart("its boundary is nowhere in it"));
    };
    if !body[last + delimiter.len()..].starts_with(b"--") {
        return Err(DecodeError::Multipart("it ends before its last boundary"));
    }
    let alone = |at: &usize| {
        let rest = &body[at + delimiter.len()..];
        let rest = rest.strip_prefix(b"--").unwrap_or(rest);
        let line = &rest[..memchr::memchr(b'\n', rest).unwrap_or(rest.len())];
        line.strip_suffix(b"\r").unwrap_or(line).iter().all(|byte| matches!(byte, b' ' | b'\t'))
            && !(*at > 0 && body[*at - 1] == b'\r')
    };
    if !places.iter().all(alone) {
        return Err(DecodeError::Multipart("a line is nearly its boundary"));
    }
    // The last one begins no part.
    if places.len() - 1 > MAX_PARTS {
        return Err(DecodeError::Multipart("it has too many parts"));
    }
    places.windows(2).map(|pair| part(&body[pair[0] + delimiter.len()..pair[1]], budget)).collect()
}

fn part<'a>(bytes: &'a [u8], budget: &mut Budget) -> Result<Cow<'a, [u8]>, DecodeError> {
    let padding = bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let bytes = &bytes[padding..];
    let bytes = bytes.strip_prefix(b"\r\n").or_else(|| bytes.strip_prefix(b"\n")).unwrap_or(bytes);
    // Two delimiters in a row: nothing is between them, for whoever reads it.
    if bytes.is_empty() {
        return Ok(Cow::Borrowed(bytes));
    }
    // A part without headers begins with an empty line.
    let ends = [&b"\r\n\r\n"[..], b"\n\n"];
    let bare = bytes.strip_prefix(b"\r\n").or_else(|| bytes.strip_prefix(b"\n"));
    let (head, content) = if let Some(content) = bare {
        (&b""[..], content)
    } else {
        let end = ends.iter().filter_map(|end| Some((memmem::find(bytes, end)?, end.len()))).min();
        let (end, length) = end.ok_or(DecodeError::Multipart("a part has no end of its headers"))?;
        (&bytes[..end], &bytes[end + length..])
    };
    if memchr::memchr_iter(b'\r', head).any(|at| head.get(at + 1).is_some_and(|&next| next != b'\n')) {
        return Err(DecodeError::Multipart("a part's headers hold a bare CR"));
    }
    let mut content = Cow::Borrowed(content);
    for line in head.split(|&byte| byte == b'\n') {
        let line = String::from_utf8_lossy(line);
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim().to_ascii_lowercase();
        if name.trim().eq_ignore_ascii_case("content-transfer-encoding") {
            content = match value.as_str() {
                "7bit" | "8bit" | "binary" => content,
                "base64" => Cow::Owned(base64(&content)),
                "quoted-printable" => Cow::Owned(quoted_printable(&content)),
                _ => return Err(DecodeError::Multipart("a part is in a transfer encoding that is not known")),
            };
        } else if name.trim().eq_ignore_ascii_case("content-encoding") {
            let whole = content.strip_suffix(b"\n").map_or(&*content, |text| text.strip_suffix(b"\r").unwrap_or(text));
            let Decoded { mut text, metadata } = decode(whole, &Encoding::list(&value)?, budget)?;
            if !metadata.is_empty() {
                text.push(b'\n');
                text.extend_from_slice(&metadata);
            }
            budget.reserve(text.len())?;
            content = Cow::Owned(text);
        }
    }
    Ok(content)
}

/// MIME base64: characters outside the alphabet are ignored (RFC 2045, section 6.8).
fn base64(text: &[u8]) -> Vec<u8> {
    let mut digits: Vec<u8> =
        text.iter().copied().filter(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(byte)).collect();
    digits.truncate(digits.len() - usize::from(digits.len() % 4 == 1));
    let whole = digits.len() - digits.len() % 4;
    let encoding = data_encoding::BASE64_NOPAD;
    encoding.decode(&digits).or_else(|_| encoding.decode(&digits[..whole])).unwrap_or_default()
}

/// RFC 2045, section 6.7; malformed sequences are kept as they are.
fn quoted_printable(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'=', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let byte = rest.get(1..3).and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 16).ok()
        });
        if let Some(byte) = byte {
            out.push(byte);
            rest = &rest[3..];
        } else if rest.starts_with(b"=\r\n") {
            rest = &rest[3..];
        } else if rest.starts_with(b"=\n") {
            rest = &rest[2..];
        } else {
            out.push(b'=');
            rest = &rest[1..];
        }
    }
    out.extend_from_slice(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promise_15_a_body_has_so_many_parts() {
        for (count, fits) in [(1, true), (MAX_PARTS, true), (MAX_PARTS + 1, false)] {
            let body = "--b\r\n\r\nx\r\n".repeat(count) + "--b--\r\n";
            let got = parts("b", body.as_bytes(), &mut Budget::unbounded()).map(|parts| parts.len());
            assert_eq!(got, if fits { Ok(count) } else { Err(DecodeError::Multipart("it has too many parts")) });
        }
    }

    #[test]
    fn promise_06_a_boundary_is_there_once_and_well_formed() {
        for (text, expected) in [
            ("text/plain", Ok(None)),
            ("multipart/form-data; boundary=abc", Ok(Some("abc"))),
            ("Multipart/Mixed; charset=utf-8; Boundary=\"a b\"", Ok(Some("a b"))),
            ("multipart/form-data; boundary=\"a;b\"", Ok(Some("a;b"))),
            ("multipart/form-data; boundary=\"a;b c\"; charset=x", Ok(Some("a;b c"))),
            (
                "multipart/related; start-info=\"a; action=\\\"b;c\\\"\"; boundary=----=_Part_1",
                Ok(Some("----=_Part_1")),
            ),
            ("multipart/form-data; boundary=\"a;boundary=b\"", Err(())),
            ("multipart/form-data; x=\"a;boundary=b\"; boundary=c", Err(())),
            ("multipart/form-data; x=\"a; boundary=b", Err(())),
            ("multipart/form-data; boundary=\"a", Err(())),
            ("multipart/form-data; boundary=a\"b", Err(())),
            ("multipart/form-data; boundary=\"a\\b\"", Err(())),
            ("multipart/form-data; boundary=\"a\\\"b\"", Err(())),
            ("multipart/form-data", Err(())),
            ("multipart/form-data; boundary=", Err(())),
            ("multipart/form-data; boundary=a; boundary=b", Err(())),
            ("multipart/form-data; boundary=a\u{e4}", Err(())),
            ("multipart/form-data; boundary*=utf-8''a", Err(())),
            ("multipart/form-data; boundary=a; boundary*0=b", Err(())),
        ] {
            let got = boundary(text);
            assert_eq!(got.as_ref().map(|name| name.as_deref()).map_err(|_| ()), expected, "{text}");
        }
    }

    #[test]
    fn parts_are_told_apart_and_taken_out_of_their_encodings() {
        let body = "preamble\r\n--b\r\nContent-Disposition: form-data; name=a\r\n\r\none\r\n\
            --b\r\nContent-Transfer-Encoding: base64\r\n\r\nb2\r\nZm\r\n\
            --b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\ns=65c=\r\nret\r\n--b\r\n\r\nbare\r\n--b--\r\n";
        let found: Vec<String> = parts("b", body.as_bytes(), &mut Budget::unbounded())
            .unwrap()
            .iter()
            .map(|part| String::from_utf8_lossy(part).trim().to_owned())
            .collect();
        assert_eq!(found, ["one", "off", "secret", "bare"]);
        for empty in ["--b\r\n--b--", "--b\n--b--\r\n", "--b\r\n\r\n--b--", "--b\r\nA: b\r\n\r\n\r\n--b--", "--b--\r\n"]
        {
            let found = parts("b", empty.as_bytes(), &mut Budget::unbounded()).unwrap();
            assert!(found.iter().all(|part| part.trim_ascii().is_empty()), "{empty:?}");
        }
        for bad in [
            "no boundary at all",
            "--b\r\n\r\nnever ends",
            "--b\r\nContent-Transfer-Encoding: x-uue\r\n\r\nx\r\n--b--",
            "--b\r\nContent-Encoding: compress\r\n\r\nx\r\n--b--",
            "--b\r\nno end of the head\r\n--b--",
            "inside a line --b--",
            "--b\r\nA: b\rContent-Transfer-Encoding: base64\r\n\r\nx\r\n--b--",
            "--b\r\n\r\nx\r\n--bx\r\n\r\ny\r\n--b--",
            "--b\r\n\r\nx\r\n--b-\r\n\r\ny\r\n--b--",
            "--b\r\n\r\nx\r--b\r\n\r\ny\r\n--b--",
            "--b\r\n\r\nx\r\n--b\r\ry\r\n--b--",
        ] {
            assert!(parts("b", bad.as_bytes(), &mut Budget::unbounded()).is_err(), "{bad:?}");
        }
    }
}
