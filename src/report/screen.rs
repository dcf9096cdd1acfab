//! Filters terminal output of an agent (promise 17). Allowed: text, cursor movement, colours, erasing, and modes that are reset
//! afterwards. Removed: titles, clipboard, notifications, file transfer, answers in the user's name, and anything unknown.

use std::collections::BTreeSet;
use std::io::Write;

use vte::{Params, Parser, Perform};

/// Final bytes of control sequences that pass without more (ECMA-48, and xterm's ctlseqs): movement, erasure, insertion,
/// scrolling, tabs, colour, margins, saving and restoring the cursor, and what a program asks about the terminal, whose
/// answer goes to the program itself.
const FINAL: &str = "@ABCDEFGHIJKLMPSTXZ`abcdefgmnrsu";
/// Private modes that pass: cursor keys and look, wrapping, mouse, focus, screens, pasting, drawing at once.
const MODES: [u16; 20] =
    [1, 3, 5, 6, 7, 12, 25, 45, 47, 1000, 1002, 1003, 1004, 1005, 1006, 1015, 1047, 1048, 1049, 2026];
/// So does this one, of its own: pasted text is marked.
const PASTE: u16 = 2004;

/// Private modes that enter the other screen.
const OTHER_SCREEN: [u16; 3] = [47, 1047, 1049];

/// The filter.
#[derive(Default)]
pub struct Screen {
    parser: Parser,
    out: ScreenState,
}

#[derive(Default)]
struct ScreenState {
    bytes: Vec<u8>,
    /// Pass only text and colours.
    text: bool,
    /// Private modes that are set.
    modes: BTreeSet<u16>,
    /// Whether keys are told in another way, and whether only a part of the screen scrolls.
    keys: bool,
    margins: bool,
    /// Whether the cursor may be within a line; and how that was before the other screen was entered.
    open: bool,
    open_before: Option<bool>,
}

impl Screen {
    /// A filter that passes only text and colours, for line output.
    pub fn text() -> Self {
        Self { parser: Parser::default(), out: ScreenState { text: true, ..ScreenState::default() } }
    }

    /// Filters bytes. A sequence may be split over several calls.
    pub fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.parser.advance(&mut self.out, bytes);
        std::mem::take(&mut self.out.bytes)
    }

    /// Whether the last line is unfinished, or the cursor's position is unknown.
    pub fn is_line_open(&self) -> bool {
        self.out.open
    }

    /// What puts the terminal back as it was: out of the modes that it was left in, ordinary keys, a visible cursor, no
    /// colours; the cursor stays where it is, unless the other screen is left.
    pub fn reset(&mut self) -> String {
        let mut text = String::new();
        if let Some(before) = self.out.open_before.take() {
            self.out.open = before;
        }
        for mode in std::mem::take(&mut self.out.modes) {
            // Wrapping and the cursor are on by default.
            if !matches!(mode, 7 | 25) {
                text.push_str(&format!("\x1b[?{mode}l"));
            }
        }
        if std::mem::take(&mut self.out.margins) {
            text.push_str("\x1b7\x1b[r\x1b8");
        }
        if std::mem::take(&mut self.out.keys) {
            text.push_str("\x1b[<u\x1b[>4m");
        }
        text + "\x1b[?7h\x1b[?25h\x1b>\x1b(B\x1b[m"
    }
}

impl ScreenState {
    /// Notes what is to be put back.
    fn note(&mut self, params: &Params, intermediates: &[u8], action: char) {
        let modes = params.iter().filter_map(|parts| parts.first().copied());
        match (intermediates, action) {
            (b"?", 'h') => {
                for mode in modes {
                    self.modes.insert(mode);
                    if OTHER_SCREEN.contains(&mode) && self.open_before.is_none() {
                        self.open_before = Some(self.open);
                    }
                }
            }
            (b"?", 'l') => {
                for mode in modes {
                    self.modes.remove(&mode);
                    // The cursor is again where it was, or where it has been left: then it is not known.
                    match mode {
                        1049 => self.open = self.open_before.take().unwrap_or(self.open),
                        47 | 1047 if self.open_before.take().is_some() => self.open = true,
                        _ => {}
                    }
                }
            }
            // Colours, and questions about the terminal, move nothing; nor does clearing.
            (_, 'm' | 'n' | 'c' | 'q' | 'u' | 'p' | 'J' | 'K') => {}
            // Wherever that leads.
            (_, 'r') | ([], _) => self.open = true,
            _ => {}
        }
        match (intermediates, action) {
            (b">" | b"=", 'u') | (b">", 'm') => self.keys = true,
            ([], 'r') => self.margins = true,
            _ => {}
        }
    }
}

