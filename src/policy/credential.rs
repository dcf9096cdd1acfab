//! The credentials of a bottle by their hosts: which request may carry which, and which hosts take no other one.

use std::sync::Arc;

use super::allow::MatchLevel;
use super::{Allow, AllowSpec, AllowTable, EntryError, Form, Intent, Policy, Reason, Tls};
use crate::credential::{
    Credential, CredentialError, Offer, Placeholders, Redactor, RequestHead, Substitution, check, substitute,
};
use crate::net::{Host, ambiguity};

/// The port of HTTPS.
const HTTPS: u16 = 443;

/// The credentials of a bottle, ready to be used.
pub struct Credentials {
    all: Vec<Credential>,
    places: Vec<Declared>,
    placeholders: Placeholders,
    redactor: Arc<Redactor>,
}

/// A place of a credential.
struct Declared {
    credential: usize,
    place: usize,
    requests: Allow,
}

/// Why credentials cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// One cannot be used at all.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The host, methods or paths of a place.
    #[error("the credential {name}: hosts: {source}")]
    Place {
        /// The credential's name.
        name: String,
        /// What is wrong.
        source: EntryError,
    },
    /// A host whose requests are not seen.
    #[error(
        "the credential {0}: hosts: {1} is `tls: tunnel` in egress.allow, where no request is changed; take one of both out"
    )]
    Tunnel(String, Host),
}

impl Default for Credentials {
    /// None.
    fn default() -> Self {
        let placeholders = Placeholders::new(std::iter::empty());
        Self { all: Vec::new(), places: Vec::new(), placeholders, redactor: Arc::new(Redactor::new([])) }
    }
}

impl Credentials {
    /// Reads credentials.
    ///
    /// # Errors
    /// One of them cannot be used; the error shows no value.
    pub fn new(all: Vec<Credential>) -> Result<Self, CredentialsError> {
        check(&all)?;
        let mut places = Vec::new();
        for (credential, it) in all.iter().enumerate() {
            for (place, at) in it.places.iter().enumerate() {
                let (methods, paths) = (at.methods.clone(), at.paths.clone());
                let table = AllowTable { host: at.host.clone(), methods, paths, ..AllowTable::default() };
                let requests = AllowSpec::Table(table).read();
                let requests = requests.map_err(|source| CredentialsError::Place { name: it.name.clone(), source })?;
                places.push(Declared { credential, place, requests });
            }
        }
        let placeholders = Placeholders::new(all.iter().map(|it| (it.name.as_str(), it.placeholder.as_str())));
        let redactor = Arc::new(Redactor::new(all.iter().map(|it| (it.value.as_str(), it.placeholder.as_str()))));
        Ok(Self { all, places, placeholders, redactor })
    }

    /// The credentials.
    pub fn all(&self) -> &[Credential] {
        &self.all
    }

