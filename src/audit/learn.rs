//! Proposes an allowlist from decisions: what passed, and, as comments for a person to decide, what did not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::Event;

/// The codes of refusals that an allowlist entry would change.
const OF_POLICY: [&str; 4] = ["host_not_allowed", "port_not_allowed", "method_not_allowed", "path_not_allowed"];

#[derive(Default)]
struct Usage {
    methods: BTreeSet<String>,
    count: u64,
    tcp: bool,
    tunnel: bool,
}

/// The `egress` section that allows what passed, or would have passed; refusals for a missing entry become comments.
pub fn learn<'a>(bottle: &str, events: impl Iterator<Item = &'a Event>) -> String {
    let (mut passed, mut refused, mut further): (
        BTreeMap<String, Usage>,
        BTreeMap<String, Usage>,
        BTreeMap<String, Usage>,
    ) = Default::default();
    let mut decisions = 0;
    for event in events {
        decisions += event.count;
        let kind = &event.kind;
        let list = match kind.decision.as_str() {
            "allow" | "audit" => &mut passed,
            "refuse" if OF_POLICY.contains(&kind.code.as_str()) => &mut refused,
            _ => continue,
        };
        if kind.destination.is_empty() || crate::policy::is_probe_host(&kind.destination) {
            continue;
        }
        // A person must name the hosts that were counted together.
        let together = kind.destination.starts_with("*.") || kind.destination.contains('/');
        let list = if together { &mut further } else { list };
        let usage = list.entry(kind.destination.clone()).or_default();
        usage.count += event.count;
        usage.tcp |= kind.form == "tcp";
        usage.tunnel |= kind.form == "tunnel";
        // A granted `CONNECT` says nothing about the requests in it.
        if kind.form != "connect" && kind.form != "tunnel" && !kind.method.is_empty() {
            usage.methods.insert(kind.method.clone());
        }
    }
    let mut text = format!("# Proposed by `bottler policy learn {bottle}`, from {decisions} decisions.\n");
    let _ = writeln!(text, "allow:{}", if passed.values().all(|usage| usage.tcp) { " []" } else { "" });
    for (destination, usage) in passed.iter().filter(|(_, usage)| !usage.tcp) {
        let _ = writeln!(text, "  - {}", entry(destination, usage));
    }
    for (destination, usage) in refused.iter().filter(|(destination, _)| !passed.contains_key(*destination)) {
        let _ = writeln!(text, "  # refused: - {}", entry(destination, usage));
    }
    for (destination, usage) in &further {
        let _ = writeln!(text, "  # further hosts of {destination}: {}", times(usage.count));
    }
    let mut tcp = passed.iter().filter(|(_, usage)| usage.tcp).peekable();
    if tcp.peek().is_some() {
        text.push_str("tcp:\n");
        tcp.for_each(|(destination, usage)| {
            let _ = writeln!(text, "  - {destination:?} # {}", times(usage.count));
        });
    }
    text
}

fn entry(destination: &str, usage: &Usage) -> String {
    let host = destination.strip_suffix(":443").or_else(|| destination.strip_suffix(":80")).unwrap_or(destination);
    let methods: Vec<&str> = usage.methods.iter().map(String::as_str).collect();
    let times = times(usage.count);
    if usage.tunnel {
        format!("{{host: {host:?}, tls: tunnel}} # {times}")
    } else if methods.is_empty() {
        format!("{host:?} # {times}")
    } else {
        format!("{{host: {host:?}, methods: [{}]}} # {times}", methods.join(", "))
    }
}

fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}
