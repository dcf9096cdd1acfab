//! Files that were changed, cut off, or are too many; and what is learnt from them.

use super::*;
use crate::sidecar::{Event, Kind};

fn event(decision: &str, code: &str, form: &str, method: &str, destination: &str) -> Event {
    let kind = Kind {
        sidecar: "egress".into(),
        bottle: "probe-abcde".into(),
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
    let mut writer = Writer::begin(folder.path(), "probe-abcde").unwrap();
    for host in ["a.example:443", "b.example:443", "c.example:443"] {
        writer.event(&event("refuse", "host_not_allowed", "connect", "CONNECT", host)).unwrap();
    }
    let closed = writer.close().unwrap();
    assert_eq!((closed.decisions, closed.refused), (3, 3));
    let path = find(folder.path(), "probe-abcde").unwrap().unwrap();
    assert_eq!(find(folder.path(), "probe").unwrap(), None);
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
    // The last lines taken away: the chain is whole, and its head another.
    assert_eq!(verdict(own(&lines[..3])), (None, false, false));
    assert_eq!(verdict(own(&lines[1..])).0, Some(1));
    // Cut off by a kill.
    std::fs::write(&path, &text[..text.len() - 10]).unwrap();
    let chain = read(&path).unwrap();
    assert_eq!((chain.records.len(), chain.broken_at, chain.ended), (4, None, false));
}

#[test]
fn there_are_so_many_files_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join(FOLDER)).unwrap();
    for number in 0..MAX_FILES + 5 {
        std::fs::write(folder.path().join(FOLDER).join(format!("{number}.old-{number}.jsonl")), "").unwrap();
    }
    drop(Writer::begin(folder.path(), "probe-abcde").unwrap());
    assert_eq!(read::files(&folder.path().join(FOLDER)).unwrap().len(), MAX_FILES);
    assert_eq!(find(folder.path(), "old-5").unwrap(), None);
    assert!(find(folder.path(), "old-6").unwrap().is_some());
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
        event("allow", "allowed", "connect", "CONNECT", "canary.bottler.invalid:443"),
    ];
    let text = learn("probe-abcde", events.iter());
    let expected = "# Proposed by `bottler policy learn probe-abcde`, from 8 decisions.
allow:
  - {host: \"api.example.com\", methods: [POST]} # 2 times
  - {host: \"new.example.com:8443\", methods: [GET]} # once
  - {host: \"pinned.example.com\", tls: tunnel} # once
  # refused: - \"evil.example.com\" # once
tcp:
  - \"db.example.com:5432\" # once
";
    assert_eq!(text, expected);
    let spec: crate::policy::EgressSpec = serde_yaml::from_str(&text).unwrap();
    assert!(spec.policy(std::collections::BTreeMap::new()).is_ok());
}
