//! The command line with bad input: one clear error, the exit code of its class, and nothing left.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::documents::Readme;
use crate::support::process::{Done, World};

fn text(world: &World, arguments: &[&str]) -> Done {
    let done = world.run(arguments);
    assert!(!done.stderr.contains("panicked") && !done.stderr.contains("RUST_BACKTRACE"), "{}", done.stderr);
    world.assert_clean();
    done
}

/// The command fails with this code and these words.
fn fails(world: &World, arguments: &[&str], code: i32, words: &[&str]) {
    let done = text(world, arguments);
    assert_eq!(done.code(), code, "{arguments:?}: {}", done.stderr);
    for word in words {
        assert!(done.stderr.contains(word), "{arguments:?}: {word:?} is not in {}", done.stderr);
    }
    assert_eq!(done.stdout, "", "{arguments:?}: standard output is for data");
}

fn script(world: &World, source: &str) -> String {
    let path = world.state.path().join("my.lua");
    std::fs::write(&path, source).unwrap();
    path.to_string_lossy().into_owned()
}

#[test]
fn bad_words_are_refused_before_anything_is_made() {
    let world = World::new();
    fails(&world, &["run", "nobody"], 120, &["there is no agent \"nobody\"", "probe"]);
    fails(
        &world,
        &["run", "--recipe", "nothing"],
        120,
        &["there is no recipe \"nothing\"", "hint: a file ending in .lua"],
    );
    fails(&world, &["run", "--recipe", "gone.lua"], 120, &["read recipe gone.lua: No such file"]);
    fails(&world, &["run", "--name", "Bad Name"], 120, &["\"Bad Name\"", "hint: lower-case"]);
    fails(&world, &["run", "--allow", "a b.com"], 120, &["--allow \"a b.com\"", "hint: a host"]);
    fails(&world, &["run", "--allow", "*.com"], 120, &["a star is only allowed"]);
    fails(&world, &["run", "--nothing"], 120, &["unexpected argument"]);
    fails(&world, &["nothing"], 120, &["unrecognized subcommand"]);
}

/// Paths may be any bytes; everything else must be text, and says so.
#[test]
fn words_and_variables_that_are_no_text_are_passed_or_refused_and_nothing_panics() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let world = World::new();
    let odd = OsStr::from_bytes(b"\xff\xfe");
    let folder = world.state.path().join(odd);
    std::fs::create_dir(&folder).unwrap();
    let ids =
        [&["attach"][..], &["run"], &["run", "--name"], &["gc", "--foreign"], &["nothing"], &["holder"], &["reaper"]];
    for words in
        ids.into_iter().chain([&["run", "--dry-run", "--allow"][..], &["run", "shell", "--dry-run", "--workspace"]])
    {
        for value in ["HOME", "XDG_RUNTIME_DIR", "DOCKER_HOST", "TERM", "BOTTLER_POOLS", "ODD"] {
            let mut command = world.command(words);
            let done: Done = command.arg(odd).env(value, odd).output().unwrap().into();
            assert!(!done.stderr.contains("panicked") && done.code() != 101, "{words:?} {value}: {}", done.stderr);
        }
    }
    let mut command = world.command(&["run", "shell", "-y", "--workspace"]);
    let done: Done = command.arg(&folder).args(["--", "true"]).output().unwrap().into();
    assert_eq!(done.code(), 120, "{}", done.stderr);
    assert!(done.stderr.contains("is not UTF-8 text"), "{}", done.stderr);
}

/// Of the host only a project can be mounted, whatever its path looks like.
#[test]
fn what_holds_the_host_is_not_mounted() {
    let world = World::new();
    let home = world.state.path().join("home");
    std::fs::create_dir_all(home.join("project")).unwrap();
    std::fs::create_dir_all(home.join(".ssh")).unwrap();
    std::os::unix::fs::symlink("/run", home.join("link")).unwrap();
    let state = world.state.path().join("bottler");
    let run = |folder: &str| {
        let mut command = world.command(&["run", "shell", "--dry-run", "--mount", "--workspace", folder]);
        Done::from(command.env("HOME", &home).output().unwrap())
    };
    let at = |name: &str| home.join(name).display().to_string();
    world.run(&["ps"]);
    let own = [
        state.display().to_string(),
        at(""),
        at(".ssh"),
        at("link"),
        at("link/../run"),
        world.state.path().display().to_string(),
    ];
    let host = ["/", "/run", "/var/run", "/var", "/proc", "/sys", "/dev", "/etc", "/home"].map(str::to_owned);
    for folder in own.into_iter().chain(host) {
        let done = run(&folder);
        assert_eq!(done.code(), 120, "{folder}: {}{}", done.stdout, done.stderr);
        assert!(
            ["mount the workspace: ", "all your files"].iter().any(|why| done.stderr.contains(why))
                && done.stderr.contains("hint: "),
            "{folder}: {}",
            done.stderr
        );
    }
    let done = run(&at("project"));
    assert_eq!(done.code(), 0, "{}", done.stderr);
}

