//! Real tools that log in, each with a placeholder as its documentation says: package managers, git, gh, a client of registries
//! of images. The servers answer with the keys only.

use std::path::PathBuf;

use bottler::credential::{Shape, Slot};

use crate::desk::{Desk, key, node};
use crate::lab::in_namespace;
use crate::support::npm;
use crate::support::pypi::WHEEL;

/// The folder `node_modules` with verdaccio, whose dependency's newer version is not to be had.
fn verdaccio() -> PathBuf {
    npm::install_with("verdaccio@6.8.0", "{\"node-fetch\": \"2.7.0\"}").join("node_modules")
}

#[test]
fn promise_08_pip_installs_from_a_private_index() {
    if in_namespace("credential_tools::promise_08_pip_installs_from_a_private_index") {
        pip();
    }
}

#[tokio::main]
async fn pip() {
    let mut desk = Desk::new().await;
    let value = "the-password-of-the-index";
    desk.forge(&serde_json::json!({ "pypi": format!("reader:{value}") }), WHEEL).await;
    desk.credentials(vec![key(
        "PASSWORD",
        value,
        Shape::default(),
        &[("pypi.example.com", Slot::Basic("reader".into()))],
    )])
    .await;
    let install = "/usr/bin/python3 -m pip download --no-deps -d wheels --retries 0 --disable-pip-version-check";
    let index = "--index-url https://reader:$PASSWORD@pypi.example.com/simple demo";
    desk.must("pip", &format!("{install} {index}; ls wheels"), "\ndemo-1.0-py3-none-any.whl").await;
    // As people write it down.
    let netrc = "echo machine pypi.example.com login reader password $PASSWORD > home/.netrc; rm -r wheels";
    let bare = "--index-url https://pypi.example.com/simple demo; ls wheels";
    desk.must("pip, .netrc", &format!("{netrc}; {install} {bare}"), "\ndemo-1.0-py3-none-any.whl").await;
    desk.end(&["PASSWORD"]).await;
}

/// A crate, and an index of it that wants a token for everything (Cargo's book, "Registry Index", `auth-required`).
const CRATE: &str = r#"
mkdir -p crate/demo-1.0.0/src www/index/de/mo www/dl/demo/1.0.0 project/src
printf '[package]\nname = "demo"\nversion = "1.0.0"\nedition = "2021"\n' > crate/demo-1.0.0/Cargo.toml
echo 'pub fn hi() {}' > crate/demo-1.0.0/src/lib.rs
tar -czf www/dl/demo/1.0.0/download -C crate demo-1.0.0
sum=$(sha256sum www/dl/demo/1.0.0/download | cut -d' ' -f1)
echo '{"dl":"https://crates.example.com/dl","api":"https://crates.example.com","auth-required":true}' > www/index/config.json
echo '{"name":"demo","vers":"1.0.0","deps":[],"cksum":"'$sum'","features":{},"yanked":false}' > www/index/de/mo/demo
printf '[package]\nname = "user"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\ndemo = {version = "1", registry = "mine"}\n' > project/Cargo.toml
echo 'pub fn main() { demo::hi() }' > project/src/lib.rs
"#;

#[test]
fn promise_08_cargo_fetches_from_a_private_registry() {
    if in_namespace("credential_tools::promise_08_cargo_fetches_from_a_private_registry") {
        cargo();
    }
}

#[tokio::main]
async fn cargo() {
    let mut desk = Desk::new().await;
    let value = "the-token-of-the-registry";
    desk.forge(&serde_json::json!({ "crates": value }), CRATE).await;
    let slot = Slot::Header("authorization".into());
    desk.credentials(vec![key("TOKEN", value, Shape::default(), &[("crates.example.com", slot)])]).await;
    // The real one, and the compiler beside it: rustup's own would look into the home for which to run.
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| env!("CARGO").to_owned());
    let fetch = format!(
        "cd project; unset CARGO_TARGET_DIR; export PATH=$(dirname {cargo}):$PATH CARGO_HOME=$HOME/.cargo CARGO_REGISTRIES_MINE_TOKEN=$TOKEN \
         CARGO_REGISTRIES_MINE_INDEX=sparse+https://crates.example.com/index/ CARGO_NET_RETRY=0 \
         CARGO_REGISTRY_GLOBAL_CREDENTIAL_PROVIDERS=cargo:token; cargo fetch && cargo tree --offline"
    );
    desk.must("cargo", &fetch, "└── demo v1.0.0 (registry `mine`)").await;
    desk.end(&["TOKEN"]).await;
}

