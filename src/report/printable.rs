//! Makes text from a bottle safe to print on a terminal.

/// Removes control characters except newlines and tabs, and characters that change the text direction (UAX #9), which could
/// disguise a name.
pub fn printable(text: &str) -> String {
    text.chars().filter(|c| (!c.is_control() || matches!(c, '\n' | '\t')) && !changes_direction(*c)).collect()
}

fn changes_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_the_cursor_or_turns_the_text_is_left_out() {
        assert_eq!(printable("a\x1b[2J\tb\r\n\u{9b}c\u{202e}d\u{2066}e\u{200f}"), "a[2J\tb\ncde");
        assert_eq!(printable("naïve 漢字 🙂"), "naïve 漢字 🙂");
    }
}
