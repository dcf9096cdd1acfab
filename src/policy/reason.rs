//! Why a request is refused: a stable code, a sentence, and what to do about it.

use std::borrow::Cow;
use std::net::IpAddr;

use super::Preset;
use crate::credential::{Bound, LimitReached, Violation};
use crate::net::{Class, Host, HostError, PathError};
use crate::scan::{DecodeError, Exhausted, Finding};

/// Why a request is refused. The code is stable; the sentence and the hint are for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// No rule matches the host.
    #[error("{0} is not on this bottle's allowlist")]
    HostNotAllowed(Host),
    /// A rule of the denylist matches.
    #[error("{0} is on this bottle's denylist, by {1}")]
    Denied(Host, String),
    /// A rule matches the host, but not the port.
    #[error("port {1} of {0} is not on this bottle's allowlist")]
    PortNotAllowed(Host, u16),
    /// A sidecar or a service of the user's machine is at another port.
    #[error("{0} is at port {2}, not at {1}")]
    OtherPort(Host, u16, u16),
    /// The address, or one that the name resolves to, is not public.
    #[error("{}", not_public(host, *address, *class))]
    AddressNotPublic {
        /// The requested host.
        host: Host,
        /// The address that was decisive.
        address: IpAddr,
        /// The class of the address.
        class: Class,
    },
    /// The address, or one that the name resolves to, is this host's.
    #[error("{}", of_this_host(host, *address))]
    AddressOfHost {
        /// The requested host.
        host: Host,
        /// The address that was decisive.
        address: IpAddr,
    },
    /// A name of this host or of a metadata service, wherever it resolves.
    #[error("{0} is a name of {1}")]
    NameNotPublic(Host, &'static str),
    /// The name has no address.
    #[error("{0} has no address: {1}")]
    NameUnresolved(Host, String),
    /// The host is malformed.
    #[error("the host cannot be parsed: {0}")]
    BadHost(#[from] HostError),
    /// The request is malformed, or in a form that egress does not accept.
    #[error("the request is not accepted: {0}")]
    BadRequest(&'static str),
    /// A push to a repository that is not behind the git gate.
    #[error("a push to {0} goes through the git gate only, and this repository is not declared there")]
    PushNotGated(Host),
    /// The request target and the `Host` header differ.
    #[error("the request is for {0}, its Host header says {1:?}")]
    HostMismatch(Host, String),
    /// The host is allowed, but not with this method.
    #[error("{0} {1} is not on this bottle's allowlist")]
    MethodNotAllowed(String, Host),
    /// The host is allowed, but not with this path.
    #[error("the path {1} of {0} is not on this bottle's allowlist")]
    PathNotAllowed(Host, String),
    /// The path is malformed or ambiguous.
    #[error("the path is not accepted: {0}")]
    BadPath(#[from] PathError),
    /// What follows `CONNECT` is not TLS, or not for the host of the `CONNECT`.
    #[error("what follows CONNECT to {0} is not TLS for that host: {1}")]
    NotTls(Host, &'static str),
    /// The request contains a secret.
    #[error("the request contains what must not leave: {0} in its {1}")]
    SecretFound(Finding, &'static str),
    /// A secret that was masked: the request is sent without it.
    #[error("{0} was masked")]
    SecretMasked(Finding),
    /// A placeholder that is not in its slot, or a credential that is not the host's.
    #[error("{0}")]
    Credential(Violation),
    /// Cookies that the host has not handed out.
    #[error(
        "cookies that {0} did not hand out to this bottle are left out, because the bottle has a credential for it"
    )]
    CookiesLeftOut(Host),
    /// A placeholder where no credential stands: it is sent as it is.
    #[error("the request holds the placeholder of a credential in its {0}, where it is not replaced")]
    PlaceholderPassed(&'static str),
    /// What inspects requests behind egress refuses this one, in its own words.
    #[error("Pipelock refuses it: {0}")]
    Inspector(String),
    /// The body cannot be decoded, so it cannot be scanned.
    #[error("the body cannot be inspected: {0}")]
    NotDecoded(DecodeError),
    /// The scan takes too much work.
    #[error("the request cannot be inspected: {0}")]
    TooMuchWork(Exhausted),
    /// A limit of egress is reached.
    #[error("egress is at its limit, and no other request ended in time")]
    Busy,
    /// The body stalled.
    #[error("the body did not continue in time")]
    Stalled,
    /// The client did not read the response, while many others waited.
    #[error("the response was not read, and there were too many like it")]
    Unread,
    /// As many requests with a credential as there may be.
    #[error("{0}")]
    LimitReached(LimitReached),
    /// The destination cannot be reached.
    #[error("{0} cannot be reached: {1}")]
    Unreachable(Host, String),
}

fn not_public(host: &Host, address: IpAddr, class: Class) -> String {
    match host {
        Host::Name(name) => format!("{name} resolves to {address}, {class}"),
        literal => format!("{literal} is {class}"),
    }
}

fn of_this_host(host: &Host, address: IpAddr) -> String {
    match host {
        Host::Name(name) => format!("{name} resolves to {address}, an address of this host"),
        literal => format!("{literal} is an address of this host"),
    }
}

impl From<DecodeError> for Reason {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Exhausted(exhausted) => Self::TooMuchWork(exhausted),
            error => Self::NotDecoded(error),
        }
    }
}

impl Reason {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::HostNotAllowed(_) => "host_not_allowed",
            Self::Denied(..) => "denied",
            Self::PortNotAllowed(..) | Self::OtherPort(..) => "port_not_allowed",
            Self::AddressNotPublic { .. } | Self::AddressOfHost { .. } | Self::NameNotPublic(..) => {
                "address_not_public"
            }
            Self::NameUnresolved(..) => "name_unresolved",
            Self::BadHost(_) => "bad_host",
            Self::BadRequest(_) => "bad_request",
            Self::PushNotGated(_) => "push_not_gated",
            Self::HostMismatch(..) => "host_mismatch",
            Self::MethodNotAllowed(..) => "method_not_allowed",
            Self::PathNotAllowed(..) => "path_not_allowed",
            Self::BadPath(_) => "bad_path",
            Self::NotTls(..) => "not_tls",
            Self::SecretFound(..) => "secret_found",
            Self::SecretMasked(_) => "secret_masked",
            Self::Credential(Violation::Misplaced { .. }) => "placeholder_misplaced",
            Self::Credential(Violation::Foreign { .. } | Violation::Twice { .. }) => "foreign_credential",
            Self::Credential(Violation::NotSigned { .. }) => "not_signed",
            Self::CookiesLeftOut(_) => "cookies_left_out",
            Self::PlaceholderPassed(_) => "placeholder_passed",
            Self::Inspector(_) => "pipelock_refused",
            Self::NotDecoded(_) => "not_decoded",
            Self::TooMuchWork(_) => "too_much_work",
            Self::Busy => "busy",
            Self::Stalled => "stalled",
            Self::Unread => "unread",
            Self::LimitReached(_) => "limit_reached",
            Self::Unreachable(..) => "unreachable",
        }
    }

    /// How to fix it.
    pub fn hint(&self) -> Cow<'static, str> {
        match self {
            Self::HostNotAllowed(host) => match presets(host).as_slice() {
                [] => self.fixed_hint().into(),
                names => {
                    let names = names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" or ");
                    format!("add {names} (for reading), or the host, to egress.allow of the bottle").into()
                }
            },
            other => other.fixed_hint().into(),
        }
    }

    fn fixed_hint(&self) -> &'static str {
        match self {
            Self::HostNotAllowed(_) => "add the host to egress.allow of the bottle",
            Self::Denied(..) => "remove the entry from egress.deny of the bottle",
            Self::PortNotAllowed(..) => "add host:port to egress.allow of the bottle",
            Self::OtherPort(..) => "use that port: the name has no other",
            Self::AddressNotPublic { class: Class::Loopback, .. }
            | Self::AddressOfHost { .. }
            | Self::NameNotPublic(..) => "declare the service in host_services of the bottle, or run it as a sidecar",
            Self::AddressNotPublic { class: Class::Private | Class::Shared | Class::Reserved, .. } => {
                "private addresses are refused; run the service as a sidecar, or allow its range with --allow-ip"
            }
            Self::AddressNotPublic { .. } => "no bottle reaches such an address, whatever is allowed",
            Self::NameUnresolved(..) => "check the spelling of the host",
            Self::BadHost(_) => "use a host name or an address",
            Self::BadRequest(_) => "send CONNECT host:port, or an absolute http:// URL",
            Self::PushNotGated(_) => {
                "leave the work committed, and the operator brings it out with `bottler pull`; or add the repository to `git` of the bottle"
            }
            Self::MethodNotAllowed(..) => "add the method to the host's entry in egress.allow of the bottle",
            Self::PathNotAllowed(..) => "add the path to the host's entry in egress.allow of the bottle",
            Self::BadPath(_) => {
                "send a plain path: no empty or dot segments, parameters, backslashes or double escapes"
            }
            Self::NotTls(..) => "speak TLS with the host's name in it after CONNECT",
            Self::SecretFound(..) => {
                "take the secret out of the request; to allow it for a host, set `scan: off` in the host's egress.allow \
                 entry, or `scan: mask` to send plain text without it; if it is not a secret, add its fingerprint to egress.dlp.allow"
            }
            Self::Credential(Violation::Misplaced { .. }) => {
                "send the placeholder where the credential is declared, to its host and inside TLS; for another place, add \
                 it to the credential's hosts in the manifest"
            }
            Self::Credential(Violation::Foreign { .. }) => {
                "send the placeholder of the bottle's credential; of the tokens that a host hands out itself, only those of \
                 OCI registries are accepted at a host that has a credential, and none of Git LFS"
            }
            Self::Credential(Violation::Twice { .. }) => "send the placeholder once",
            Self::Credential(Violation::NotSigned { .. }) => {
                "sign the request by AWS' Signature Version 4, with the placeholders, in the header Authorization"
            }
            Self::SecretMasked(_) | Self::CookiesLeftOut(_) | Self::PlaceholderPassed(_) => {
                "this is only for information"
            }
            Self::Inspector(_) => {
                "take what it names out of the request; where Pipelock shall not look, set `scan: off` in the host's \
                 egress.allow entry, before the launch"
            }
            Self::NotDecoded(_) => {
                "send the body unencoded, or well-formed with gzip, deflate, br or zstd, and at most 8 MiB"
            }
            Self::TooMuchWork(_) => "send it with fewer nested encodings, or in smaller requests",
            Self::Busy => "send fewer or smaller requests at a time, and retry this one",
            Self::Stalled => "send the body without a pause of more than a minute",
            Self::Unread => "read the responses, or close them",
            Self::LimitReached(_) => "raise the `limits` of the credential, or of the bottle, in the manifest",
            Self::HostMismatch(..) => "send one host in the request target and the Host header",
            Self::Unreachable(..) => "the destination is down or refuses; bottler did not refuse this",
        }
    }
}

