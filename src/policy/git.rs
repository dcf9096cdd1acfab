//! Which requests are for a repository behind the git gate, and what the gate itself may reach.
//!
//! An entry opens its repository and nothing else of the host: the list of references, the two services, and Git LFS
//! (which the gate refuses, or inspects). The agent's requests for it are handed over to the gate; the gate's own requests, which
//! carry the key or the credential, are the only ones that reach the upstream.
//!
//! Attacks that this stops: a push to a declared repository past the gate, in any spelling of its path; a gate that is
//! taken over and asks its hosts for anything but its repositories.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::intent::{Form, Intent};
use crate::net::{Host, RepositoryUrl, canonical};

/// A repository behind the git gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GitRepository {
    /// Its name at the gate.
    pub name: String,
    /// How the agent's requests name it: `https://HOST[:PORT]/PATH`, or `http://`, without `.git`.
    pub url: String,
    /// Where the gate reaches it over ssh, as `HOST:PORT`; by `url` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<String>,
}

/// Why an entry cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("git: {name}: {why}")]
pub struct GitError {
    /// The repository's name.
    pub name: String,
    /// What is wrong.
    pub why: String,
}

impl GitRepository {
    /// The repository of a URL.
    pub fn of(name: &str, url: &RepositoryUrl) -> Self {
        let (host, path) = url.place();
        let (origin, ssh) = match url {
            RepositoryUrl::Ssh(ssh) => (format!("https://{host}"), Some(format!("{}:{}", ssh.host, ssh.port))),
            RepositoryUrl::Http(url) => {
                let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
                (format!("{}://{host}{port}", url.scheme()), None)
            }
        };
        Self { name: name.to_owned(), url: format!("{origin}/{path}"), ssh }
    }

    /// Reads it.
    ///
    /// # Errors
    /// The URL, its host or its path is malformed.
    pub fn read(&self) -> Result<GitEntry, GitError> {
        let bad = |why: String| GitError { name: self.name.clone(), why };
        let url = Url::parse(&self.url).map_err(|error| bad(error.to_string()))?;
        let host = Host::parse(url.host_str().unwrap_or_default()).map_err(|error| bad(error.to_string()))?;
        let port = url.port_or_known_default().ok_or_else(|| bad("its URL has no port".to_owned()))?;
        let path = canonical(url.path()).map_err(|error| bad(error.to_string()))?;
        let ssh = self.ssh.as_deref().map(|place| {
            let (host, port) = place.rsplit_once(':').ok_or_else(|| bad("ssh: it is not HOST:PORT".to_owned()))?;
            let host = Host::parse(host).map_err(|error| bad(error.to_string()))?;
            Ok((host, port.parse().map_err(|_| bad("ssh: the port is not a number".to_owned()))?))
        });
        Ok(GitEntry { name: self.name.clone(), tls: url.scheme() == "https", host, port, path, ssh: ssh.transpose()? })
    }
}

/// A repository, ready to be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitEntry {
    name: String,
    tls: bool,
    host: Host,
    port: u16,
    /// Canonical, without `.git`.
    path: String,
    ssh: Option<(Host, u16)>,
}

/// What a client may do with repositories.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum GitAccess {
    /// Nothing.
    #[default]
    None,
    /// The agent: its requests are handed over to the gate.
    HandOver(Vec<GitEntry>),
    /// The gate: it reaches the upstreams.
    Upstream(Vec<GitEntry>),
}

/// A request for a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GitRequest {
    /// A `CONNECT` of the agent, inside which a repository may be named.
    Connect,
    /// A request of the agent, with its target at the gate.
    HandOver(String),
    /// The gate's connection over ssh.
    Ssh,
    /// The gate's request over HTTP, or the `CONNECT` before it.
    Upstream,
}

