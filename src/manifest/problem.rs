//! Mistakes in a file: location, message, and a suggestion.

use std::path::Path;

use serde::de::DeserializeOwned;

/// A mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// The file.
    pub file: String,
    /// The line, from 1; 0 if it concerns the whole file.
    pub line: usize,
    /// The column, from 1; 0 if it is not known.
    pub column: usize,
    /// The line's text.
    pub text: String,
    /// The message.
    pub message: String,
    /// A hint about what to do.
    pub hint: Option<String>,
}

impl Problem {
    /// A mistake that concerns a whole file.
    pub fn of(file: impl std::fmt::Display, message: impl Into<String>) -> Self {
        Self { file: file.to_string(), line: 0, column: 0, text: String::new(), message: message.into(), hint: None }
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Converts an error of serde. The text starts after `skipped` lines of the file.
    fn read(file: &str, text: &str, skipped: usize, error: &serde_yaml::Error) -> Self {
        let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
        let shown = text.lines().nth(line.wrapping_sub(1)).unwrap_or_default().trim().to_owned();
        let (message, hint) = words(&error.to_string());
        let line = if line == 0 { 0 } else { line + skipped };
        Self { file: file.to_owned(), line, column, text: shown, message, hint }
    }
}

/// Parses YAML; an empty text gives the default. The text starts after `skipped` lines of the file.
///
/// # Errors
/// It is malformed or has an unknown key.
pub(super) fn parse<T: DeserializeOwned + Default>(file: &Path, text: &str, skipped: usize) -> Result<T, Problem> {
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(T::default());
    }
    let name = file.display().to_string();
    serde_yaml::from_str(text).map_err(|error| Problem::read(&name, text, skipped, &error))
}

/// Rewrites serde's message for users, with a suggestion.
fn words(said: &str) -> (String, Option<String>) {
    let said = said.rsplit_once(" at line ").map_or(said, |(message, _)| message);
    let (place, said) = match said.split_once(": ") {
        Some((place, rest)) if !place.contains([' ', '`']) => (format!("{place}: "), rest),
        _ => (String::new(), said),
    };
    for (kind, word) in [("unknown field ", "there is no key"), ("unknown variant ", "there is no")] {
        let Some((name, known)) = said.strip_prefix(kind).and_then(|rest| rest.split_once(", ")) else { continue };
        let name = name.trim_matches('`');
        let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        let hint = crate::suggest::nearest(name, known.iter().copied()).map(|near| format!("did you mean {near}?"));
        return (format!("{place}{word} {name}; there are {}", known.join(", ")), hint);
    }
    (format!("{place}{said}"), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[serde(default)]
        #[expect(dead_code, reason = "only read")]
        inner: std::collections::BTreeMap<String, Inner>,
    }

    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[serde(default)]
        #[expect(dead_code, reason = "only read")]
        image: Option<String>,
    }

    #[test]
    fn a_slip_has_file_line_column_and_what_was_meant() {
        let text = "# a comment\ninner:\n  dev:\n    imagee: x\n";
        let problem = parse::<Outer>(Path::new("a.yaml"), text, 3).unwrap_err();
        assert_eq!((problem.line, problem.column), (7, 5));
        assert_eq!(problem.text, "imagee: x");
        assert_eq!(problem.message, "inner.dev: there is no key imagee; there are image");
        assert_eq!(problem.hint.as_deref(), Some("did you mean image?"));
        assert!(parse::<Outer>(Path::new("a.yaml"), "# only a comment\n", 0).is_ok());
        assert_eq!(parse::<Outer>(Path::new("a.yaml"), "inner: [", 0).unwrap_err().file, "a.yaml");
    }
}
