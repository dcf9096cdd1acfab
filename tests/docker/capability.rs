//! An agent asks for a package or for steps that its image lacks; its operator sees all of them, the image is built through the
//! bottle's egress, and the resumed bottle has it, with its workspace and home.

use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::git_gate::{call, call_for_text};
use crate::support::images::{DEBIAN, Debian};
use crate::support::origin::{Origin, docker};
use crate::support::process::{Done, World, wait_for};

const REPOSITORY: &str = "repo.example.com";
const SECRET: &str = "s3cr3t-value-of-the-key";

/// An image whose packages come from the test's repository; removed when dropped.
struct Image(&'static str);

impl Image {
    fn build(name: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "FROM {DEBIAN}\nENV FLAVOUR=plain\nUSER 1000:1000\nCMD [\"sh\"]\nUSER 0\n\
             RUN rm -rf /etc/apt/sources.list.d/* && echo 'deb [trusted=yes] http://{REPOSITORY} ./' > /etc/apt/sources.list\n\
             USER 1000:1000\n"
        );
        std::fs::write(folder.path().join("Dockerfile"), text).unwrap();
        docker(&["build", "-q", "-t", name, folder.path().to_str().unwrap()]);
        Self(name)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rmi", "-f", self.0]).output();
    }
}

/// A repository of packages with one, which has a program, a file of another owner, and a script that runs as root.
fn repository(folder: &Path) {
    let package = folder.join("package");
    for (path, mode, content) in [
        (
            "DEBIAN/control",
            "644",
            "Package: made-tool\nVersion: 1.0\nArchitecture: all\nMaintainer: a <a@example.com>\nDescription: a tool\n",
        ),
        ("DEBIAN/postinst", "755", "#!/bin/sh -e\nchown 33:33 /usr/share/made-tool\nid -u > /usr/share/made-tool/by\n"),
        ("usr/bin/made-tool", "755", "#!/bin/sh\necho made-tool runs\n"),
        ("usr/share/made-tool/data", "644", "data\n"),
    ] {
        let path = package.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        assert!(Command::new("chmod").arg(mode).arg(&path).status().unwrap().success());
    }
    let origin = folder.join("origin");
    std::fs::create_dir_all(&origin).unwrap();
    let file = origin.join("made-tool.deb");
    let built = Command::new("dpkg-deb").args(["--root-owner-group", "-b"]).arg(&package).arg(&file).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let bytes = std::fs::read(&file).unwrap();
    let digest = data_encoding::HEXLOWER.encode(&Sha256::digest(&bytes));
    let entry = format!(
        "Package: made-tool\nVersion: 1.0\nArchitecture: all\nMaintainer: a <a@example.com>\nFilename: ./made-tool.deb\n\
         Size: {}\nSHA256: {digest}\nDescription: a tool\n\n",
        bytes.len()
    );
    std::fs::write(origin.join("Packages"), entry).unwrap();
    std::fs::write(origin.join("page"), "from the repository\n").unwrap();
}

/// A launched bottle whose agent may ask.
struct Asked<'a> {
    world: &'a World,
    folder: &'a Path,
    id: &'static str,
}

impl<'a> Asked<'a> {
    fn launch(world: &'a World, folder: &'a Path, id: &'static str, image: &Image) -> (Self, Origin) {
        let image = image.0;
        repository(folder);
        let manifest = format!(
            "bottles:
  dev:
    image: {image}
    supervise: true
    env: {{COLOUR: green}}
    credentials: [{{name: key, source: 'env:TEST_KEY', env: TEST_KEY, hosts: [{{host: {REPOSITORY}, slot: bearer}}]}}]
    workspace: {{mode: copy}}
    keep: always
    egress: {{allow: ['{REPOSITORY}:80'], ip_allow: [10.213.0.0/16, 172.29.0.0/16]}}
agents:
  dev: {{bottle: dev, command: [sleep, '1000']}}
"
        );
        std::fs::write(folder.join("bottler.yaml"), manifest).unwrap();
        std::fs::create_dir(folder.join("project")).unwrap();
        std::fs::write(folder.join("project/README"), "hello\n").unwrap();
        let asked = Self { world, folder, id };
        let manifest = folder.join("bottler.yaml");
        let done = asked.run(&["run", "dev", "--manifest", manifest.to_str().unwrap(), "--name", id, "--yes", "-d"]);
        assert_eq!(done.code(), 0, "{}", done.stderr);
        let command = ["python3", "-m", "http.server", "--directory", "/origin", "80"];
        let origin = Origin::start(id, &[REPOSITORY], DEBIAN, &folder.join("origin"), &command);
        wait_for("the repository", || {
            let page = asked.inside(&format!("curl -sS -m 20 http://{REPOSITORY}/page"));
            page.contains("from the repository").then_some(())
        });
        (asked, origin)
    }

