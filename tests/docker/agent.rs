//! An agent in its own image, on the real engine: what it receives, what nobody else sees, and how it ends.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::images::{BUSYBOX, Busybox};
use crate::support::process::{World, finish, recipe, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SECRET: &str = "s3cr3t-s3cr3t";

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn an_agent_is_given_what_it_needs_and_ends_as_it_likes() {
    let world = World::new();
    let _image = Busybox::import();
    let done = world.run(&["run", "probe", "--recipe", &recipe("exits.lua")]);
    assert_eq!(done.code(), 7, "{}", done.stderr);
    assert_eq!(done.stdout, "to stdout\n");
    assert!(done.stderr.contains("to stderr"), "{}", done.stderr);
    world.assert_clean();

    let child = world.start(&["run", "probe", "--recipe", &recipe("provisioned.lua")]);
    let agent = wait_for("the agent's command", || world.agent_running("sleep 1000"));
    promise_07_a_secret_is_nowhere_but_in_the_command(&world, &agent);
    let inside = |command: &[&str]| docker(&[&["exec", &agent], command].concat());
    assert_eq!(inside(&["/bin/cat", "/home/agent/.bottler/prompt.md"]), "the prompt");
    assert_eq!(inside(&["/bin/stat", "-c", "%u:%g %a", "/home/agent/.config/mine"]), "1000:1000 600\n");
    assert!(inside(&["/bin/cat", "/run/bottler/ca.pem"]).contains("BEGIN CERTIFICATE"));
    assert_eq!(
        docker(&["inspect", "--format", "{{.State.Health}}", &agent]).trim(),
        "<nil>",
        "HEALTHCHECK does not act"
    );
    let environment = inside(&["/bin/env"]);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let said = finish(child).stderr + &environment;
    for words in [
        "prompt at /home/agent/.bottler/prompt.md",
        "/bin/stat 0 0:1000 640",
        "uid=1000(agent) gid=1000(agent)",
        "COLOUR=green",
        "HTTP_PROXY=http://127.0.0.2:8888",
        "https_proxy=http://127.0.0.2:8888",
        "NO_PROXY=localhost,127.0.0.1,::1,127.0.0.0/8,egress",
        "SSL_CERT_FILE=/run/bottler/ca-bundle.pem",
        "NODE_EXTRA_CA_CERTS=/run/bottler/ca.pem",
        "127.0.0.2egress",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!said.contains(SECRET), "{said}");
    world.assert_clean();
}

/// End to end: the agent has a secret in its environment, and egress knows it.
#[test]
fn promise_09_a_secret_of_the_bottle_does_not_leave_it() {
    let world = World::new();
    let _image = Busybox::import();
    let done = world.run(&["run", "shell", "--recipe", &recipe("leaks.lua")]);
    assert_eq!(done.code(), 0, "{}", done.stderr);
    let expected = "plain passed\nbody refused\nbase64 refused\nheader refused\nquery refused\n";
    assert_eq!(done.stdout, expected, "{}", done.stderr);
    world.assert_clean();
}

/// While the bottle runs: configuration, environments of other processes, command lines, state.
fn promise_07_a_secret_is_nowhere_but_in_the_command(world: &World, agent: &str) {
    let mut places = vec![("inspect", docker(&["inspect", agent]))];
    places.push(("logs", docker(&["logs", agent])));
    places.push(("environment of exec", docker(&["exec", agent, "/bin/env"])));
    places.push((
        "command lines",
        String::from_utf8_lossy(&Command::new("ps").args(["-eo", "args"]).output().unwrap().stdout).into_owned(),
    ));
    for bottle in world.bottles() {
        let folder = world.state.path().join("bottler/bottles").join(bottle);
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            // The socket for attaching contains nothing.
            if path.is_file() {
                places.push(("state", String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()));
            }
        }
    }
    for (name, text) in places {
        assert!(!text.contains(SECRET), "{name}: {text}");
    }
    let top = docker(&["top", agent, "-eo", "pid,args"]);
    let pid = top.lines().find(|line| line.contains("sleep 1000")).unwrap().split_whitespace().next().unwrap();
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    assert!(String::from_utf8_lossy(&environment).contains(SECRET), "the command has it: this test can fail");
}

