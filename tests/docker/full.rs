//! An engine with a full disk: this test's own, on a memory file system of a few MiB.

use std::path::Path;

use crate::support::engine::PrivateEngine;
use crate::support::process::World;
use serde_json::json;

/// Room for the engine's own files, but not for an image.
const SIZE: &str = "8m";

fn list(engine: &PrivateEngine, arguments: &[&str]) -> String {
    let output = engine.docker().args(arguments).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_full_disk_is_told_with_its_place_and_remedy_and_nothing_is_left() {
    let world = World::new();
    let prepare = format!("mkdir $1/data; mount -t tmpfs -o size={SIZE} tmpfs $1/data");
    let config = json!({ "storage-driver": "vfs", "bridge": "none", "iptables": false, "ip-forward": false });
    let engine = PrivateEngine::prepared(&prepare, &config);
    let networks = list(&engine, &["network", "ls", "-q"]);
    let output = world.command(&["run", "probe"]).env("DOCKER_HOST", engine.endpoint()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(122), "{said}");
    for words in [
        "error: build image bottler:",
        "no space left on device",
        "scripts/launch.lua:",
        "hint: free space on the engine's disk",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(list(&engine, &["ps", "-aq"]), "");
    assert_eq!(list(&engine, &["volume", "ls", "-q"]), "");
    assert_eq!(list(&engine, &["network", "ls", "-q"]), networks);
    assert!(Path::new(&world.state.path().join("bottler/bottles")).read_dir().unwrap().next().is_none());
}
