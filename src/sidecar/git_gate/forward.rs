//! Sends a push to the upstream: first what the upstream lists, then the commands with the old values that the client
//! saw, then a pack of exactly the objects that were inspected, all in one conversation: the one that arrived, if it has
//! exactly these, or one that git makes of them. What the upstream says is shown to the client without controls.

use std::collections::BTreeMap;
use std::path::Path;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::advertised::Listed;
use super::commands::{Command, Request};
use super::conversation::Conversation;
use super::git::{DEADLINE, Git, GitError, Running};
use super::outcome::{ForwardError, read_bands, read_plain, read_report, words};
use super::publish::Published;
use super::report::Answer;
use super::{pack, pkt};

/// The header of a pack: `PACK`, its version, and the number of objects (git, `gitformat-pack(5)`).
const HEADER: usize = 12;
/// The size of a piece of a pack, in bytes.
const PIECE: usize = 256 << 10;

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
    let (mut from, running) = match pack::whole(git.repository(), published) {
        Some(path) => (open(&path).await?, None),
        None => make(git, published)?,
    };
    let wrong = |problem: String| GitError::Output { command: "pack-objects".to_owned(), problem };
    let mut header = [0; HEADER];
    if from.read_exact(&mut header).await.is_err() {
        end(running).await?;
        return Err(ForwardError::Ended("git writes no pack".to_owned()));
    }
    let count = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    if &header[..4] != b"PACK" || usize::try_from(count) != Ok(published.objects.len()) {
        let problem = format!("its pack has {count} objects, and {} were inspected", published.objects.len());
        return Err(wrong(problem).into());
    }
    if conversation.writer.write_all(&header).await.is_err() {
        return Ok(false);
    }
    let mut piece = vec![0; PIECE];
    loop {
        let length = from.read(&mut piece).await.map_err(|error| wrong(error.to_string()))?;
        if length == 0 {
            end(running).await?;
            return Ok(true);
        }
        if conversation.writer.write_all(&piece[..length]).await.is_err() {
            return Ok(false);
        }
    }
}

type Source = Box<dyn AsyncRead + Send + Unpin>;

async fn open(path: &Path) -> Result<Source, GitError> {
    let file = tokio::fs::File::open(path).await;
    Ok(Box::new(file.map_err(|source| GitError::Run { command: "index-pack".to_owned(), source })?))
}

/// Makes a pack. The client has found deltas already: they are used again, and no further ones are looked for.
fn make(git: &Git, published: &Published) -> Result<(Source, Option<Running>), GitError> {
    let mut running = git.start(&["pack-objects", "--stdout", "--delta-base-offset", "--window=0", "-q"])?;
    let (Some(mut stdin), Some(stdout)) = (running.child.stdin.take(), running.child.stdout.take()) else {
        return Err(running.unexpected("it has no pipes"));
    };
    let list = published.list.clone();
    crate::task::spawn(async move {
        let _ = stdin.write_all(&list).await;
    });
    Ok((Box::new(stdout), Some(running)))
}

async fn end(running: Option<Running>) -> Result<(), GitError> {
    match running {
        Some(running) => running.end().await,
        None => Ok(()),
    }
}
