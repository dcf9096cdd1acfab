//! README's "Your first recipe", done as it says.

use std::path::Path;
use std::process::Command;

/// The fenced blocks of the tutorial, with what stands behind the fence.
fn blocks() -> Vec<(String, String)> {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let from = readme.find("\n## Your first recipe").unwrap();
    let tutorial = &readme[from..from + 1 + readme[from + 1..].find("\n## ").unwrap()];
    let mut parts = tutorial.split("```");
    let mut found = Vec::new();
    while let (Some(_), Some(block)) = (parts.next(), parts.next()) {
        let (info, text) = block.split_once('\n').unwrap();
        found.push((info.to_owned(), text.to_owned()));
    }
    found
}

#[test]
fn the_tutorial_does_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let (mut files, mut commands) = (0, 0);
    for (info, text) in blocks() {
        if let Some(name) = info.strip_prefix("lua ") {
            std::fs::write(folder.path().join(name), text).unwrap();
            files += 1;
            continue;
        }
        assert_eq!(info, "console");
        let (command, expected) = text.strip_prefix("$ bottler ").unwrap().split_once('\n').unwrap();
        // What it says on both streams, in the order in which they are written: data first.
        let output = Command::new(env!("CARGO_BIN_EXE_bottler"))
            .current_dir(folder.path())
            .args(command.split(' '))
            .env("XDG_STATE_HOME", folder.path())
            .env("XDG_CONFIG_HOME", folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        match expected.strip_prefix("…\n") {
            Some(end) => assert!(said.ends_with(end), "{command}: {said}"),
            None => assert_eq!(said, expected, "{command}"),
        }
        commands += 1;
    }
    assert_eq!((files, commands), (3, 4));
}
