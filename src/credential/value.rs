//! What may be a credential's value.

/// Longest value, in bytes: a longer one fits in no header.
pub const MAX_VALUE: usize = 16 << 10;
/// Shortest value, in bytes: a shorter one occurs in ordinary text, and is not found again in a response.
pub const MIN_VALUE: usize = 8;

/// Why a text is no value. It is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Nothing but a newline.
    #[error("it is empty")]
    Empty,
    /// It would end the header that it is put into, or begin another one.
    #[error("it has a line break or another control character in it, which no request can hold")]
    Control,
    /// Longer than [`MAX_VALUE`].
    #[error("it is longer than {MAX_VALUE} bytes")]
    Long,
    /// Shorter than [`MIN_VALUE`].
    #[error("it is shorter than {MIN_VALUE} bytes, so that it could not be told from ordinary text")]
    Short,
}

/// A value: a text without the one newline that programs and editors end it with.
///
/// # Errors
/// It is empty, too long, or holds a control character such as CR, LF or NUL.
pub fn value(text: &str) -> Result<String, ValueError> {
    let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    match text {
        "" => Err(ValueError::Empty),
        _ if text.len() > MAX_VALUE => Err(ValueError::Long),
        _ if text.contains(char::is_control) => Err(ValueError::Control),
        _ if text.len() < MIN_VALUE => Err(ValueError::Short),
        _ => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_newline_is_cut_and_no_line_break_is_left() {
        for (text, expected) in [
            ("long-key", Ok("long-key")),
            ("long-key\n", Ok("long-key")),
            ("long-key\r\n", Ok("long-key")),
            (" a b c d ", Ok(" a b c d ")),
            ("key", Err(ValueError::Short)),
            ("key\n\n", Err(ValueError::Control)),
            ("a\nb", Err(ValueError::Control)),
            ("a\r", Err(ValueError::Control)),
            ("a\0b", Err(ValueError::Control)),
            ("a\u{1b}[m", Err(ValueError::Control)),
            ("", Err(ValueError::Empty)),
            ("\n", Err(ValueError::Empty)),
        ] {
            assert_eq!(value(text), expected.map(str::to_owned), "{text:?}");
        }
        assert_eq!(value(&"x".repeat(MAX_VALUE + 1)), Err(ValueError::Long));
    }
}
