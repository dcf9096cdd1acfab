//! Finds the texts that are encoded in a text: escape sequences, UTF-16, runs of base64 or hexadecimal digits, and compressed
//! data that is not declared.

use super::budget::{Budget, Exhausted};
use super::decode::{Decoded, decode_leniently};
use super::digits::decoded;
use super::encoding::compressed;
use super::finding::Finding;
use super::near::{Near, unescape_near};
use super::runs::{MIN_LINE, runs, unwrap_lines};
use super::wide;

/// Maximum number of nested encodings.
pub(super) const MAX_DEPTH: usize = 6;
/// Maximum number of nested escapes: JSON in forms in JSON needs two for each.
pub(super) const MAX_ESCAPES: usize = 24;

/// How a text stands in another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inner<'a> {
    /// With escapes: each of its bytes has a place of its own. Where it is not all of it, with the places of what were escapes.
    Escaped(Option<&'a [usize]>),
    /// With line ends in it, as in wrapped base64.
    Wrapped,
    /// In an encoding.
    Encoded,
}

/// Scans an inner text.
pub(super) type ScanFn<'a> = dyn FnMut(&[u8], Inner<'_>, &mut Budget) -> Result<Option<Finding>, Exhausted> + 'a;

/// Scans the inner texts one after the other, so that only one of them is in memory: with the escapes of JSON and URLs
/// resolved, with UTF-16 read, and with runs of base64 and hexadecimal digits decoded. With a `reach`, escapes are resolved with so
/// much around them, see [`near`](super::near).
pub(super) fn inner(
    bytes: &[u8],
    reach: Option<usize>,
    budget: &mut Budget,
    scan: &mut ScanFn<'_>,
) -> Result<Option<Finding>, Exhausted> {
    let mut visit_as = |text: &[u8], kind: Inner<'_>, budget: &mut Budget| -> Result<Option<Finding>, Exhausted> {
        budget.reserve(text.len())?;
        let found = scan(text, kind, budget);
        budget.release(text.len());
        found
    };
    if let Some(Decoded { text, metadata }) = inflate(bytes, budget)? {
        for text in [text, metadata] {
            if let Some(finding) = visit_as(&text, Inner::Encoded, budget)? {
                return Ok(Some(finding));
            }
        }
    }
    let near = reach.map_or_else(|| Near::whole(bytes), |reach| unescape_near(bytes, reach));
    if let Some(Near { text, escapes }) = near
        && let Some(finding) = visit_as(&text, Inner::Escaped(escapes.as_deref()), budget)?
    {
        return Ok(Some(finding));
    }
    if let Some(text) = wide::narrow(bytes)
        && let Some(finding) = visit_as(&text, Inner::Encoded, budget)?
    {
        return Ok(Some(finding));
    }
    let mut broken = false;
    for range in runs(bytes) {
        broken |= range.len() >= MIN_LINE && matches!(bytes.get(range.end), Some(b'\r' | b'\n'));
        let is_first = range.start == 0;
        let found = decoded(&bytes[range], is_first, &mut |text| visit_as(text, Inner::Encoded, budget))?;
        if found.is_some() {
            return Ok(found);
        }
    }
    let unwrapped = if broken { unwrap_lines(bytes) } else { None };
    unwrapped.map_or(Ok(None), |text| visit_as(&text, Inner::Wrapped, budget))
}

/// Decodes compressed data that is not declared, as far as it can be decoded.
fn inflate(bytes: &[u8], budget: &mut Budget) -> Result<Option<Decoded>, Exhausted> {
    compressed(bytes).map(|encoding| decode_leniently(bytes, encoding, budget)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_runs_are_resolved() {
        let texts = |text: &str| -> Vec<String> {
            let mut found = Vec::new();
            let mut scan = |text: &[u8], _: Inner<'_>, _: &mut Budget| {
                found.push(String::from_utf8_lossy(text).into_owned());
                Ok(None)
            };
            inner(text.as_bytes(), None, &mut Budget::unbounded(), &mut scan).unwrap();
            found
        };
        assert_eq!(texts(r"\u0067hp\/x"), ["ghp/x"]);
        assert_eq!(texts("a%67%68p"), ["aghp"]);
        // Whichever of the two is resolved first.
        for mixed in [r"\u00%36%37hp", r"\%750067hp", r"\u%30067hp", r"\u006%37hp", r"%5cu0067hp"] {
            assert_eq!(texts(mixed), [r"\u0067hp"], "{mixed}");
        }
        assert_eq!(texts(r"%\u0036\u0037hp"), ["%67hp"]);
        assert_eq!(texts(r"\u\u0030067hp"), [r"\u0067hp"]);
        assert_eq!(texts(r"p\ud83e\uDD80\u00e4\ud83e"), ["p🦀äud83e"]);
        assert_eq!(texts("x=aGVsbG8gd29ybGQsIHRoaXMgaXMgaXQ="), ["hello world, this is it"]);
        assert_eq!(texts("no escapes here"), Vec::<String>::new());
        let indented = "        a:\n            b: c\n";
        assert_eq!(texts(&data_encoding::BASE64.encode(indented.as_bytes())), [indented]);
    }
}
