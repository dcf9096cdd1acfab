//! The fields of a protobuf message (protobuf.dev, "Encoding"), as far as its bytes show them without a schema.
//!
//! Attacks that this stops: letters behind a token that are the key and the length of the next field. Masking them would change
//! which fields a receiver reads.

use std::ops::Range;

/// Deepest nested message.
const MAX_DEPTH: usize = 64;

/// Whether a place is within one field that holds text: UTF-8 that is no message itself.
pub(super) fn is_in_text(message: &[u8], place: &Range<usize>) -> bool {
    let (mut from, mut place) = (0, place.clone());
    let mut message = message;
    for _ in 0..MAX_DEPTH {
        let Some(fields) = fields(message) else { return from > 0 && std::str::from_utf8(message).is_ok() };
        let holds = |field: &&Range<usize>| field.start <= place.start && place.end <= field.end;
        let Some(field) = fields.iter().find(holds).cloned() else { return false };
        place = place.start - field.start..place.end - field.start;
        message = &message[field];
        from += 1;
    }
    false
}

/// The contents of the fields with a length; `None` if the bytes are no message.
fn fields(message: &[u8]) -> Option<Vec<Range<usize>>> {
    let (mut fields, mut at) = (Vec::new(), 0);
    while at < message.len() {
        let key = varint(message, &mut at)?;
        if key >> 3 == 0 {
            return None;
        }
        let length = match key & 7 {
            0 => {
                varint(message, &mut at)?;
                continue;
            }
            1 => 8,
            2 => {
                let length = usize::try_from(varint(message, &mut at)?).ok()?;
                fields.push(at..at.checked_add(length)?);
                length
            }
            5 => 4,
            _ => return None,
        };
        at = at.checked_add(length).filter(|&end| end <= message.len())?;
    }
    Some(fields)
}

fn varint(message: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *message.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(content.len()).unwrap()][..], content].concat()
    }

    #[test]
    fn a_place_is_in_one_text() {
        let number = [1 << 3, 0x96, 0x01];
        let inner = [&number[..], &field(2, b"a token"), &field(8, b"next")].concat();
        let message = [field(1, b"text"), field(3, &inner), vec![4 << 3 | 5, 0, 0, 0, 0]].concat();
        let find = |text: &[u8]| memchr::memmem::find(&message, text).unwrap();
        let token = find(b"token");
        for (place, expected) in [
            (find(b"text")..find(b"text") + 4, true),
            (token..token + 5, true),
            // The key of the next field.
            (token..token + 6, false),
            (find(b"next")..find(b"next") + 4, true),
            (0..2, false),
            (message.len() - 2..message.len(), false),
        ] {
            assert_eq!(is_in_text(&message, &place), expected, "{place:?}");
        }
        assert!(!is_in_text(b"no message", &(0..2)) && !is_in_text(&message[..5], &(2..4)));
        assert!(!is_in_text(&field(1, b"a\xff token"), &(4..8)));
        // What can be read as a message is one.
        let ambiguous = field(1, &[field(1, b"token"), field(8, &[b'x'; 40])].concat());
        assert!(is_in_text(&ambiguous, &(4..9)) && !is_in_text(&ambiguous, &(4..10)));
    }
}