    fn run(&self, words: &[&str]) -> Done {
        let mut command = self.world.command(words);
        command.current_dir(self.folder.join("project")).env("TEST_KEY", SECRET).output().unwrap().into()
    }

    fn inside(&self, script: &str) -> String {
        let done = self.run(&["exec", self.id, "--", "sh", "-c", script]);
        done.stdout + &done.stderr
    }

    fn operator(&self, words: &[&str]) -> Done {
        self.run(&[&["requests", words[0], self.id], &words[1..]].concat())
    }

    /// Asks, and goes on when the request waits.
    fn ask(&self, arguments: &Value, id: &str, then: impl FnOnce(&str)) -> Value {
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| call(self.world, self.id, "capability_request", arguments));
            let hash = wait_for("the request", || {
                let all = self.operator(&["list", "--format", "json"]).json();
                let one = all.as_array().unwrap().iter().find(|one| one["request"]["id"] == id).cloned()?;
                one["hash"].as_str().map(str::to_owned)
            });
            then(&hash);
            waits.join().unwrap()
        })
    }

    fn images(&self) -> Vec<String> {
        let all = docker(&["images", &format!("bottler-kept/{}", self.id), "--format", "{{.Tag}}"]);
        all.lines().map(str::to_owned).collect()
    }

    fn containers(&self) -> Vec<String> {
        self.world.objects().into_iter().filter(|name| name.contains("builder") || name.contains("reader")).collect()
    }
}