#[test]
fn an_image_with_triggers_is_refused() {
    let world = World::new();
    let tag = "bottler-test:onbuild";
    let tar = Command::new("tar").args(["-c", "-T", "/dev/null"]).output().unwrap();
    let mut child = Command::new("docker")
        .args(["import", "--change", "ONBUILD RUN evil", "-", tag])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&tar.stdout).unwrap();
    assert!(child.wait().unwrap().success());
    let path = world.state.path().join("onbuild.lua");
    std::fs::write(&path, format!("return function()\n  build_image {{ source = '{tag}' }}\nend\n")).unwrap();
    let done = world.run(&["run", "probe", "--recipe", &path.to_string_lossy()]);
    docker(&["rmi", "-f", tag]);
    assert_eq!(done.code(), 120, "{}", done.stderr);
    assert!(
        done.stderr.contains("ONBUILD commands: [\"RUN evil\"]") && done.stderr.contains("onbuild.lua:2"),
        "{}",
        done.stderr
    );
}

/// Everything that an image's configuration can declare, where it would be harmful.
#[test]
fn what_an_image_says_of_itself_does_not_act() {
    let world = World::new();
    let _image = Busybox::hostile(&[
        // Over init's sockets, the home, the workspace and the account files.
        "VOLUME [\"/run/bottler\",\"/run/bottler-services\",\"/home/agent\",\"/workspace\",\"/etc\",\"/tmp\"]",
        "WORKDIR /run/bottler-services/egress",
        "USER root",
        "ENV PATH=/evil BASH_ENV=/evil ENV=/evil https_proxy=http://evil:1 NO_PROXY=* SSL_CERT_FILE=/evil HOME=/evil",
        "EXPOSE 22",
        "LABEL dev.bottler.session=another dev.bottler.owner=another dev.bottler.kind=agent dev.bottler.seq=1 dev.bottler.cache=1",
    ]);
    // An import cannot declare this.
    let mut build = Command::new("docker");
    build.env("DOCKER_BUILDKIT", "0").args(["build", "-q", "-t", BUSYBOX, "-"]).stdin(Stdio::piped());
    let mut build = build.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    write!(build.stdin.take().unwrap(), "FROM {BUSYBOX}\nSTOPSIGNAL SIGWINCH\n").unwrap();
    assert!(build.wait().unwrap().success());
    let child = world.start(&[
        "run",
        "shell",
        "--image",
        BUSYBOX,
        "--no-workspace",
        "--",
        "/bin/sh",
        "-c",
        "env; pwd; id; sleep 1000",
    ]);
    let agent = wait_for("the agent's command", || world.agent_running("sleep 1000"));
    let inspect = |format: &str| docker(&["inspect", "--format", format, &agent]).trim().to_owned();
    assert_eq!(inspect("{{.Config.User}} {{.Config.StopSignal}} {{.Config.WorkingDir}}"), "1000:1000 SIGTERM /");
    assert_eq!(
        inspect("{{.Config.Healthcheck.Test}} {{.HostConfig.PortBindings}} {{.HostConfig.NetworkMode}}"),
        "[NONE] map[] none"
    );
    assert_eq!(inspect("{{index .Config.Labels \"dev.bottler.session\"}}"), agent, "a label of ours is ours");
    let mount = |target: &str| {
        inspect(&format!(
            "{{{{range .Mounts}}}}{{{{if eq .Destination \"{target}\"}}}}{{{{.Type}}}} {{{{.RW}}}}{{{{end}}}}{{{{end}}}}"
        ))
    };
    assert_eq!(mount("/run/bottler-services/egress"), "volume false");
    let status = docker(&["exec", &agent, "/bin/stat", "-f", "-c", "%T", "/run/bottler"]);
    assert_eq!(status.trim(), "tmpfs");
    let volumes = inspect("{{range .Mounts}}{{.Name}} {{end}}");
    assert!(volumes.split_whitespace().count() > 1, "volumes of the image's own: {volumes}");
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let done = finish(child);
    for words in [
        "https_proxy=http://127.0.0.2:8888",
        "NO_PROXY=localhost,127.0.0.1,::1,127.0.0.0/8,egress",
        "SSL_CERT_FILE=/run/bottler/ca-bundle.pem",
        // The image chooses its users' homes; bottler creates the folder.
        "HOME=/evil",
        "uid=1000(agent) gid=1000(agent)",
        "\n/evil\n",
    ] {
        assert!(done.stdout.contains(words), "{words}: {}{}", done.stdout, done.stderr);
    }
    world.assert_clean();
    let all = docker(&["volume", "ls", "-q"]);
    let left: Vec<&str> = volumes.split_whitespace().filter(|volume| all.lines().any(|line| line == *volume)).collect();
    assert!(left.is_empty(), "its volumes are gone with it: {left:?}");
}
