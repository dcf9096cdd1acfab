//! Inspects what is pushed while it arrives, beside git, which unpacks and checks the same bytes: when git has ended, most
//! of a large push has been inspected. What is not inspected here is read from git afterwards (`objects`), so that this
//! part may stop at anything that it does not understand: it can only save work.
//!
//! An object is known here by the hash of what was inspected, never by what the pack says about it. Two contents of one
//! hash are git's part: it has hashed whatever is published, and refuses what collides.
//!
//! Attacks that this stops: a pack that differs for two readers (it would be inspected again); secrets that become known
//! while a push arrives (what was inspected for others does not count).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::inspect::{Inspector, Kind, LOTS, MAX_ISSUES, Problem};
use super::terms::Terms;
use super::unpack::{Arrived, Id, MAX_OBJECT, Unpacking};

/// How many pieces of a pack wait to be unpacked.
const QUEUE: usize = 64;

/// What has been inspected.
#[derive(Default)]
pub(super) struct Inspected {
    /// By whom: another inspector may know other secrets.
    by: Option<Inspector>,
    found: HashMap<Id, (Kind, Vec<Problem>)>,
    /// How many problems there are.
    problems: usize,
}

impl Inspected {
    /// What is wrong with an object at a path; `None` if that is not known.
    pub(super) fn of(&self, inspector: &Inspector, id: &str, path: &str) -> Option<&(Kind, Vec<Problem>)> {
        let known = self.by.as_ref().is_some_and(|by| by.is(inspector)) && !Inspector::minds(path);
        if !known {
            return None;
        }
        self.found.get(&Id::try_from(HEXLOWER.decode(id.as_bytes()).ok()?).ok()?)
    }

    async fn add(&mut self, lot: JoinHandle<Vec<Found>>) {
        // What was not inspected here is read from git.
        let lot = lot.await.unwrap_or_default();
        self.problems += lot.iter().map(|(_, (_, problems))| problems.len()).sum::<usize>();
        self.found.extend(lot);
    }
}

/// The inspection of a pack that arrives. It ends by itself when this is dropped.
pub(super) struct Early {
    to: Option<mpsc::Sender<Bytes>>,
    work: JoinHandle<Inspected>,
}

impl Early {
    /// Begins.
    pub(super) fn start(inspector: Inspector, terms: Arc<Terms>) -> Self {
        let (to, pieces) = mpsc::channel(QUEUE);
        Self { to: Some(to), work: crate::task::spawn(inspect(pieces, inspector, terms)) }
    }

    /// Takes the next piece of the pack.
    pub(super) async fn take(&mut self, piece: &[u8]) {
        if let Some(to) = &self.to
            && to.send(Bytes::copy_from_slice(piece)).await.is_err()
        {
            self.to = None;
        }
    }

    /// What was inspected, once no more of the pack comes.
    pub(super) async fn finish(mut self) -> Inspected {
        self.to = None;
        // Without it everything is read from git.
        self.work.await.unwrap_or_default()
    }
}

async fn inspect(pieces: mpsc::Receiver<Bytes>, inspector: Inspector, terms: Arc<Terms>) -> Inspected {
    let (to, mut lots) = mpsc::channel(1);
    let most = terms.max_file.min(MAX_OBJECT);
    let unpacking = crate::task::blocking(move || Unpacking::new(pieces, to).run(most));
    let mut inspected = Inspected { by: Some(inspector.clone()), found: HashMap::new(), problems: 0 };
    let mut running = VecDeque::new();
    while let Some(lot) = lots.recv().await {
        if running.len() == LOTS
            && let Some(oldest) = running.pop_front()
        {
            inspected.add(oldest).await;
        }
        if inspected.problems > MAX_ISSUES {
            break;
        }
        running.push_back(start(lot, &inspector, &terms));
    }
    // Ends the unpacking, if it has not ended.
    drop(lots);
    for lot in running {
        inspected.add(lot).await;
    }
    let _ = unpacking.await;
    inspected
}