#[test]
fn promise_08_npm_installs_from_verdaccio() {
    node();
    verdaccio();
    if in_namespace("credential_tools::promise_08_npm_installs_from_verdaccio") {
        npm_from_verdaccio();
    }
}

/// Everything wants a login, and there is nobody to ask for what it does not have.
const VERDACCIO: &str = "
storage: ./storage
auth: {htpasswd: {file: ./htpasswd, algorithm: bcrypt, rounds: 4}}
uplinks: {}
packages: {'**': {access: $authenticated, publish: $authenticated}}
listen: ['https://93.184.216.3:443']
https: {key: ./leaf.key, cert: ./leaf.pem}
log: {type: stdout, format: pretty, level: http}
web: {enable: false}
";

#[tokio::main]
async fn npm_from_verdaccio() {
    let mut desk = Desk::new().await;
    std::fs::write(desk.path("verdaccio.yaml"), VERDACCIO).unwrap();
    let program = verdaccio().join("verdaccio/bin/verdaccio").display().to_string();
    // The system's may be older than it wants.
    desk.serve(&node(), &[&program, "--config", "verdaccio.yaml"], "http address").await;
    // The user's own part, past egress: a login, and a package. OpenSSL does not take the certificate, whose name is its
    // issuer's.
    let login = "curl -sSk --noproxy '*' -X PUT -H 'content-type: application/json' \
         -d '{\"name\": \"me\", \"password\": \"my-own-password\"}' https://npm.example.com/-/user/org.couchdb.user:me";
    let answer = desk.run(login).await;
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{answer}"));
    let token = answer["token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    let publish = format!(
        "mkdir demo; cd demo; echo '{{\"name\": \"demo\", \"version\": \"1.0.0\"}}' > package.json; \
         echo \"//npm.example.com/:_authToken={token}\" > .npmrc; \
         HOME=$PWD HTTPS_PROXY= https_proxy= npm_config_strict_ssl=false npm publish --registry https://npm.example.com/ 2>&1"
    );
    let published = desk.run(&publish).await;
    assert!(published.contains("+ demo@1.0.0"), "{published}\n{}", desk.log());
    desk.credentials(vec![key("NPM_TOKEN", &token, Shape::Npm, &[("npm.example.com", Slot::Bearer)])]).await;
    // As npm's documentation says for CI: the variable in `.npmrc`.
    let install = "mkdir user; cd user; echo '//npm.example.com/:_authToken=${NPM_TOKEN}' > .npmrc; \
         npm install --no-audit --no-fund --registry https://npm.example.com/ demo && npm whoami --registry https://npm.example.com/ && \
         cat node_modules/demo/package.json";
    let said = desk.must("npm", install, "\"version\": \"1.0.0\"").await;
    assert!(said.contains("\nme\n"), "{said}");
    desk.end(&["NPM_TOKEN"]).await;
}

/// A repository, and one with a file in LFS.
const REPOSITORIES: &str = r"
git init -q -b main work && cd work
git -c user.name=a -c user.email=a@b commit -q --allow-empty -m 'the first'
git clone -q --bare . ../www/demo.git
echo '*.bin filter=lfs diff=lfs merge=lfs -text' > .gitattributes
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 6\n' $(echo large | sha256sum | cut -d' ' -f1) > a.bin
git -c filter.lfs.clean=cat -c filter.lfs.process= -c filter.lfs.required=false add . && git -c user.name=a -c user.email=a@b commit -qm large
git clone -q --bare . ../www/large.git
";

