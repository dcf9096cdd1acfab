//! Sends a push to the upstream: first what the upstream lists, then the commands with the old values that the client
//! saw, then a pack of exactly the objects that were inspected, all in one conversation. What the upstream says is
//! shown to the client without controls.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::commands::{Command, Request, ZERO, is_id};
use super::conversation::{Conversation, Trouble};
use super::git::{DEADLINE, Git, GitError};
use super::pkt::{self, Packet, PktError};
use super::publish::Published;
use super::report::Answer;
use super::visible;

/// Maximum number of references that an upstream may list, and maximum size of its report, in bytes.
const MAX_REFS: usize = 2_000_000;
const MAX_REPORT: usize = 1 << 20;
/// The header of a pack: `PACK`, its version, and the number of objects (git, `gitformat-pack(5)`).
const HEADER: usize = 12;
/// The size of a piece of a pack, in bytes.
const PIECE: usize = 64 << 10;
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

/// What an upstream lists.
#[derive(Debug, Default)]
pub(super) struct Listed {
    /// Its references.
    pub(super) refs: BTreeMap<String, String>,
    /// All ids that it has, also without a name.
    pub(super) ids: BTreeSet<String>,
    capabilities: Vec<String>,
}

impl Listed {
    fn offers(&self, name: &str) -> bool {
        self.capabilities.iter().any(|word| word == name)
    }
}