#[test]
fn promise_19_a_package_is_asked_for_shown_built_and_there_after_the_resume() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    Debian::import();
    let image = Image::build("bottler-test:packages");
    let (asked, origin) = Asked::launch(&world, folder.path(), "packages", &image);
    asked.inside("echo session > ~/.session; echo work > made");
    let base = docker(&["image", "inspect", "--format", "{{.Id}}", image.0]).trim().to_owned();

    // What cannot be built is refused at once, with the reason.
    for (arguments, why) in [
        (json!({ "dockerfile": "FROM evil\nRUN id", "reason": "r" }), "FROM is not accepted"),
        (json!({ "dockerfile": "RUN --mount=type=secret id", "reason": "r" }), "options of RUN"),
        (json!({ "dockerfile": "ENV LD_PRELOAD=/x", "reason": "r" }), "LD_PRELOAD is not for"),
        (json!({ "packages": ["made-tool; id"], "reason": "r" }), "not the plain name of a package"),
    ] {
        let answer = call(&world, asked.id, "capability_request", &arguments);
        assert_eq!(answer["status"], "invalid", "{answer}");
        assert!(answer["message"].as_str().unwrap().contains(why), "{answer}");
    }

    let arguments = json!({
        "packages": ["made-tool"], "reason": "to make it",
        "dockerfile": "# after the package\nENV FLAVOUR=sweet TASTE=\"very good\"\n\
            RUN made-tool > /made && id > /id && env > /env && ls -a /home/agent /workspace > /seen \\\n  && touch /tmp/x\n\
            RUN ls /run/bottler-services > /services; echo $FLAVOUR/$TASTE/$http_proxy > /flavour"
    });
    let answer = asked.ask(&arguments, "r1", |hash| {
        let shown = asked.operator(&["show", "r1"]).stdout;
        for words in [
            &format!("builds on   {base}"),
            "step        RUN apt-get update && apt-get install -y --no-install-recommends made-tool && rm -rf /var/lib/apt/lists/*",
            "step        ENV FLAVOUR=sweet",
            "step        ENV TASTE=very good",
            "step        RUN made-tool > /made && id > /id",
            "as root in a container of the bottle",
            "--restart",
        ] {
            assert!(shown.contains(words), "{words}: {shown}");
        }
        let stale = asked.operator(&["approve", "r1", "--hash", "0000000000000000"]);
        assert!(stale.code() != 0 && stale.stderr.contains("stale"), "{}", stale.stderr);
        let once = asked.operator(&["approve", "r1", "--hash", hash, "--once"]);
        assert!(once.code() != 0 && once.stderr.contains("as long as it is kept"), "{}", once.stderr);
        assert!(asked.images().is_empty());
        let approved = asked.operator(&["approve", "r1", "--hash", hash]);
        assert_eq!(approved.code(), 0, "{}", approved.stderr);
        for words in ["build r1: step 1 of 5: RUN apt-get update", "its image is built", "bottler resume packages"] {
            assert!(approved.stderr.contains(words), "{words}: {}", approved.stderr);
        }
    });
    assert_eq!(answer["status"], "approved", "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("bottler resume"), "{answer}");
    assert_eq!((asked.containers(), asked.images()), (vec![], vec!["1".to_owned()]));
    assert!(asked.inside("made-tool").contains("not found"), "what runs is not changed");
    let again = call(&world, asked.id, "capability_request", &arguments);
    assert_eq!((&again["status"], &again["id"]), (&json!("approved"), &json!("r1")), "{again}");
    let audited = asked.run(&["audit", "show", asked.id]).stdout;
    assert!(audited.contains("request_approved") && audited.contains(REPOSITORY), "{audited}");
    // The configuration is the base's, but for the variables; nothing of bottler's containers is in it.
    let config: Value =
        serde_json::from_str(&docker(&["image", "inspect", "--format", "{{json .Config}}", "bottler-kept/packages:1"]))
            .unwrap();
    assert_eq!((&config["User"], &config["Cmd"]), (&json!("1000:1000"), &json!(["sh"])), "{config}");
    assert!(config["Entrypoint"].as_array().is_none_or(Vec::is_empty), "{config}");
    let env = config["Env"].to_string();
    assert!(env.contains("FLAVOUR=sweet") && !env.contains("plain") && !env.to_lowercase().contains("proxy"), "{env}");
    assert_eq!(config["Labels"]["dev.bottler.image-base"], json!(base), "{config}");
    drop(origin);

    assert_eq!(asked.run(&["stop", asked.id]).code(), 0);
    let resumed = asked.run(&["resume", asked.id, "-d"]);
    assert_eq!(resumed.code(), 0, "{}", resumed.stderr);
    for words in ["built for this bottle, on sha256:", "RUN apt-get update && apt-get install", "as the agent left it"]
    {
        assert!(resumed.stderr.contains(words), "{words}: {}", resumed.stderr);
    }
    assert!(!resumed.stderr.contains("hides"), "{}", resumed.stderr);
    assert_eq!(asked.inside("made-tool; cat ~/.session made"), "made-tool runs\nsession\nwork\n");
    assert_eq!(asked.inside("cat /usr/share/made-tool/by; stat -c %u:%g /usr/share/made-tool"), "0\n33:33\n");
    assert_eq!(asked.inside("cat /made; echo $FLAVOUR/$TASTE/$COLOUR"), "made-tool runs\nsweet/very good/green\n");
    assert_eq!(asked.inside("cat /services"), "egress\n", "no other sidecar serves a build");
    assert!(asked.inside("cat /flavour").starts_with("sweet/very good/http://127."));
    assert!(asked.inside("cat /id").starts_with("uid=0(root)"));
    let env = asked.inside("cat /env");
    assert!(!env.contains("TEST_KEY") && !env.contains("COLOUR") && env.contains("HOME=/root"), "{env}");
    let seen = asked.inside("cat /seen");
    assert!(!seen.contains("made") && !seen.contains(".session"), "{seen}");
    // The certificates of the image are still there, with the bottle's.
    assert!(asked.inside("grep -c BEGIN /etc/ssl/certs/ca-certificates.crt").trim().parse::<usize>().unwrap() > 50);
    assert_eq!(asked.run(&["rm", "--force", "--discard", asked.id]).code(), 0);
    assert!(asked.images().is_empty());
    world.assert_clean();
}