#[test]
fn promise_08_git_and_gh_log_in_and_lfs_is_refused_with_its_reason() {
    if in_namespace("credential_tools::promise_08_git_and_gh_log_in_and_lfs_is_refused_with_its_reason") {
        forges();
    }
}

#[tokio::main]
async fn forges() {
    let mut desk = Desk::new().await;
    let value = ["ghp_", "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx"].concat();
    let keys = serde_json::json!({ "git": format!("x-access-token:{value}"), "api": format!("token {value}") });
    desk.forge(&keys, REPOSITORIES).await;
    let places = [
        ("git.example.com", Slot::Basic("x-access-token".into())),
        ("api.github.com", Slot::Bearer),
        ("api.github.com", Slot::Token),
    ];
    desk.credentials(vec![key("GH_TOKEN", &value, Shape::Github, &places)]).await;
    let clone =
        "git clone -q https://x-access-token:$GH_TOKEN@git.example.com/demo.git one && git -C one log --format=%s";
    desk.must("git, the token in its URL", clone, "the first").await;
    // As `gh auth setup-git` does it.
    let helper = "git config --global credential.helper '!f() { echo username=x-access-token; echo password=$GH_TOKEN; }; f'; \
         git clone -q https://git.example.com/demo.git two && git -C two log --format=%s && git -C two fetch -q && echo fetched; rm home/.gitconfig";
    desk.must("git, a helper", helper, "the first\nfetched").await;
    // git's own word for a key is not accepted.
    let without = "git clone -q https://git.example.com/demo.git three";
    desk.must("git, without a key", without, "could not read Username").await;
    let bearer =
        "git -c http.extraHeader=\"Authorization: Bearer $GH_TOKEN\" clone -q https://git.example.com/demo.git three";
    desk.must("git, another scheme", bearer, "refused by bottler: placeholder_misplaced").await;
    desk.must("gh", "gh api user --jq .login", "octocat").await;
    desk.must("gh, its own check", "gh auth status 2>&1", "Logged in to github.com as octocat").await;
    // The server mints a key of its own for each object, which egress cannot tell from an attacker's.
    let large = "GIT_LFS_SKIP_SMUDGE=1 git clone -q https://x-access-token:$GH_TOKEN@git.example.com/large.git large && \
         cd large && git lfs install --local > /dev/null && git config lfs.transfer.maxretries 1 && git lfs pull 2>&1";
    let said = desk.must("git lfs", large, "refused by bottler: foreign_credential").await;
    assert!(!desk.log().contains("GET git /objects"), "{said}");
    desk.end(&["GH_TOKEN"]).await;
}

#[test]
fn promise_08_skopeo_copies_from_a_registry_by_its_token_service() {
    if in_namespace("credential_tools::promise_08_skopeo_copies_from_a_registry_by_its_token_service") {
        skopeo();
    }
}

#[tokio::main]
async fn skopeo() {
    let mut desk = Desk::new().await;
    let value = "the-password-of-the-registry";
    desk.forge(&serde_json::json!({ "auth": format!("reader:{value}") }), "").await;
    let slot = || Slot::Basic("reader".into());
    let places = [("registry.example.com", slot()), ("auth.example.com", slot())];
    desk.credentials(vec![key("PASSWORD", value, Shape::default(), &places)]).await;
    let copy = "skopeo --insecure-policy copy --src-creds reader:$PASSWORD docker://registry.example.com/demo:1 dir:out && ls out";
    desk.must("skopeo", copy, "manifest.json").await;
    let login = "skopeo login --authfile $HOME/auth.json -u reader -p $PASSWORD registry.example.com && \
         skopeo --insecure-policy inspect --authfile $HOME/auth.json docker://registry.example.com/demo:1";
    desk.must("skopeo, after a login", login, "\"Digest\": \"sha256:").await;
    desk.end(&["PASSWORD"]).await;
}
