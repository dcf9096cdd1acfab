//! Proposals: what an agent asks to reach, as the exact entry that a grant would add, and what that entry makes reachable. Pure.
//!
//! Rules:
//! * The code that enforces decides about a proposal: entries are parsed, denied and matched as in a change of the policy.
//! * What would stay refused is never offered to an operator.
//! * An agent asks for hosts, methods and paths, and for nothing else: no tunnel, no exception from the scan, no address range.
//! * The hash covers everything that an operator is shown, and the generation of the policy. An approval names it.
//!
//! Attacks that this stops: an approval of something else than what was shown; a proposal that lies about its own width; a
//! method, a host or a path in a second spelling, which would look like another one.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    Allow, AllowSpec, AllowTable, Change, ChangeError, Decision, Form, Intent, LivePolicy, Mode, Reason, Scope, Tls,
    authorize,
};
use crate::net::{Host, ambiguity, canonical};

/// Most methods and paths of a proposal.
const MAX_METHODS: usize = 8;
const MAX_PATHS: usize = 16;
/// Maximum length of a host and of a path, in bytes.
const MAX_HOST: usize = 260;
const MAX_PATH: usize = 512;
/// Hexadecimal digits of a hash.
const HASH: usize = 16;

/// What an agent asks to reach.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// `host`, `*.host`, or either with a port.
    pub host: String,
    /// The only methods; all where it is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// The only paths, with `*` and `**`; all where it is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
}

/// A credential of the bottle, and a host that its value goes to.
#[derive(Debug, Clone, Copy)]
pub struct CredentialReach<'a> {
    /// The credential's name.
    pub name: &'a str,
    /// A host that it is declared for.
    pub host: &'a str,
}

/// What a proposal is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is malformed, with the reason.
    Invalid(String),
    /// All of it is allowed already.
    Allowed,
    /// It would stay refused, with the reason.
    Refused(String),
    /// An operator can grant it.
    Candidate(Candidate),
}

/// What an operator decides about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The entry that a grant adds to the allowlist.
    pub entry: AllowSpec,
    /// What becomes reachable, in sentences.
    pub reaches: Vec<String>,
    /// The credentials whose values go to hosts of the entry.
    pub credentials: Vec<String>,
    /// What an operator should know before anything else; empty if there is nothing.
    pub warnings: Vec<String>,
    /// Whether a grant for one request is possible: the entry has one method and one plain path.
    pub exact: bool,
}

impl Wanted {
    /// The same in one spelling: methods in capitals, everything sorted and once.
    ///
    /// # Errors
    /// A part is malformed or too long.
    pub fn normal(&self) -> Result<Self, String> {
        if self.host.len() > MAX_HOST {
            return Err(format!("host: it is longer than {MAX_HOST} bytes"));
        }
        if self.methods.len() > MAX_METHODS || self.paths.len() > MAX_PATHS {
            return Err(format!("at most {MAX_METHODS} methods and {MAX_PATHS} paths; ask for less at a time"));
        }
        if let Some(path) = self.paths.iter().find(|path| path.len() > MAX_PATH) {
            return Err(format!(
                "paths: {:?}… is longer than {MAX_PATH} bytes",
                path.chars().take(40).collect::<String>()
            ));
        }
        let mut methods: Vec<String> = self.methods.iter().map(|method| method.trim().to_ascii_uppercase()).collect();
        let mut paths = Vec::new();
        for path in &self.paths {
            // A query is no part of a pattern, and a denied request's path may come with one.
            let plain = path.split(['?', '#']).next().unwrap_or_default();
            let plain = if plain.contains('*') {
                plain.to_owned()
            } else {
                canonical(plain).map_err(|error| format!("paths: {plain:?}: {error}"))?
            };
            paths.push(plain);
        }
        methods.sort();
        methods.dedup();
        paths.sort();
        paths.dedup();
        // In both cases everything is meant.
        if methods.iter().any(|method| method == "*") {
            methods.clear();
        }
        if paths.iter().any(|path| path == "/**") {
            paths.clear();
        }
        Ok(Self { host: self.host.trim().trim_end_matches('.').to_ascii_lowercase(), methods, paths })
    }

    /// The entry of the allowlist.
    pub fn entry(&self) -> AllowSpec {
        if self.methods.is_empty() && self.paths.is_empty() {
            return AllowSpec::Host(self.host.clone());
        }
        AllowSpec::Table(AllowTable {
            host: self.host.clone(),
            methods: self.methods.clone(),
            paths: self.paths.clone(),
            ..AllowTable::default()
        })
    }

    /// Whether it is one method and one plain path.
    fn is_exact(&self) -> bool {
        self.methods.len() == 1 && self.paths.len() == 1 && !self.paths[0].contains('*') && !self.host.contains('*')
    }

