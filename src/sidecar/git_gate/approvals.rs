//! What the operator may release, and has: a refused push is offered under an id, and an approval lets exactly its
//! findings pass, once or as long as the bottle lives. Approvals are kept in the gate's folder, which nothing of a
//! repository reaches.
//!
//! Attacks that this stops: an approval that comes from inside a repository; one that lets more pass than was shown: a
//! protected path is released for one commit, a token for one repository.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::sync::lock;

/// How many refused pushes are offered; older ones are forgotten, and refused again when they come back.
const OFFERS: usize = 256;
/// How many findings one approval may release. All of them are shown to the operator.
pub(super) const MOST: usize = 50;
/// Longest list of offers, in bytes of JSON: it is one line of a sidecar, and paths in it are an agent's.
const LISTED: usize = 512 << 10;
/// Hexadecimal digits of an id: nobody finds two pushes that have the same one.
const DIGITS: usize = 32;

/// An approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// The id of the refused push.
    pub id: String,
    /// Whether it holds for one push only.
    pub once: bool,
}

/// A refused push that may be approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// Its id.
    pub id: String,
    /// The repository.
    pub repository: String,
    /// Its references.
    pub refs: Vec<String>,
    /// What was found, in words; no secret is in them.
    pub reasons: Vec<String>,
    /// What is released.
    keys: Vec<String>,
}

/// Offers and approvals.
pub(super) struct Approvals {
    file: PathBuf,
    offers: Mutex<VecDeque<Offer>>,
    /// What may pass, and whether only once.
    approved: Mutex<BTreeMap<String, bool>>,
}

/// What a token of a repository is released by: its fingerprint.
pub(super) fn token(repository: &str, fingerprint: &str) -> String {
    format!("{repository}\0token\0{fingerprint}")
}

/// What a change of a protected path is released by: the commit, which names all of its content.
pub(super) fn path(repository: &str, commit: &str, path: &[u8]) -> String {
    format!("{repository}\0path\0{commit}\0{}", String::from_utf8_lossy(path))
}

impl Approvals {
    /// Reads the approvals of an earlier run of this container.
    pub(super) fn new(folder: &Path) -> Self {
        let file = folder.join(".approved.json");
        let approved = std::fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self { file, offers: Mutex::default(), approved: Mutex::new(approved.unwrap_or_default()) }
    }

    /// Offers a push; returns its id, which is the same for the same findings.
    pub(super) fn offer(
        &self,
        repository: &str,
        refs: Vec<String>,
        reasons: Vec<String>,
        mut keys: Vec<String>,
    ) -> String {
        keys.sort();
        keys.dedup();
        let mut digest = Sha256::new();
        for key in &keys {
            digest.update(key.len().to_le_bytes());
            digest.update(key);
        }
        let id = HEXLOWER.encode(&digest.finalize())[..DIGITS].to_owned();
        let mut offers = lock(&self.offers);
        offers.retain(|offer| offer.id != id);
        if offers.len() == OFFERS {
            offers.pop_front();
        }
        offers.push_back(Offer { id: id.clone(), repository: repository.to_owned(), refs, reasons, keys });
        id
    }

    /// The pushes that may be approved, the latest last. Beyond a length, older ones are left out.
    pub(super) fn offers(&self) -> Vec<Offer> {
        let mut left = LISTED;
        let fits = |offer: &&Offer| {
            let length = serde_json::to_vec(offer).map_or(usize::MAX, |text| text.len());
            left.checked_sub(length).inspect(|rest| left = *rest).is_some()
        };
        let mut offers: Vec<Offer> = lock(&self.offers).iter().rev().take_while(fits).cloned().collect();
        offers.reverse();
        offers
    }

    /// Approves a push.
    ///
    /// # Errors
    /// None was refused under this id, or the approval cannot be written.
    pub(super) fn approve(&self, approval: &Approval) -> Result<(), String> {
        let found = lock(&self.offers).iter().find(|offer| offer.id == approval.id).cloned();
        let offer = found.ok_or_else(|| format!("no push was refused with the id {}", approval.id))?;
        let mut approved = lock(&self.approved);
        let mut next = approved.clone();
        next.extend(offer.keys.iter().map(|key| (key.clone(), approval.once)));
        self.write(&next)?;
        *approved = next;
        lock(&self.offers).retain(|offer| offer.id != approval.id);
        Ok(())
    }

