//! The repositories behind a plan's git gate, and what the agent's git is set up with so that the URLs that people use
//! lead there.

use std::collections::BTreeSet;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::credentials::{CredentialPlan, slot_at};
use crate::credential::Slot;
use crate::layout::git_gate;
use crate::manifest::{GitSection, Size};
use crate::net::RepositoryUrl;
use crate::policy::{EgressSpec, GitRepository, GitTerms, Reach};

/// The git gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GitPlan {
    /// Its repositories.
    pub repositories: Vec<RepositoryPlan>,
    /// An image with git and ssh; this machine's programs if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// A repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RepositoryPlan {
    /// Its name at the gate.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// The name of the credential that the gate's requests get, over HTTPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// Where that credential stands in a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub slot: Option<Slot>,
    /// The file with the private key, over ssh, or with the public one. No plan has its content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_file: Option<PathBuf>,
    /// If the file has the public key: the socket of the ssh agent that has the private one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<PathBuf>,
    /// The host's public keys, over ssh, one in each line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_host_key: Option<String>,
    /// What may be pushed.
    pub terms: GitTerms,
}

/// Why there is no plan, and what to do.
type Refused = (String, Option<String>);

/// The repositories as egress knows them.
///
/// # Errors
/// A URL is malformed.
pub(super) fn repositories(sections: &[GitSection]) -> Result<Vec<GitRepository>, Refused> {
    let repository = |section: &GitSection| {
        let url = section.place().map_err(|why| (format!("git: {}: {why}", section.name), None))?;
        let repository = GitRepository::of(&section.name, &url);
        repository.read().map_err(|error| (error.to_string(), None))?;
        Ok(repository)
    };
    sections.iter().map(repository).collect()
}

/// Plans the gate; `None` without repositories.
///
/// # Errors
/// A repository has no such credential, or one that is not for its host: why, and what to do.
pub(super) fn git(
    sections: &[GitSection],
    image: Option<String>,
    credentials: &[CredentialPlan],
) -> Result<Option<GitPlan>, Refused> {
    if sections.is_empty() {
        if image.is_some() {
            return Err(("git_gate: there is no repository in `git`".to_owned(), Some("leave it out".to_owned())));
        }
        return Ok(None);
    }
    let repositories: Result<_, Refused> = sections.iter().map(|section| repository(section, credentials)).collect();
    Ok(Some(GitPlan { repositories: repositories?, image }))
}

fn repository(section: &GitSection, credentials: &[CredentialPlan]) -> Result<RepositoryPlan, Refused> {
    let refused = |why: String, hint: String| (format!("git: {}: {why}", section.name), Some(hint));
    let default = GitTerms::default();
    let bytes = |size: Option<Size>, default: u64| size.map_or(default, |Size(bytes)| bytes.unsigned_abs());
    let slot = section.credential.as_ref().map(|name| {
        let url = section.place().map_err(|why| refused(why, "https://HOST/PATH".to_owned()))?;
        let (host, _) = url.place();
        let fits = |slot: &Slot| matches!(slot, Slot::Basic(_) | Slot::Bearer | Slot::Token);
        let slot = slot_at(credentials, name, host, fits).map_err(|(why, hint)| refused(why, hint))?;
        slot.cloned().ok_or_else(|| {
            let hint = format!("add {{host: {host}, slot: \"basic:x-access-token\"}} to its hosts");
            refused(format!("the credential {name} has no place in Authorization at {host}"), hint)
        })
    });
    Ok(RepositoryPlan {
        name: section.name.clone(),
        url: section.url.clone(),
        credential: section.credential.clone(),
        slot: slot.transpose()?,
        identity_file: section.identity_file.clone(),
        agent: None,
        known_host_key: section.known_host_key.clone(),
        terms: GitTerms {
            branches: section.branches.clone().unwrap_or(default.branches),
            force: section.force.unwrap_or(default.force),
            delete: section.delete.unwrap_or(default.delete),
            tags: section.tags.clone(),
            max_push: bytes(section.max_push, default.max_push),
            max_file: bytes(section.max_file, default.max_file),
            author: section.author.clone(),
            protected: section.protected.clone().unwrap_or(default.protected),
            lfs: section.lfs.unwrap_or(default.lfs),
        },
    })
}

impl RepositoryPlan {
    /// Where the agent finds it in any case.
    pub fn door(&self) -> String {
        format!("git://{}/{}.git", git_gate::NAME, self.name)
    }
}