#[test]
fn the_policy_is_explained_by_the_code_that_decides() {
    let world = World::new();
    let explain = |url: &str| {
        let arguments =
            ["policy", "explain", url, "--allow", "api.example.com", "--allow-ip", "10.0.0.0/8", "--format", "json"];
        let done = world.run(&arguments);
        (done.code(), done.json()["code"].as_str().unwrap().to_owned())
    };
    for (url, code) in [
        ("https://api.example.com/v1", "allowed"),
        ("https://API.example.com.:443/", "allowed"),
        ("https://api.example.com:22/", "port_not_allowed"),
        ("https://evil.example/", "host_not_allowed"),
        ("https://api.example.com@evil.example/", "bad_request"),
        ("http://10.1.2.3/", "host_not_allowed"),
        ("http://127.1/", "address_not_public"),
        ("http://169.254.169.254/", "address_not_public"),
        ("https://api.example.com/../x", "bad_path"),
        ("ftp://api.example.com/", "bad_request"),
        ("https://api.example.com/a.git/%67it-receive-pack", "push_not_gated"),
        ("https://api.example.com/a.git/info/refs?service=git-receive-pack", "push_not_gated"),
    ] {
        assert_eq!(explain(url), (i32::from(code != "allowed"), code.to_owned()), "{url}");
    }
    let done = world.run(&["policy", "explain", "https://evil.example/"]);
    assert!(done.stdout.contains("refused: host_not_allowed\n") && done.stdout.contains("hint: "), "{}", done.stdout);
}

#[test]
fn version_and_help_are_data() {
    let world = World::new();
    let version = world.run(&["--version"]);
    assert_eq!((version.code(), version.stdout.as_str()), (0, concat!("bottler ", env!("CARGO_PKG_VERSION"), "\n")));
    let help = world.run(&["--help"]);
    assert_eq!(help.code(), 0);
    assert!(help.stdout.contains("run") && help.stdout.contains("gc") && help.stdout.contains("ps"));
}

#[test]
fn bad_recipes_name_their_line() {
    let world = World::new();
    let path = script(&world, "return recipe(function(plan)\n  local x = = 1\nend)\n");
    fails(&world, &["run", "--recipe", &path], 120, &["my.lua:2", "unexpected symbol", "2 | local x = = 1"]);
    let path = script(&world, "return recipe(function(plan)\n  network_create { name = 'n', intrenal = true }\nend)\n");
    fails(&world, &["run", "--recipe", &path], 120, &["my.lua:2", "there is no option intrenal", "there are"]);
    let path = script(
        &world,
        "return recipe(function(plan)\n  local net = network_create { name = 'n' }\n  net:ready()\n  local x = nil + 1\nend)\n",
    );
    fails(
        &world,
        &["run", "--recipe", &path],
        120,
        &["my.lua:4", "attempt to perform arithmetic on a nil", "removed: probe-"],
    );
}

/// On a real pseudo-terminal, created by `script`, with typed answers.
#[test]
fn a_recipe_asks_at_the_terminal_and_a_secret_is_not_shown() {
    let world = World::new();
    let path = script(
        &world,
        "return function()\n  log('said', prompt 'who?')\n  local token = prompt('token', { secret = true })\n  log('kept', token)\n  log('sure', confirm 'really?', confirm 'again?')\nend\n",
    );
    let command = format!("{} run probe --recipe {path}", world.bottler().display());
    let mut terminal = world.program("script", &["-qec", &command, "/dev/null"]);
    terminal.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = terminal.spawn().unwrap();
    let mut keys = child.stdin.take().unwrap();
    let mut screen = BufReader::new(child.stdout.take().unwrap());
    let mut seen = Vec::new();
    for (question, answer) in
        [("who?: ", "ann"), ("token: ", "hunter2"), ("really? [y/N] ", "y"), ("again? [y/N] ", "maybe")]
    {
        while !String::from_utf8_lossy(&seen).contains(question) {
            let bytes = screen.fill_buf().unwrap().to_vec();
            assert!(!bytes.is_empty(), "{question}: {}", String::from_utf8_lossy(&seen));
            screen.consume(bytes.len());
            seen.extend(bytes);
        }
        writeln!(keys, "{answer}").unwrap();
    }
    std::io::Read::read_to_end(&mut screen, &mut seen).unwrap();
    assert!(child.wait().unwrap().success());
    let seen = String::from_utf8_lossy(&seen).into_owned();
    for words in ["said ann", "kept (secret)", "sure true false"] {
        assert!(seen.contains(words), "{words}: {seen}");
    }
    assert!(!seen.contains("hunter2"), "{seen}");
    world.assert_clean();
}

