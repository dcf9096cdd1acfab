//! What all built-in sidecars have in common, tested with the one that has nothing else: the stub.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use bottler::sidecar::place::Uplink;
use bottler::sidecar::role::MessageOf;
use bottler::sidecar::stub::{Config, Stub};
use bottler::sidecar::{CommandOutcome, Message, OutputLine};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn start(folder: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bottler"));
    command.arg("stub").arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn config(folder: &Path) -> String {
    let outward = Uplink { proxy: folder.join("egress"), listen: folder.join("sidecar"), ca: String::new() };
    serde_json::to_string(&Config { name: "toy".into(), port: 9000, inside: None, outward }).unwrap()
}

#[test]
fn a_role_is_configured_says_ready_and_acknowledges_each_command_by_its_number() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = start(folder.path());
    let mut input: ChildStdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut n = 0;
    let mut next = || {
        let told: OutputLine<MessageOf<Stub>> = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        n += 1;
        assert_eq!(told.n, n);
        told.message
    };
    writeln!(input, "{}", config(folder.path())).unwrap();
    assert!(matches!(next(), Message::Ready(())));
    for (number, action, expected) in [
        (7, r#""ping""#, CommandOutcome::Done),
        (8, r#"{"update":{"word":"hello"}}"#, CommandOutcome::Done),
        (9, r#"{"update":{"word":""}}"#, CommandOutcome::Refused("the word is empty".into())),
        (12, r#"{"ask":"word"}"#, CommandOutcome::Answer("hello".to_owned())),
        (13, r#""flush""#, CommandOutcome::Done),
    ] {
        writeln!(input, "{{\"n\":{number},\"action\":{action}}}").unwrap();
        let Message::Acknowledged(acknowledged) = next() else { panic!("{action} is not acknowledged") };
        assert_eq!((acknowledged.n, acknowledged.outcome), (number, expected), "{action}");
    }
    // It continues after the end of its input until it is stopped, and then exits successfully.
    drop(input);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_role_without_its_configuration_says_why_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    for (line, why) in [
        (String::new(), "read the configuration: there is none"),
        (config(folder.path()).replace("\"name\"", "\"nam\"") + "\n", "unknown field `nam`"),
        ("{\"name\":\"toy\"}\n".into(), "missing field `port`"),
    ] {
        let mut child = start(folder.path());
        child.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
        assert!(!child.wait().unwrap().success());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(said.contains(why), "{said}");
    }
}

/// A new role needs only its own folder or file on either side, and a row in the table.
#[test]
fn a_role_is_named_in_its_own_files_and_in_the_table() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
                let names =
                    |line: &str| ["stub::", "mod stub", "Stub", "\"stub\""].iter().any(|word| line.contains(word));
                if code.filter(|line| names(line)).count() > 0 {
                    found.push(path.strip_prefix(&src).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
    }
    found.sort();
    let roles = "primitive/roles";
    let (file, module, table) = (format!("{roles}/stub.rs"), format!("{roles}/mod.rs"), format!("{roles}/table.rs"));
    assert_eq!(found, [&*module, &*file, &*table, "sidecar/mod.rs", "sidecar/stub.rs"]);
}
