//! Addresses at which there is no engine, none for this user, or an old one.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::Command;

use crate::support::process::World;

#[test]
fn no_engine_no_permission_and_an_old_engine_are_told_apart() {
    let world = World::new();
    let with = |endpoint: &str| {
        let output = world.command(&["run", "probe"]).env("DOCKER_HOST", endpoint).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = with("unix:///nonexistent/docker.sock");
    assert_eq!(code, 121, "{said}");
    assert!(
        said.contains("no socket at /nonexistent/docker.sock") && said.contains("hint: start Docker Engine"),
        "{said}"
    );
    let (code, said) = with("ftp://engine");
    assert_eq!(code, 121, "{said}");
    assert!(said.contains("is not an engine address"), "{said}");

    let path = world.state.path().join("engine.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let endpoint = format!("unix://{}", path.display());
    let old = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(&stream);
        let mut line = String::new();
        while reader.read_line(&mut line).unwrap() > 2 {
            line.clear();
        }
        let body = r#"{"Version":"19.03.0","ApiVersion":"1.40","Os":"linux","Arch":"amd64"}"#;
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
        write!(&stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    });
    let (code, said) = with(&endpoint);
    old.join().unwrap();
    assert_eq!(code, 121, "{said}");
    assert!(said.contains("API \"1.40\", older than 1.41") && said.contains("hint: upgrade the engine"), "{said}");
}

#[test]
fn a_socket_one_may_not_open_says_so() {
    let world = World::new();
    let executable = world.state.path().join("bottler");
    std::fs::copy(crate::support::process::bottler(), &executable).unwrap();
    std::fs::set_permissions(world.state.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let state = tempfile::tempdir().unwrap();
    std::fs::set_permissions(state.path(), PermissionsExt::from_mode(0o777)).unwrap();
    // As a user outside the group of the engine's socket, who names it: without that, it is the native engine's turn.
    let output = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(&executable)
        .args(["run", "probe", "--engine", "docker"])
        .env("XDG_STATE_HOME", state.path())
        .env("XDG_CONFIG_HOME", state.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(121), "{said}");
    assert!(said.contains("ermission denied") && said.contains("hint: add this user to the group"), "{said}");
}
