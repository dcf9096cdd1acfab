//! UTF-16 and UTF-32, recognized by their mark or by their zeros. Pure.

/// How much of a text decides about its form, in bytes.
const SAMPLE: usize = 4096;

/// The text as UTF-8; `None` if it is neither UTF-16 nor UTF-32.
pub(super) fn decode(content: &[u8]) -> Option<Vec<u8>> {
    let sample = &content[..content.len().min(SAMPLE)];
    let zeros = |from: usize, step: usize| {
        let bytes = sample.iter().skip(from).step_by(step);
        let (zero, all) = bytes.fold((0, 0), |(zero, all), byte| (zero + usize::from(*byte == 0), all + 1));
        // Three in four: text of mostly western letters.
        all >= 4 && zero * 4 >= all * 3
    };
    let (four, big, skip) = match *content {
        [0xff, 0xfe, 0, 0, ..] => (true, false, 4),
        [0, 0, 0xfe, 0xff, ..] => (true, true, 4),
        [0xff, 0xfe, ..] => (false, false, 2),
        [0xfe, 0xff, ..] => (false, true, 2),
        _ if zeros(1, 4) && zeros(2, 4) && zeros(3, 4) && !zeros(0, 4) => (true, false, 0),
        _ if zeros(0, 4) && zeros(1, 4) && zeros(2, 4) && !zeros(3, 4) => (true, true, 0),
        _ if zeros(1, 2) && !zeros(0, 2) => (false, false, 0),
        _ if zeros(0, 2) && !zeros(1, 2) => (false, true, 0),
        _ => return None,
    };
    let content = &content[skip..];
    let text: String = if four {
        let (units, _) = content.as_chunks::<4>();
        let units = units.iter().map(|&unit| if big { u32::from_be_bytes(unit) } else { u32::from_le_bytes(unit) });
        units.map(|unit| char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
    } else {
        let (units, _) = content.as_chunks::<2>();
        let units = units.iter().map(|&unit| if big { u16::from_be_bytes(unit) } else { u16::from_le_bytes(unit) });
        char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
    };
    Some(text.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_text_is_read_in_both_orders_with_and_without_a_mark() {
        let text = "a line with needle in it\n";
        let units: Vec<u16> = text.encode_utf16().collect();
        let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let big: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
        for content in [
            [&[0xff, 0xfe][..], &little].concat(),
            [&[0xfe, 0xff][..], &big].concat(),
            little,
            big,
            text.chars().flat_map(|letter| u32::from(letter).to_le_bytes()).collect(),
            text.chars().flat_map(|letter| u32::from(letter).to_be_bytes()).collect(),
        ] {
            assert_eq!(decode(&content).as_deref(), Some(text.as_bytes()), "{content:?}");
        }
        assert_eq!(decode(text.as_bytes()), None);
    }
}
