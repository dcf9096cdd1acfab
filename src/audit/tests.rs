//! Logs that were changed, truncated, or are too many, on disks that are full; and allowlists that are learnt from
//! them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::format::{FOLDER, MAX_BYTES, MAX_FILES, hash};
use super::*;

fn event(decision: &str, code: &str, form: &str, method: &str, destination: &str) -> Event {
    let kind = Details {
        subject: Subject::Request,
        sidecar: "egress".into(),
        bottle: "probe-abcde".into(),
        client: String::new(),
        decision: decision.into(),
        code: code.into(),
        reason: String::new(),
        form: form.into(),
        method: method.into(),
        destination: destination.into(),
    };
    Event { time: 1, count: 1, kind }
}

#[test]
fn promise_18_a_file_that_was_changed_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::begin(folder.path(), "probe-abcde", |_| true).unwrap();
    for host in ["a.example:443", "b.example:443", "c.example:443"] {
        writer.event(event("refuse", "host_not_allowed", "connect", "CONNECT", host));
    }
    let closed = writer.close();
    assert_eq!((closed.decisions, closed.refused, &closed.incomplete), (3, 3, &None));
    let path = logs(folder.path(), "probe-abcde").unwrap().remove(0);
    assert!(logs(folder.path(), "probe").unwrap().is_empty());
    let chain = read(&path).unwrap();
    assert_eq!((chain.broken_at, chain.ended, &chain.head), (None, true, &closed.head));
    assert_eq!(chain.events().count(), 3);
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let verdict = |lines: Vec<String>| {
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        let chain = read(&path).unwrap();
        (chain.broken_at, chain.ended, chain.head == closed.head)
    };
    let own = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect::<Vec<String>>();
    assert_eq!(verdict(own(&lines)), (None, true, true));
    let changed = lines.iter().map(|line| line.replace("b.example", "x.example")).collect();
    assert_eq!(verdict(changed), (Some(4), true, true));
    assert_eq!(verdict(own(&[lines[0], lines[1], lines[3], lines[4]])), (Some(3), true, true));
    assert_eq!(verdict(own(&[lines[0], lines[2], lines[1], lines[3], lines[4]])).0, Some(2));
    // Without its last lines the chain is intact, but its head differs.
    assert_eq!(verdict(own(&lines[..3])), (None, false, false));
    assert_eq!(verdict(own(&lines[1..])).0, Some(1));
    // Truncated by a kill.
    std::fs::write(&path, &text[..text.len() - 10]).unwrap();
    let chain = read(&path).unwrap();
    assert_eq!((chain.records.len(), chain.broken_at, chain.ended), (4, None, false));
    assert_eq!(chain.torn, text.lines().last().unwrap().len() as u64 + 1 - 10);
    // A malformed line in the middle: the rest is read.
    std::fs::write(&path, text.replace("b.example", "b.exa\"mple")).unwrap();
    let chain = read(&path).unwrap();
    assert_eq!((chain.records.len(), chain.broken_at, chain.ended), (4, Some(3), true));
}

#[test]
fn ended_launches_have_so_many_files_and_no_others_go() {
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().join(FOLDER);
    // Three live bottles, which are the oldest.
    let living: Vec<Writer> =
        ["one", "two", "three"].map(|name| Writer::begin(state.path(), name, |_| true).unwrap()).into();
    // Whether this bottle is gone is unknown: its last log stays.
    std::fs::write(folder.join("6.unknown.jsonl"), "").unwrap();
    std::fs::write(folder.join("7.unknown.jsonl"), "").unwrap();
    let later = u64::MAX / 2;
    for number in 0..MAX_FILES as u64 + 5 {
        std::fs::write(folder.join(format!("{}.old-{number}.jsonl", later + number)), "").unwrap();
    }
    std::fs::write(folder.join(format!("{later}.old-0.jsonl.torn")), "").unwrap();
    let newest = Writer::begin(state.path(), "newest", |name| name != "unknown").unwrap();
    for name in ["one", "two", "three", "unknown", "old-7", "old-204", "newest"] {
        assert!(!logs(state.path(), name).unwrap().is_empty(), "{name}");
    }
    for name in ["old-0", "old-5"] {
        assert!(logs(state.path(), name).unwrap().is_empty(), "{name}");
    }
    assert!(!folder.join("6.unknown.jsonl").exists() && !folder.join(format!("{later}.old-0.jsonl.torn")).exists());
    let files = read::files(&folder).unwrap();
    assert_eq!(files.len(), MAX_FILES + 4);
    // A clock that was set back does not make a new launch an old one.
    assert_eq!(files.last().unwrap().bottle, "newest");
    assert!(read(&logs(state.path(), "one").unwrap()[0]).unwrap().written);
    drop((living, newest));
    assert!(!read(&logs(state.path(), "one").unwrap()[0]).unwrap().written);
}