impl Perform for ScreenState {
    fn print(&mut self, c: char) {
        // C1 controls are sequences of their own to some terminals.
        if !c.is_control() {
            self.open = true;
            let mut buffer = [0; 4];
            self.bytes.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
        }
    }

    fn execute(&mut self, byte: u8) {
        // Bell, backspace, tab, the line ends, and the two that shift between character sets.
        if matches!(byte, 0x07..=0x0f) && (!self.text || matches!(byte, b'\n' | b'\t' | b'\r')) {
            self.bytes.push(byte);
            // Behind a lone carriage return there is still the line's text.
            if byte == b'\n' {
                self.open = false;
            }
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: char) {
        let colour = intermediates.is_empty() && action == 'm';
        if ignore || !sequence(params, intermediates, action) || self.text && !colour {
            return;
        }
        self.note(params, intermediates, action);
        let (private, others): (Vec<u8>, Vec<u8>) =
            intermediates.iter().copied().partition(|byte| (b'<'..=b'?').contains(byte));
        let numbers: Vec<String> =
            params.iter().map(|parts| parts.iter().map(u16::to_string).collect::<Vec<_>>().join(":")).collect();
        let _ = write!(self.bytes, "\x1b[");
        self.bytes.extend_from_slice(&private);
        // A parameter that was left out is read as 0; a lone 0 is what stands for it everywhere.
        if numbers != ["0"] {
            self.bytes.extend_from_slice(numbers.join(";").as_bytes());
        }
        self.bytes.extend_from_slice(&others);
        let _ = write!(self.bytes, "{action}");
    }

    fn esc_dispatch(&mut self, intermediates: &[u8], ignore: bool, byte: u8) {
        // Saving and restoring the cursor, lines, tabs, the keypad; line drawing and back.
        let passes = match intermediates {
            [] => matches!(byte, b'7' | b'8' | b'D' | b'E' | b'H' | b'M' | b'=' | b'>'),
            [b'(' | b')'] => matches!(byte, b'0' | b'B'),
            _ => false,
        };
        if passes && !ignore && !self.text {
            self.bytes.push(0x1b);
            self.bytes.extend_from_slice(intermediates);
            self.bytes.push(byte);
        }
    }

    fn osc_dispatch(&mut self, params: &[&[u8]], _: bool) {
        // What the colours of text and background are: programs choose theirs by it.
        if let ([number @ (b"10" | b"11"), b"?"], false) = (params, self.text) {
            let _ = write!(self.bytes, "\x1b]{};?\x07", String::from_utf8_lossy(number));
        }
    }
}

/// Whether a control sequence may pass.
fn sequence(params: &Params, intermediates: &[u8], action: char) -> bool {
    let mut numbers = params.iter().map(|parts| parts.first().copied().unwrap_or_default());
    match (intermediates, action) {
        ([] | [b'?'], 'J' | 'K') | ([], _) if FINAL.contains(action) => true,
        (b"?", 'h' | 'l') => numbers.all(|mode| MODES.contains(&mode) || mode == PASTE),
        ([], 'h' | 'l') => numbers.all(|mode| mode == 4 || mode == 20),
        // How keys are told, asked for and put back (kitty's keyboard protocol, xterm's modifyOtherKeys).
        // The cursor's look; a soft reset; whether a mode is known.
        (b"?" | b">" | b"<" | b"=", 'u')
        | (b">", 'm' | 'c' | 'q')
        | (b"?", 'n')
        | (b" ", 'q')
        | (b"!" | b"$" | b"?$", 'p') => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(text: &str) -> String {
        String::from_utf8(Screen::default().pass(text.as_bytes())).unwrap()
    }

    #[test]
    fn what_programs_draw_with_passes_as_it_is() {
        for text in [
            "plain ünïcode ✓\r\n\tx\x08",
            "\x1b[2J\x1b[1;1H\x1b[38;5;12mred\x1b[m\x1b[K",
            "\x1b[38:2:1:2:3m",
            "\x1b[?1049h\x1b[?25l\x1b[?2004h\x1b[?1000;1006h\x1b[?2026h",
            "\x1b[6n\x1b[c\x1b[>1u\x1b[?u\x1b[<1u\x1b[2 q",
            "\x1b7\x1b8\x1bM\x1b(0\x1b(B\x1b=",
            "\x1b[3;20r\x1b[5S\x1b]11;?\x07",
        ] {
            assert_eq!(passes(text), text, "{text:?}");
        }
    }

    #[test]
    fn promise_17_what_drives_a_terminal_is_left_out() {
        for text in [
            "\x1b]0;title\x07",
            "\x1b]2;title\x1b\\",
            "\x1b]52;c;Y3VybCBldmlsfHNo\x07",
            "\x1b]8;;http://evil\x07",
            "\x1b]9;notify\x07",
            "\x1b]777;notify;a;b\x07",
            "\x1b]1337;File=inline=1:AAAA\x07",
            "\x1b]4;1;?\x07",
            "\x1bP$q\"p\x1b\\",
            "\x1bP+q544e\x1b\\",
            "\x1bPq#0;2;0;0;0\x1b\\",
            "\x1b_Gf=100;AAAA\x1b\\",
            "\x1b^privacy\x1b\\",
            "\x1bXsos\x1b\\",
            "\x1b[21t",
            "\x1b[8;10;10t",
            "\x1b[5i",
            "\x1b[?9999h",
            "\x1b[2*x",
            "\x1bc",
            "\x1b%G",
            "\u{9b}21t",
            "\x05\x00\x11\x13\x7f",
        ] {
            let left: String = passes(text).replace("21t", "");
            assert_eq!(left, "", "{text:?}");
        }
    }

    #[test]
    fn where_there_is_no_screen_only_text_and_colours_pass() {
        let passed = Screen::text().pass(b"a\x1b[31mb\x1b[2Jc\x1b[Ad\x07\x08\r\n\x1b[?1049h");
        assert_eq!(passed, b"a\x1b[31mbcd\r\n");
    }

    #[test]
    fn an_open_line_is_known_also_behind_the_other_screen() {
        for (text, open) in [
            ("", false),
            ("hello", true),
            ("hello\r\n", false),
            ("50%\r", true),
            ("\x1b[31mred\x1b[m\r\n\x1b[m", false),
            ("line\r\n\x1b[?1049h\x1b[2;5Hdrawn\x1b[?1049l", false),
            ("half\x1b[?1049h\r\n\x1b[?1049l", true),
            ("line\r\n\x1b[?47hdrawn\x1b[?47l", true),
            ("a\r\n\x1b[5;5H", true),
        ] {
            let mut screen = Screen::default();
            screen.pass(text.as_bytes());
            assert_eq!(screen.is_line_open(), open, "{text:?}");
        }
        // An agent that dies on the other screen is taken off it.
        let mut screen = Screen::default();
        screen.pass(b"line\r\n\x1b[?1049h\x1b[2;5Hdrawn");
        screen.reset();
        assert!(!screen.is_line_open());
    }

    #[test]
    fn a_sequence_may_be_cut_anywhere() {
        let text = "a\x1b]52;c;AAAA\x07b\x1b[31mc✓";
        for cut in 0..text.len() {
            let mut screen = Screen::default();
            let mut passed = screen.pass(&text.as_bytes()[..cut]);
            passed.extend(screen.pass(&text.as_bytes()[cut..]));
            assert_eq!(String::from_utf8(passed).unwrap(), "ab\x1b[31mc✓", "{cut}");
        }
    }

    #[test]
    fn only_what_was_changed_is_put_back() {
        let end = "\x1b[?7h\x1b[?25h\x1b>\x1b(B\x1b[m";
        let mut screen = Screen::default();
        screen.pass(b"\x1b[?25l\x1b[?2004h\x1b[?1049h\x1b[?1049l\x1b[31m");
        assert_eq!(screen.reset(), format!("\x1b[?2004l{end}"));
        assert_eq!(screen.reset(), end);
        screen.pass(b"\x1b[2;5r\x1b[>1u\x1b[?1049h");
        assert_eq!(screen.reset(), format!("\x1b[?1049l\x1b7\x1b[r\x1b8\x1b[<u\x1b[>4m{end}"));
    }

    proptest::proptest! {
        /// Whatever an agent writes: what has passed passes again as it is, so nothing else is in it.
        #[test]
        fn what_has_passed_is_all_allowed(bytes in proptest::collection::vec(proptest::prop_oneof![
            proptest::prelude::any::<u8>(),
            proptest::sample::select(&b"\x1b[]?;:<>=P_^X\\0149hlmutcp \x07\x9b\x9d"[..]),
        ], 0..200)) {
            let once = Screen::default().pass(&bytes);
            proptest::prop_assert_eq!(&Screen::default().pass(&once), &once);
            let text = Screen::text().pass(&bytes);
            proptest::prop_assert_eq!(&Screen::text().pass(&text), &text);
        }
    }
}
