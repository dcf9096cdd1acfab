//! Signatures by a key that the operator's ssh agent has, for the git gate. The gate has a socket that looks like an agent
//! with this one key; each signature is asked for here, on the sidecar's own channel, and comes from the operator's agent.
//!
//! Attacks that this stops: a gate that is taken over and has something else signed than a login of a declared repository's
//! user, with that repository's key, at its host: another key, a commit, a certificate, or what nobody confirmed in time.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use tokio::sync::Semaphore;

use crate::host::ask_agent;
use crate::net::RepositoryUrl;
use crate::plan::RepositoryPlan;
use crate::primitive::bottle::Bottle;
use crate::primitive::channel::control::ControlChannel;
use crate::sidecar::git_gate::ssh_agent::{ask_signature, is_login, public_key, signature};
use crate::sidecar::git_gate::{Sign, Signed};

/// How long an agent may take: the operator may have to confirm, or to touch a key.
const PATIENCE: Duration = Duration::from_secs(50);
/// How many signatures are waited for at a time, of all bottles of a holder.
const AT_ONCE: usize = 8;
static PERMITS: Semaphore = Semaphore::const_new(AT_ONCE);

/// Answers a sidecar that wants a signature.
pub(super) async fn sign(bottle: &Arc<Bottle>, name: &str, channel: &ControlChannel, wanted: Sign) {
    let Sign { n, repository, data, flags } = wanted;
    let plans = bottle.plan.git.iter().flat_map(|git| &git.repositories);
    let done = match plans.into_iter().find(|plan| plan.name == repository) {
        Some(plan) => in_turn(plan.clone(), data, flags, PATIENCE).await,
        None => Err("there is no such repository".to_owned()),
    };
    let (decision, code, words) = match &done {
        Ok(_) => ("allow", "git_key_used", "the ssh agent signed a login".to_owned()),
        Err(why) => ("refuse", "git_key_refused", why.clone()),
    };
    bottle.audit(name, decision, code, format!("{repository}: {words}"));
    let (signature, why) = match done {
        Ok(signature) => (Some(BASE64.encode(&signature)), String::new()),
        Err(why) => (None, why),
    };
    if let Some(update) = (channel.role.signed)(Signed { n, signature, why }) {
        // A sidecar that does not take it has died, or asks again.
        let _ = channel.update(bottle.session.engine.as_ref(), update).await;
    }
}

/// Has a login signed, if not too many others are waited for.
async fn in_turn(plan: RepositoryPlan, data: String, flags: u32, patience: Duration) -> Result<Vec<u8>, String> {
    let Ok(_permit) = PERMITS.try_acquire() else {
        return Err(format!("{AT_ONCE} other signatures are waited for"));
    };
    let work = crate::task::blocking(move || signed(&plan, &data, flags, patience));
    work.await.unwrap_or_else(|error| Err(error.to_string()))
}

/// Has a login signed.
fn signed(plan: &RepositoryPlan, data: &str, flags: u32, patience: Duration) -> Result<Vec<u8>, String> {
    let (Some(socket), Some(file)) = (&plan.agent, &plan.identity_file) else {
        return Err("this repository has no key of an ssh agent".to_owned());
    };
    let Ok(RepositoryUrl::Ssh(url)) = RepositoryUrl::parse(&plan.url) else {
        return Err("this repository is not reached over ssh".to_owned());
    };
    let text = std::fs::read_to_string(file).map_err(|error| format!("read {}: {error}", file.display()))?;
    let key = public_key(&text).ok_or_else(|| format!("{} is no public key any more", file.display()))?;
    let hosts: Vec<Vec<u8>> = plan.known_host_key.iter().flat_map(|keys| keys.lines()).filter_map(public_key).collect();
    let data = BASE64.decode(data.as_bytes()).map_err(|_| "the request is damaged".to_owned())?;
    if !is_login(&data, &url.user, &key, &hosts) {
        return Err(format!("only logins of {} with its own key are signed", url.user));
    }
    ask(socket, &ask_signature(&key, &data, flags), patience)
}