    /// What proposals are grouped by: the domain that somebody has registered, or the address.
    pub fn class(&self) -> String {
        let host = self.host.trim_start_matches("*.");
        let (name, _) = host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).unwrap_or((host, ""));
        match Host::parse(name) {
            Ok(Host::Name(name)) => psl::domain_str(&name).unwrap_or(&name).to_owned(),
            _ => name.to_owned(),
        }
    }

    /// Whether everything of another proposal is in this one.
    pub fn covers(&self, other: &Self) -> bool {
        match (self.entry().read(), other.entry().read()) {
            (Ok(own), Ok(other)) => own.covers(&other),
            _ => false,
        }
    }

    fn sentence(&self) -> String {
        let methods = if self.methods.is_empty() { "every method".to_owned() } else { self.methods.join(", ") };
        let paths = if self.paths.is_empty() { "every path".to_owned() } else { self.paths.join(", ") };
        let ports = if self.host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']')) {
            ""
        } else {
            ", ports 443 and 80"
        };
        format!("{methods} for {paths} at {}{ports}", self.host)
    }
}

/// Says what a proposal is under a policy at `now`, in seconds since the epoch. `wanted` is normal.
pub fn examine(policy: &LivePolicy, wanted: &Wanted, credentials: &[CredentialReach<'_>], now: u64) -> Verdict {
    let entry = wanted.entry();
    let read = match entry.read() {
        Ok(read) => read,
        Err(error) => return Verdict::Invalid(error.to_string()),
    };
    // Once: unlike a lasting grant, it takes back no denial of the operator.
    let change = Change::Allow { entries: vec![entry.clone()], scope: Scope::Once };
    let candidate = match policy.with(&change, now) {
        Ok(Some(candidate)) => candidate,
        Ok(None) => return Verdict::Allowed,
        Err(error @ (ChangeError::Entry(_) | ChangeError::Spec(_) | ChangeError::Tunnel(_))) => {
            return Verdict::Invalid(error.to_string());
        }
        Err(error) => return Verdict::Refused(error.to_string()),
    };
    let effective = policy.effective();
    let (Ok(now_allows), Ok(mut then)) =
        (effective.policy(BTreeMap::new()), candidate.effective().policy(BTreeMap::new()))
    else {
        return Verdict::Invalid("the bottle's own policy cannot be parsed".to_owned());
    };
    if now_allows.mode == Mode::Audit || now_allows.allow.iter().any(|own| own.covers(&read)) {
        return Verdict::Allowed;
    }
    then.allow.push(read.clone());
    if let Some(reason) = stays_refused(&then, wanted, &read) {
        return Verdict::Refused(reason);
    }
    let mut warnings = Vec::new();
    if wanted.host.starts_with("*.") {
        warnings.push(format!("{}: every subdomain, whoever runs it", wanted.host));
    }
    if wanted.methods.is_empty()
        || wanted.methods.iter().any(|method| !matches!(method.as_str(), "GET" | "HEAD" | "OPTIONS"))
    {
        warnings.push(format!("the agent can send data to {}", wanted.host));
    }
    if let Some(host) = read.single_host()
        && now_allows.tls(host, 443) == Tls::Tunnel
    {
        warnings.push(format!("TLS of {host} is not inspected: methods and paths are not checked"));
    }
    let with: Vec<String> =
        credentials.iter().filter(|one| touches(&read, one.host)).map(|one| one.name.to_owned()).collect();
    let mut names = with;
    names.sort();
    names.dedup();
    Verdict::Candidate(Candidate {
        exact: wanted.is_exact(),
        reaches: vec![wanted.sentence()],
        credentials: names,
        warnings,
        entry,
    })
}

/// Whether an entry leads to a host of a credential.
fn touches(entry: &Allow, host: &str) -> bool {
    host.parse().is_ok_and(|rule| entry.meets(&rule))
        || AllowSpec::Host(host.to_owned()).read().is_ok_and(|other| other.meets_entry(entry))
}

/// Why every request of a proposal would be refused even with its entry; `None` if some pass, or if that is unknown.
fn stays_refused(then: &super::Policy, wanted: &Wanted, read: &Allow) -> Option<String> {
    let host = read.single_host()?.clone();
    let port = wanted.host.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(443);
    let ask = |form, method: &str, path: Option<&str>| {
        let intent =
            Intent { form, method: method.to_owned(), host: host.clone(), port, path: path.map(str::to_owned) };
        match authorize(then, &intent) {
            Decision::Refuse(reason) => Some(reason.to_string()),
            _ => None,
        }
    };
    if wanted.paths.is_empty() || wanted.paths.iter().any(|path| path.contains('*')) {
        return ask(Form::Connect, "CONNECT", None);
    }
    let any = vec!["GET".to_owned(), "POST".to_owned()];
    let methods = if wanted.methods.is_empty() { &any } else { &wanted.methods };
    let mut reason = None;
    for method in methods {
        for path in &wanted.paths {
            reason = Some(ask(Form::Inside, method, Some(path))?);
        }
    }
    reason
}

impl Candidate {
    /// The hash of what an operator is shown: this candidate of a request, under a generation of the policy.
    pub fn hash(&self, bottle: &str, request: &str, generation: u64) -> String {
        hash_of(&(bottle, request, generation, self))
    }
}

/// The hash of what an operator is shown.
pub fn hash_of(shown: &impl Serialize) -> String {
    let shown = serde_json::to_vec(shown).unwrap_or_default();
    let digest = Sha256::digest(&shown);
    HEXLOWER.encode(&digest)[..HASH].to_owned()
}

/// The tool of the MCP server by which an agent asks to reach a host.
const TOOL: &str = "egress_request";
/// The codes of refusals that a grant would change.
const GRANTABLE: [&str; 4] = ["host_not_allowed", "port_not_allowed", "method_not_allowed", "path_not_allowed"];
/// The longest path that is repeated to the agent, in bytes.
const MAX_REPEATED: usize = 200;

/// The call by which an agent asks for what was refused: for the method and the path of this request, if they are known. `None` if
/// nobody can grant it.
pub fn next_call(reason: &Reason, intent: &Intent) -> Option<Value> {
    let path = intent.path.as_deref().map(|path| path.split('?').next().unwrap_or_default());
    let path = path.filter(|path| path.len() <= MAX_REPEATED && !path.contains('*') && ambiguity(path).is_none());
    let destination = format!("{}:{}", intent.host, intent.port);
    let mut call = suggested_call(reason.code(), &destination, &intent.method)?;
    if let Some(path) = path {
        call["arguments"]["paths"] = json!([path]);
    }
    Some(call)
}

/// The same for a refusal in the log, which names no path. `destination` is `host:port`.
pub fn suggested_call(code: &str, destination: &str, method: &str) -> Option<Value> {
    if !GRANTABLE.contains(&code) || destination.is_empty() || destination.starts_with("*.") {
        return None;
    }
    let (host, port) = destination.rsplit_once(':')?;
    let host = if matches!(port, "443" | "80") { host } else { destination };
    let mut arguments = json!({ "host": host, "reason": "…" });
    if !method.is_empty() && method != "CONNECT" && method.bytes().all(|byte| byte.is_ascii_uppercase()) {
        arguments["methods"] = json!([method]);
    }
    Some(json!({ "tool": TOOL, "arguments": arguments }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live() -> LivePolicy {
        let yaml = "allow: [a.com, '*.wide.com', {host: b.com, methods: [GET], paths: ['/docs/**']}]\n\
                    deny: ['*.evil.org', {host: c.com, paths: [/admin]}, d.com]";
        LivePolicy::new(serde_yaml::from_str(yaml).unwrap())
    }

    fn wanted(host: &str, methods: &[&str], paths: &[&str]) -> Wanted {
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Wanted { host: host.to_owned(), methods: own(methods), paths: own(paths) }.normal().unwrap()
    }

    fn word(verdict: &Verdict) -> &'static str {
        match verdict {
            Verdict::Invalid(_) => "invalid",
            Verdict::Allowed => "allowed",
            Verdict::Refused(_) => "refused",
            Verdict::Candidate(_) => "candidate",
        }
    }

    #[test]
    fn only_what_an_operator_can_grant_is_a_candidate() {
        for (host, methods, paths, expected) in [
            ("new.com", &[][..], &[][..], "candidate"),
            ("new.com", &["get"], &["/x?a=1"], "candidate"),
            ("a.com", &[], &[], "allowed"),
            ("A.com.", &["POST"], &["/x"], "allowed"),
            ("x.wide.com", &[], &[], "allowed"),
            ("wide.com", &[], &[], "candidate"),
            ("a.com:8443", &[], &[], "candidate"),
            ("b.com", &["GET"], &["/docs/a/b"], "allowed"),
            ("b.com", &["GET"], &["/docs/**"], "allowed"),
            ("b.com", &["GET"], &["/docs/*"], "candidate"),
            ("b.com", &["GET"], &["/other"], "candidate"),
            ("b.com", &["POST"], &["/docs/a"], "candidate"),
            ("b.com", &[], &[], "candidate"),
            ("x.evil.org", &[], &[], "refused"),
            ("d.com", &["GET"], &["/"], "refused"),
            ("c.com", &["GET"], &["/admin"], "refused"),
            ("c.com", &["GET"], &["/admin", "/other"], "candidate"),
            ("c.com", &[], &[], "candidate"),
            ("127.0.0.1", &[], &[], "refused"),
            ("169.254.169.254", &["GET"], &["/latest/meta-data"], "refused"),
            ("metadata.google.internal", &[], &[], "refused"),
            ("new.com", &["POST"], &["/r.git/git-receive-pack"], "refused"),
            ("*.com", &[], &[], "invalid"),
            ("*.co.uk", &[], &[], "invalid"),
            ("https://new.com/x", &[], &[], "invalid"),
            ("", &[], &[], "invalid"),
            ("new.com", &["G T"], &[], "invalid"),
        ] {
            let verdict = examine(&live(), &wanted(host, methods, paths), &[], 100);
            assert_eq!(word(&verdict), expected, "{host} {methods:?} {paths:?}: {verdict:?}");
        }
        for paths in [vec!["x"], vec!["/a//b"], vec!["/../x"]] {
            let own = Wanted {
                host: "new.com".into(),
                paths: paths.iter().map(|path| (*path).into()).collect(),
                ..Wanted::default()
            };
            let read = own.normal();
            let bad = read.as_ref().is_err()
                || matches!(
                    examine(&live(), read.as_ref().unwrap(), &[], 100),
                    Verdict::Invalid(_) | Verdict::Refused(_)
                );
            assert!(bad, "{paths:?}: {read:?}");
        }
    }

    #[test]
    fn a_denial_of_the_operator_is_an_answer() {
        let deny = Change::Deny { entries: vec![super::super::DenySpec::Host("new.com".into())], until: None };
        let policy = live().with(&deny, 100).unwrap().unwrap();
        let verdict = examine(&policy, &wanted("new.com", &[], &[]), &[], 100);
        assert!(matches!(&verdict, Verdict::Refused(why) if why.contains("denied")), "{verdict:?}");
    }

    #[test]
    fn a_candidate_says_how_wide_it_is_and_with_which_credentials() {
        let reach =
            [CredentialReach { name: "key", host: "api.new.com" }, CredentialReach { name: "other", host: "else.com" }];
        let Verdict::Candidate(wide) = examine(&live(), &wanted("*.new.com", &[], &[]), &reach, 100) else { panic!() };
        assert_eq!((wide.credentials, wide.exact), (vec!["key".to_owned()], false));
        assert!(wide.warnings.iter().any(|line| line.contains("every subdomain")), "{:?}", wide.warnings);
        let Verdict::Candidate(one) = examine(&live(), &wanted("x.com", &["GET"], &["/a"]), &reach, 100) else {
            panic!()
        };
        assert_eq!((one.credentials.len(), one.exact, one.warnings.len()), (0, true, 0));
        assert_eq!(one.reaches, ["GET for /a at x.com, ports 443 and 80"]);
    }

    #[test]
    fn a_hash_covers_what_is_shown() {
        let Verdict::Candidate(one) = examine(&live(), &wanted("x.com", &[], &[]), &[], 100) else { panic!() };
        let hash = one.hash("b", "r1", 1);
        assert_eq!(hash, one.clone().hash("b", "r1", 1));
        let other = Candidate { entry: AllowSpec::Host("y.com".into()), ..one.clone() };
        let hidden = Candidate { credentials: vec!["key".into()], ..one.clone() };
        for changed in [
            other.hash("b", "r1", 1),
            hidden.hash("b", "r1", 1),
            one.hash("b", "r2", 1),
            one.hash("c", "r1", 1),
            one.hash("b", "r1", 2),
        ] {
            assert_ne!(hash, changed);
        }
    }

    #[test]
    fn what_is_alike_has_one_spelling_and_one_class() {
        assert_eq!(
            wanted("NEW.com.", &["get", "GET"], &["/b", "/a", "/b"]),
            wanted("new.com", &["GET"], &["/a", "/b"])
        );
        assert_eq!(wanted("new.com", &["*"], &["/**", "/x"]).entry(), AllowSpec::Host("new.com".into()));
        for (host, class) in
            [("a.b.new.co.uk", "new.co.uk"), ("*.x.com", "x.com"), ("x.com:8443", "x.com"), ("8.8.8.8", "8.8.8.8")]
        {
            assert_eq!(wanted(host, &[], &[]).class(), class);
        }
        assert!(wanted("x.com", &[], &[]).covers(&wanted("x.com", &["GET"], &["/a"])));
        assert!(!wanted("x.com", &["GET"], &[]).covers(&wanted("x.com", &[], &[])));
    }
}
