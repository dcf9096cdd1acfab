//! Values of environment variables: literal, from the host, asked for, or from a file.

use std::path::Path;

/// Most variables in one file.
const MAX_LINES: usize = 1000;

/// A variable's value as it is written in the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A literal; not a secret.
    Literal(String),
    /// A text with variables of the host.
    Host(Vec<ValuePart>),
    /// Asked for at the terminal, without echo, with this question.
    Ask(String),
}

/// A part of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValuePart {
    /// Literal text.
    Text(String),
    /// The value of a variable of the host.
    Variable(String),
}

impl Value {
    /// Reads a value: `text`, `a ${VARIABLE}` (`$$` is a dollar sign), `?question`.
    ///
    /// # Errors
    /// A `${` has no end or names no variable.
    pub fn read(text: &str) -> Result<Self, String> {
        if let Some(question) = text.strip_prefix('?') {
            let question = if question.trim().is_empty() { "its value" } else { question.trim() };
            return Ok(Self::Ask(question.to_owned()));
        }
        let (mut parts, mut literal) = (Vec::new(), String::new());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            literal.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                literal.push('$');
                rest = after;
            } else if let Some(after) = rest.strip_prefix('{') {
                let (name, after) = after.split_once('}').ok_or_else(|| format!("{text:?}: `${{` has no end"))?;
                if !is_name(name) {
                    return Err(format!("{text:?}: {name:?} is not a valid variable name"));
                }
                parts.push(ValuePart::Text(std::mem::take(&mut literal)));
                parts.push(ValuePart::Variable(name.to_owned()));
                rest = after;
            } else {
                literal.push('$');
            }
        }
        literal.push_str(rest);
        if parts.is_empty() {
            return Ok(Self::Literal(literal));
        }
        parts.push(ValuePart::Text(literal));
        parts.retain(|part| *part != ValuePart::Text(String::new()));
        Ok(Self::Host(parts))
    }
}

/// Whether a text is a valid variable name (POSIX.1-2017, 8.1), in either case.
pub(super) fn is_name(name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(word)
}

/// Reads a file with lines `NAME=value`. Blank lines and lines that start with `#` are ignored; a leading `export ` and
/// quotes around a value are removed; values are not expanded.
///
/// # Errors
/// It cannot be read, or a line is invalid. The error names the line's number, never its content.
pub fn read_file(path: &Path) -> Result<Vec<(String, String)>, String> {
    let text = super::text("env_file", path)?;
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let pair = line.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
        let Some((name, value)) = pair.filter(|(name, _)| is_name(name)) else {
            return Err(format!("read env_file {}: line {} is not NAME=value", path.display(), number + 1));
        };
        let quoted = ['"', '\''].iter().find_map(|mark| value.strip_prefix(*mark)?.strip_suffix(*mark));
        found.push((name.to_owned(), quoted.unwrap_or(value).to_owned()));
        if found.len() > MAX_LINES {
            return Err(format!("read env_file {}: it has more than {MAX_LINES} variables", path.display()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_literal_of_the_host_or_asked_for() {
        assert_eq!(Value::read("a $$5 $x").unwrap(), Value::Literal("a $5 $x".into()));
        let parts = vec![ValuePart::Text("Bearer ".into()), ValuePart::Variable("TOKEN".into())];
        assert_eq!(Value::read("Bearer ${TOKEN}").unwrap(), Value::Host(parts));
        assert_eq!(Value::read("?Paste it").unwrap(), Value::Ask("Paste it".into()));
        assert!(Value::read("${A").is_err() && Value::read("${A B}").is_err());
    }

    #[test]
    fn a_file_of_lines_is_read_and_a_mistake_does_not_show_what_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.env");
        std::fs::write(&path, "# c\n\nA=1\nexport B = 'x y'\nC=a=b\n").unwrap();
        let expected = [("A", "1"), ("B", "x y"), ("C", "a=b")];
        assert_eq!(read_file(&path).unwrap(), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        std::fs::write(&path, "A=1\nhunter2hunter2\n").unwrap();
        let error = read_file(&path).unwrap_err();
        assert!(error.contains("line 2") && !error.contains("hunter2"), "{error}");
    }
}
