//! The git gate with what people use beside git: gh, and an ssh agent.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::git_gate::{SECRET, Wish, launch, prepare, start, token};
use crate::support::images::Debian;
use crate::support::process::{World, wait_for};

#[test]
fn promise_10_what_an_unmodified_gh_does_with_git_goes_through_the_gate() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    Debian::import();
    // What is gh's API is an entry of its own.
    let wish = Wish {
        egress: ", allow: [{host: git.example.com, methods: [GET, POST], paths: ['/api/**']}]",
        credential: ", env: GH_ENTERPRISE_TOKEN",
        hosts: ", {host: git.example.com, slot: token, paths: ['/api/**']}",
        ..Wish::default()
    };
    prepare(folder.path(), &wish);
    let id = "gate-gh";
    let launched = launch(&world, folder.path(), id, &[], &[]);
    assert_eq!(launched.code(), 0, "{}", launched.stderr);
    let origin = start(id, folder.path());
    let inside = |script: &str| world.inside(id, &format!("export GH_HOST=git.example.com NO_COLOR=1; {script}"));
    wait_for("the forge", || inside("git ls-remote https://git.example.com/acme/lib").contains("main").then_some(()));
    inside("git config --global user.name A; git config --global user.email a@example.com");
    // A proposal that only its own reference has.
    origin.exec(
        "cd /srv/acme/lib.git && git update-ref refs/pull/7/head \
         $(git -c user.name=b -c user.email=b@c commit-tree -p main -m theirs main^{tree})",
    );
    let cloned = inside("cd && gh repo clone acme/lib && cat lib/README");
    assert!(cloned.starts_with("hello\n"), "{cloned}: {}", origin.log());
    let theirs = inside("cd ~/lib && gh pr checkout 7 2>&1 && git rev-parse HEAD");
    let there = origin.exec("git -C /srv/acme/lib.git rev-parse refs/pull/7/head");
    assert!(theirs.ends_with(&there), "{theirs}: {}", origin.log());
    // gh asks where to push, and pushes; the answer is the first choice.
    let create = |branch: &str, content: &str| {
        inside(&format!(
            "cd ~/lib && git config remote.origin.gh-resolved base && git checkout -q -B {branch} origin/main && \
             echo '{content}' > work && git add . && git commit -qm work && \
             printf '\\r' | TERM=xterm script -qec 'gh pr create --title t --body b --base main' /dev/null"
        ))
    };
    let created = create("agent/gh", "work");
    assert!(created.contains("https://git.example.com/acme/lib/pull/8"), "{created}: {}", origin.log());
    let pushed = origin.exec("git -C /srv/acme/lib.git rev-parse agent/gh");
    assert_eq!(pushed, inside("cd ~/lib && git rev-parse HEAD"));
    for (branch, content, words) in [
        ("agent/token", token().as_str(), "a secret (github-token:"),
        ("agent/secret", SECRET, "a secret (known-secret)"),
        ("other", "work", "agent/*"),
    ] {
        let refused = create(branch, content);
        assert!(refused.contains("[remote rejected]") && refused.contains(words), "{branch}: {refused}");
        assert!(!refused.contains("/pull/8"), "{branch}: {refused}");
    }
    let refs = origin.exec("git -C /srv/acme/lib.git for-each-ref --format='%(refname)'");
    assert_eq!(refs, "refs/heads/agent/gh\nrefs/heads/main\nrefs/pull/7/head\n");
    let log = origin.log();
    assert!(log.contains("POST /api/graphql has") && !log.contains("lacks"), "{log}");
    assert!(log.contains("POST /acme/lib.git/git-receive-pack has"), "{log}");
    drop(origin);
    assert_eq!(world.run(&["stop", id]).code(), 0);
    world.assert_clean();
}

/// A real ssh agent.
struct SshAgent {
    child: Child,
    socket: PathBuf,
}