type Found = (Id, (Kind, Vec<Problem>));

fn start(lot: Vec<Arrived>, inspector: &Inspector, terms: &Arc<Terms>) -> JoinHandle<Vec<Found>> {
    let (inspector, terms) = (inspector.clone(), terms.clone());
    let look = move |Arrived { id, kind, content }| (id, (kind, inspector.inspect(kind, "", &content, &terms)));
    crate::task::blocking(move || lot.into_iter().map(look).collect())
}

#[cfg(test)]
mod tests {
    use super::super::config::Known;
    use super::super::unpack::BEGINNING;
    use super::*;
    use crate::policy::GitTerms;
    use crate::scan::{Dlp, KnownSecret};
    use proptest::prelude::*;
    use std::io::Write;
    use std::path::Path;
    use std::process::{Command, Stdio};

    const SECRET: &str = "correct-horse-battery-staple";

    fn inspector(secret: &str) -> Inspector {
        let secret = KnownSecret { value: secret.to_owned(), hosts: Vec::new() };
        Inspector::new(&Dlp::default(), &Known { secrets: vec![secret], placeholders: vec![] }).unwrap()
    }

    async fn inspected(by: &Inspector, pack: &[u8], piece: usize) -> Inspected {
        let mut early = Early::start(by.clone(), Arc::new(Terms::new(&GitTerms::default(), "demo").unwrap()));
        for piece in pack.chunks(piece) {
            early.take(piece).await;
        }
        early.finish().await
    }

    fn git(folder: &Path, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let mut child = Command::new("git");
        child.arg("-C").arg(folder).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        for who in ["AUTHOR", "COMMITTER"] {
            child.env(format!("GIT_{who}_NAME"), "A").env(format!("GIT_{who}_EMAIL"), "a@example.com");
        }
        let mut child = child.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        output.stdout
    }

