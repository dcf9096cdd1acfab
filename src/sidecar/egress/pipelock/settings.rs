//! Pipelock's configuration, from the policy, the secrets and the credentials. Pure.

use std::collections::BTreeSet;
use std::path::Path;

use data_encoding::HEXLOWER;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::layout::pipelock as layout;
use crate::policy::{AllowSpec, CANARY, EgressSpec, EnforcedPolicy, Rule};
use crate::scan::{Action, KnownSecret, MIN_SECRET};

/// How long a URL may be, and how many requests a minute a host may get. Pipelock's defaults are for a browser of web pages:
/// they stop package managers.
const MAX_URL: u64 = 64 << 10;
const MAX_REQUESTS: u64 = 1_000_000;
/// How long a tunnel may last and be idle, in seconds: as long as a bottle, and an hour.
const MAX_TUNNEL: u64 = 30 * 24 * 3600;
const MAX_IDLE: u64 = 3600;
/// How large a body may be that Pipelock inspects, in bytes. It refuses larger ones.
const MAX_BODY: u64 = 8 << 20;
const MAX_RESPONSE: u64 = 64 << 20;
/// How long a line of the file of secrets may be; Pipelock passes longer ones over.
const MAX_LINE: usize = 4096;

/// What Pipelock enforces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::sidecar::egress) struct Settings {
    /// Counts changes, so that each file differs.
    revision: u64,
    spec: EgressSpec,
    /// The hosts that are allowed for one request.
    once: Vec<AllowSpec>,
    secrets: BTreeSet<String>,
    /// The hosts that have a credential.
    held: BTreeSet<String>,
}

impl Settings {
    /// For a bottle that has credentials for these hosts. Pipelock refuses a credential in any header, so they pass it unread.
    pub(super) fn of(held: &[String]) -> Self {
        Self { held: held.iter().filter_map(|host| hosts(host)).collect(), ..Self::default() }
    }

    /// The same with another policy.
    pub(super) fn with_policy(self, policy: &EnforcedPolicy) -> Self {
        let once = policy.once.iter().map(|(_, entry)| entry.clone()).collect();
        self.changed(|next| (next.spec, next.once) = (policy.spec.clone(), once))
    }

    /// The same with other secrets.
    pub(super) fn with_secrets(self, secrets: &[KnownSecret]) -> Self {
        // One line each: of a secret of several lines, each is searched for.
        let lines = secrets.iter().flat_map(|secret| secret.value.lines()).map(str::trim);
        let usable = |line: &&str| (MIN_SECRET..=MAX_LINE).contains(&line.len()) && !line.starts_with(['#', '-']);
        let lines = lines.filter(usable).map(str::to_owned).collect();
        self.changed(|next| next.secrets = lines)
    }

    fn changed(mut self, change: impl FnOnce(&mut Self)) -> Self {
        let before = self.clone();
        change(&mut self);
        if self != before {
            self.revision += 1;
        }
        self
    }

    /// The authorities of destinations, beyond those of the image, in PEM.
    pub(super) fn roots(&self) -> Vec<String> {
        self.spec.roots.clone()
    }

    /// The file of secrets.
    pub(super) fn secrets_file(&self) -> String {
        let lines = self.secrets.iter().map(|line| format!("{line}\n"));
        std::iter::once("# The bottle's secrets.\n".to_owned()).chain(lines).collect()
    }