fn ask(socket: &Path, question: &[u8], patience: Duration) -> Result<Vec<u8>, String> {
    let answer = ask_agent(socket, question, patience).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
            let seconds = patience.as_secs();
            format!("the ssh agent at {} has not answered within {seconds} s", socket.display())
        }
        _ => format!("ask the ssh agent at {}: {error}", socket.display()),
    })?;
    signature(&answer)
        .ok_or_else(|| "the ssh agent does not sign with this key: is it still there (`ssh-add -L`)?".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::GitTerms;
    use crate::sidecar::git_gate::ssh_agent::{ask_identities, lists};
    use std::process::{Child, Command};

    /// A real agent.
    struct Agent(Child);

    impl Drop for Agent {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn prefixed(bytes: &[u8]) -> Vec<u8> {
        [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
    }

    fn plan(socket: &Path, key: &Path) -> RepositoryPlan {
        RepositoryPlan {
            name: "app".to_owned(),
            url: "git@git.example.com:acme/app.git".to_owned(),
            credential: None,
            slot: None,
            identity_file: Some(key.to_owned()),
            agent: Some(socket.to_owned()),
            known_host_key: None,
            terms: GitTerms::default(),
        }
    }

    fn login(user: &str, key: &[u8]) -> String {
        let start = [b"session".as_slice(), b"\x32"];
        let words = [user.as_bytes(), b"ssh-connection", b"publickey"].map(prefixed).concat();
        let data = [prefixed(start[0]), start[1].into(), words, vec![1], prefixed(b"ssh-ed25519"), prefixed(key)];
        BASE64.encode(&data.concat())
    }

    #[tokio::test]
    async fn promise_15_so_many_signatures_are_waited_for_at_a_time_and_not_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(at("own")).status();
        assert!(made.unwrap().success());
        let key = public_key(&std::fs::read_to_string(at("own.pub")).unwrap()).unwrap();
        // An agent that does not answer.
        let agent = tokio::net::UnixListener::bind(at("socket")).unwrap();
        let (plan, login) = (plan(&at("socket"), &at("own.pub")), login("git", &key));
        let ask = |patience: Duration| in_turn(plan.clone(), login.clone(), 0, patience);
        let waiting: Vec<_> = (0..AT_ONCE).map(|_| crate::task::spawn(ask(PATIENCE))).collect();
        let mut held = Vec::new();
        while held.len() < AT_ONCE {
            held.push(agent.accept().await.unwrap());
        }
        assert_eq!(ask(PATIENCE).await.unwrap_err(), "8 other signatures are waited for");
        drop(held);
        for waiting in waiting {
            let why = waiting.await.unwrap().unwrap_err();
            assert!(why.starts_with("ask the ssh agent at"), "{why}");
        }
        let why = ask(Duration::from_secs(1)).await.unwrap_err();
        assert!(why.starts_with("the ssh agent at") && why.ends_with("has not answered within 1 s"), "{why}");
    }

    #[test]
    fn promise_08_a_real_agent_signs_logins_of_the_repository_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let socket = at("socket");
        let agent =
            Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(std::process::Stdio::null()).spawn();
        let _agent = Agent(agent.unwrap());
        while ask_agent(&socket, &ask_identities(), PATIENCE).is_err() {
            std::thread::yield_now();
        }
        let add = |name: &str, here: bool| {
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(at(name)).status();
            assert!(made.unwrap().success());
            if here {
                let added = Command::new("ssh-add").arg("-q").arg(at(name)).env("SSH_AUTH_SOCK", &socket).status();
                assert!(added.unwrap().success());
            }
            let file = at(&format!("{name}.pub"));
            public_key(&std::fs::read_to_string(file).unwrap()).unwrap()
        };
        let (own, other, absent) = (add("own", true), add("other", true), add("absent", false));
        let answer = ask_agent(&socket, &ask_identities(), PATIENCE).unwrap();
        assert!(lists(&answer, &own) && lists(&answer, &other) && !lists(&answer, &absent));
        let plan = |name: &str| plan(&socket, &at(&format!("{name}.pub")));
        // What an ed25519 key signs is 64 bytes behind its name.
        assert_eq!(signed(&plan("own"), &login("git", &own), 0, PATIENCE).unwrap().len(), 4 + 11 + 4 + 64);
        for (plan, data, words) in [
            (plan("own"), login("git", &other), "only logins of git"),
            (plan("own"), login("root", &own), "only logins of git"),
            (plan("own"), BASE64.encode(b"SSHSIG"), "only logins of git"),
            (plan("own"), "!".to_owned(), "damaged"),
            (plan("absent"), login("git", &absent), "is it still there"),
            (RepositoryPlan { agent: None, ..plan("own") }, login("git", &own), "no key of an ssh agent"),
            (RepositoryPlan { agent: Some(at("none")), ..plan("own") }, login("git", &own), "ask the ssh agent at"),
            (
                RepositoryPlan { url: "https://git.example.com/app".into(), ..plan("own") },
                login("git", &own),
                "over ssh",
            ),
        ] {
            let why = signed(&plan, &data, 0, PATIENCE).unwrap_err();
            assert!(why.contains(words), "{words}: {why}");
        }
    }
}
