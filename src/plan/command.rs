//! An agent's command: its template's words, with what they stand for put in.

use crate::layout::agent::{DEFAULT_HOME, PROMPT_FILE};
use crate::manifest::AgentTemplate;

/// Longest argument, in bytes: Linux takes 128 KiB with its end (execve(2), `MAX_ARG_STRLEN`).
const MAX_ARGUMENT: usize = (128 << 10) - 1;

/// What the words of a template stand for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words<'a> {
    pub(super) prompt: Option<&'a str>,
    pub(super) model: Option<&'a str>,
    pub(super) workdir: &'a str,
}

impl Words<'_> {
    /// A text with everything put in. What is put in is not looked at again.
    pub(super) fn fill(&self, text: &str) -> String {
        let words = [
            ("{prompt}", self.prompt.unwrap_or_default()),
            ("{prompt_file}", PROMPT_FILE),
            ("{model}", self.model.unwrap_or_default()),
            ("{home}", DEFAULT_HOME),
            ("{workdir}", self.workdir),
        ];
        let (mut filled, mut rest) = (String::new(), text);
        while let Some(at) = rest.find('{') {
            filled.push_str(&rest[..at]);
            rest = &rest[at..];
            let known = words.iter().find(|(word, _)| rest.starts_with(word));
            let (value, length) = known.map_or((&rest[..1], 1), |(word, value)| (*value, word.len()));
            filled.push_str(value);
            rest = &rest[length..];
        }
        filled + rest
    }

    fn all(&self, arguments: &[String]) -> Vec<String> {
        arguments.iter().map(|argument| self.fill(argument)).collect()
    }
}

/// A path in the agent's container; `~/` is its home.
pub(super) fn at_home(path: &str) -> String {
    path.strip_prefix("~/").map_or_else(|| path.to_owned(), |rest| format!("{DEFAULT_HOME}/{rest}"))
}

/// The whole command.
///
/// # Errors
/// There is no such form, or an argument is too long.
pub(super) fn command(
    template: &AgentTemplate,
    own: Option<&[String]>,
    headless: bool,
    tools: bool,
    words: &Words<'_>,
) -> Result<Vec<String>, String> {
    let mut command = match own {
        Some(own) => own.to_vec(),
        None if headless => {
            if words.prompt.is_none() {
                return Err("--headless takes a prompt: --prompt, --prompt-file, or the agent's own".to_owned());
            }
            if template.headless.is_empty() {
                return Err("its template cannot run without a terminal".to_owned());
            }
            words.all(&template.headless)
        }
        None => words.all(&template.command),
    };
    if own.is_none() {
        if words.model.is_some() {
            command.extend(words.all(&template.model));
        }
        if tools && let Some(mcp) = &template.mcp {
            command.extend(words.all(&mcp.arguments));
        }
        if words.prompt.is_some() && !headless {
            command.extend(words.all(&template.prompt));
        }
    }
    if command.iter().any(|argument| argument.len() > MAX_ARGUMENT) {
        return Err(format!("an argument of its command is longer than {MAX_ARGUMENT} bytes, probably the prompt"));
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_is_not_looked_at_again() {
        let words = Words { prompt: Some("say {model}"), model: Some("m"), workdir: "/w" };
        assert_eq!(words.fill("{prompt} {model} {workdir} {other} {"), "say {model} m /w {other} {");
    }

    #[test]
    fn a_prompt_is_appended_or_given_headless() {
        let template = AgentTemplate {
            command: vec!["c".into()],
            prompt: vec!["{prompt}".into()],
            headless: vec!["c".into(), "-p".into(), "{prompt}".into()],
            model: vec!["--model".into(), "{model}".into()],
            ..AgentTemplate::default()
        };
        let words = Words { prompt: Some("x"), model: Some("m"), workdir: "/" };
        assert_eq!(command(&template, None, false, false, &words).unwrap(), ["c", "--model", "m", "x"]);
        assert_eq!(command(&template, None, true, false, &words).unwrap(), ["c", "-p", "x", "--model", "m"]);
        let own = ["make".to_owned()];
        assert_eq!(command(&template, Some(&own), false, false, &words).unwrap(), ["make"]);
        let nothing = Words { prompt: None, ..words };
        assert!(command(&template, None, true, false, &nothing).is_err());
        let long = "x".repeat(200_000);
        let words = Words { prompt: Some(&long), ..words };
        assert!(command(&template, None, false, false, &words).unwrap_err().contains("longer"));
    }
}
