//! Text from a bottle, harmless for a terminal.

/// Makes text from a bottle harmless for a terminal: of control characters only line ends and tabs remain.
pub fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}
