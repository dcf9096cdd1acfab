//! Reads what an upstream says about a push: messages, which are passed on without controls, and its report. And why a
//! push was not carried out.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::io::AsyncReadExt;

use super::conversation::{Conversation, Trouble};
use super::git::{DEADLINE, GitError};
use super::pkt::{self, Packet, PktError};
use super::report::Answer;
use super::visible;

/// Maximum size of a report, in bytes.
const MAX_REPORT: usize = 1 << 20;
/// How long to wait for the upstream's own words about its end.
const WORDS: Duration = Duration::from_secs(10);

/// Why a push was not carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum ForwardError {
    /// The upstream's side is malformed.
    #[error("the upstream's response: {0}")]
    Pkt(#[from] PktError),
    /// The conversation ended.
    #[error("the conversation with the upstream ended: {0}")]
    Ended(String),
    /// The upstream refuses, and says why.
    #[error("the upstream refuses: {0}")]
    Refused(String),
    /// The upstream lacks something.
    #[error("the upstream {0}")]
    Lacks(&'static str),
    /// The pack could not be made.
    #[error(transparent)]
    Git(#[from] GitError),
    /// It took too long.
    #[error("the upstream did not take the push within {seconds} s", seconds = DEADLINE.as_secs())]
    Late,
}

/// What the transport says about the end, if it says something soon.
pub(super) async fn words(trouble: Trouble) -> String {
    let known = tokio::time::timeout(WORDS, trouble.ended()).await.unwrap_or_default();
    if known.is_empty() { "it says nothing".to_owned() } else { known }
}

/// Reads side bands: the report, and messages for the client.
///
/// # Errors
/// They are malformed, or the upstream refuses.
pub(super) async fn read_bands(conversation: &mut Conversation, answer: &Answer) -> Result<Vec<u8>, ForwardError> {
    let mut report = Vec::new();
    loop {
        match pkt::read(&mut conversation.reader).await {
            Ok(Some(Packet::Line(line))) => match line.split_first() {
                Some((&pkt::DATA, data)) if report.len() + data.len() <= MAX_REPORT => report.extend_from_slice(data),
                Some((&pkt::MESSAGES, text)) => answer.say_raw(&visible::text(text)).await,
                Some((&pkt::FATAL, why)) => return Err(ForwardError::Refused(visible::text(why))),
                _ => return Err(ForwardError::Lacks("sends a report that cannot be read")),
            },
            Ok(Some(Packet::Flush) | None) => return Ok(report),
            Ok(Some(_)) => return Err(ForwardError::Lacks("sends a report that cannot be read")),
            Err(PktError::Read(_)) => return Err(ForwardError::Ended(words(conversation.trouble.clone()).await)),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads a report without side bands.
///
/// # Errors
/// The conversation ends.
pub(super) async fn read_plain(conversation: &mut Conversation) -> Result<Vec<u8>, ForwardError> {
    let mut report = Vec::new();
    let read = (&mut conversation.reader).take(MAX_REPORT as u64).read_to_end(&mut report).await;
    match read {
        Ok(_) => Ok(report),
        Err(_) => Err(ForwardError::Ended(words(conversation.trouble.clone()).await)),
    }
}

/// Reads a report (git, `gitprotocol-pack(5)`, "Report Status").
///
/// # Errors
/// It is malformed, or nothing was unpacked.
pub(super) async fn read_report(mut report: &[u8]) -> Result<BTreeMap<String, Result<(), String>>, ForwardError> {
    let mut outcomes = BTreeMap::new();
    while let Some(packet) = pkt::read(&mut report).await? {
        let Packet::Line(line) = packet else { break };
        let text = visible::text(&line);
        let text = text.trim_end_matches('\n');
        match text.split_once(' ') {
            Some(("unpack", "ok")) => {}
            Some(("unpack", why)) => return Err(ForwardError::Refused(format!("unpack: {why}"))),
            Some(("ok", name)) => drop(outcomes.insert(name.to_owned(), Ok(()))),
            Some(("ng", rest)) => {
                let (name, why) = rest.split_once(' ').unwrap_or((rest, "no reason is given"));
                outcomes.insert(name.to_owned(), Err(why.to_owned()));
            }
            _ => return Err(ForwardError::Lacks("sends a report that cannot be read")),
        }
    }
    Ok(outcomes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn promise_17_a_report_is_read_without_its_controls() {
        let lines = ["unpack ok\n", "ok refs/heads/a\n", "ng refs/heads/b hook \x1b[31mdeclined\n"];
        let report: Vec<u8> = lines.iter().flat_map(pkt::line).chain(*b"0000").collect();
        let outcomes = read_report(&report).await.unwrap();
        assert_eq!(outcomes["refs/heads/a"], Ok(()));
        assert_eq!(outcomes["refs/heads/b"], Err("hook ?[31mdeclined".to_owned()));
        assert!(read_report(&pkt::line("unpack no space")).await.is_err());
        assert!(read_report(&pkt::line("what")).await.is_err());
    }
}
