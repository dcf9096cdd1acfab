//! Text from an upstream, as a terminal may be shown it. git prints the messages of a server as they are, so that a
//! server could control the terminal of whoever pushes. Pure.

/// Maximum length of a reason, in characters: git prints it in one line.
const MAX_REASON: usize = 400;

/// Replaces what is not text by `?`; of controls only the end of a line and a tab remain.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().map(|letter| if is_shown(letter) { letter } else { '?' }).collect()
}

/// The same in one line, for the reason of a refusal.
pub(super) fn reason(text_of_any_kind: &str) -> String {
    let line = text(text_of_any_kind.as_bytes()).split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= MAX_REASON {
        return line;
    }
    line.chars().take(MAX_REASON).chain(['…']).collect()
}

/// Marks that change the direction of text, or are not seen (Unicode, UAX #9; CVE-2021-42574).
fn is_hidden(letter: char) -> bool {
    matches!(letter, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn is_shown(letter: char) -> bool {
    matches!(letter, '\n' | '\t') || !(letter.is_control() || is_hidden(letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promise_17_no_control_remains() {
        assert_eq!(text(b"a\x1b[31mb\x07\r\n\tc\x9b\xff"), "a?[31mb??\n\tc\u{fffd}\u{fffd}");
        assert_eq!(text("a\u{9b}31m\u{202e}b é".as_bytes()), "a?31m?b é");
        assert_eq!(reason(" two\nlines\r\x1b]0;x\x07 "), "two lines??]0;x?");
        assert_eq!(reason(&"x".repeat(1000)).chars().count(), MAX_REASON + 1);
    }
}
