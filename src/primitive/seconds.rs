//! Durations in scripts: a number of seconds, or text such as `"30m"`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::session::{Class, Failure};

/// A number of seconds, or text such as `"90s"`, `"30m"`, `"1h 30m"`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Seconds {
    /// Seconds.
    Number(f64),
    /// Text with units.
    Text(String),
}

impl Seconds {
    /// Converts it to a duration. `what` names the operation in the error.
    ///
    /// # Errors
    /// It is negative, or cannot be parsed.
    pub fn duration(&self, what: &str) -> Result<Duration, Failure> {
        let (read, said) = match self {
            Self::Number(seconds) => (Duration::try_from_secs_f64(*seconds).ok(), seconds.to_string()),
            Self::Text(text) => (humantime::parse_duration(text).ok(), format!("{text:?}")),
        };
        read.ok_or_else(|| {
            Failure::new(Class::Input, format!("{what}: timeout = {said} is not a time"))
                .hint("a number of seconds, or text such as \"90s\" or \"30m\"")
        })
    }
}

/// The options of `wait`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaitOptions {
    /// How long to wait; by default without a limit.
    pub timeout: Option<Seconds>,
}

/// Waits for a future, with a time limit if there is one.
///
/// # Errors
/// The time limit is exceeded, or the future fails.
pub async fn within<T>(
    what: &str,
    limit: Option<Duration>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let Some(limit) = limit else { return work.await };
    let late =
        |_| Failure::new(Class::Operation, format!("{what}: not done within {}", humantime::format_duration(limit)));
    tokio::time::timeout(limit, work).await.map_err(late)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_words_are_read() {
        let text = |text: &str| Seconds::Text(text.into()).duration("x");
        assert_eq!(Seconds::Number(1.5).duration("x").unwrap(), Duration::from_millis(1500));
        assert_eq!(text("1h 30m").unwrap(), Duration::from_mins(90));
        assert!(text("soon").unwrap_err().to_string().contains("\"soon\" is not a time"));
        assert!(Seconds::Number(-1.0).duration("x").is_err());
    }
}
