//! Intent → decision: the one gate for every form of request.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::Serialize;

use super::allow::Fit;
use super::{Allow, CANARY, Class, Host, HostError, PathError, Tls, classify};
use crate::scan::{DecodeError, Finding};

/// How a request reached egress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// `CONNECT host:port` (RFC 9110, section 9.3.6).
    Connect,
    /// `GET http://host/path` (absolute form; RFC 9112, section 3.2.2).
    Absolute,
    /// A request inside TLS that egress has taken off.
    Inside,
}

/// What a request wants, whatever its form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Its form.
    pub form: Form,
    /// Its method.
    pub method: String,
    /// Where it wants to go.
    pub host: Host,
    /// To which port.
    pub port: u16,
    /// The canonical path with its query; not known of a CONNECT.
    pub path: Option<String>,
}

/// What is allowed, and how the bottle's own sidecars are found.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// What is allowed.
    pub allow: Vec<Allow>,
    /// Private ranges that the user means to reach.
    pub ip_allow: Vec<IpNet>,
    /// The bottle's own sidecars by name: the only private addresses that are dialled, and only under their names.
    pub sidecars: BTreeMap<String, SocketAddr>,
}

/// Where an allowed request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Nowhere: egress answers itself.
    Canary,
    /// To one of the bottle's own sidecars.
    Sidecar(SocketAddr),
    /// To what the host's name resolves to, once each address has passed [`check_addresses`].
    Resolve(Host, u16),
}

impl Policy {
    /// Whether the user means to reach an address that is not public. Nobody means this host, a cloud's metadata service,
    /// or an address that stands for another one.
    fn means(&self, address: IpAddr, class: Class) -> bool {
        let may_be = matches!(class, Class::Private | Class::Shared | Class::Reserved);
        may_be && self.ip_allow.iter().any(|range| range.contains(&address))
    }

    /// Whether requests to a host are looked at for secrets: unless an entry that allows it says otherwise.
    pub fn scans(&self, host: &Host, port: u16) -> bool {
        self.allow.iter().filter(|entry| entry.fit(host, port, None) == Fit::All).all(Allow::scan)
    }

    /// What happens to TLS towards a host: a tunnel only where every entry that allows it says so.
    pub fn tls(&self, host: &Host, port: u16) -> Tls {
        let mut fitting = self.allow.iter().filter(|entry| entry.fit(host, port, None) == Fit::All).peekable();
        let tunnel = fitting.peek().is_some() && fitting.all(|entry| entry.tls() == Tls::Tunnel);
        if tunnel { Tls::Tunnel } else { Tls::Intercept }
    }
}

/// The outcome for one intent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It may go.
    Allow(Destination),
    /// It may not, and why.
    Refuse(Reason),
}