    /// Whether something may pass.
    pub(super) fn allows(&self, key: &str) -> bool {
        lock(&self.approved).contains_key(key)
    }

    /// Uses up what was approved for one push, before it is sent; returns it.
    ///
    /// # Errors
    /// Another push has used it, or it cannot be written.
    pub(super) fn spend(&self, keys: &[String]) -> Result<Vec<String>, String> {
        let mut approved = lock(&self.approved);
        if let Some(gone) = keys.iter().find(|key| !approved.contains_key(*key)) {
            let what = gone.rsplit('\0').next().unwrap_or_default();
            return Err(format!("another push has used the approval of {what}"));
        }
        let spent: Vec<String> = keys.iter().filter(|key| approved[*key]).cloned().collect();
        if !spent.is_empty() {
            let mut next = approved.clone();
            next.retain(|key, _| !spent.contains(key));
            self.write(&next)?;
            *approved = next;
        }
        Ok(spent)
    }

    /// Gives back what a push has used that was not carried out.
    pub(super) fn give_back(&self, spent: Vec<String>) {
        let mut approved = lock(&self.approved);
        approved.extend(spent.into_iter().map(|key| (key, true)));
        // If it cannot be written, a restarted gate asks again.
        let _ = self.write(&approved);
    }

    fn write(&self, approved: &BTreeMap<String, bool>) -> Result<(), String> {
        let text = serde_json::to_vec(approved).map_err(|error| error.to_string())?;
        std::fs::write(&self.file, text).map_err(|error| format!("write {}: {error}", self.file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promise_10_an_approval_releases_what_was_shown_and_once_means_once() {
        let folder = tempfile::tempdir().unwrap();
        let approvals = Approvals::new(folder.path());
        let (a, b) = (token("app", "github-token:1"), path("app", "c0ffee", b"CODEOWNERS"));
        let offer = |keys: &[&String]| {
            approvals.offer(
                "app",
                vec!["refs/heads/x".into()],
                vec!["why".into()],
                keys.iter().map(|&key| key.clone()).collect(),
            )
        };
        let id = offer(&[&a, &b]);
        assert_eq!(offer(&[&b, &a]), id);
        assert_eq!(approvals.offers().len(), 1);
        let wrong = Approval { id: "0".into(), once: true };
        assert!(approvals.approve(&wrong).unwrap_err().contains("no push was refused"));
        approvals.approve(&Approval { id, once: true }).unwrap();
        assert!(approvals.allows(&a) && approvals.allows(&b) && !approvals.allows(&token("lib", "github-token:1")));
        // It outlives the process.
        assert!(Approvals::new(folder.path()).allows(&a));
        let spent = approvals.spend(std::slice::from_ref(&a)).unwrap();
        assert!(!approvals.allows(&a) && approvals.allows(&b));
        // Another push comes too late; one that failed may be repeated.
        assert!(approvals.spend(&[b.clone(), a.clone()]).unwrap_err().contains("another push") && approvals.allows(&b));
        approvals.give_back(spent);
        approvals.spend(std::slice::from_ref(&a)).unwrap();
        let id = offer(&[&a]);
        approvals.approve(&Approval { id, once: false }).unwrap();
        assert_eq!(approvals.spend(std::slice::from_ref(&a)).unwrap(), Vec::<String>::new());
        assert!(approvals.allows(&a));
        for number in 0..OFFERS + 5 {
            offer(&[&token("app", &number.to_string())]);
        }
        assert_eq!(approvals.offers().len(), OFFERS);
        // What is listed is bounded, and the latest is in it.
        for number in 0..OFFERS {
            let key = token("app", &format!("{number}{}", "x".repeat(LISTED / OFFERS)));
            approvals.offer("app", Vec::new(), vec![number.to_string()], vec![key]);
        }
        let offers = approvals.offers();
        assert!((2..OFFERS).contains(&offers.len()), "{}", offers.len());
        assert_eq!(offers.last().unwrap().reasons, [(OFFERS - 1).to_string()]);
        assert!(serde_json::to_vec(&offers).unwrap().len() < crate::sidecar::MAX_LINE);
    }
}
