//! Executes the READMEs' commands that need an engine. Each block runs in a project with a bottle named `demo`, whose
//! agent has changed a file, was refused a request, and is still running.

use std::process::Command;

use crate::support::documents::Readme;
use crate::support::images::{DEBIAN, Debian};
use crate::support::process::{World, bottler, wait_for};

/// The agent's command.
const WORK: &str = "echo new > file; curl -sS http://crates.io/; exec sleep 1000";

#[test]
fn commands_of_the_readmes_do_what_they_say() {
    Debian::import();
    for readme in Readme::all() {
        for block in readme.blocks().iter().filter(|block| block.info == "sh engine") {
            execute(&readme, &block.text);
        }
    }
}

fn execute(readme: &Readme, commands: &str) {
    let world = World::new();
    let here = tempfile::tempdir().unwrap();
    for block in readme.blocks() {
        if let Some(name) = block.file() {
            std::fs::write(here.path().join(name), block.text).unwrap();
        }
    }
    let shell = |command: &str| {
        let folder = bottler().parent().unwrap().to_owned();
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("sh");
        shell.args(["-ec", command]).current_dir(here.path()).env("PATH", path);
        let output = shell
            .env("XDG_DATA_HOME", world.state.path())
            .env("XDG_STATE_HOME", world.state.path())
            .env("XDG_CONFIG_HOME", world.state.path())
            .output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{}: {command}: {said}", readme.path);
        said
    };
    shell(
        "git init -q; echo old > README; git add .; git -c user.name=me -c user.email=me@example.com commit -qm first",
    );
    let policy = if here.path().join("egress.yaml").exists() { "--egress egress.yaml " } else { "" };
    let needs_bottle = commands.contains(" demo");
    if needs_bottle {
        shell(&format!("bottler run shell --name demo --image {DEBIAN} --workspace . {policy}-d -- sh -c '{WORK}'"));
        wait_for("the agent", || shell("bottler logs demo").contains("host_not_allowed").then_some(()));
    }
    for command in commands.lines() {
        // `rm` needs a bottle that has ended.
        if command.starts_with("bottler rm ") {
            shell("bottler stop demo; bottler wait demo || true");
        }
        shell(command);
    }
    if needs_bottle && !commands.contains("bottler rm ") {
        shell("bottler rm --force --discard demo");
    }
    world.assert_clean();
}