#[test]
fn a_step_that_fails_grants_nothing_and_what_is_built_goes_with_its_bottle() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    Debian::import();
    let image = Image::build("bottler-test:steps");
    let (asked, origin) = Asked::launch(&world, folder.path(), "steps", &image);
    let failing = json!({
        "reason": "r",
        "dockerfile": "RUN printf \"about to fail\\\\033[2J\\\\n\"; curl -sS -f http://other.example.com/x && false"
    });
    let first = asked.ask(&failing, "r1", |hash| {
        let failed = asked.operator(&["approve", "r1", "--hash", hash]);
        assert_ne!(failed.code(), 0, "{}", failed.stderr);
        for words in [
            "step 1 failed with exit code",
            "about to fail?[2J",
            "other.example.com:80: host_not_allowed",
            "still waits",
        ] {
            assert!(failed.stderr.contains(words), "{words}: {}", failed.stderr);
        }
        assert_eq!((asked.containers(), asked.images()), (vec![], vec![]));
        assert_eq!(asked.operator(&["reject", "r1", "--reason", "it fails"]).code(), 0);
    });
    assert_eq!(first["status"], "rejected", "{first}");

    // Who the agent runs as, and where its home is, is not for steps to say.
    let moved = json!({ "reason": "r", "dockerfile": "RUN sed -i s,/home/agent,/srv/other, /etc/passwd" });
    asked.ask(&moved, "r2", |hash| {
        let failed = asked.operator(&["approve", "r2", "--hash", hash]);
        assert!(failed.code() != 0 && failed.stderr.contains("or its home"), "{}", failed.stderr);
        assert_eq!((asked.containers(), asked.images()), (vec![], vec![]));
        assert_eq!(asked.operator(&["reject", "r2"]).code(), 0);
    });

    // While one is built, others are answered, and it is built once.
    let slow = json!({ "reason": "r", "dockerfile": format!("RUN echo one > /one; curl -sS http://{REPOSITORY}/page; sleep 4") });
    asked.ask(&slow, "r3", |hash| {
        std::thread::scope(|scope| {
            let builds = scope.spawn(|| asked.operator(&["approve", "r3", "--hash", hash]));
            wait_for("the build", || (!asked.containers().is_empty()).then_some(()));
            let twice = asked.operator(&["approve", "r3", "--hash", hash]);
            assert!(twice.code() != 0 && twice.stderr.contains("being built"), "{}", twice.stderr);
            let other = call(&world, asked.id, "request_status", &json!({ "id": "r1" }));
            assert_eq!(other["status"], "rejected");
            let built = builds.join().unwrap();
            assert_eq!(built.code(), 0, "{}", built.stderr);
        });
    });
    // The next one begins with it, and the operator has the bottle launched again at once.
    let next = json!({ "reason": "r", "dockerfile": "RUN cat /one > /two" });
    asked.ask(&next, "r4", |hash| {
        let approved = asked.operator(&["approve", "r4", "--hash", hash, "--restart"]);
        assert_eq!(approved.code(), 0, "{}", approved.stderr);
    });
    drop(origin);
    wait_for("the agent", || world.agent_running("sleep 1000"));
    assert_eq!(asked.inside("cat /one /two"), "one\none\n");

    // A holder that dies while it builds leaves no container, and what was built before.
    let endless = json!({ "reason": "r", "dockerfile": "RUN sleep 1000" });
    std::thread::scope(|scope| {
        // Its bottle dies before it is answered.
        let waits = scope.spawn(|| call_for_text(&world, asked.id, "capability_request", &endless));
        let hash = wait_for("the request", || {
            let all = asked.operator(&["list", "--format", "json"]).json();
            all.as_array().unwrap().first()?["hash"].as_str().map(str::to_owned)
        });
        let approving = scope.spawn({
            let (asked, hash) = (&asked, hash);
            move || asked.operator(&["approve", "r5", "--hash", &hash])
        });
        wait_for("the build", || (!asked.containers().is_empty()).then_some(()));
        for pid in world.processes("holder") {
            kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        }
        wait_for("the reaper", || world.processes("reaper").is_empty().then_some(()));
        assert_ne!(approving.join().unwrap().code(), 0);
        waits.join().unwrap();
    });
    assert_eq!(world.objects(), ["steps-home", "steps-workspace"]);
    assert_eq!(world.run(&["gc"]).code(), 0);
    let resumed = asked.run(&["resume", asked.id, "-d"]);
    assert_eq!(resumed.code(), 0, "{}", resumed.stderr);
    assert_eq!(asked.inside("cat /one /two"), "one\none\n");
    assert_eq!(asked.run(&["stop", asked.id]).code(), 0);

    // An image that is gone is said, and the plan's can be used.
    for tag in asked.images() {
        docker(&["rmi", &format!("bottler-kept/steps:{tag}")]);
    }
    let gone = asked.run(&["resume", asked.id, "-d"]);
    assert!(gone.code() == 120 && gone.stderr.contains("resume steps --fresh-image"), "{}", gone.stderr);
    let resumed = asked.run(&["resume", asked.id, "-d", "--fresh-image"]);
    assert_eq!(resumed.code(), 0, "{}", resumed.stderr);
    assert!(asked.inside("cat /two").contains("No such file"));
    assert_eq!(asked.run(&["rm", "--force", "--discard", asked.id]).code(), 0);
    world.assert_clean();
}

