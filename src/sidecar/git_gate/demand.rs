//! What a request of protocol v2 asks for (git, `gitprotocol-v2(5)`): whether it lists references, and which of them
//! are neither branches nor tags, such as `refs/pull/1/head`. The mirror gets those when somebody asks for them. Pure.

use super::commands::is_id;
use super::pkt::{self, Packet};
use crate::git_ref::{HEADS, TAGS, is_printable_name};

/// What a request asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Demand {
    /// Whether it lists references: then the upstream is asked for them as well.
    pub(super) lists: bool,
    /// Beginnings of names of references.
    prefixes: Vec<String>,
    /// Complete names.
    names: Vec<String>,
    /// Objects.
    pub(super) ids: Vec<String>,
}

impl Demand {
    /// Reads one request. What cannot be read is not asked for here; git refuses it.
    pub(super) async fn read(mut request: &[u8]) -> Self {
        let mut demand = Self::default();
        while let Ok(Some(packet)) = pkt::read(&mut request).await {
            let Packet::Line(line) = packet else { continue };
            let Ok(line) = std::str::from_utf8(&line) else { continue };
            let line = line.trim_end_matches('\n');
            match line.split_once([' ', '=']) {
                Some(("command", "ls-refs")) => demand.lists = true,
                Some(("ref-prefix", prefix)) if is_prefix(prefix) => demand.prefixes.push(prefix.to_owned()),
                Some(("want-ref", name)) if is_other(name) => demand.names.push(name.to_owned()),
                Some(("want", id)) if is_id(id) => demand.ids.push(id.to_owned()),
                _ => {}
            }
        }
        demand
    }

    /// Whether it names references that are neither branches nor tags.
    pub(super) fn names_others(&self) -> bool {
        !(self.prefixes.is_empty() && self.names.is_empty())
    }

    /// Whether it asks for a reference.
    pub(super) fn covers(&self, name: &str) -> bool {
        self.prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()))
            || self.names.iter().any(|asked| asked == name)
    }
}

/// Whether a reference is neither a branch nor a tag, and has a name that can be shown.
pub(super) fn is_other(name: &str) -> bool {
    name.starts_with("refs/") && !name.starts_with(HEADS) && !name.starts_with(TAGS) && is_printable_name(name)
}

/// Whether a beginning names a folder of other references: `refs/` alone would be everything that the upstream has.
fn is_prefix(prefix: &str) -> bool {
    let mut parts = prefix.split('/');
    parts.next() == Some("refs")
        && parts.next().is_some_and(|folder| !matches!(folder, "" | "heads" | "tags"))
        && parts.next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_names_references_and_objects() {
        let id = "a".repeat(40);
        let frames = |lines: &[&str]| -> Vec<u8> { lines.iter().flat_map(pkt::line).chain(*b"0000").collect() };
        let list = frames(&[
            "command=ls-refs\n",
            "ref-prefix refs/pull/1/head\n",
            "ref-prefix refs/heads/refs/pull/1/head\n",
            "ref-prefix refs/tags/",
            "ref-prefix refs/",
            "ref-prefix refs/pull",
            "ref-prefix HEAD",
        ]);
        let demand = Demand::read(&list).await;
        assert!(demand.lists && demand.names_others());
        for (name, covered) in [
            ("refs/pull/1/head", true),
            ("refs/pull/1/header", true),
            ("refs/pull/2/head", false),
            ("refs/notes/commits", false),
        ] {
            assert_eq!(demand.covers(name), covered, "{name}");
        }
        let want = format!("want {id}\n");
        let fetch =
            frames(&["command=fetch", "want-ref refs/changes/01/1/1\n", "want-ref refs/heads/main", &want, "want x"]);
        let demand = Demand::read(&fetch).await;
        assert!(!demand.lists && demand.covers("refs/changes/01/1/1") && !demand.covers("refs/heads/main"));
        assert_eq!(demand.ids, [id]);
        for wrong in [&b"0008abcd"[..], b"zzzz", b""] {
            assert_eq!(Demand::read(wrong).await, Demand::default());
        }
        assert!(!is_other("refs/pull/a\u{9b}") && !is_other("HEAD"));
    }
}