    /// The value of a credential, by its name.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.all.iter().find(|it| it.name == name).map(|it| it.value.as_str())
    }

    /// Whether a host has a credential. It takes no other one then, and its responses are redacted.
    pub fn has_host(&self, host: &Host, port: u16) -> bool {
        self.places.iter().any(|place| place.requests.match_level(host, port, None) == MatchLevel::All)
    }

    /// What takes values out of the responses of a host that has a credential: of all credentials, because one host may
    /// have been told that of another.
    pub fn redactor(&self, host: &Host, port: u16) -> Option<&Arc<Redactor>> {
        self.has_host(host, port).then_some(&self.redactor)
    }

    /// Checks that no host of a credential is forwarded without inspection: the credential would have no effect.
    ///
    /// # Errors
    /// One is.
    pub fn check_tunnels(&self, policy: &Policy) -> Result<(), CredentialsError> {
        for declared in &self.places {
            let hosts = policy.allow.iter().filter_map(Allow::single_host).chain(declared.requests.single_host());
            let at = |host: &&Host| declared.requests.match_level(host, HTTPS, None) == MatchLevel::All;
            let mut tunnels = hosts.filter(at).filter(|host| policy.tls(host, HTTPS) == Tls::Tunnel);
            if let Some(host) = tunnels.next() {
                let name = self.all[declared.credential].name.clone();
                return Err(CredentialsError::Tunnel(name, host.clone()));
            }
        }
        Ok(())
    }

    /// What is replaced in an authorized request. `headers` have names in lower case; `handed_out` says whether the hosts of
    /// a credential, by its name, have handed out a token for it.
    ///
    /// # Errors
    /// It holds a placeholder that is not in its slot, or a credential that is not the host's.
    pub fn substitute<'a>(
        &self,
        intent: &'a Intent,
        headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        websocket: bool,
        handed_out: &'a dyn Fn(&str, &str) -> bool,
    ) -> Result<Substitution, Reason> {
        if self.all.is_empty() {
            return Ok(Substitution::default());
        }
        let path = intent.path.as_deref().unwrap_or("/");
        let headers = headers.into_iter().collect();
        let head = RequestHead { path, headers, websocket, sealed: intent.form == Form::Inside, handed_out };
        substitute(&head, &self.offers(intent, path), &self.placeholders).map_err(Reason::Credential)
    }

    /// The slots of the requested host.
    fn offers(&self, intent: &Intent, path: &str) -> Vec<Offer<'_>> {
        let alone = path.split_once('?').map_or(path, |(alone, _)| alone);
        let offer = |declared: &Declared| {
            let request = Some((intent.method.as_str(), alone));
            let level = declared.requests.match_level(&intent.host, intent.port, request);
            let credential = &self.all[declared.credential];
            let place = &credential.places[declared.place];
            // A path that servers read in different ways may be another one than was declared.
            let plain = place.paths.is_empty() || ambiguity(alone).is_none();
            let here = level >= MatchLevel::Port;
            here.then(|| (credential, place, level == MatchLevel::All && plain))
        };
        let offers = self.places.iter().filter_map(offer);
        offers.map(|(credential, place, open)| Offer { credential, slot: &place.slot, open }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::{Place, Slot};
    use crate::policy::EgressSpec;

    const HELD: &str = "placeholder-0123456789";

    fn credentials() -> Credentials {
        let place = |host: &str, methods: &[&str], paths: &[&str]| Place {
            host: host.into(),
            slot: Slot::Bearer,
            methods: methods.iter().map(|&method| method.to_owned()).collect(),
            paths: paths.iter().map(|&path| path.to_owned()).collect(),
        };
        let places =
            vec![place("api.example.com", &[], &[]), place("*.example.org:8443", &["GET"], &["/repos/acme/**"])];
        let credential = Credential { name: "own".into(), placeholder: HELD.into(), value: "the-value".into(), places };
        Credentials::new(vec![credential]).unwrap()
    }

    /// What comes of a request with the placeholder.
    fn judged(form: Form, host: &str, port: u16, method: &str, path: &str) -> &'static str {
        let intent =
            Intent { form, method: method.into(), host: Host::parse(host).unwrap(), port, path: Some(path.into()) };
        let held = format!("Bearer {HELD}");
        match credentials().substitute(&intent, vec![("authorization", held.as_bytes())], false, &|_, _| false) {
            Ok(result) => {
                if result.used == ["own"] {
                    "used"
                } else {
                    "unused"
                }
            }
            Err(reason) => reason.code(),
        }
    }

    #[test]
    fn a_credential_goes_to_its_hosts_and_requests_only() {
        use Form::{Absolute, Inside};
        for (form, host, port, method, path, expected) in [
            (Inside, "api.example.com", 443, "POST", "/any", "used"),
            (Inside, "api.example.com", 8443, "POST", "/any", "placeholder_misplaced"),
            (Inside, "x.api.example.com", 443, "POST", "/any", "placeholder_misplaced"),
            (Inside, "example.com", 443, "POST", "/any", "placeholder_misplaced"),
            (Absolute, "api.example.com", 80, "GET", "/any", "placeholder_misplaced"),
            (Inside, "a.example.org", 8443, "GET", "/repos/acme/x?y=z", "used"),
            (Inside, "a.example.org", 8443, "POST", "/repos/acme/x", "placeholder_misplaced"),
            (Inside, "a.example.org", 8443, "GET", "/repos/other/x", "placeholder_misplaced"),
            (Inside, "a.example.org", 8443, "GET", "/repos/acme/..%2Fother", "placeholder_misplaced"),
            (Inside, "a.example.org", 8443, "GET", "/repos/acme/x;y", "placeholder_misplaced"),
            (Inside, "a.example.org", 443, "GET", "/repos/acme/x", "placeholder_misplaced"),
            (Inside, "example.org", 8443, "GET", "/repos/acme/x", "placeholder_misplaced"),
        ] {
            assert_eq!(judged(form, host, port, method, path), expected, "{method} {host}:{port}{path}");
        }
    }

    #[test]
    fn a_host_is_one_with_a_credential_whatever_the_request() {
        let credentials = credentials();
        let has = |host: &str, port| credentials.has_host(&Host::parse(host).unwrap(), port);
        assert!(has("api.example.com", 443) && has("a.example.org", 8443));
        assert!(!has("a.example.org", 443) && !has("example.org", 8443));
        assert!(credentials.redactor(&Host::parse("api.example.com").unwrap(), 443).is_some());
    }

    #[test]
    fn a_host_that_is_not_inspected_has_no_credential() {
        let tunnel = |spec: &str| {
            let spec: EgressSpec = serde_yaml::from_str(spec).unwrap();
            let policy = spec.policy(std::collections::BTreeMap::new()).unwrap();
            credentials().check_tunnels(&policy)
        };
        assert!(tunnel("allow: [api.example.com, {host: other.example.com, tls: tunnel}]").is_ok());
        for host in ["api.example.com", "'*.example.com'"] {
            let error = tunnel(&format!("allow: [{{host: {host}, tls: tunnel}}]")).unwrap_err().to_string();
            assert!(error.contains("own") && error.contains("api.example.com"), "{error}");
        }
    }

    #[test]
    fn a_place_that_is_none_is_an_error_that_names_its_credential() {
        for (host, method, path) in
            [("*.com", "GET", "/"), ("a.b/c", "GET", "/"), ("a.b", "get", "/"), ("a.b", "GET", "x")]
        {
            let place =
                Place { host: host.into(), slot: Slot::Bearer, methods: vec![method.into()], paths: vec![path.into()] };
            let credential = Credential {
                name: "own".into(),
                placeholder: HELD.into(),
                value: "the-value".into(),
                places: vec![place],
            };
            let error = Credentials::new(vec![credential]).err().unwrap().to_string();
            assert!(error.contains("own") && !error.contains("the-value"), "{error}");
        }
    }
}