impl Drop for SshAgent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl SshAgent {
    fn start(folder: &Path) -> Self {
        let socket = folder.join("ssh-agent");
        let mut command = Command::new("ssh-agent");
        command.arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).stderr(Stdio::null());
        let agent = Self { child: command.spawn().unwrap(), socket };
        wait_for("the ssh agent", || agent.socket.exists().then_some(()));
        agent
    }

    fn add(&self, arguments: &[&str], file: &Path) {
        let mut command = Command::new("ssh-add");
        let done = command.args(arguments).arg(file).env("SSH_AUTH_SOCK", &self.socket).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }
}

#[test]
fn promise_08_a_key_of_an_ssh_agent_signs_the_gates_logins_and_nothing_else() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    Debian::import();
    prepare(folder.path(), &Wish { identity: "origin/user.pub", ..Wish::default() });
    let at = |name: &str| folder.path().join("origin").join(name);
    let other = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(at("other")).status();
    assert!(other.unwrap().success());
    let id = "gate-agent";
    // Without an agent, and with one that does not have the key, there is no launch.
    let none = folder.path().join("none");
    let refused = launch(&world, folder.path(), id, &[], &[("SSH_AUTH_SOCK", &none)]);
    assert!(refused.code() != 0 && refused.stderr.contains("ask the ssh agent at"), "{}", refused.stderr);
    let agent = SshAgent::start(folder.path());
    agent.add(&[], &at("other"));
    let refused = launch(&world, folder.path(), id, &[], &[("SSH_AUTH_SOCK", &agent.socket)]);
    assert!(refused.stderr.contains("your ssh agent does not have the private one"), "{}", refused.stderr);
    agent.add(&[], &at("user"));
    let launched = launch(&world, folder.path(), id, &[], &[("SSH_AUTH_SOCK", &agent.socket)]);
    assert_eq!(launched.code(), 0, "{}", launched.stderr);
    assert!(launched.stderr.contains("of your ssh agent, which signs"), "{}", launched.stderr);
    // The private key is nowhere but in the agent.
    std::fs::rename(at("user"), folder.path().join("away")).unwrap();
    let origin = start(id, folder.path());
    let inside = |script: &str| world.inside(id, script);
    let url = "root@ssh.example.com:/srv/app.git";
    wait_for("the server", || inside(&format!("git ls-remote {url}")).contains("main").then_some(()));
    let pushed = inside(&format!(
        "cd && git clone -q {url} && cd app && echo x > x && git add . && \
         git -c user.name=a -c user.email=a@b commit -qm x && git push origin HEAD:agent/x 2>&1"
    ));
    assert!(pushed.contains("new branch"), "{pushed}: {}", origin.log());
    // Inside the gate there is a socket with this one key, which signs nothing but logins.
    let gate = format!("{id}-git-gate");
    let files = world.run(&["exec", id, "--", "sh", "-c", "ls -R /run 2>/dev/null; env"]).stdout;
    assert!(!files.contains("identity") && !files.contains("SSH_AUTH_SOCK"), "{files}");
    let exported = crate::support::origin::docker(&["inspect", &gate, &format!("{id}-egress"), id]);
    assert!(!exported.contains("SSH_AUTH_SOCK") && !exported.contains(agent.socket.to_str().unwrap()));
    let events = |code: &str| {
        let events = world.run(&["audit", "show", id, "--format", "json"]).json();
        events.as_array().unwrap().iter().any(|event| event["sidecar"] == "git-gate" && event["code"] == code)
    };
    assert!(events("git_key_used"));
    // The operator takes the key out of the agent: nothing is signed any more, and the reason is told.
    agent.add(&["-d"], &at("user.pub"));
    let refused = inside(&format!("git ls-remote {url} 2>&1"));
    assert!(refused.contains("key did not sign") && refused.contains("ssh-add -L"), "{refused}");
    assert!(events("git_key_refused"));
    drop(origin);
    assert_eq!(world.run(&["stop", id]).code(), 0);
    world.assert_clean();
}
