//! The git gate before a real Gitea: over HTTPS with a credential and over ssh, with Git LFS, and a pull request by its API.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::git_gate::{SECRET, token};
use crate::support::images::{DEBIAN, Debian};
use crate::support::origin::{Origin, certificates, docker};
use crate::support::process::{World, wait_for};

const FORGE: &str = "git.example.com";
const SSH: &str = "ssh.example.com";
const PASSWORD: &str = "password-of-a-forge-user-0123456789";

/// Gitea's settings: TLS, ssh and LFS of its own, and nothing that needs a network.
const SETTINGS: &str = "
RUN_MODE = prod
WORK_PATH = /data
[server]
PROTOCOL = https
DOMAIN = git.example.com
ROOT_URL = https://git.example.com/
HTTP_ADDR = 0.0.0.0
HTTP_PORT = 443
CERT_FILE = /origin/leaf.pem
KEY_FILE = /origin/leaf.key
STATIC_ROOT_PATH = /origin/gitea
START_SSH_SERVER = true
SSH_DOMAIN = ssh.example.com
SSH_USER = git
BUILTIN_SSH_SERVER_USER = git
SSH_LISTEN_PORT = 22
SSH_SERVER_HOST_KEYS = /origin/host
LFS_START_SERVER = true
LFS_JWT_SECRET = MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE
OFFLINE_MODE = true
[database]
DB_TYPE = sqlite3
PATH = /data/gitea.db
[repository]
ROOT = /data/repositories
[security]
INSTALL_LOCK = true
SECRET_KEY = a-secret-key-of-a-test
[oauth2]
JWT_SECRET = MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE
[service]
DISABLE_REGISTRATION = true
[log]
MODE = console
LEVEL = warn
";

/// Makes a user with two repositories, one of which has a deploy key, and serves.
const START: &str = r#"
export GITEA_I_AM_BEING_UNSAFE_RUNNING_AS_ROOT=true GITEA_CUSTOM=/data/custom HOME=/root
mkdir -p /data && chown -R root:root /origin && chmod 600 /origin/host
g="/origin/gitea/gitea -c /origin/app.ini"
$g migrate > /dev/null
$g admin user create --username acme --password "$(cat /origin/value)" --email acme@example.com --admin --must-change-password=false
$g web & web=$!
api() { curl -sS -k --fail -u "acme:$(cat /origin/value)" --resolve git.example.com:443:127.0.0.1 -H 'content-type: application/json' "$@"; }
until api https://git.example.com/api/v1/version > /dev/null 2>&1; do sleep 0.2; done
for r in lib app; do
  api https://git.example.com/api/v1/user/repos -d "{\"name\": \"$r\", \"auto_init\": true, \"default_branch\": \"main\", \"private\": true}" > /dev/null
done
api https://git.example.com/api/v1/repos/acme/app/keys -d "{\"title\": \"gate\", \"key\": \"$(cat /origin/user.pub)\", \"read_only\": false}" > /dev/null
echo the forge is ready
wait $web
"#;

/// Builds Gitea, unless an earlier run did; returns its folder.
fn gitea() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = here.join("target/tools/gitea");
    let made = Command::new(here.join("tests/support/gitea")).arg(&folder).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    folder
}

