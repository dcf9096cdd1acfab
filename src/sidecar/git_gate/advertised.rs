//! Reads what an upstream lists at the beginning of a push (git, `gitprotocol-pack(5)`, "Reference Discovery").

use std::collections::{BTreeMap, BTreeSet};

use super::commands::{ZERO, is_id};
use super::conversation::Conversation;
use super::mirror;
use super::outcome::{ForwardError, words};
use super::pkt::{self, Packet, PktError};
use super::visible;
use crate::git_ref::{HEADS, TAGS};

/// Maximum number of references that an upstream may list.
const MAX_REFS: usize = 2_000_000;

/// What an upstream lists.
#[derive(Debug, Default)]
pub(super) struct Listed {
    /// The values of its branches and tags, by their names: what anybody sees who sees the repository. What it lists
    /// beside them does not count as published there: objects of other repositories that it borrows from (`.have`), such
    /// as forks, proposals of strangers (`refs/pull`), and references with readers of their own.
    pub(super) refs: BTreeMap<String, String>,
    capabilities: Vec<String>,
}

impl Listed {
    /// The value of a branch or tag.
    pub(super) fn value(&self, name: &str) -> &str {
        self.refs.get(name).map_or(ZERO, String::as_str)
    }

    /// The ids of its branches and tags.
    pub(super) fn ids(&self) -> BTreeSet<&str> {
        self.refs.values().map(String::as_str).collect()
    }

    /// Whether it offers a capability.
    pub(super) fn offers(&self, name: &str) -> bool {
        self.capabilities.iter().any(|word| word == name)
    }
}

/// Reads what the upstream lists.
///
/// # Errors
/// It is malformed, or the upstream refuses.
pub(super) async fn listed(conversation: &mut Conversation) -> Result<Listed, ForwardError> {
    let mut listed = Listed::default();
    let (mut first, mut count, mut bytes) = (true, 0, 0);
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
        count += 1;
        if !is_id(id) {
            return Err(ForwardError::Lacks("lists references that cannot be read"));
        }
        let is_ours = id != ZERO && (name.starts_with(HEADS) || name.starts_with(TAGS));
        if is_ours {
            bytes += line.len() as u64;
        }
        if count > MAX_REFS || bytes > mirror::MAX_REFS {
            return Err(ForwardError::Lacks("lists more references than the gate reads"));
        }
        if is_ours {
            listed.refs.insert(name.to_owned(), id.to_owned());
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

#[cfg(test)]
mod tests {
    use super::super::conversation::{Task, Trouble};
    use super::*;

    const ID: &str = "1111111111111111111111111111111111111111";

    /// What is read of these lines, so many times the last one.
    async fn read(first: &str, last: &str, times: usize) -> Result<Listed, ForwardError> {
        let text = [pkt::line(first), pkt::line(last).repeat(times), pkt::FLUSH.to_vec()].concat();
        let (reader, writer) = (Box::new(std::io::Cursor::new(text)), Box::new(tokio::io::sink()));
        let task = Task(crate::task::spawn(async {}));
        listed(&mut Conversation { reader, writer, trouble: Trouble::default(), _task: task }).await
    }

    #[tokio::test]
    async fn promise_15_so_many_references_of_an_upstream_are_read_and_no_more() {
        let first = format!("{ID} refs/heads/main\0report-status atomic\n");
        let have = format!("{ID} .have\n");
        let listed = read(&first, &have, MAX_REFS - 1).await.unwrap();
        let there = [("refs/heads/main".to_owned(), ID.to_owned())];
        assert_eq!((listed.offers("atomic"), listed.refs), (true, BTreeMap::from(there)));
        let too_many = "the upstream lists more references than the gate reads";
        assert_eq!(read(&first, &have, MAX_REFS).await.unwrap_err().to_string(), too_many);
        // Fewer branches, with long names.
        let long = format!("{ID} refs/heads/{}\n", "x".repeat(60_000));
        let most = usize::try_from(mirror::MAX_REFS).unwrap() / long.len();
        assert!(read(&first, &long, most).await.is_ok());
        assert_eq!(read(&first, &long, most + 1).await.unwrap_err().to_string(), too_many);
    }
}