impl GitAccess {
    /// What an intent is for; `None` if no repository is named.
    pub fn request(&self, intent: &Intent) -> Option<GitRequest> {
        match self {
            Self::None => None,
            Self::HandOver(entries) => entries.iter().find_map(|entry| {
                if !entry.is_at(intent) {
                    None
                } else if intent.form == Form::Connect {
                    Some(GitRequest::Connect)
                } else {
                    let rest = entry.service(&intent.method, intent.path.as_deref()?)?;
                    Some(GitRequest::HandOver(format!("/{}.git{rest}", entry.name)))
                }
            }),
            Self::Upstream(entries) => entries.iter().find_map(|entry| {
                if let Some((host, port)) = &entry.ssh {
                    let is_it = intent.form == Form::Connect && (host, *port) == (&intent.host, intent.port);
                    return is_it.then_some(GitRequest::Ssh);
                }
                let reaches = |whole: &str| entry.service(&intent.method, whole).is_some() || entry.stores(whole);
                let is_it = entry.is_at(intent) && (intent.form == Form::Connect || reaches(intent.path.as_deref()?));
                is_it.then_some(GitRequest::Upstream)
            }),
        }
    }

    /// Whether repositories are handed over at a host, by any port.
    pub fn has_host(&self, host: &Host) -> bool {
        matches!(self, Self::HandOver(entries) if entries.iter().any(|entry| entry.host == *host))
    }
}

impl GitEntry {
    /// The host and port that the gate reaches over HTTPS.
    pub fn https(&self) -> Option<(&Host, u16)> {
        (self.tls && self.ssh.is_none()).then_some((&self.host, self.port))
    }

    fn is_at(&self, intent: &Intent) -> bool {
        let form = match intent.form {
            // Plain HTTP may come after a CONNECT, too.
            Form::Connect => true,
            Form::Inside => self.tls,
            Form::Absolute => !self.tls,
            Form::Tcp => false,
        };
        form && self.host == intent.host && self.port == intent.port
    }