#[test]
fn a_build_leaves_nothing_that_holds_up_a_launch_can_be_ended_and_its_image_outlives_the_agent() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    Debian::import();
    let image = Image::build("bottler-test:ended");
    let (asked, origin) = Asked::launch(&world, folder.path(), "ended", &image);
    // The engine would wait for the other end of a pipe; what is mounted behind a link is where the agent can move it.
    for (number, (step, why)) in [
        ("rm -f /etc/group && mkfifo /etc/group", "no command has started in its container"),
        ("rm -f /etc/ssl/cert.pem && mkfifo /etc/ssl/cert.pem", "/etc/ssl/cert.pem is not a regular file"),
        (
            "mv /run/bottler-services /run/x && ln -s /home/agent /run/bottler-services",
            "bottler-services is not a folder",
        ),
        ("rm -rf /home/agent && ln -s /etc /home/agent", "/home/agent is not a folder"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("r{}", number + 1);
        asked.ask(&json!({ "reason": "r", "dockerfile": format!("RUN {step}") }), &id, |hash| {
            let failed = asked.operator(&["approve", &id, "--hash", hash]);
            assert!(failed.code() != 0 && failed.stderr.contains(why), "{step}: {}", failed.stderr);
            assert_eq!((asked.containers(), asked.images()), (vec![], vec![]), "{step}");
            assert_eq!(asked.operator(&["reject", &id]).code(), 0);
        });
    }
    asked.ask(&json!({ "reason": "r", "dockerfile": "RUN sleep 1000" }), "r5", |hash| {
        std::thread::scope(|scope| {
            let builds = scope.spawn(|| asked.operator(&["approve", "r5", "--hash", hash]));
            wait_for("the build", || (!asked.containers().is_empty()).then_some(()));
            assert_eq!(asked.operator(&["reject", "r5"]).code(), 0);
            let ended = builds.join().unwrap();
            assert!(ended.code() != 0 && ended.stderr.contains("rejected meanwhile"), "{}", ended.stderr);
            assert_eq!((asked.containers(), asked.images()), (vec![], vec![]));
        });
    });
    asked.ask(&json!({ "reason": "r", "dockerfile": "RUN echo kept > /kept" }), "r6", |hash| {
        let built = asked.operator(&["approve", "r6", "--hash", hash]);
        assert_eq!(built.code(), 0, "{}", built.stderr);
    });
    // The agent ends by itself, and has changed nothing.
    asked.inside("pkill -x sleep");
    asked.run(&["wait", asked.id]);
    drop(origin);
    let resumed = asked.run(&["resume", asked.id, "-d"]);
    assert_eq!(resumed.code(), 0, "{}", resumed.stderr);
    assert_eq!(asked.inside("cat /kept"), "kept\n");
    assert_eq!(asked.run(&["stop", asked.id]).code(), 0);
    assert_eq!(asked.run(&["rm", asked.id]).code(), 0);
    assert_eq!((world.objects(), asked.images()), (vec![], vec![]));
}