/// Ctrl-C at a prompt: everything ends, and the terminal echoes again.
#[test]
fn a_question_that_is_not_answered_holds_nothing_up() {
    let world = World::new();
    let path = script(&world, "return function()\n  prompt('token', { secret = true })\nend\n");
    // The shell survives the interrupt, which its children also receive.
    let run = format!("trap : INT; {} run probe --recipe {path}; echo code $?; stty -a", world.bottler().display());
    let mut terminal = world.program("script", &["-qc", &run, "/dev/null"]);
    terminal.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = terminal.spawn().unwrap();
    let mut keys = child.stdin.take().unwrap();
    let mut screen = BufReader::new(child.stdout.take().unwrap());
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("token: ") {
        let bytes = screen.fill_buf().unwrap().to_vec();
        assert!(!bytes.is_empty(), "{}", String::from_utf8_lossy(&seen));
        screen.consume(bytes.len());
        seen.extend(bytes);
    }
    keys.write_all(b"\x03").unwrap();
    std::io::Read::read_to_end(&mut screen, &mut seen).unwrap();
    child.wait().unwrap();
    let seen = String::from_utf8_lossy(&seen).into_owned();
    assert!(seen.contains("code 126"), "{seen}");
    assert!(seen.contains(" echo ") && !seen.contains("-echo "), "{seen}");
    world.assert_clean();
}

#[test]
fn a_question_without_a_terminal_is_an_error() {
    let world = World::new();
    let path = script(&world, "return function()\n  prompt 'who?'\nend\n");
    fails(&world, &["run", "--recipe", &path], 120, &["there is no terminal to ask at", "my.lua:2", "--set"]);
}

#[test]
fn a_reader_that_has_had_enough_is_no_error() {
    let world = World::new();
    let mut child = world.start(&["run", "probe"]);
    drop(child.stdout.take());
    let done = crate::support::process::finish(child);
    assert_eq!(done.code(), 0, "{}", done.stderr);
    assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
    world.assert_clean();
}

#[test]
fn gc_and_ps_of_nothing() {
    let world = World::new();
    let done = world.run(&["gc"]);
    assert_eq!((done.code(), done.stdout.as_str(), done.stderr.as_str()), (0, "", "nothing to collect\n"));
    let done = world.run(&["ps", "--format", "json"]);
    assert_eq!((done.code(), done.stdout.as_str()), (0, "[]\n"));
    let done = world.run(&["gc", "--foreign", "0123456789abcdef", "--dry-run", "--format", "json"]);
    assert_eq!(done.json()["bottles"], serde_json::json!([]));
}

#[test]
fn no_secret_and_no_state_is_readable_by_others() {
    let world = World::new();
    assert_eq!(world.run(&["run", "probe"]).code(), 0);
    for folder in ["bottler", "bottler/bottles"] {
        let mode = std::fs::metadata(Path::new(world.state.path()).join(folder)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{folder}");
    }
}

#[test]
fn the_file_that_readme_shows_is_understood() {
    let world = World::new();
    let content = &Readme::read("src/policy/README.md").file("egress.yaml");
    let file = world.state.path().join("egress.yaml");
    let explain = |content: &str, arguments: &[&str]| {
        std::fs::write(&file, content).unwrap();
        let file = file.display().to_string();
        let done = world.run(&[&["policy", "explain", "--format", "json", "--egress", &file], arguments].concat());
        if done.code() == 120 { done.stderr } else { done.json()["code"].as_str().unwrap().to_owned() }
    };
    for (arguments, expected) in [
        (&["https://pypi.org/simple/six/"][..], "allowed"),
        (&["https://upload.pypi.org/x"], "host_not_allowed"),
        (&["https://files.example.com/x"], "allowed"),
        (&["https://private.example.com/x"], "denied"),
        (&["https://api.github.com/repos/acme/x"], "allowed"),
        (&["https://api.github.com/repos/acme/secret/x"], "denied"),
        (&["https://api.github.com/repos/acme/x", "--method", "POST"], "method_not_allowed"),
        (&["tcp://db.example.com:5432"], "allowed"),
        (&["tcp://db.example.com:5433"], "host_not_allowed"),
        (&["https://api.anthropic.com/", "--deny", "api.anthropic.com"], "denied"),
    ] {
        assert_eq!(explain(content, arguments), expected, "{arguments:?}");
    }
    // An error names its line.
    let error = explain("mode: enforce\nallow:\n  - {host: a.com, method: [GET]}\n", &["https://a.com/"]);
    assert!(error.contains("unknown field `method`") && error.contains("line 3"), "{error}");
}