    /// The configuration. `folder` has the files that it names.
    pub(super) fn render(&self, folder: &Path) -> anyhow::Result<String> {
        let path = |name: &str| folder.join(name).display().to_string();
        let entries: Vec<&AllowSpec> = self.spec.allow.iter().chain(&self.once).collect();
        // It may not be empty. Nobody can have this name, and egress answers for it itself.
        let allowed = entries.iter().filter_map(|entry| hosts(entry.host())).chain([CANARY.to_owned()]);
        let unread = entries.iter().filter(|entry| entry.is_unread()).filter_map(|entry| hosts(entry.host()));
        let dlp = self.spec.dlp.action;
        let file = File {
            version: 1,
            mode: "strict",
            enforce: true,
            api_allowlist: sorted(allowed),
            fetch_proxy: FetchProxy {
                listen: format!("127.0.0.1:{}", layout::PORT),
                monitoring: Monitoring {
                    max_url_length: MAX_URL,
                    max_requests_per_minute: MAX_REQUESTS,
                    max_data_per_minute: 0,
                    // The policy's lists say which hosts are reached.
                    blocklist: Vec::new(),
                },
            },
            forward_proxy: ForwardProxy {
                enabled: true,
                max_tunnel_seconds: MAX_TUNNEL,
                idle_timeout_seconds: MAX_IDLE,
                sni_verification: true,
            },
            tls_interception: TlsInterception {
                enabled: true,
                ca_cert: path(layout::CERTIFICATE),
                ca_key: path(layout::KEY),
                passthrough_domains: sorted(unread.chain(self.held.iter().cloned())),
                max_response_bytes: MAX_RESPONSE,
            },
            request_body_scanning: RequestBodyScanning {
                enabled: dlp != Action::Off,
                action: if dlp == Action::Warn { "warn" } else { "block" },
                max_body_bytes: MAX_BODY,
                scan_headers: true,
                header_mode: "all",
            },
            dlp: Dlp {
                scan_env: false,
                secrets_file: path(layout::SECRETS),
                min_env_secret_length: MIN_SECRET,
                include_defaults: dlp != Action::Off,
            },
            ssrf: Ssrf { ip_allowlist: self.spec.ip_allow.iter().map(|range| range.trunc().to_string()).collect() },
            response_scanning: ResponseScanning {
                // Pipelock 2.3 blocks by its defaults where this is off.
                enabled: true,
                action: if self.spec.dlp.responses == Action::Block { "block" } else { "warn" },
            },
            logging: Logging { format: "json", output: "stdout", include_allowed: false, include_blocked: true },
        };
        Ok(format!("# bottler, revision {}\n{}", self.revision, serde_yaml::to_string(&file)?))
    }
}

/// The digest of a configuration, as Pipelock logs it.
pub(super) fn digest(config: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(config))
}

/// The hosts of an entry as Pipelock names them: without a port. Its `*.example.com` is `example.com` as well, which
/// bottler's gate does not let pass.
fn hosts(entry: &str) -> Option<String> {
    entry.parse::<Rule>().ok().map(|rule| rule.hosts())
}

