//! Shows text that an agent wrote, so that it looks like what it is: the one escaper for every view of a request.
//!
//! Attacks that this stops: control sequences; text that changes direction or is invisible, so that a host or a reason reads
//! otherwise than it is; line breaks that forge lines of ours; marks that pile up over other lines.

/// Most marks on one letter.
const MAX_MARKS: usize = 2;
/// What is around the number of a character that is not shown.
const BRACKETS: [char; 2] = ['⟨', '⟩'];

/// The text in one line of at most `most` characters. What has no shape of its own is written as `⟨U+200B⟩`: with brackets that
/// commands and Dockerfiles do not have, so that a backslash stays one. The brackets themselves are written so as well.
pub fn escaped(text: &str, most: usize) -> String {
    let mut shown = String::new();
    let (mut count, mut marks) = (0, 0);
    for c in text.chars() {
        if count >= most {
            shown.push('…');
            break;
        }
        count += 1;
        marks = if is_mark(c) { marks + 1 } else { 0 };
        if is_hidden(c) || marks > MAX_MARKS || BRACKETS.contains(&c) {
            shown.push_str(&format!("{}U+{:04X}{}", BRACKETS[0], u32::from(c), BRACKETS[1]));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// JSON with nothing but ASCII, which says the same to programs, and draws nothing on a terminal.
pub fn ascii_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() && (c != '\x7f') {
            shown.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                shown.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    shown
}

/// Characters without a shape: controls (Cc), format characters (Cf), line and paragraph separators (Zl, Zp), variation selectors,
/// fillers, spaces that are not the space, private ones and unassigned planes (Unicode 16, `DerivedGeneralCategory.txt`).
fn is_hidden(c: char) -> bool {
    c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
            | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{10ffff}')
}

/// Marks that are drawn over the letter before them.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}'
        | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_written_out() {
        for (text, expected) in [
            ("plain text, naïve 漢字 🙂", "plain text, naïve 漢字 🙂"),
            ("printf 'a\\n' \\\\", "printf 'a\\n' \\\\"),
            ("a\x1b[2Jb\u{9b}1mc", "a⟨U+001B⟩[2Jb⟨U+009B⟩1mc"),
            ("one\ntwo\r\ttab", "one⟨U+000A⟩two⟨U+000D⟩⟨U+0009⟩tab"),
            ("evil.com\u{202e}moc.doog", "evil.com⟨U+202E⟩moc.doog"),
            ("a\u{200b}b\u{feff}c\u{2066}d", "a⟨U+200B⟩b⟨U+FEFF⟩c⟨U+2066⟩d"),
            ("x\u{2028}y\u{2029}z\u{a0}", "x⟨U+2028⟩y⟨U+2029⟩z⟨U+00A0⟩"),
            ("v\u{fe0f}\u{e0100}\u{e0041}", "v⟨U+FE0F⟩⟨U+E0100⟩⟨U+E0041⟩"),
            ("⟨U+001B⟩", "⟨U+27E8⟩U+001B⟨U+27E9⟩"),
            ("e\u{301}\u{301}\u{301}", "e\u{301}\u{301}⟨U+0301⟩"),
        ] {
            assert_eq!(escaped(text, 1000), expected);
        }
        assert_eq!(escaped("abcdef", 3), "abc…");
        assert_eq!(
            ascii_json("{\"a\": \"é\u{202e}\u{1f642}\u{7f}\"}"),
            "{\"a\": \"\\u00e9\\u202e\\ud83d\\ude42\\u007f\"}"
        );
    }
}
