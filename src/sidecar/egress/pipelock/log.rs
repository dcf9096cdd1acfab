//! Pipelock's log: one line of JSON for each event. Pure.

use serde::Deserialize;

use crate::audit::{Details, Subject};

/// Maximum length of a reason, in bytes.
const MAX_REASON: usize = 400;

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LogLine {
    /// It enforces the configuration with this digest.
    Enforces(String),
    /// It rejects a configuration, for this reason.
    Rejects(String),
    /// A decision, or a problem.
    Decision(Box<Details>),
    /// Nothing that is not known otherwise: egress has logged what passed.
    Nothing,
}

/// The fields that are read; a line may have more.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Fields {
    event: String,
    method: String,
    url: String,
    target: String,
    resource: String,
    scanner: String,
    reason: String,
    error: String,
    action: String,
    header: String,
    patterns: Vec<String>,
    findings: Vec<String>,
    status: String,
    detail: String,
    config_hash: String,
}

/// Whether an answer of its `/health` says that it is healthy.
pub(super) fn says_healthy(body: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(body).is_ok_and(|health| health["status"] == "healthy")
}

/// Reads a line. `sidecar` and `bottle` are those of the event.
pub(super) fn read(line: &str, sidecar: &str, bottle: &str) -> LogLine {
    let Ok(fields) = serde_json::from_str::<Fields>(line) else { return LogLine::Nothing };
    let found = || [fields.patterns.clone(), fields.findings.clone()].concat().join(", ");
    let acted = if fields.action == "block" { "refuse" } else { "warn" };
    let (decision, code, reason) = match fields.event.as_str() {
        "startup" => return LogLine::Enforces(fields.config_hash),
        "config_reload" if fields.status == "success" => return LogLine::Enforces(fields.config_hash),
        "config_reload" => return LogLine::Rejects(fields.detail),
        "error" if fields.method == "CONFIG_RELOAD" || fields.resource.ends_with(crate::layout::pipelock::CONFIG) => {
            return LogLine::Rejects(fields.error);
        }
        "blocked" | "ws_blocked" => ("refuse", fields.scanner.clone(), fields.reason.clone()),
        "body_dlp" | "address_protection" => (acted, fields.event.clone(), format!("found in the body: {}", found())),
        "header_dlp" => (acted, fields.event.clone(), format!("found in the header {}: {}", fields.header, found())),
        "sni_mismatch" => ("refuse", "sni_mismatch".to_owned(), "TLS names another host".to_owned()),
        "kill_switch_deny" => ("refuse", "kill_switch".to_owned(), fields.reason.clone()),
        "response_scan" => (acted, "response".to_owned(), format!("found in the response: {}", found())),
        "anomaly" | "dlp_warn" => ("warn", fields.scanner.clone(), fields.reason.clone()),
        "error" => ("warn", "error".to_owned(), fields.error.clone()),
        _ => return LogLine::Nothing,
    };
    let code = plain(&code);
    LogLine::Decision(Box::new(Details {
        subject: Subject::Request,
        sidecar: sidecar.to_owned(),
        bottle: bottle.to_owned(),
        client: String::new(),
        decision: decision.to_owned(),
        code: if code.is_empty() { "pipelock".to_owned() } else { format!("pipelock_{code}") },
        reason: format!("Pipelock: {}", cut(&reason)),
        form: "inside".to_owned(),
        method: fields.method.chars().filter(char::is_ascii_alphabetic).take(20).collect(),
        destination: destination(&fields),
    }))
}

/// `host:port` of a request.
fn destination(fields: &Fields) -> String {
    if fields.url.is_empty() {
        return fields.target.chars().take(300).collect();
    }
    let Ok(url) = url::Url::parse(&fields.url) else { return String::new() };
    let port = url.port_or_known_default().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{port}", url.host_str().unwrap_or_default())
}