impl Reason {
    /// How to fix it in a running bottle. It repeats nothing of the request but the host, because the reader may paste
    /// it into a shell.
    pub fn advice(&self, bottle: &str) -> String {
        let allow = |host: &Host, port: &str, more: &str| {
            // A shell would interpret the brackets of an IPv6 address.
            let quote = if matches!(host, Host::V6(_)) { "'" } else { "" };
            format!("the operator can allow it: `bottler policy allow {bottle} {quote}{host}{port}{quote}{more}`")
        };
        match self {
            Self::HostNotAllowed(host) => match presets(host).as_slice() {
                [] => allow(host, "", ""),
                [name, ..] => {
                    let more = format!("`, or for reading `bottler policy allow {bottle} {name}");
                    allow(host, "", &more)
                }
            },
            Self::PortNotAllowed(host, port) => allow(host, &format!(":{port}"), ""),
            // Only what a shell takes for a word.
            Self::MethodNotAllowed(method, host) if method.bytes().all(|byte| byte.is_ascii_uppercase()) => {
                allow(host, "", &format!(" --method {method}"))
            }
            Self::MethodNotAllowed(_, host) => allow(host, "", " --method METHOD"),
            Self::PathNotAllowed(host, _) => allow(host, "", " --path PATH"),
            Self::LimitReached(reached) => raise(reached, bottle),
            Self::Denied(host, _) => format!(
                "the operator can lift a denial that was made by `bottler policy deny` with `bottler policy deny {bottle} {host} --undo`; \
                 one of the manifest, in egress.deny of the bottle"
            ),
            other => other.fixed_hint().to_owned(),
        }
    }
}

/// The names of the presets that have a host.
fn presets(host: &Host) -> Vec<&'static str> {
    Preset::holding(host).map(|preset| preset.name).collect()
}

/// How to raise a limit: the command, and the manifest's key.
fn raise(reached: &LimitReached, bottle: &str) -> String {
    let wait = reached.wait().map_or_else(String::new, |wait| format!("the next one is allowed in {wait}s; "));
    let options = match reached.bound {
        Bound::Total(_) => "--total N",
        Bound::Rate(..) => "--requests N --per TIME",
        Bound::Concurrent(_) => "--concurrent N",
    };
    let (credential, whose) = match &reached.credential {
        Some(name) => (format!(" {name}"), format!("the credential {name}")),
        None => (String::new(), "the bottle".to_owned()),
    };
    format!(
        "{wait}the operator can raise it: `bottler policy limit {bottle}{credential} {options}`, or `limits` of {whose} in \
         the manifest"
    )
}
