//! The agent's home on the real engine, in an image that has something there: what a kept one hides, and what an agent
//! leaves in it that would lead bottler's files elsewhere.

use std::path::Path;
use std::process::Command;

use crate::support::images::{DEBIAN, Debian};
use crate::support::process::{Done, World};

/// An image of this test.
struct Image(&'static str);

impl Image {
    /// Builds it, or builds it anew.
    fn build(name: &'static str, version: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "FROM {DEBIAN}\nENV HOME=/home/dev\nRUN mkdir -p /home/dev/.config && echo {version} > /home/dev/.version \
             && ln -s /opt /home/dev/opt && chown -hR 1000:1000 /home/dev\n"
        );
        std::fs::write(folder.path().join("Dockerfile"), text).unwrap();
        let built = Command::new("docker").args(["build", "-q", "-t", name]).arg(folder.path()).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        Self(name)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rmi", "-f", self.0]).output();
    }
}

fn run(world: &World, folder: &Path, arguments: &[&str]) -> Done {
    world.command(arguments).current_dir(folder).output().unwrap().into()
}

#[test]
fn a_kept_home_is_the_images_at_first_and_hides_a_newer_one() {
    let world = World::new();
    Debian::import();
    let _image = Image::build("bottler-test:home", "one");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a"), "a\n").unwrap();
    let script =
        "stat -c '%u:%g %a' ~; cat ~/.version ~/.mine 2> /dev/null; echo work >> a; echo mine >> ~/.mine; exit 3";
    let launch = ["run", "shell", "--image", "bottler-test:home", "--workspace", ".", "--name", "images", "--"];
    let done = run(&world, folder.path(), &[&launch[..], &["sh", "-c", script]].concat());
    assert_eq!((done.code(), done.stdout.as_str()), (3, "1000:1000 755\none\n"), "{}", done.stderr);
    let done = run(&world, folder.path(), &["resume", "images"]);
    assert_eq!((done.code(), done.stdout.as_str()), (3, "1000:1000 755\none\nmine\n"), "{}", done.stderr);
    assert!(!done.stderr.contains("hides"), "{}", done.stderr);

    let _image = Image::build("bottler-test:home", "two");
    let done = run(&world, folder.path(), &["resume", "images"]);
    assert_eq!(done.stdout, "1000:1000 755\none\nmine\nmine\n", "{}", done.stderr);
    for words in ["the image has changed: the home hides", "in /home/dev", "bottler resume images --fresh-home"] {
        assert!(done.stderr.contains(words), "{words}: {}", done.stderr);
    }
    let done = run(&world, folder.path(), &["resume", "images", "--fresh-home"]);
    assert_eq!(done.stdout, "1000:1000 755\ntwo\n", "{}", done.stderr);
    // The engine has lost it: that is said, and the work goes on.
    let removed = Command::new("docker").args(["volume", "rm", "images-home"]).output().unwrap();
    assert!(removed.status.success());
    let done = run(&world, folder.path(), &["resume", "images"]);
    assert_eq!(done.stdout, "1000:1000 755\ntwo\n", "{}", done.stderr);
    assert!(done.stderr.contains("the engine has NONE"), "{}", done.stderr);
    let removed = Command::new("docker").args(["volume", "rm", "images-workspace"]).output().unwrap();
    assert!(removed.status.success());
    let done = run(&world, folder.path(), &["resume", "images"]);
    assert!(done.code() == 120 && done.stderr.contains("the workspace of images is gone"), "{}", done.stderr);
    assert_eq!(world.objects(), ["images-home"]);
    assert_eq!(world.run(&["rm", "images"]).code(), 0);
    world.assert_clean();
}

/// A recipe that provides the agent with these files.
fn provide(folder: &Path, files: &[(&str, &str)]) {
    let files: Vec<String> = files
        .iter()
        .map(|(path, more)| {
            format!("{{ path = \"/home/agent/{path}\", content = \"ours\\n\", mode = \"0640\"{more} }}")
        })
        .collect();
    let text = format!(
        "local launch = require \"std.launch\"\nreturn recipe(function(plan)\n  local agent = launch(plan, {{ before = {{ \
         provision = function(options) options.files = {{ {} }} end }} }})\n  return agent\nend)\n",
        files.join(", ")
    );
    std::fs::write(folder.join("files.lua"), text).unwrap();
}

#[test]
fn what_an_agent_left_in_its_home_leads_no_file_elsewhere() {
    const PLANT: &str = "set -e; cd ~; echo theirs > /workspace/file; ln -s /workspace/file link; ln -s /workspace/none dangling; \
        mkfifo pipe; echo old > ro; chmod 400 ro; ln -s /workspace out; ln -s /etc etc; mkdir folder locked; chmod 500 locked; \
        ln -s /bottler self; touch .planted; exit 3";
    let world = World::new();
    Debian::import();
    let _image = Image::build("bottler-test:hostile", "one");
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("a"), "a\n").unwrap();
    let files = ["link", "dangling", "pipe", "ro", "self", "new/deep"];
    let script = format!(
        "test -e ~/etc/managed && exit 7; test -e ~/.planted || {{ {PLANT}; }}; cd ~; for f in {}; do stat -c '%n %F %a' $f; cat $f; done; \
         cat /workspace/file; ls /workspace; exit 3",
        files.join(" ")
    );
    provide(folder, &[]);
    let launch = ["run", "shell", "--image", "bottler-test:hostile", "--workspace", ".", "--name", "links"];
    let launch = [&launch[..], &["--recipe", "files.lua", "--no-project", "--", "sh", "-c", &script]].concat();
    let done = run(&world, folder, &launch);
    assert_eq!(done.code(), 3, "{}", done.stderr);

    provide(folder, &files.map(|name| (name, "")));
    let done = run(&world, folder, &["resume", "links"]);
    let shown = files.map(|name| format!("{name} regular file 640\nours\n")).concat();
    let expected = format!("{shown}theirs\na\nfile\nfiles.lua\n");
    assert_eq!((done.code(), done.stdout.as_str()), (3, expected.as_str()), "{}", done.stderr);

    // What cannot be replaced is said, and nothing is lost.
    for (file, more, words) in [
        ("out/x", "", "is not a folder: an earlier agent"),
        ("etc/passwd", "", "is not a folder: an earlier agent"),
        ("opt/x", "", "is not a folder: an earlier agent"),
        ("folder", "", "a folder there"),
        ("locked/x", "", "Permission denied"),
        ("etc/managed", ", owner = \"0:0\"", "a file of another owner"),
    ] {
        provide(folder, &[(file, more)]);
        let done = run(&world, folder, &["resume", "links"]);
        assert!(done.code() != 3 && done.stdout.is_empty(), "{file}: {}", done.stderr);
        for words in [words, file, "resume links --fresh-home"] {
            assert!(done.stderr.contains(words), "{file}: {words}: {}", done.stderr);
        }
        let mut objects = world.objects();
        objects.sort();
        assert_eq!(objects, ["links-home", "links-workspace"], "{file}");
    }
    let shown = run(&world, folder, &["diff", "links", "--stat"]).stdout;
    assert_eq!(shown, "A file\n", "nothing was written into the workspace");
    provide(folder, &[("etc/managed", ", owner = \"0:0\""), ("folder", ""), ("locked/x", "")]);
    let done = run(&world, folder, &["resume", "links", "--fresh-home"]);
    assert_eq!(done.code(), 7, "all of them are there: {}", done.stderr);
    assert_eq!(world.run(&["rm", "--discard", "links"]).code(), 0);
    world.assert_clean();
}