impl GitPlan {
    /// Settings of the agent's git, as keys and values: URLs that people use lead to requests that egress hands over to
    /// the gate, as `git remote -v` then shows them, which gh and glab need to recognize the forge. Where egress does
    /// not look into a host's TLS, they lead to the gate itself.
    pub(super) fn settings(&self, egress: &EgressSpec) -> Vec<(String, String)> {
        let mut settings = Vec::new();
        let mut hosts = BTreeSet::new();
        for repository in &self.repositories {
            let Ok(url) = RepositoryUrl::parse(&repository.url) else { continue };
            let known = GitRepository::of(&repository.name, &url);
            let (host, path) = url.place();
            let spellings = spellings(&url);
            let is_tunnel = known.ssh.is_some() || known.url.starts_with("https:");
            if is_tunnel && egress.reach(host) == Ok(Reach::Tunnel) {
                let to = format!("url.git://{}/{}.insteadOf", git_gate::NAME, repository.name);
                let from = spellings.iter().map(|spelling| format!("{spelling}{path}"));
                settings.extend(from.chain([known.url.clone()]).map(|from| (to.clone(), from)));
                continue;
            }
            let Some(origin) = known.url.strip_suffix(path) else { continue };
            for spelling in spellings {
                if hosts.insert(spelling.clone()) {
                    settings.push((format!("url.{origin}.insteadOf"), spelling));
                }
            }
        }
        settings
    }
}

/// The beginnings of URLs of other protocols than HTTP for a repository's host.
fn spellings(url: &RepositoryUrl) -> Vec<String> {
    let (host, _) = url.place();
    let mut users = vec!["git"];
    let mut ports = vec![22];
    if let RepositoryUrl::Ssh(ssh) = url {
        if ssh.user != "git" {
            users.push(&ssh.user);
        }
        if ssh.port != 22 {
            ports.push(ssh.port);
        }
    }
    let mut found = vec![format!("git://{host}/")];
    for user in users.into_iter().map(|user| format!("{user}@")).chain([String::new()]) {
        found.push(format!("ssh://{user}{host}/"));
        found.extend(ports.iter().map(|port| format!("ssh://{user}{host}:{port}/")));
        if !user.is_empty() {
            // The longer one is for an absolute path.
            found.extend([format!("{user}{host}:"), format!("{user}{host}:/")]);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::GitSection;

    fn sections(yaml: &str) -> Vec<GitSection> {
        serde_yaml::from_str(yaml).unwrap()
    }

    #[test]
    fn urls_that_people_use_lead_to_egress_or_to_the_gate() {
        let found = sections(
            "[{name: app, url: 'git@github.com:acme/app.git', identity_file: /k}, {name: lib, url: 'https://git.example.com/x/lib'}]",
        );
        let plan = git(&found, None, &[]).unwrap().unwrap();
        let tunnel = "{allow: [{host: git.example.com, tls: tunnel}]}";
        let egress: EgressSpec = serde_yaml::from_str(tunnel).unwrap();
        let settings = plan.settings(&egress);
        let has = |key: &str, value: &str| settings.iter().any(|(k, v)| (k.as_str(), v.as_str()) == (key, value));
        let github = "url.https://github.com/.insteadOf";
        for spelling in [
            "git@github.com:",
            "git@github.com:/",
            "ssh://git@github.com/",
            "ssh://github.com:22/",
            "git://github.com/",
        ] {
            assert!(has(github, spelling), "{spelling}: {settings:?}");
        }
        let gate = "url.git://git-gate/lib.insteadOf";
        assert!(has(gate, "https://git.example.com/x/lib") && has(gate, "git@git.example.com:x/lib"), "{settings:?}");
        assert!(!settings.iter().any(|(key, _)| key == "url.https://git.example.com/.insteadOf"));
    }

    #[test]
    fn a_credential_must_be_for_the_host() {
        let found = sections("[{name: lib, url: 'https://git.example.com/x/lib', credential: key}]");
        let (why, hint) = git(&found, None, &[]).unwrap_err();
        assert!(why.contains("there is no credential key") && hint.is_some(), "{why}");
        let plan = |host: &str, slot: &str| -> CredentialPlan {
            serde_json::from_value(serde_json::json!({
                "name": "key", "hosts": [host], "places": [{"host": host, "slot": slot}],
            }))
            .unwrap()
        };
        assert!(git(&found, None, &[plan("git.example.com", "path")]).is_err());
        assert!(git(&found, None, &[plan("other.example.com", "bearer")]).is_err());
        let made = git(&found, None, &[plan("git.example.com", "basic:x-access-token")]).unwrap().unwrap();
        assert_eq!(made.repositories[0].slot, Some(Slot::Basic("x-access-token".to_owned())));
        assert!(git(&[], Some("i".to_owned()), &[]).unwrap_err().0.contains("no repository"));
    }
}
