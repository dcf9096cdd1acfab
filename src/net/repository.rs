//! The URL of a git repository, in the forms that people use. Pure.
//!
//! Attacks that this stops: a host or user that begins with a dash, which ssh would take for an option
//! (CVE-2017-1000117); a path that leaves its quotes in the command that the server runs.

use url::Url;

/// Where a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepositoryUrl {
    /// Over ssh.
    Ssh(SshUrl),
    /// Over HTTP, with or without TLS.
    Http(Url),
}

/// A repository over ssh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshUrl {
    /// The user.
    pub user: String,
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path of the repository, as the server is asked for it.
    pub path: String,
}

/// Why an address is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RepositoryUrlError {
    /// Not an address.
    #[error("{0:?} is not the URL of a repository")]
    Malformed(String),
    /// Another protocol.
    #[error("{0:?}: repositories are reached by ssh://, USER@HOST:PATH, https:// or http://")]
    Scheme(String),
    /// A password in the URL.
    #[error("the URL has a password: name a credential instead")]
    Password,
    /// A character or a beginning that a program could take for something else.
    #[error("{0:?} has a user, host or path with characters that are not allowed")]
    Characters(String),
}

impl RepositoryUrl {
    /// Reads a URL, or the form of scp: `USER@HOST:PATH`.
    ///
    /// # Errors
    /// It is malformed, or another protocol.
    pub fn parse(text: &str) -> Result<Self, RepositoryUrlError> {
        let malformed = || RepositoryUrlError::Malformed(text.to_owned());
        if !text.contains("://") {
            let (login, path) = text.split_once(':').ok_or_else(malformed)?;
            let (user, host) = login.split_once('@').ok_or_else(malformed)?;
            return ssh(user, host, 22, path, text);
        }
        let url = Url::parse(text).map_err(|_| malformed())?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(malformed());
        }
        if url.password().is_some() {
            return Err(RepositoryUrlError::Password);
        }
        let host = url.host_str().ok_or_else(malformed)?;
        match url.scheme() {
            "ssh" => {
                let user = if url.username().is_empty() { "git" } else { url.username() };
                ssh(user, host, url.port().unwrap_or(22), url.path(), text)
            }
            "http" | "https" if url.username().is_empty() => {
                let mut url = url.clone();
                let path = url.path().trim_end_matches('/').to_owned();
                url.set_path(&path);
                Ok(Self::Http(url))
            }
            "http" | "https" => Err(RepositoryUrlError::Password),
            _ => Err(RepositoryUrlError::Scheme(text.to_owned())),
        }
    }

    /// The host and port, for the audit log.
    pub fn destination(&self) -> String {
        match self {
            Self::Ssh(address) => format!("{}:{}", address.host, address.port),
            Self::Http(url) => {
                format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default())
            }
        }
    }

    /// The host and the path without `.git`, as a client names this repository in a URL.
    pub fn place(&self) -> (&str, &str) {
        let (host, path) = match self {
            Self::Ssh(address) => (address.host.as_str(), address.path.as_str()),
            Self::Http(url) => (url.host_str().unwrap_or_default(), url.path()),
        };
        (host, path.trim_matches('/').trim_end_matches(".git"))
    }
}

fn ssh(user: &str, host: &str, port: u16, path: &str, text: &str) -> Result<RepositoryUrl, RepositoryUrlError> {
    let is_plain = |text: &str, more: &str| {
        !text.is_empty()
            && !text.starts_with('-')
            && text.chars().all(|letter| letter.is_ascii_alphanumeric() || more.contains(letter))
    };
    if is_plain(user, "._-") && is_plain(host, ".-[]:") && is_plain(path, "/._-~+@") && port != 0 {
        let host = host.trim_matches(['[', ']']).to_owned();
        Ok(RepositoryUrl::Ssh(SshUrl { user: user.to_owned(), host, port, path: path.to_owned() }))
    } else {
        Err(RepositoryUrlError::Characters(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_in_the_forms_that_people_use() {
        let ssh = |user: &str, host: &str, port, path: &str| {
            let (user, host, path) = (user.to_owned(), host.to_owned(), path.to_owned());
            Ok(RepositoryUrl::Ssh(SshUrl { user, host, port, path }))
        };
        for (text, expected) in [
            ("git@github.com:acme/app.git", ssh("git", "github.com", 22, "acme/app.git")),
            ("ssh://git@git.example.com:2222/acme/app", ssh("git", "git.example.com", 2222, "/acme/app")),
            ("ssh://git.example.com/~me/app.git", ssh("git", "git.example.com", 22, "/~me/app.git")),
            (
                "https://github.com/acme/app/",
                Ok(RepositoryUrl::Http(Url::parse("https://github.com/acme/app").unwrap())),
            ),
        ] {
            assert_eq!(RepositoryUrl::parse(text), expected, "{text}");
        }
        assert_eq!(RepositoryUrl::parse("git@github.com:acme/app.git").unwrap().place(), ("github.com", "acme/app"));
        assert_eq!(RepositoryUrl::parse("https://github.com/acme/app").unwrap().place(), ("github.com", "acme/app"));
    }

    #[test]
    fn what_a_program_would_take_for_something_else_is_refused() {
        for text in [
            "ssh://-oProxyCommand=x/y",
            "ssh://git@-x/y",
            "-x@github.com:y",
            "git@github.com:-y",
            "git@github.com:a'b",
            "git@github.com:a b",
            "git@github.com:$(x)",
            "ext::sh -c x",
            "file:///etc",
            "/etc",
            "git://github.com/a/b",
            "https://user:password@github.com/a",
            "https://token@github.com/a",
            "https://github.com/a?b",
        ] {
            assert!(RepositoryUrl::parse(text).is_err(), "{text}");
        }
    }
}