#[test]
fn a_torn_end_is_cut_off_at_the_next_start_and_the_chain_says_so() {
    let state = tempfile::tempdir().unwrap();
    let mut writer = Writer::begin(state.path(), "killed", |_| true).unwrap();
    writer.event(event("refuse", "denied", "connect", "CONNECT", "a.example:443"));
    let path = logs(state.path(), "killed").unwrap().remove(0);
    let whole = std::fs::read(&path).unwrap();
    for torn in [&b"{\"prev\":\"ab"[..], &[0; 5000], b"\xff"] {
        drop(std::mem::replace(&mut writer, Writer::begin(state.path(), "other", |_| false).unwrap()));
        std::fs::write(&path, [&whole, torn].concat()).unwrap();
        let chain = read(&path).unwrap();
        assert_eq!((chain.torn, chain.broken_at, chain.records.len()), (torn.len() as u64, None, 2));
        drop(Writer::begin(state.path(), "next", |_| false).unwrap());
        let chain = read(&path).unwrap();
        assert_eq!((chain.torn, chain.broken_at, chain.ended, chain.records.len()), (0, None, false, 3));
        let Entry::Repaired { cut, sha256, kept } = &chain.records[2].line else { panic!("{chain:?}") };
        assert_eq!((*cut, sha256), (torn.len() as u64, &hash(torn)));
        assert_eq!(std::fs::read(path.with_file_name(kept)).unwrap(), torn);
    }
}

/// A disk of limited size, which fails in the middle of a write.
struct Small {
    bytes: Arc<Mutex<Vec<u8>>>,
    quota: Arc<AtomicUsize>,
    cuts: bool,
}