    /// A pack of a history, and its objects: ids, types and sizes.
    fn history() -> (Vec<u8>, Vec<(String, String, u64)>) {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        git(at, &["init", "-q", "-b", "main"], b"");
        let lines: Vec<String> = (0..2000).map(|number| format!("line {number}\n")).collect();
        let mut long = lines.concat();
        for (name, content) in [
            ("a", "nothing\n"),
            ("key", SECRET),
            ("data.json", "{}"),
            ("huge", &"x".repeat(1 << 20)),
            ("large", &"y".repeat((1 << 20) + 1)),
        ] {
            std::fs::write(at.join(name), content).unwrap();
        }
        for number in 0..3 {
            long.push_str(&format!("more {number}\n"));
            std::fs::write(at.join("long"), &long).unwrap();
            git(at, &["add", "-A"], b"");
            git(at, &["commit", "-q", "-m", &format!("change {number}")], b"");
        }
        git(at, &["tag", "-a", "-m", "a tag", "v1"], b"");
        git(at, &["repack", "-q", "-a", "-d", "-f"], b"");
        let all = git(
            at,
            &[
                "cat-file",
                "--batch-all-objects",
                "--batch-check=%(objectname) %(objecttype) %(objectsize) %(deltabase)",
            ],
            b"",
        );
        let all = String::from_utf8(all).unwrap();
        let mut objects = Vec::new();
        for line in all.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            // What is a delta is left to git.
            if words[3].bytes().all(|byte| byte == b'0') {
                objects.push((words[0].to_owned(), words[1].to_owned(), words[2].parse().unwrap()));
            }
        }
        assert!(objects.len() < all.lines().count(), "there are deltas as well");
        let revisions = git(at, &["pack-objects", "-q", "--stdout", "--revs", "--all", "--delta-base-offset"], b"");
        (revisions, objects)
    }

    #[tokio::test]
    async fn promise_10_what_arrives_is_inspected_by_its_id_and_large_files_and_deltas_are_left_to_git() {
        let (pack, objects) = history();
        let by = inspector(SECRET);
        for piece in [1, 7, 4096, 1 << 20] {
            let inspected = inspected(&by, &pack, piece).await;
            let mut secrets = 0;
            for (id, kind, size) in &objects {
                let found = inspected.of(&by, id, "");
                assert_eq!(found.is_some(), *size <= MAX_OBJECT, "{kind} of {size} bytes, in pieces of {piece}");
                let Some((found, problems)) = found else { continue };
                assert_eq!(found.word(), kind);
                secrets += problems.len();
            }
            assert_eq!(secrets, 1);
            assert_eq!(inspected.found.len(), objects.len() - 1);
        }
    }

    #[tokio::test]
    async fn promise_10_what_was_inspected_for_other_secrets_or_without_its_path_does_not_count() {
        let (pack, objects) = history();
        let by = inspector(SECRET);
        let inspected = inspected(&by, &pack, 4096).await;
        let id = &objects.iter().find(|(_, kind, size)| kind == "blob" && *size < 100).unwrap().0;
        assert!(inspected.of(&by, id, "a").is_some() && inspected.of(&by.clone(), id, "json").is_some());
        assert!(inspected.of(&inspector(SECRET), id, "a").is_none());
        for path in ["a.json", "folder/A.JSONL", "a.ipynb"] {
            assert!(inspected.of(&by, id, path).is_none(), "{path}");
        }
        assert!(inspected.of(&by, &"0".repeat(40), "a").is_none() && inspected.of(&by, "what", "a").is_none());
        assert!(Inspected::default().of(&by, id, "a").is_none());
    }

    #[tokio::test]
    async fn promise_15_what_cannot_be_read_ends_it() {
        let (pack, objects) = history();
        let by = inspector(SECRET);
        let all = inspected(&by, &pack, 4096).await.found.len();
        assert_eq!(all, objects.len() - 1);
        let half = inspected(&by, &pack[..pack.len() / 2], 4096).await.found.len();
        assert!(half < all, "{half}");
        let deflated = |content: &[u8]| {
            let mut to = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            to.write_all(content).unwrap();
            to.finish().unwrap()
        };
        let one = |head: &[u8], data: &[u8]| [BEGINNING, &1_u32.to_be_bytes(), head, data].concat();
        for (what, pack, expected) in [
            ("a file", one(b"\x34", &deflated(b"text")), 1),
            ("no file", one(b"\x30", &deflated(b"")), 1),
            ("another size", one(b"\x35", &deflated(b"text")), 0),
            ("a smaller size", one(b"\x33", &deflated(b"text")), 0),
            ("a size that is too long", one(&[&[0xb4], &[0x80; 9][..], b"\x01"].concat(), &deflated(b"text")), 0),
            ("more than there may be", one(b"\xb0\x80\x80\x80\x80\x7f", &deflated(b"text")), 0),
            ("another type", one(b"\x54", &deflated(b"text")), 0),
            ("no data", one(b"\x34", b"text"), 0),
            ("a wrong sum", one(b"\x34", &[&deflated(b"text")[..8], b"????"].concat()), 0),
            ("another version", [&b"PACK\0\0\0\x04\0\0\0\x01\x34"[..], &deflated(b"text")].concat(), 0),
            ("nothing", Vec::new(), 0),
        ] {
            assert_eq!(inspected(&by, &pack, 3).await.found.len(), expected, "{what}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn promise_15_whatever_arrives_is_read_or_left(at in any::<prop::sample::Index>(), byte: u8, piece in 1_usize..5000) {
            static PACK: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
                let mut pack = history().0;
                pack.truncate(40_000);
                pack
            });
            let mut pack = PACK.clone();
            let at = at.index(pack.len());
            pack[at] = byte;
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(inspected(&inspector(SECRET), &pack, piece));
        }
    }
}
