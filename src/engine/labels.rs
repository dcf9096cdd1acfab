//! The labels that every object of a bottle carries: they are the truth about what exists.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The bottle's id.
pub const SESSION: &str = "dev.bottler.session";
/// The object's place in program order, a decimal number.
pub const SEQ: &str = "dev.bottler.seq";
/// The object's [`Kind`].
pub const KIND: &str = "dev.bottler.kind";
/// What a built-in sidecar does; absent of everything else.
pub const ROLE: &str = "dev.bottler.role";
/// The places of the things that it uses, decimal numbers with commas between them; absent where there are none.
pub const USES: &str = "dev.bottler.uses";
/// Who made it: see [`crate::session::owner`].
pub const OWNER: &str = "dev.bottler.owner";
/// Marks cached images; they outlive bottles, until `gc --cache`.
pub const CACHE: &str = "dev.bottler.cache";

/// The kinds of objects a bottle is made of, in the order in which they are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The agent's container.
    Agent,
    /// A sidecar's container.
    Sidecar,
    /// A network.
    Network,
    /// A volume.
    Volume,
}

impl Kind {
    /// The word used in labels, tables and messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Sidecar => "sidecar",
            Self::Network => "network",
            Self::Volume => "volume",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Agent, Self::Sidecar, Self::Network, Self::Volume].into_iter().find(|kind| kind.word() == word)
    }
}

/// The identity of one object, as its labels say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The bottle's id.
    pub session: String,
    /// Who made it.
    pub owner: String,
    /// Its place in program order.
    pub seq: u64,
    /// What it is.
    pub kind: Kind,
    /// What it does, of a built-in sidecar. It is found by that, not by its name, which is the recipe's to choose.
    pub role: Option<String>,
    /// The places in program order of things of its own kind that it uses: they are removed after it. Further kinds go without
    /// saying: an agent uses every sidecar, a sidecar every network and volume.
    pub uses: BTreeSet<u64>,
}

impl Identity {
    /// The labels to create the object with.
    pub fn to_labels(&self) -> BTreeMap<String, String> {
        let labels = [
            (SESSION, self.session.clone()),
            (OWNER, self.owner.clone()),
            (SEQ, self.seq.to_string()),
            (KIND, self.kind.word().to_owned()),
        ];
        let role = self.role.iter().map(|role| (ROLE, role.clone()));
        let uses: Vec<String> = self.uses.iter().map(u64::to_string).collect();
        let uses = (!uses.is_empty()).then(|| (USES, uses.join(",")));
        labels.into_iter().chain(role).chain(uses).map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// Reads an object's labels. `None` unless all four are there, well-formed, and the object's *name* fits them:
    /// an image can carry labels, so a label alone makes nothing ours (promise 14).
    pub fn from_labels<'a>(name: &str, label: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        let session = label(SESSION)?;
        let named = name.strip_prefix(session).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
        if session.is_empty() || !named {
            return None;
        }
        Some(Self {
            session: session.to_owned(),
            owner: label(OWNER)?.to_owned(),
            seq: label(SEQ)?.parse().ok()?,
            kind: Kind::from_word(label(KIND)?)?,
            role: label(ROLE).map(str::to_owned),
            // What cannot be read makes it no less ours.
            uses: label(USES).unwrap_or_default().split(',').filter_map(|seq| seq.parse().ok()).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            session: "probe-ab12c".into(),
            owner: "me".into(),
            seq: 7,
            kind: Kind::Network,
            role: Some("egress".into()),
            uses: [3, 12].into(),
        }
    }

    #[test]
    fn labels_round_trip_with_a_fitting_name() {
        let labels = identity().to_labels();
        let read = |name: &str| Identity::from_labels(name, |key| labels.get(key).map(String::as_str));
        assert_eq!(read("probe-ab12c-outside"), Some(identity()));
        assert_eq!(read("probe-ab12c"), Some(identity()));
    }

    #[test]
    fn a_label_alone_makes_nothing_ours() {
        let labels = identity().to_labels();
        for name in ["", "jolly_turing", "probe-ab12cd", "other-probe-ab12c"] {
            assert_eq!(Identity::from_labels(name, |key| labels.get(key).map(String::as_str)), None, "{name}");
        }
    }
}
