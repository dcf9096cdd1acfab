//! The health of a sidecar, and the reasons why one does not respond.

use std::time::Duration;

use crate::engine::{Engine, ErrorKind};

/// How long the engine may take to explain why there is no response.
const WHY: Duration = Duration::from_millis(1500);

/// The health of a sidecar.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::primitive) enum Health {
    /// It responds, as far as is known.
    #[default]
    Up,
    /// It does not respond, with the reason.
    Silent(String),
    /// It has ended, with the reason.
    Died(String),
}

impl Health {
    /// The reason, unless it is up.
    pub(in crate::primitive) fn why(&self) -> Option<&str> {
        match self {
            Self::Up => None,
            Self::Silent(why) | Self::Died(why) => Some(why),
        }
    }

    /// The audit code of a change from `before`; `None` if nothing changed, or the earlier state is final.
    pub(in crate::primitive) fn news(&self, before: &Self) -> Option<&'static str> {
        match (before, self) {
            (Self::Died(_), _) | (Self::Up, Self::Up) | (Self::Silent(_), Self::Silent(_)) => None,
            (_, Self::Died(_)) => Some("sidecar_died"),
            (Self::Up, Self::Silent(_)) => Some("sidecar_silent"),
            (Self::Silent(_), Self::Up) => Some("sidecar_back"),
        }
    }
}

/// Why there is no response, as far as the engine knows.
pub(in crate::primitive) async fn why_not(engine: &dyn Engine, id: &str) -> Health {
    match tokio::time::timeout(WHY, engine.container_inspect(id)).await {
        Ok(Ok(state)) => match (state.exit_code, state.status.as_str()) {
            (Some(code), _) => {
                let memory = if state.out_of_memory { ", out of memory" } else { "" };
                Health::Died(format!("died (exit {code}{memory})"))
            }
            (None, "running") => Health::Silent("does not answer".to_owned()),
            (None, status) => Health::Silent(format!("does not answer: its container is {status}")),
        },
        Ok(Err(error)) if error.kind == ErrorKind::NotFound => {
            Health::Died("died: its container is gone, removed by somebody or by the engine".to_owned())
        }
        Ok(Err(error)) => Health::Silent(format!("cannot be asked: {error}")),
        Err(_) => Health::Silent("cannot be asked: the engine does not answer".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_once_and_silence_until_it_is_over() {
        let (up, silent) = (Health::Up, || Health::Silent("a".into()));
        let died = || Health::Died("b".into());
        for (before, seen, expected) in [
            (up.clone(), up.clone(), None),
            (up.clone(), silent(), Some("sidecar_silent")),
            (silent(), Health::Silent("other words".into()), None),
            (silent(), up.clone(), Some("sidecar_back")),
            (silent(), died(), Some("sidecar_died")),
            (up.clone(), died(), Some("sidecar_died")),
            (died(), died(), None),
            (died(), up, None),
        ] {
            assert_eq!(seen.news(&before), expected, "{before:?} {seen:?}");
        }
    }
}