    /// What a canonical path asks of this repository: its end, with the query. Case does not matter, because it does
    /// not to most forges, and the gate knows the repository by its name.
    fn service<'a>(&self, method: &str, whole: &'a str) -> Option<&'a str> {
        let rest = self.below(whole)?;
        let is_service = match (method, rest) {
            ("GET", "/info/refs?service=git-upload-pack" | "/info/refs?service=git-receive-pack")
            | ("POST", "/git-upload-pack" | "/git-receive-pack") => true,
            (_, rest) => rest.starts_with("/info/lfs/"),
        };
        is_service.then_some(rest)
    }

    /// Whether a canonical path is where GitLab keeps the objects of Git LFS of this repository.
    fn stores(&self, whole: &str) -> bool {
        self.below(whole).is_some_and(|rest| rest.starts_with("/gitlab-lfs/objects/"))
    }

    /// What follows this repository's own path.
    fn below<'a>(&self, whole: &'a str) -> Option<&'a str> {
        let (own, rest) = whole.split_at_checked(self.path.len())?;
        let is_own = own.eq_ignore_ascii_case(&self.path);
        is_own.then(|| rest.strip_prefix(".git").unwrap_or(rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intent(form: Form, method: &str, host: &str, port: u16, path: Option<&str>) -> Intent {
        let path = path.map(|path| canonical(path).unwrap());
        Intent { form, method: method.to_owned(), host: Host::parse(host).unwrap(), port, path }
    }

    fn entries() -> Vec<GitEntry> {
        [("app", "git@github.com:acme/app.git"), ("lib", "https://git.example.com:8443/lib.git")]
            .map(|(name, url)| GitRepository::of(name, &RepositoryUrl::parse(url).unwrap()).read().unwrap())
            .into()
    }

    #[test]
    fn promise_10_requests_of_git_for_a_declared_repository_go_to_the_gate() {
        let access = GitAccess::HandOver(entries());
        let inside =
            |method: &str, path: &str| access.request(&intent(Form::Inside, method, "github.com", 443, Some(path)));
        for (method, path, expected) in [
            ("GET", "/acme/app.git/info/refs?service=git-upload-pack", "/app.git/info/refs?service=git-upload-pack"),
            ("GET", "/acme/app/info/refs?service=git-receive-pack", "/app.git/info/refs?service=git-receive-pack"),
            ("POST", "/acme/%61pp.git/git-receive-pack", "/app.git/git-receive-pack"),
            ("POST", "/x/../acme/app.git/git-upload-pack", "/app.git/git-upload-pack"),
            ("POST", "/Acme/App.git/git-receive-pack", "/app.git/git-receive-pack"),
            ("POST", "/acme/app.git/info/lfs/objects/batch", "/app.git/info/lfs/objects/batch"),
        ] {
            assert_eq!(inside(method, path), Some(GitRequest::HandOver(expected.to_owned())), "{path}");
        }
        for (method, path) in [
            ("GET", "/acme/app2.git/info/refs?service=git-upload-pack"),
            ("GET", "/acme/app.git/info/refs"),
            ("GET", "/acme/app.git/info/refs?service=git-receive-pack&x=1"),
            ("POST", "/acme/app.git/info/refs?service=git-receive-pack"),
            ("GET", "/acme/app.git/git-receive-pack"),
            ("POST", "/acme/app.git%2Fgit-receive-pack"),
            ("GET", "/acme/app/archive/main.zip"),
            ("GET", "/"),
        ] {
            assert_eq!(inside(method, path), None, "{path}");
        }
        let path = Some("/acme/app.git/git-upload-pack");
        for (form, host, port) in [
            (Form::Absolute, "github.com", 443),
            (Form::Inside, "github.com", 8443),
            (Form::Inside, "api.github.com", 443),
        ] {
            assert_eq!(access.request(&intent(form, "POST", host, port, path)), None);
        }
        assert_eq!(
            access.request(&intent(Form::Connect, "CONNECT", "github.com", 443, None)),
            Some(GitRequest::Connect)
        );
        assert_eq!(access.request(&intent(Form::Connect, "CONNECT", "github.com", 22, None)), None);
    }

    #[test]
    fn the_gate_reaches_its_repositories_and_nothing_else() {
        let access = GitAccess::Upstream(entries());
        let connect = |host: &str, port| access.request(&intent(Form::Connect, "CONNECT", host, port, None));
        assert_eq!(connect("github.com", 22), Some(GitRequest::Ssh));
        assert_eq!(connect("github.com", 443), None);
        assert_eq!(connect("git.example.com", 8443), Some(GitRequest::Upstream));
        let inside = |method: &str, path: &str| {
            access.request(&intent(Form::Inside, method, "git.example.com", 8443, Some(path)))
        };
        assert_eq!(inside("POST", "/lib.git/git-receive-pack"), Some(GitRequest::Upstream));
        assert_eq!(inside("PUT", "/lib.git/info/lfs/objects/1"), Some(GitRequest::Upstream));
        assert_eq!(inside("PUT", "/lib.git/gitlab-lfs/objects/1/2"), Some(GitRequest::Upstream));
        assert_eq!(inside("PUT", "/other.git/gitlab-lfs/objects/1/2"), None);
        assert_eq!(inside("POST", "/other.git/git-receive-pack"), None);
        assert_eq!(inside("GET", "/api/v1/user"), None);
    }

    #[test]
    fn urls_become_the_ones_that_requests_have() {
        for (url, expected, ssh) in [
            ("git@github.com:acme/app.git", "https://github.com/acme/app", Some("github.com:22")),
            ("ssh://git@git.example.com:2222/srv/app", "https://git.example.com/srv/app", Some("git.example.com:2222")),
            ("https://github.com/acme/app/", "https://github.com/acme/app", None),
            ("http://127.0.0.1:3000/acme/app.git", "http://127.0.0.1:3000/acme/app", None),
        ] {
            let made = GitRepository::of("app", &RepositoryUrl::parse(url).unwrap());
            assert_eq!((made.url.as_str(), made.ssh.as_deref()), (expected, ssh), "{url}");
        }
    }
}