/// Reads what the upstream lists.
///
/// # Errors
/// It is malformed, or the upstream refuses.
pub(super) async fn listed(conversation: &mut Conversation) -> Result<Listed, ForwardError> {
    let mut listed = Listed::default();
    let mut first = true;
    loop {
        let line = match pkt::read(&mut conversation.reader).await {
            Ok(Some(Packet::Line(line))) => line,
            Ok(Some(Packet::Flush)) => break,
            Ok(Some(_)) => return Err(ForwardError::Lacks("does not speak git's protocol of pushes")),
            Ok(None) | Err(PktError::Read(_)) => {
                return Err(ForwardError::Ended(words(conversation.trouble.clone()).await));
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(why) = line.strip_prefix(b"ERR ") {
            return Err(ForwardError::Refused(visible::text(why)));
        }
        let (text, capabilities) = line.split_at(memchr::memchr(0, &line).unwrap_or(line.len()));
        if first {
            let words = String::from_utf8_lossy(capabilities.get(1..).unwrap_or_default()).into_owned();
            listed.capabilities = words.split_ascii_whitespace().map(str::to_owned).collect();
            first = false;
        }
        let text = String::from_utf8_lossy(text);
        let (id, name) = text.trim_end_matches('\n').split_once(' ').unwrap_or_default();
        if listed.ids.len() > MAX_REFS || !is_id(id) {
            return Err(ForwardError::Lacks("lists references that cannot be read"));
        }
        if id != ZERO {
            listed.ids.insert(id.to_owned());
            if name.starts_with("refs/") {
                listed.refs.insert(name.to_owned(), id.to_owned());
            }
        }
    }
    let sha1 =
        listed.capabilities.iter().all(|word| !word.starts_with("object-format=") || word == "object-format=sha1");
    if !sha1 {
        return Err(ForwardError::Lacks("has another object format than SHA-1, which the gate does not support"));
    }
    if !listed.offers("report-status") {
        return Err(ForwardError::Lacks("does not report what became of a push"));
    }
    Ok(listed)
}

/// What the transport says about the end, if it says something soon.
async fn words(trouble: Trouble) -> String {
    let known = tokio::time::timeout(WORDS, trouble.ended()).await.unwrap_or_default();
    if known.is_empty() { "it says nothing".to_owned() } else { known }
}

/// Sends commands and pack; returns what became of each command.
///
/// # Errors
/// Nobody knows what became of the push, or nothing did.
pub(super) async fn send(
    conversation: &mut Conversation,
    listed: &Listed,
    request: &Request,
    pack: Option<(&Git, &Published)>,
    answer: &Answer,
) -> Result<BTreeMap<String, Result<(), String>>, ForwardError> {
    let many = request.commands.len() > 1;
    if many && !listed.offers("atomic") {
        return Err(ForwardError::Lacks("cannot change several references at once; push them one by one"));
    }
    if request.commands.iter().any(Command::deletes) && !listed.offers("delete-refs") {
        return Err(ForwardError::Lacks("does not delete references"));
    }
    let wanted = ["report-status", "side-band-64k", "atomic", "ofs-delta", "object-format=sha1"];
    let chosen: Vec<&str> = wanted.into_iter().filter(|name| listed.offers(name)).collect();
    let bands = listed.offers("side-band-64k");
    let mut head = Vec::new();
    for (number, command) in request.commands.iter().enumerate() {
        let text = format!("{} {} {}", command.old, command.new, command.name);
        head.extend(pkt::line(if number == 0 { format!("{text}\0 {}", chosen.join(" ")) } else { text }));
    }
    head.extend_from_slice(pkt::FLUSH);
    let exchange = async {
        // A broken pipe is explained by what the upstream says.
        let sent = match conversation.writer.write_all(&head).await {
            Ok(()) => match pack {
                Some((git, published)) => send_pack(conversation, git, published).await?,
                None => true,
            },
            Err(_) => false,
        };
        if sent {
            // Dropped as well: `shutdown` does not close the pipe of a process.
            let mut writer = std::mem::replace(&mut conversation.writer, Box::new(tokio::io::sink()));
            let _ = writer.flush().await;
            let _ = writer.shutdown().await;
        }
        let report = if bands { read_bands(conversation, answer).await? } else { read_plain(conversation).await? };
        if report.is_empty() {
            return Err(ForwardError::Ended(words(conversation.trouble.clone()).await));
        }
        read_report(&report).await
    };
    tokio::time::timeout(DEADLINE, exchange).await.map_err(|_| ForwardError::Late)?
}

/// Sends a pack of exactly the published objects; false if the upstream takes no more.
async fn send_pack(conversation: &mut Conversation, git: &Git, published: &Published) -> Result<bool, ForwardError> {
    let mut running = git.start(&["pack-objects", "--stdout", "--delta-base-offset", "-q"])?;
    let (Some(mut stdin), Some(mut stdout)) = (running.child.stdin.take(), running.child.stdout.take()) else {
        return Err(running.unexpected("it has no pipes").into());
    };
    let list = published.list.clone();
    tokio::spawn(async move {
        let _ = stdin.write_all(&list).await;
    });
    let mut header = [0; HEADER];
    if stdout.read_exact(&mut header).await.is_err() {
        running.end().await?;
        return Err(ForwardError::Ended("git writes no pack".to_owned()));
    }
    let count = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    if &header[..4] != b"PACK" || usize::try_from(count) != Ok(published.objects.len()) {
        let problem = format!("its pack has {count} objects, and {} were inspected", published.objects.len());
        return Err(running.unexpected(problem).into());
    }
    if conversation.writer.write_all(&header).await.is_err() {
        return Ok(false);
    }
    let mut piece = vec![0; PIECE];
    loop {
        let length = stdout.read(&mut piece).await.map_err(|error| running.unexpected(error.to_string()))?;
        if length == 0 {
            running.end().await?;
            return Ok(true);
        }
        if conversation.writer.write_all(&piece[..length]).await.is_err() {
            return Ok(false);
        }
    }
}

/// Reads side bands: the report, and messages for the client.
async fn read_bands(conversation: &mut Conversation, answer: &Answer) -> Result<Vec<u8>, ForwardError> {
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

async fn read_plain(conversation: &mut Conversation) -> Result<Vec<u8>, ForwardError> {
    let mut report = Vec::new();
    let read = (&mut conversation.reader).take(MAX_REPORT as u64).read_to_end(&mut report).await;
    match read {
        Ok(_) => Ok(report),
        Err(_) => Err(ForwardError::Ended(words(conversation.trouble.clone()).await)),
    }
}

/// Reads a report (git, `gitprotocol-pack(5)`, "Report Status").
async fn read_report(mut report: &[u8]) -> Result<BTreeMap<String, Result<(), String>>, ForwardError> {
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