/// A word of Pipelock's as a part of a code.
fn plain(word: &str) -> String {
    let is_plain = |byte: char| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == '_';
    word.to_ascii_lowercase().replace(['-', ' '], "_").chars().filter(|byte| is_plain(*byte)).take(40).collect()
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_REASON);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The decision that a line is read as: its word, code, destination and reason.
    fn decision(line: &serde_json::Value) -> Option<(String, String, String, String)> {
        let LogLine::Decision(details) = read(&line.to_string(), "egress", "b") else { return None };
        let Details { decision, code, destination, reason, .. } = *details;
        Some((decision, code, destination, reason))
    }

    /// What version 2.3 answers, without times and versions; and others.
    #[test]
    fn its_answer_about_its_health_is_read() {
        let answered = json!({
            "status": "healthy", "mode": "strict", "dlp_patterns": 48, "response_scan_enabled": true,
            "git_protection_enabled": false, "rate_limit_enabled": true, "forward_proxy_enabled": true,
            "websocket_proxy_enabled": false, "request_body_scan_enabled": true, "tls_interception_enabled": true,
            "kill_switch_active": false,
        });
        assert!(says_healthy(answered.to_string().as_bytes()));
        for other in
            ["", "healthy", "[]", r#"{"status": "degraded"}"#, r#"{"status": true}"#, r#"{"state": "healthy"}"#]
        {
            assert!(!says_healthy(other.as_bytes()), "{other}");
        }
    }

    /// The fields that version 2.3 wrote for these requests, without times, addresses and numbers.
    #[test]
    fn its_refusals_are_read_with_their_destination_and_reason() {
        let url = "https://api.example.com/a";
        for (line, code, destination, reason) in [
            (
                json!({"event": "body_dlp", "method": "POST", "url": url, "action": "block", "match_count": 1, "patterns": ["Credit Card Number"]}),
                "pipelock_body_dlp",
                "api.example.com:443",
                "Pipelock: found in the body: Credit Card Number",
            ),
            (
                json!({"event": "header_dlp", "method": "GET", "url": "http://h.example.com:8080/", "action": "block", "header": "X-Card", "patterns": ["A", "B"]}),
                "pipelock_header_dlp",
                "h.example.com:8080",
                "Pipelock: found in the header X-Card: A, B",
            ),
            (
                json!({"event": "blocked", "method": "GET", "url": url, "scanner": "allowlist", "reason": "domain not in allowlist: api.example.com"}),
                "pipelock_allowlist",
                "api.example.com:443",
                "Pipelock: domain not in allowlist: api.example.com",
            ),
            (
                json!({"event": "blocked", "method": "POST", "url": "https://api.example.com/[redacted]", "scanner": "body_dlp", "reason": "invalid JSON body"}),
                "pipelock_body_dlp",
                "api.example.com:443",
                "Pipelock: invalid JSON body",
            ),
            (
                json!({"event": "blocked", "method": "CONNECT", "target": "api.example.com:443", "scanner": "SSRF check!", "reason": "r"}),
                "pipelock_ssrf_check",
                "api.example.com:443",
                "Pipelock: r",
            ),
        ] {
            let expected = ("refuse", code, destination, reason);
            let read = decision(&line).unwrap();
            assert_eq!((read.0.as_str(), read.1.as_str(), read.2.as_str(), read.3.as_str()), expected, "{line}");
        }
        let warned = json!({"event": "body_dlp", "url": url, "action": "warn", "patterns": ["A"]});
        assert_eq!(decision(&warned).unwrap().0, "warn");
        let long = json!({"event": "blocked", "url": url, "scanner": "x", "reason": "\u{e9}".repeat(1000)});
        assert!(decision(&long).unwrap().3.len() < 420);
    }

    #[test]
    fn what_it_enforces_and_rejects_is_read_and_all_else_is_nothing() {
        let read = |line: serde_json::Value| read(&line.to_string(), "egress", "b");
        assert_eq!(
            read(json!({"event": "startup", "mode": "strict", "config_hash": "ab"})),
            LogLine::Enforces("ab".into())
        );
        let reloaded =
            json!({"event": "config_reload", "status": "success", "detail": "mode=strict", "config_hash": "cd"});
        assert_eq!(read(reloaded), LogLine::Enforces("cd".into()));
        let rejected = json!({"event": "error", "method": "CONFIG_RELOAD", "resource": "/run/x/pipelock.yaml", "error": "rejected: security downgrade"});
        assert_eq!(read(rejected), LogLine::Rejects("rejected: security downgrade".into()));
        for nothing in
            [json!({"event": "allowed", "url": "https://a/"}), json!({"event": "shutdown"}), json!({}), json!([1])]
        {
            assert_eq!(read(nothing.clone()), LogLine::Nothing, "{nothing}");
        }
        assert_eq!(super::read("not JSON", "egress", "b"), LogLine::Nothing);
    }
}