fn sorted(names: impl Iterator<Item = String>) -> Vec<String> {
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The file. Its keys are those of Pipelock's `docs/configuration.md`.
#[derive(Serialize)]
struct File {
    version: u32,
    mode: &'static str,
    enforce: bool,
    api_allowlist: Vec<String>,
    fetch_proxy: FetchProxy,
    forward_proxy: ForwardProxy,
    tls_interception: TlsInterception,
    request_body_scanning: RequestBodyScanning,
    dlp: Dlp,
    ssrf: Ssrf,
    response_scanning: ResponseScanning,
    logging: Logging,
}

#[derive(Serialize)]
struct FetchProxy {
    listen: String,
    monitoring: Monitoring,
}

#[derive(Serialize)]
struct Monitoring {
    max_url_length: u64,
    max_requests_per_minute: u64,
    max_data_per_minute: u64,
    blocklist: Vec<String>,
}

#[derive(Serialize)]
struct ForwardProxy {
    enabled: bool,
    max_tunnel_seconds: u64,
    idle_timeout_seconds: u64,
    sni_verification: bool,
}

#[derive(Serialize)]
struct TlsInterception {
    enabled: bool,
    ca_cert: String,
    ca_key: String,
    passthrough_domains: Vec<String>,
    max_response_bytes: u64,
}

#[derive(Serialize)]
struct RequestBodyScanning {
    enabled: bool,
    action: &'static str,
    max_body_bytes: u64,
    scan_headers: bool,
    header_mode: &'static str,
}

#[derive(Serialize)]
struct Dlp {
    scan_env: bool,
    secrets_file: String,
    min_env_secret_length: usize,
    include_defaults: bool,
}

#[derive(Serialize)]
struct Ssrf {
    ip_allowlist: Vec<String>,
}

#[derive(Serialize)]
struct ResponseScanning {
    enabled: bool,
    action: &'static str,
}

#[derive(Serialize)]
struct Logging {
    format: &'static str,
    output: &'static str,
    include_allowed: bool,
    include_blocked: bool,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::policy::{AllowTable, Tls};

    /// Pipelock's documented keys, by their section; it refuses a file with any other.
    const DOCUMENTED: &[(&str, &[&str])] = &[
        (
            "",
            &[
                "version",
                "mode",
                "enforce",
                "api_allowlist",
                "fetch_proxy",
                "forward_proxy",
                "tls_interception",
                "request_body_scanning",
                "dlp",
                "ssrf",
                "response_scanning",
                "logging",
            ],
        ),
        ("fetch_proxy", &["listen", "timeout_seconds", "max_response_mb", "user_agent", "monitoring"]),
        (
            "fetch_proxy.monitoring",
            &["max_url_length", "entropy_threshold", "max_requests_per_minute", "max_data_per_minute", "blocklist"],
        ),
        (
            "forward_proxy",
            &["enabled", "max_tunnel_seconds", "idle_timeout_seconds", "sni_verification", "redirect_websocket_hosts"],
        ),
        (
            "tls_interception",
            &[
                "enabled",
                "ca_cert",
                "ca_key",
                "passthrough_domains",
                "cert_ttl",
                "cert_cache_size",
                "max_response_bytes",
            ],
        ),
        (
            "request_body_scanning",
            &[
                "enabled",
                "action",
                "max_body_bytes",
                "scan_headers",
                "header_mode",
                "sensitive_headers",
                "ignore_headers",
            ],
        ),
        ("dlp", &["scan_env", "secrets_file", "min_env_secret_length", "include_defaults", "patterns"]),
        ("ssrf", &["ip_allowlist"]),
        (
            "response_scanning",
            &["enabled", "action", "ask_timeout_seconds", "include_defaults", "exempt_domains", "patterns"],
        ),
        ("logging", &["format", "output", "file", "include_allowed", "include_blocked"]),
    ];

    /// Reads a file as strictly as Pipelock does; returns its values by their path.
    fn read(text: &str) -> BTreeMap<String, serde_yaml::Value> {
        fn walk(at: &str, value: &serde_yaml::Value, found: &mut BTreeMap<String, serde_yaml::Value>) {
            let Some(map) = value.as_mapping() else {
                found.insert(at.to_owned(), value.clone());
                return;
            };
            let (_, keys) = DOCUMENTED.iter().find(|(section, _)| *section == at).expect("the section is documented");
            for (key, value) in map {
                let key = key.as_str().unwrap();
                assert!(keys.contains(&key), "{at}: {key} is not documented");
                walk(format!("{at}.{key}").trim_start_matches('.'), value, found);
            }
        }
        let mut found = BTreeMap::new();
        walk("", &serde_yaml::from_str(text).unwrap(), &mut found);
        found
    }

    fn table(host: &str, change: impl FnOnce(&mut AllowTable)) -> AllowSpec {
        let mut table = AllowTable { host: host.into(), ..AllowTable::default() };
        change(&mut table);
        AllowSpec::Table(table)
    }

    fn of(spec: EgressSpec) -> Settings {
        Settings::default().with_policy(&EnforcedPolicy::first(spec))
    }

    fn allowing(allow: Vec<AllowSpec>) -> EgressSpec {
        EgressSpec { allow, ..EgressSpec::default() }
    }

    /// A dozen bottles, by name.
    fn bottles() -> Vec<(&'static str, Settings)> {
        let host = |host: &str| AllowSpec::Host(host.into());
        let dlp = |action, responses| EgressSpec {
            dlp: crate::scan::Dlp { action, responses, ..crate::scan::Dlp::default() },
            ..allowing(vec![host("example.com")])
        };
        let secret = |value: &str| KnownSecret { value: value.into(), hosts: Vec::new() };
        let mut once = EnforcedPolicy::first(EgressSpec::default());
        once.once = vec![(1, host("once.example.com"))];
        vec![
            ("nothing allowed", of(EgressSpec::default())),
            ("one host", of(allowing(vec![host("example.com")]))),
            (
                "subdomains and ports",
                of(allowing(vec![host("*.example.com"), host("example.com:8443"), host("Example.COM")])),
            ),
            ("addresses", of(allowing(vec![host("93.184.215.14"), host("[2001:db8::1]:443")]))),
            (
                "a tunnel",
                of(allowing(vec![
                    table("pinned.example.com", |table| table.tls = Some(Tls::Tunnel)),
                    host("example.com"),
                ])),
            ),
            ("not scanned", of(allowing(vec![table("vault.example.com", |table| table.scan = Some(Action::Off))]))),
            (
                "methods and paths",
                of(allowing(vec![table("api.example.com", |table| table.methods = vec!["GET".into()])])),
            ),
            (
                "a private range",
                of(EgressSpec {
                    ip_allow: vec!["10.20.3.4/16".parse().unwrap()],
                    ..allowing(vec![host("in.example.com")])
                }),
            ),
            ("warnings", of(dlp(Action::Warn, Action::Warn))),
            ("nothing searched", of(dlp(Action::Off, Action::Block))),
            (
                "a credential",
                Settings::of(&["api.example.com:443".into()])
                    .with_policy(&EnforcedPolicy::first(allowing(vec![host("api.example.com")]))),
            ),
            (
                "secrets",
                of(allowing(vec![host("example.com")])).with_secrets(&[
                    secret("hunter2-hunter2"),
                    secret("short"),
                    secret("-----BEGIN KEY-----\nMIIBVgIBADANBgkqhkiG\n-----END KEY-----\n"),
                    secret("# looks like a comment"),
                ]),
            ),
            ("for one request", Settings::default().with_policy(&once)),
        ]
    }

    #[test]
    fn the_files_of_a_dozen_bottles_have_documented_keys_only_and_are_the_golden_ones() {
        let mut all = String::new();
        for (name, settings) in bottles() {
            let file = settings.render(Path::new(layout::DIR)).unwrap();
            read(&file);
            all.push_str(&format!("== {name}\n{file}-- secrets\n{}", settings.secrets_file()));
        }
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pipelock.txt");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&golden, &all).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&golden).unwrap_or_default(), all, "BLESS=1 writes the file anew");
    }

    #[test]
    fn the_file_allows_the_hosts_of_the_policy_and_leaves_those_of_credentials_unread() {
        let list = |settings: &Settings, key: &str| -> Vec<String> {
            let file = read(&settings.render(Path::new("/x")).unwrap());
            file[key].as_sequence().unwrap().iter().map(|value| value.as_str().unwrap().to_owned()).collect()
        };
        let bottles: BTreeMap<&str, Settings> = bottles().into_iter().collect();
        for (name, key, expected) in [
            ("subdomains and ports", "api_allowlist", vec!["*.example.com", CANARY, "example.com"]),
            ("a credential", "tls_interception.passthrough_domains", vec!["api.example.com"]),
            ("a tunnel", "tls_interception.passthrough_domains", vec!["pinned.example.com"]),
            ("methods and paths", "tls_interception.passthrough_domains", vec![]),
            ("a private range", "ssrf.ip_allowlist", vec!["10.20.0.0/16"]),
            ("for one request", "api_allowlist", vec![CANARY, "once.example.com"]),
        ] {
            assert_eq!(list(&bottles[name], key), expected, "{name}");
        }
        assert_eq!(
            bottles["secrets"].secrets_file(),
            "# The bottle's secrets.\nMIIBVgIBADANBgkqhkiG\nhunter2-hunter2\n"
        );
    }

    #[test]
    fn every_change_is_another_file_and_the_same_settings_are_not() {
        let first = of(allowing(vec![AllowSpec::Host("example.com".into())]));
        let render = |settings: &Settings| settings.render(Path::new("/x")).unwrap();
        let secret = [KnownSecret { value: "hunter2-hunter2".into(), hosts: Vec::new() }];
        let second = first.clone().with_secrets(&secret);
        assert_ne!(digest(&render(&first)), digest(&render(&second)));
        assert_eq!(second.clone().with_secrets(&secret), second);
        let back = second.clone().with_secrets(&[]);
        assert_ne!(render(&back), render(&first));
    }
}
