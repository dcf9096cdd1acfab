//! `git` as users write it: repositories that the agent fetches from and pushes to, through the git gate.

use std::collections::BTreeSet;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::Size;
use crate::net::RepositoryUrl;
use crate::policy::{GitDelete, GitLfs};

/// Maximum number of repositories of one bottle.
const MAX_REPOSITORIES: usize = 64;

/// A repository behind the git gate.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GitSection {
    /// Its name at the gate, `git://git-gate/NAME.git`; the last part of the URL by default.
    #[serde(default)]
    pub name: String,
    /// Where it is: `git@HOST:PATH`, `ssh://`, `https://` or `http://`.
    pub url: String,
    /// For HTTPS: the credential that the gate's requests get. It must be declared for the host.
    pub credential: Option<String>,
    /// For ssh: the private key, without a passphrase; or the public one, if your ssh agent has the private one. It never
    /// enters the agent's container.
    pub identity_file: Option<PathBuf>,
    /// For ssh: the host's public key, as in `ssh-ed25519 AAAA…`; those of your own `known_hosts` by default.
    pub known_host_key: Option<String>,
    /// Patterns of branches that may be pushed; `agent/*` by default. `{id}` is the bottle's id, `*` matches within one
    /// component, `**` several.
    pub branches: Option<Vec<String>>,
    /// Whether a branch may be replaced by one that does not contain it; not by default.
    pub force: Option<bool>,
    /// Which branches may be deleted: `own`, those that this bottle created (the default), or `none`.
    pub delete: Option<GitDelete>,
    /// Patterns of new tags that may be pushed; none by default.
    #[serde(default)]
    pub tags: Vec<String>,
    /// The maximum size of a push; 256 MiB by default.
    pub max_push: Option<Size>,
    /// The maximum size of a file; 50 MiB by default.
    pub max_file: Option<Size>,
    /// Patterns of the email addresses of authors and committers; any by default.
    #[serde(default)]
    pub author: Vec<String>,
    /// Patterns of paths that no commit may change without your approval; what makes forges run programs by default.
    pub protected: Option<Vec<String>>,
    /// Git LFS: `refuse` (the default), or `scan`, over HTTP: the gate inspects the contents, and sends them to the upstream.
    pub lfs: Option<GitLfs>,
}

/// The git gate itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GitGateSection {
    /// An image with `/usr/bin/git` (2.39 or newer) and `/usr/bin/ssh`; this machine's own programs by default.
    pub image: Option<String>,
}

impl GitSection {
    /// Where it is.
    ///
    /// # Errors
    /// The URL is malformed, or in a form that the gate does not use.
    pub fn place(&self) -> Result<RepositoryUrl, String> {
        RepositoryUrl::parse(&self.url).map_err(|error| format!("url: {error}"))
    }

    fn check(&self) -> Result<(), String> {
        let place = self.place()?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let name = &self.name;
        if !name.bytes().all(is_plain)
            || name.is_empty()
            || name.starts_with(['.', '-'])
            || name.strip_suffix(".git").is_some()
        {
            return Err("name: it has letters, digits, '.', '_' and '-', and does not end in .git".to_owned());
        }
        let only = |wrong: bool, key: &str, what: &str| {
            if wrong { Err(format!("{key} is for {what}, and {} is not", self.url)) } else { Ok(()) }
        };
        match place {
            RepositoryUrl::Ssh(_) => {
                only(self.credential.is_some(), "credential", "https://")?;
                only(self.lfs == Some(GitLfs::Scan), "lfs: scan", "https:// and http://")?;
                if self.identity_file.is_none() {
                    return Err("identity_file: the gate needs a key of its own, such as a deploy key".to_owned());
                }
            }
            RepositoryUrl::Http(url) => {
                only(self.identity_file.is_some(), "identity_file", "ssh")?;
                only(self.known_host_key.is_some(), "known_host_key", "ssh")?;
                only(self.credential.is_some() && url.scheme() != "https", "credential", "https://")?;
            }
        }
        for (key, size) in [("max_push", self.max_push), ("max_file", self.max_file)] {
            if size.is_some_and(|Size(bytes)| bytes <= 0) {
                return Err(format!("{key}: 0 is not a limit"));
            }
        }
        Ok(())
    }
}

/// Reads the list.
pub(super) fn list<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<GitSection>, D::Error> {
    let mut sections = Vec::<GitSection>::deserialize(from)?;
    for section in &mut sections {
        if section.name.is_empty()
            && let Ok(url) = section.place()
        {
            url.place().1.rsplit('/').next().unwrap_or_default().clone_into(&mut section.name);
        }
    }
    check(&sections).map_err(serde::de::Error::custom)?;
    Ok(sections)
}

fn check(sections: &[GitSection]) -> Result<(), String> {
    if sections.len() > MAX_REPOSITORIES {
        return Err(format!("git: at most {MAX_REPOSITORIES} repositories, not {}", sections.len()));
    }
    let (mut names, mut places) = (BTreeSet::new(), BTreeSet::new());
    for section in sections {
        let shown = if section.name.is_empty() { &section.url } else { &section.name };
        section.check().map_err(|why| format!("git: {shown}: {why}"))?;
        if !names.insert(&section.name) {
            return Err(format!("git: {shown}: there are two of this name; give one another `name`"));
        }
        let place = section.place()?;
        let (host, path) = place.place();
        if !places.insert(format!("{host}/{path}").to_lowercase()) {
            return Err(format!("git: {shown}: another entry is the same repository, {host}/{path}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<Vec<GitSection>, String> {
        list(serde_yaml::Deserializer::from_str(yaml)).map_err(|error| error.to_string())
    }

    #[test]
    fn an_entry_is_named_after_its_url() {
        let found = read("[{url: 'git@github.com:acme/app.git', identity_file: k}, {url: 'https://a.example/x/lib/'}]");
        let names: Vec<String> = found.unwrap().into_iter().map(|section| section.name).collect();
        assert_eq!(names, ["app", "lib"]);
    }

    #[test]
    fn mistakes_in_an_entry_are_named() {
        let ssh = "url: 'git@a.example:x/app.git', identity_file: k";
        for (yaml, words) in [
            ("[{url: 'ext::sh'}]".to_owned(), "is not the URL"),
            ("[{url: 'git@a.example:x.git'}]".to_owned(), "identity_file: the gate needs"),
            (format!("[{{{ssh}, credential: c}}]"), "credential is for https://"),
            ("[{url: 'https://a.example/x', identity_file: k}]".to_owned(), "identity_file is for ssh"),
            ("[{url: 'https://a.example/x', known_host_key: k}]".to_owned(), "known_host_key is for ssh"),
            ("[{url: 'http://a.example/x', credential: k}]".to_owned(), "credential is for https://"),
            ("[{url: 'https://u:p@a.example/x'}]".to_owned(), "password"),
            (format!("[{{{ssh}}}, {{{ssh}}}]"), "two of this name"),
            (format!("[{{{ssh}}}, {{url: 'https://a.example/X/App', name: b}}]"), "the same repository"),
            (format!("[{{{ssh}, name: '../x'}}]"), "name: it has letters"),
            (format!("[{{{ssh}, max_push: 0}}]"), "0 is not a limit"),
            (format!("[{{{ssh}, lfs: scan}}]"), "lfs: scan is for https:// and http://"),
            (format!("[{{{ssh}, typo: 1}}]"), "typo"),
        ] {
            let error = read(&yaml).unwrap_err();
            assert!(error.contains(words), "{yaml}: {error}");
        }
    }
}