/// Why a request is refused. The code is stable; the sentence and the hint are for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// No rule names the host.
    #[error("{0} is not on this bottle's allowlist")]
    HostNotAllowed(Host),
    /// A rule names the host, not the port.
    #[error("port {1} of {0} is not on this bottle's allowlist")]
    PortNotAllowed(Host, u16),
    /// The address itself, or one that the name resolves to, is not public.
    #[error("{}", not_public(host, *address, *class))]
    AddressNotPublic {
        /// What was asked for.
        host: Host,
        /// The address that decided it.
        address: IpAddr,
        /// What that address is for.
        class: Class,
    },
    /// The name has no address.
    #[error("{0} has no address: {1}")]
    NameUnresolved(Host, String),
    /// The host is malformed.
    #[error("the host cannot be read: {0}")]
    BadHost(#[from] HostError),
    /// The request is malformed, or of a form that egress does not take.
    #[error("the request cannot be taken: {0}")]
    BadRequest(&'static str),
    /// Request target and Host header disagree.
    #[error("the request is for {0}, its Host header says {1:?}")]
    HostMismatch(Host, String),
    /// The host is allowed, not with this method.
    #[error("{0} {1} is not on this bottle's allowlist")]
    MethodNotAllowed(String, Host),
    /// The host is allowed, not with this path.
    #[error("the path {1} of {0} is not on this bottle's allowlist")]
    PathNotAllowed(Host, String),
    /// The path is malformed or ambiguous.
    #[error("the path cannot be taken: {0}")]
    BadPath(#[from] PathError),
    /// What follows CONNECT is no TLS, or not for the host that CONNECT named.
    #[error("what follows CONNECT to {0} is not TLS for that host: {1}")]
    NotTls(Host, &'static str),
    /// Something that must not leave is in the request.
    #[error("the request holds what must not leave: {finding} in its {1}", finding = .0.rule)]
    SecretFound(Finding, &'static str),
    /// The body cannot be decoded, so it cannot be looked at.
    #[error("the body cannot be looked at: {0}")]
    NotDecoded(#[from] DecodeError),
    /// The destination could not be reached.
    #[error("{0} cannot be reached: {1}")]
    Unreachable(Host, String),
}

fn not_public(host: &Host, address: IpAddr, class: Class) -> String {
    match host {
        Host::Name(name) => format!("{name} resolves to {address}, {class}"),
        literal => format!("{literal} is {class}"),
    }
}

impl Reason {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::HostNotAllowed(_) => "host_not_allowed",
            Self::PortNotAllowed(..) => "port_not_allowed",
            Self::AddressNotPublic { .. } => "address_not_public",
            Self::NameUnresolved(..) => "name_unresolved",
            Self::BadHost(_) => "bad_host",
            Self::BadRequest(_) => "bad_request",
            Self::HostMismatch(..) => "host_mismatch",
            Self::MethodNotAllowed(..) => "method_not_allowed",
            Self::PathNotAllowed(..) => "path_not_allowed",
            Self::BadPath(_) => "bad_path",
            Self::NotTls(..) => "not_tls",
            Self::SecretFound(..) => "secret_found",
            Self::NotDecoded(_) => "not_decoded",
            Self::Unreachable(..) => "unreachable",
        }
    }

    /// The HTTP status a refusal is told with.
    pub fn status(&self) -> u16 {
        match self {
            Self::HostNotAllowed(_)
            | Self::PortNotAllowed(..)
            | Self::MethodNotAllowed(..)
            | Self::PathNotAllowed(..)
            | Self::SecretFound(..)
            | Self::AddressNotPublic { .. } => 403,
            Self::BadHost(_) | Self::BadRequest(_) | Self::BadPath(_) | Self::NotTls(..) => 400,
            Self::NotDecoded(_) => 415,
            Self::HostMismatch(..) => 421,
            Self::NameUnresolved(..) | Self::Unreachable(..) => 502,
        }
    }

    /// What can be done about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::HostNotAllowed(_) => "add the host to egress.allow of the bottle",
            Self::PortNotAllowed(..) => "add host:port to egress.allow of the bottle",
            Self::AddressNotPublic { .. } => {
                "private addresses are refused; run the service as a sidecar, or allow its range with --allow-ip"
            }
            Self::NameUnresolved(..) => "check the spelling of the host",
            Self::BadHost(_) => "use a host name or an address",
            Self::BadRequest(_) => "send CONNECT host:port, or an absolute http:// URL",
            Self::MethodNotAllowed(..) => "add the method to the host's entry in egress.allow of the bottle",
            Self::PathNotAllowed(..) => "add the path to the host's entry in egress.allow of the bottle",
            Self::BadPath(_) => "send a plain path",
            Self::NotTls(..) => "speak TLS with the host's name in it after CONNECT",
            Self::SecretFound(..) => {
                "take the secret out of the request; a host that is to be given it has `scan: false` in egress.allow"
            }
            Self::NotDecoded(_) => "send the body as it is, or with gzip, deflate, br or zstd, of at most 8 MiB",
            Self::HostMismatch(..) => "send one host in the request target and the Host header",
            Self::Unreachable(..) => "the destination is down or refuses; this is not a refusal by bottler",
        }
    }
}

/// Decides about an intent. Addresses are decided about later, when there are any, by [`check_addresses`].
pub fn authorize(policy: &Policy, intent: &Intent) -> Decision {
    if let Err(reason) = check_form(intent) {
        return Decision::Refuse(reason);
    }
    if let Host::Name(name) = &intent.host {
        if name == CANARY {
            return Decision::Allow(Destination::Canary);
        }
        if let Some(&address) = policy.sidecars.get(name) {
            return if address.port() == intent.port {
                Decision::Allow(Destination::Sidecar(address))
            } else {
                Decision::Refuse(Reason::PortNotAllowed(intent.host.clone(), intent.port))
            };
        }
    }
    if let Err(reason) = check_literal(policy, &intent.host) {
        return Decision::Refuse(reason);
    }
    let path = intent.path.as_deref().map(|path| path.split('?').next().unwrap_or(path));
    let request = path.map(|path| (intent.method.as_str(), path));
    let best = policy.allow.iter().map(|entry| entry.fit(&intent.host, intent.port, request)).max();
    let host = || intent.host.clone();
    Decision::Refuse(match best.unwrap_or(Fit::Not) {
        Fit::All => return Decision::Allow(Destination::Resolve(host(), intent.port)),
        Fit::Method => Reason::PathNotAllowed(host(), path.unwrap_or_default().chars().take(200).collect()),
        Fit::Port => Reason::MethodNotAllowed(intent.method.clone(), host()),
        Fit::Host => Reason::PortNotAllowed(host(), intent.port),
        Fit::Not => Reason::HostNotAllowed(host()),
    })
}

/// Refuses what goes to no host at all: TRACE, which echoes headers back, and a push, which is the git gate's alone
/// (git's http-protocol.txt: `git-receive-pack` as the path's end, or as `service` of the discovery before it).
fn check_form(intent: &Intent) -> Result<(), Reason> {
    if intent.method == "TRACE" {
        return Err(Reason::BadRequest("TRACE is not forwarded"));
    }
    let whole = intent.path.as_deref().unwrap_or_default();
    let (path, query) = whole.split_once('?').unwrap_or((whole, ""));
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    let pushes = path.ends_with("/git-receive-pack")
        || query.contains("service=git-receive-pack")
        || pairs.any(|(name, value)| name == "service" && value == "git-receive-pack");
    if pushes { Err(Reason::BadRequest("git push does not go this way")) } else { Ok(()) }
}

fn check_literal(policy: &Policy, host: &Host) -> Result<(), Reason> {
    match *host {
        Host::Name(_) => Ok(()),
        Host::V4(address) => check_addresses(policy, host, &[address.into()]),
        Host::V6(address) => check_addresses(policy, host, &[address.into()]),
    }
}

/// Refuses a host as soon as *one* of its addresses is not public: a name that is both is an attack or a mistake.
///
/// # Errors
/// [`Reason::AddressNotPublic`] with the first such address.
pub fn check_addresses(policy: &Policy, host: &Host, addresses: &[IpAddr]) -> Result<(), Reason> {
    for &address in addresses {
        let class = classify(address);
        if class != Class::Public && !policy.means(address, class) {
            return Err(Reason::AddressNotPublic { host: host.clone(), address, class });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{AllowSpec, AllowTable};

    fn decide(host: &str, port: u16) -> Decision {
        let policy = Policy {
            allow: ["example.com", "*.pypi.org", "10.0.0.9"]
                .map(|rule| AllowSpec::Host(rule.into()).read().unwrap())
                .into(),
            ip_allow: Vec::new(),
            sidecars: [("upstream".to_owned(), "10.9.0.3:80".parse().unwrap())].into(),
        };
        let host = Host::parse(host).unwrap();
        authorize(&policy, &Intent { form: Form::Connect, method: "CONNECT".into(), host, port, path: None })
    }

    fn code(host: &str, port: u16) -> &'static str {
        match decide(host, port) {
            Decision::Allow(Destination::Canary) => "canary",
            Decision::Allow(Destination::Sidecar(_)) => "sidecar",
            Decision::Allow(Destination::Resolve(..)) => "resolve",
            Decision::Refuse(reason) => reason.code(),
        }
    }

    #[test]
    fn promise_05_one_gate_for_every_destination() {
        for (host, port, expected) in [
            (CANARY, 443, "canary"),
            ("example.com", 443, "resolve"),
            ("EXAMPLE.COM.", 443, "resolve"),
            ("files.pypi.org", 443, "resolve"),
            ("pypi.org", 443, "host_not_allowed"),
            ("example.com", 22, "port_not_allowed"),
            ("example.org", 443, "host_not_allowed"),
            ("upstream", 80, "sidecar"),
            ("upstream", 22, "port_not_allowed"),
            // A sidecar is exempt under its name, never by its address, and a rule does not open a private range.
            ("10.9.0.3", 80, "address_not_public"),
            ("10.0.0.9", 443, "address_not_public"),
            ("0x7f000001", 443, "address_not_public"),
            ("[::1]", 443, "address_not_public"),
            ("169.254.169.254", 80, "address_not_public"),
            ("1.1.1.1", 443, "host_not_allowed"),
        ] {
            assert_eq!(code(host, port), expected, "{host}:{port}");
        }
    }

    #[test]
    fn promise_05_one_private_address_among_public_ones_refuses_the_name() {
        let host = Host::parse("rebind.example.com").unwrap();
        let public: IpAddr = "1.1.1.1".parse().unwrap();
        let mut policy = Policy::default();
        assert_eq!(check_addresses(&policy, &host, &[public]), Ok(()));
        assert!(check_addresses(&policy, &host, &[public, "127.0.0.1".parse().unwrap()]).is_err());
        // What the user means to reach, and what nobody does.
        policy.ip_allow = vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
        for (address, passes) in [
            ("10.1.2.3", true),
            ("100.64.0.1", true),
            ("fd00::1", true),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
            ("::1", false),
            ("224.0.0.1", false),
            ("64:ff9b::a00:1", false),
        ] {
            assert_eq!(check_addresses(&policy, &host, &[address.parse().unwrap()]).is_ok(), passes, "{address}");
        }
    }

    #[test]
    fn methods_and_paths_are_judged_together_and_a_tunnel_is_named() {
        let entry = |host: &str, methods: &[&str], paths: &[&str], tls| {
            let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
            AllowSpec::Table(AllowTable {
                host: host.into(),
                methods: words(methods),
                paths: words(paths),
                tls,
                scan: true,
            })
            .read()
        };
        let policy = Policy {
            allow: vec![
                entry("api.example.com", &["GET"], &["/acme/**"], Tls::Intercept).unwrap(),
                entry("api.example.com", &["POST"], &["/v1/messages"], Tls::Intercept).unwrap(),
                entry("pinned.example.com", &[], &[], Tls::Tunnel).unwrap(),
            ],
            ip_allow: Vec::new(),
            sidecars: BTreeMap::new(),
        };
        let host = |name: &str| Host::parse(name).unwrap();
        let code = |method: &str, path: &str| {
            let path = Some(path.to_owned());
            let (form, method) = (Form::Inside, method.to_owned());
            match authorize(&policy, &Intent { form, method, host: host("api.example.com"), port: 443, path }) {
                Decision::Allow(_) => "allowed",
                Decision::Refuse(reason) => reason.code(),
            }
        };
        for (method, path, expected) in [
            ("GET", "/acme/repo?x=/evil", "allowed"),
            ("POST", "/v1/messages", "allowed"),
            ("POST", "/acme/repo", "path_not_allowed"),
            ("GET", "/v1/messages", "path_not_allowed"),
            ("DELETE", "/acme/repo", "method_not_allowed"),
            ("get", "/acme/repo", "method_not_allowed"),
            ("TRACE", "/acme/repo", "bad_request"),
            ("GET", "/acme/git-receive-pack", "bad_request"),
            ("GET", "/acme/info/refs?service=git-receive-pack", "bad_request"),
            ("GET", "/acme/info/refs?a=b&%73ervice=git%2Dreceive-pack", "bad_request"),
            ("GET", "/acme/info/refs?service=git-upload-pack", "allowed"),
        ] {
            assert_eq!(code(method, path), expected, "{method} {path}");
        }
        assert_eq!(policy.tls(&host("pinned.example.com"), 443), Tls::Tunnel);
        assert_eq!(policy.tls(&host("api.example.com"), 443), Tls::Intercept);
        assert!(entry("x.example.com", &["GET"], &[], Tls::Tunnel).is_err());
    }
}