impl append::Medium for Small {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let mut there = self.bytes.lock().unwrap();
        let fits = bytes.len().min(self.quota.load(Ordering::Relaxed).saturating_sub(there.len()));
        there.extend_from_slice(&bytes[..fits]);
        if fits < bytes.len() { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn cut(&mut self, length: u64) -> std::io::Result<()> {
        if !self.cuts {
            return Err(std::io::ErrorKind::PermissionDenied.into());
        }
        self.bytes.lock().unwrap().truncate(usize::try_from(length).unwrap());
        Ok(())
    }

    fn sync(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

proptest! {
    /// Free space that comes and goes; and whether a torn line can be removed.
    #[test]
    fn a_full_disk_tears_no_line_and_loses_no_count(
        rooms in proptest::collection::vec((0..4000_usize, 0..4_u8, 1..5_u64), 1..40),
        cuts in any::<bool>(),
        ends_with_room in any::<bool>(),
    ) {
        let bytes: Arc<Mutex<Vec<u8>>> = Arc::default();
        let quota = Arc::new(AtomicUsize::new(1000));
        let medium = Small { bytes: bytes.clone(), quota: quota.clone(), cuts };
        let mut writer = Writer::on(Box::new(medium), "b").unwrap();
        let mut came = 0;
        for (more, host, count) in rooms {
            quota.store(more, Ordering::Relaxed);
            came += count;
            writer.event(Event { count, ..event("refuse", "denied", "connect", "CONNECT", &format!("h{host}.example:443")) });
        }
        quota.store(if ends_with_room { usize::MAX } else { 0 }, Ordering::Relaxed);
        let closed = writer.close();
        prop_assert_eq!(closed.decisions, came);
        let chain = read::parse(&bytes.lock().unwrap());
        prop_assert_eq!((chain.broken_at, &chain.head), (None, &closed.head), "the head is that of what is there");
        prop_assert!(chain.torn == 0 || !cuts);
        prop_assert_eq!(chain.ended, closed.incomplete.is_none());
        prop_assert!(!(ends_with_room && cuts) || chain.ended);
        if let Some(Entry::Ended { left_out, .. }) = chain.records.last().map(|record| &record.line) {
            let there: u64 = chain.events().map(|event| event.count).sum();
            prop_assert_eq!(there + left_out.values().sum::<u64>(), came);
            prop_assert_eq!(left_out.values().sum::<u64>(), closed.left_out);
        }
    }
}

#[test]
fn what_is_rare_has_room_in_a_file_that_is_flooded() {
    let bytes: Arc<Mutex<Vec<u8>>> = Arc::default();
    let medium = Small { bytes: bytes.clone(), quota: Arc::new(AtomicUsize::new(usize::MAX)), cuts: true };
    let mut writer = Writer::on(Box::new(medium), "b").unwrap();
    let came = 120_000;
    for number in 0..came {
        let (decision, host) = match number % 3 {
            0 => ("allow", format!("a{number}.example:443")),
            1 => ("refuse", format!("r{number}.example:443")),
            _ => ("refuse", "busy.example:443".to_owned()),
        };
        writer.event(event(decision, "denied", "connect", "CONNECT", &host));
        if number == came / 2 || number == came - 1 {
            writer.event(Event { count: 5, ..event("refuse", "denied", "connect", "CONNECT", "rare.example:443") });
        }
    }
    let mut died = event("alarm", "sidecar_died", "", "", "");
    died.kind.subject = Subject::Sidecar;
    writer.event(died);
    let closed = writer.close();
    let bytes = bytes.lock().unwrap();
    let chain = read::parse(&bytes);
    assert!(chain.ended && chain.broken_at.is_none() && bytes.len() as u64 <= MAX_BYTES + 4096, "{}", bytes.len());
    let of = |host: &str| {
        chain.events().filter(|event| event.kind.destination == host).map(|event| event.count).sum::<u64>()
    };
    assert_eq!(of("rare.example:443"), 10);
    // The last of the frequent events is there, with its count.
    assert_eq!(of("busy.example:443"), came / 3);
    assert!(chain.events().any(|event| event.kind.code == "sidecar_died"));
    let there: u64 = chain.events().map(|event| event.count).sum();
    assert_eq!(there + closed.left_out, came + 11);
}

#[test]
fn what_is_learnt_is_a_section_that_can_be_read() {
    let events = [
        event("allow", "allowed", "connect", "CONNECT", "api.example.com:443"),
        event("allow", "allowed", "inside", "POST", "api.example.com:443"),
        event("audit", "host_not_allowed", "inside", "GET", "new.example.com:8443"),
        event("allow", "allowed", "tunnel", "CONNECT", "pinned.example.com:443"),
        event("allow", "allowed", "tcp", "", "db.example.com:5432"),
        event("refuse", "host_not_allowed", "connect", "CONNECT", "evil.example.com:443"),
        event("refuse", "secret_found", "inside", "POST", "api.example.com:443"),
        event("refuse", "host_not_allowed", "", "", "*.flood.example"),
        event("allow", "allowed", "connect", "CONNECT", "canary.bottler.invalid:443"),
    ];
    let text = learn("probe-abcde", events.iter());
    let expected = "# Proposed by `bottler policy learn probe-abcde`, from 9 decisions.
allow:
  - {host: \"api.example.com\", methods: [POST]} # 2 times
  - {host: \"new.example.com:8443\", methods: [GET]} # once
  - {host: \"pinned.example.com\", tls: tunnel} # once
  # refused: - \"evil.example.com\" # once
  # further hosts of *.flood.example: once
tcp:
  - \"db.example.com:5432\" # once
";
    assert_eq!(text, expected);
    let spec: crate::policy::EgressSpec = serde_yaml::from_str(&text).unwrap();
    assert!(spec.policy(std::collections::BTreeMap::new()).is_ok());
}