fn prepare(folder: &Path) {
    let origin = folder.join("origin");
    std::fs::create_dir(&origin).unwrap();
    certificates(&origin, &[FORGE]);
    for (name, text) in [("app.ini", SETTINGS), ("start", START), ("value", PASSWORD)] {
        std::fs::write(origin.join(name), text).unwrap();
    }
    let copied = Command::new("cp").arg("-r").arg(gitea()).arg(origin.join("gitea")).status();
    assert!(copied.unwrap().success());
    for name in ["host", "user"] {
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(origin.join(name)).status();
        assert!(made.unwrap().success());
    }
    std::fs::create_dir(folder.join("project")).unwrap();
    let host_key = std::fs::read_to_string(origin.join("host.pub")).unwrap();
    let manifest = format!(
        "bottles:
  dev:
    image: {DEBIAN}
    env: {{KNOWN: \"${{KNOWN}}\"}}
    credentials:
      - {{name: forge, source: 'env:FORGE', env: FORGE, hosts: [{{host: {FORGE}, slot: 'basic:acme'}}]}}
    git:
      - {{url: 'https://{FORGE}/acme/lib.git', credential: forge, lfs: scan}}
      - {{url: 'git@{SSH}:acme/app.git', identity_file: origin/user, known_host_key: '{}'}}
    bridge: {{set_rp_filter: true}}
    workspace: {{mode: none}}
    egress:
      roots: [origin/root.pem]
      ip_allow: [10.213.0.0/16, 172.29.0.0/16]
      allow: [{{host: {FORGE}, methods: [GET, POST], paths: ['/api/v1/repos/acme/lib/pulls']}}]
agents:
  dev: {{bottle: dev, command: [sleep, '1000']}}
",
        host_key.trim()
    );
    std::fs::write(folder.join("bottler.yaml"), manifest).unwrap();
}

#[test]
#[ignore = "slow: tests/run all"]
fn promise_10_a_real_gitea_gets_what_was_inspected_and_nothing_else() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    Debian::import();
    prepare(folder.path());
    let id = "gate-gitea";
    let mut command = world.launching(folder.path(), id, &[]);
    let launched: crate::support::process::Done =
        command.env("FORGE", PASSWORD).env("KNOWN", SECRET).output().unwrap().into();
    assert_eq!(launched.code(), 0, "{}", launched.stderr);
    let origin =
        Origin::start(id, &[FORGE, SSH], DEBIAN, &folder.path().join("origin"), &["sh", "-e", "/origin/start"]);
    wait_for("the forge", || origin.log().contains("the forge is ready").then_some(()));
    let inside = |script: &str| world.inside(id, script);
    inside("git config --global user.name A; git config --global user.email a@example.com");
    let head = |repository: &str, branch: &str| {
        let show = format!(
            "git -C /data/repositories/acme/{repository}.git for-each-ref --format='%(objectname)' refs/heads/{branch}"
        );
        origin.exec(&show)
    };
    for (repository, url) in [("lib", "https://git.example.com/acme/lib"), ("app", "git@ssh.example.com:acme/app.git")]
    {
        let cloned = inside(&format!("cd && git clone -q {url} {repository} && ls {repository} 2>&1"));
        assert_eq!(cloned, "README.md\n", "{}", origin.log());
        let push = |branch: &str, content: &str| {
            inside(&format!(
                "cd ~/{repository} && git checkout -qB {branch} origin/main && echo '{content}' > work && git add . && \
                 git commit -qm work && git push -f origin HEAD:{branch} 2>&1"
            ))
        };
        let pushed = push("agent/x", "work");
        assert!(pushed.contains("new branch"), "{pushed}: {}", origin.log());
        assert_eq!(head(repository, "agent/x"), inside(&format!("cd ~/{repository} && git rev-parse HEAD")));
        // What Gitea says to who pushes arrives.
        assert!(pushed.contains("Create a new pull request"), "{pushed}");
        for (branch, content, words) in [
            ("agent/token", token().as_str(), "a secret (github-token:"),
            ("agent/secret", SECRET, "a secret (known-secret)"),
            ("main", "work", "agent/*"),
        ] {
            let before = head(repository, branch);
            let refused = push(branch, content);
            assert!(refused.contains("[remote rejected]") && refused.contains(words), "{branch}: {refused}");
            assert_eq!(head(repository, branch), before);
        }
        // Somebody else's branch is refused by Gitea's own words where the gate allows it: what is there is protected.
        let again = inside(&format!("cd ~/{repository} && git fetch -q origin && git pull -q origin main 2>&1"));
        assert_eq!(again, "");
    }
    // A pull request by the API, which is an entry of its own; nothing else of it is reached.
    let api = |path: &str, more: &str| {
        inside(&format!(
            "curl -sS -u \"acme:$FORGE\" -H 'content-type: application/json' https://git.example.com/api/v1{path} {more}"
        ))
    };
    let made = api("/repos/acme/lib/pulls", r#"-d '{"head": "agent/x", "base": "main", "title": "work"}'"#);
    assert!(made.contains(r#""number":1"#), "{made}");
    assert!(api("/repos/acme/lib", "").contains("path_not_allowed"), "{}", api("/repos/acme/lib", ""));
    // Its reference is served, and what it has is not new to the upstream.
    let fetched = inside("cd ~/lib && git fetch -q origin refs/pull/1/head && git rev-parse FETCH_HEAD");
    assert_eq!(fetched, head("lib", "agent/x"));
    lfs(&world, id, &origin);
    drop(origin);
    assert_eq!(world.run(&["stop", id]).code(), 0);
    world.assert_clean();
}

/// Git LFS, with the git-lfs of this machine and Gitea's own server.
fn lfs(world: &World, id: &str, origin: &Origin) {
    docker(&["cp", "/usr/bin/git-lfs", &format!("{id}:/usr/bin/git-lfs")]);
    let inside = |script: &str| world.inside(id, script);
    let push = |branch: &str, make: &str| {
        inside(&format!(
            "cd ~/lib && git lfs install > /dev/null && git checkout -qB {branch} origin/main && git lfs track '*.bin' > /dev/null \
             && {make} > data.bin && git add . && git commit -qm data && git push -f origin HEAD:{branch} 2>&1; sha256sum data.bin"
        ))
    };
    let pushed = push("agent/lfs", "head -c 300000 /dev/urandom");
    assert!(pushed.contains("new branch"), "{pushed}: {}", origin.log());
    let digest = pushed.lines().last().unwrap().split(' ').next().unwrap().to_owned();
    let kept = |digest: &str| {
        let path = format!("/data/data/lfs/{}/{}/{}", &digest[..2], &digest[2..4], &digest[4..]);
        origin.exec(&format!(
            "sha256sum < {path} 2>/dev/null || find / -name '{}' -path '*lfs*' 2>/dev/null",
            &digest[4..]
        ))
    };
    assert!(kept(&digest).starts_with(&digest), "{}", kept(&digest));
    let other =
        inside("cd && git clone -q -b agent/lfs https://git.example.com/acme/lib other && sha256sum other/data.bin");
    assert!(other.contains(&digest), "{other}");
    let refused = push("agent/lfs-secret", &format!("printf 'x\\n%s\\n' {SECRET}"));
    assert!(refused.contains("a secret (known-secret)"), "{refused}");
    let digest = refused.lines().last().unwrap().split(' ').next().unwrap().to_owned();
    assert_eq!(kept(&digest), "");
}
