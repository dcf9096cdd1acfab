//! `bottler lua` as authors use it; and its output is complete and correct.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::fake::{Launch, plan, recipe};
use bottler::lua::{Program, Script, built_in_names, lint, reference};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs bottler in a folder, with a separate state directory and configuration.
fn bottler(folder: &Path, state: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bottler"));
    command.current_dir(folder).args(arguments).env("XDG_STATE_HOME", state).env("XDG_CONFIG_HOME", state);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn stubs_and_reference_are_fresh() {
    for (path, now) in
        [("stdlib/_meta/bottler.lua", reference::stubs()), ("stdlib/_meta/reference.md", reference::markdown())]
    {
        let path = root().join(path);
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &now).unwrap();
        }
        assert!(std::fs::read_to_string(&path).unwrap() == now, "{} is old: BLESS=1 tests/run unit", path.display());
    }
}

/// Every name that a script can reach is described, and nothing else is.
#[tokio::test(start_paused = true)]
async fn the_reference_is_what_there_is() {
    let launch = Launch::new();
    let names: Vec<&str> = reference::functions().iter().map(|function| function.name).collect();
    let checks: Vec<String> =
        names.iter().map(|name| format!("assert(type({name}) == 'function', '{name}')")).collect();
    let checks = checks.join("\n");
    // `recipe` returns callable tables; everything else is a function.
    let methods: Vec<String> = reference::classes()
        .iter()
        .flat_map(|class| class.methods.iter().map(move |method| format!("made.{}.{}", class.name, method.name)))
        .map(|method| format!("assert(type({method}) == 'function', '{method}')"))
        .collect();
    let methods = methods.join("\n");
    let source = format!(
        "return recipe(function(plan)\n{checks}
          local made = {{ Image = build_image {{ source = 'self' }}, Network = network_create {{ name = 'n' }},
            Volume = volume_create {{ name = 'v' }}, Bottle = bottle('probe', {{}}) }}
          made.Sidecar = sidecar_start {{ name = 'egress', role = 'egress', network = made.Network }}
          made.Agent = run_agent {{ image = made.Image, egress = made.Sidecar, config = plan.agent }}
          {methods}
          return made.Agent\nend)"
    );
    let outcome = launch.run(&recipe(&source), plan()).await;
    assert_eq!(outcome.failure, None);

    // The reverse: the prelude's globals, and the methods of handles.
    let sources = ["src/lua/api/handle.rs", "src/lua/api/things.rs", "src/lua/api/container.rs"];
    let described: BTreeSet<&str> =
        reference::classes().iter().flat_map(|class| class.methods).map(|method| method.name).collect();
    for path in sources {
        let code = std::fs::read_to_string(root().join(path)).unwrap();
        for (_, rest) in code.match_indices("add_async_method(\"").map(|(at, found)| code[at..].split_at(found.len())) {
            let name = rest.split('"').next().unwrap();
            assert!(described.contains(name), "{path}: {name} is not described");
        }
    }
    let prelude = std::fs::read_to_string(root().join("stdlib/core.lua")).unwrap();
    for line in prelude.lines().filter(|line| line.starts_with("function ") || line.contains(" = core.")) {
        let words = line.trim_start_matches("function ").split(['=', '(']).next().unwrap();
        for name in words.split(',').map(str::trim).filter(|name| !name.starts_with("__") && !name.starts_with("local"))
        {
            let known =
                names.contains(&name) || ["secret", "host", "pcall", "xpcall", "error", "assert"].contains(&name);
            assert!(known, "{name} is not described");
        }
    }
}

#[test]
fn every_script_of_ours_is_clean() {
    let mut looked = 0;
    for folder in ["scripts", "stdlib", "tests/recipes", "tests/lua"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.extension().is_none_or(|extension| extension != "lua") || name == "core.lua" {
                continue;
            }
            let source = std::fs::read_to_string(&path).unwrap();
            assert!(!source.lines().any(|line| line.len() > 120), "{}", path.display());
            let found = lint::lint(&Script { name: path.display().to_string(), source }).unwrap();
            assert!(found.is_empty(), "{found:?}");
            looked += 1;
        }
    }
    assert!(looked > 20, "{looked}");
    for name in built_in_names() {
        let lines = bottler::lua::built_in_recipe(name).unwrap().source.lines().count();
        assert!(lines < 100, "{name} has {lines} lines");
    }
}

/// Golden transcripts: what every recipe would create and remove.
#[test]
fn recipes_rehearse_as_written_down() {
    let state = tempfile::tempdir().unwrap();
    for name in built_in_names() {
        let launches_bottles = ["ci", "fan-out", "review-loop"].contains(&name);
        let workspace = if launches_bottles { &["--workspace"][..] } else { &[] };
        let done = bottler(root(), state.path(), &[&["lua", "check", "--no-project", name], workspace].concat());
        assert!(done.status.success(), "{name}: {}", text(&done.stderr));
        let golden = root().join(format!("tests/golden/transcripts/{name}.txt"));
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&golden, &done.stdout).unwrap();
        }
        assert_eq!(text(&done.stdout), std::fs::read_to_string(&golden).unwrap(), "{name}: BLESS=1 tests/run unit");
    }
}

#[test]
fn check_finds_mistakes_in_branches_that_are_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let source = "local launch = require 'std.launch'\nreturn recipe(function(plan)\n  if plan.never then\n    local net = network_create { name = 'n', internl = true }\n    net:redy()\n    sidecar_start { name = 5, image = 'x' }\n    undefined_thing()\n    leaked = 1\n  end\n  local shadowed = function(network_create) network_create { any = 1 } end\n  shadowed(log)\n  local agent = launch(plan)\n  return agent\nend)\n";
    std::fs::write(folder.path().join("my.lua"), source).unwrap();
    let done = bottler(folder.path(), folder.path(), &["lua", "check", "my.lua"]);
    assert_eq!(done.status.code(), Some(120));
    assert!(done.stdout.is_empty());
    let said = text(&done.stderr);
    for words in [
        "my.lua:4",
        "there is no option internl",
        "did you mean internal?",
        "my.lua:5",
        "Network has no redy",
        "my.lua:6",
        "option name takes string, not a number",
        "my.lua:7",
        "there is no global undefined_thing",
        "my.lua:8",
        "write local leaked",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(said.matches("error:").count(), 5, "{said}");
}

#[test]
fn a_failure_can_be_watched_where_one_wants_it() {
    let state = tempfile::tempdir().unwrap();
    let run =
        |fail_at: &str| bottler(root(), state.path(), &["lua", "run", "--no-project", "probe", "--fail-at", fail_at]);
    let done = run("counterpart");
    assert_eq!(done.status.code(), Some(122));
    assert!(text(&done.stderr).contains("container_create rehearsal-00000-counterpart"), "{}", text(&done.stderr));
    let done = run("container_start:3");
    assert!(text(&done.stderr).contains("container_start"), "{}", text(&done.stderr));
    assert!(text(&done.stdout).contains("UNDOES"), "{}", text(&done.stdout));
    let done = run("nothing");
    assert_eq!(done.status.code(), Some(120));
    assert!(
        text(&done.stderr).contains("the recipe never gets there") && text(&done.stderr).contains("outside, elsewhere")
    );
    assert_eq!(run("egress:x").status.code(), Some(120));
}

#[test]
fn the_librarys_own_tests_pass_and_a_red_one_is_red() {
    let state = tempfile::tempdir().unwrap();
    let done = bottler(root(), state.path(), &["lua", "test", "--no-project", "tests/lua"]);
    assert!(done.status.success(), "{}{}", text(&done.stdout), text(&done.stderr));
    assert!(text(&done.stdout).lines().count() > 12 && !text(&done.stdout).contains("RED"));
    // Each module of the library has tests.
    for entry in std::fs::read_dir(root().join("stdlib")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(module) = name.strip_suffix(".lua").filter(|module| *module != "core") {
            assert!(root().join(format!("tests/lua/{module}_test.lua")).exists(), "{module}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let source = "local test = require 'std.test'\ntest.case('red', function()\n  test.equal(1, 2)\nend)\ntest.case('leaves an error', function()\n  build_image { source = '' }\nend)\ntest.case('green', function() end)\n";
    std::fs::write(folder.path().join("my_test.lua"), source).unwrap();
    let done = bottler(folder.path(), folder.path(), &["lua", "test", "."]);
    assert_eq!(done.status.code(), Some(1));
    let (out, err) = (text(&done.stdout), text(&done.stderr));
    assert_eq!((out.matches("RED").count(), out.matches("ok ").count()), (2, 1), "{out}");
    assert!(
        err.contains("expected 2, not 1") && err.contains("my_test.lua:3") && err.contains("source is empty"),
        "{err}"
    );
}

#[test]
fn types_are_written_beside_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(".luarc.json"), "{}").unwrap();
    let done = bottler(folder.path(), folder.path(), &["lua", "types"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert_eq!(std::fs::read_to_string(folder.path().join(".luarc.json")).unwrap(), "{}");
    let stubs = std::fs::read_to_string(folder.path().join(".bottler/_meta/bottler.lua")).unwrap();
    assert!(stubs.contains("---@class (exact) NetworkOptions"));
    let doc = bottler(folder.path(), folder.path(), &["lua", "doc", "network_create"]);
    assert!(text(&doc.stdout).contains("internal?: boolean"), "{}", text(&doc.stdout));
    assert_eq!(bottler(folder.path(), folder.path(), &["lua", "doc", "nothing"]).status.code(), Some(120));
}

/// A project's files are only used as they were when the user trusted them.
#[test]
fn a_project_is_refused_until_it_is_trusted_and_again_when_it_changes() {
    let (folder, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let own = folder.path().join(".bottler");
    std::fs::create_dir_all(own.join("lib")).unwrap();
    std::fs::write(own.join("hooks.lua"), "return { before = { agent = function() require 'lib.db' end } }").unwrap();
    std::fs::write(own.join("lib/db.lua"), "log 'from the library'").unwrap();
    let run = |arguments: &[&str]| bottler(folder.path(), state.path(), arguments);
    let check = ["lua", "check"];
    let refused = |words: &str| {
        let done = run(&check);
        assert_eq!(done.status.code(), Some(120));
        let said = text(&done.stderr);
        assert!(said.contains(words) && said.contains("bottler trust --show"), "{said}");
    };
    refused("is not trusted");
    // Showing them does not trust them.
    assert!(text(&run(&["trust", "--show"]).stdout).contains("new  .bottler/lib/db.lua"));
    refused("is not trusted");
    assert!(run(&["trust"]).status.success());
    let done = run(&check);
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(text(&done.stdout).contains("from the library") && text(&done.stdout).contains("before.agent"));
    assert!(
        text(&done.stderr).contains("hook before.agent  .bottler/hooks.lua:1"),
        "the preflight: {}",
        text(&done.stderr)
    );
    // Files that bottler writes there for editors do not count.
    assert!(run(&["lua", "types"]).status.success());
    assert!(own.join("_meta").is_dir() && run(&check).status.success());
    // Every file counts, not only scripts.
    std::fs::write(own.join("prompt.md"), "do evil").unwrap();
    refused("has changed since");
    let shown = run(&["trust", "--show", "--format", "json"]);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(
        (&shown["trusted"], &shown["files"]["prompt.md"], &shown["files"]["hooks.lua"]),
        (&false.into(), &"added".into(), &"unchanged".into())
    );
    let hooks = std::fs::read_to_string(own.join("hooks.lua")).unwrap();
    std::fs::write(own.join("hooks.lua"), "return {}").unwrap();
    let patch = text(&run(&["trust", "--show"]).stdout);
    for line in
        ["+do evil", "-return { before", "+return {}", "+++ b/.bottler/prompt.md", "new         .bottler/prompt.md   7"]
    {
        assert!(patch.contains(line), "{line}: {patch}");
    }
    std::fs::write(own.join("hooks.lua"), hooks).unwrap();
    assert!(run(&["lua", "check", "--no-project"]).status.success());
    std::fs::remove_file(own.join("prompt.md")).unwrap();
    assert!(run(&check).status.success());
    assert!(run(&["untrust"]).status.success());
    refused("is not trusted");
    // Links that lead outside are refused, whether a file or the folder itself is one.
    std::os::unix::fs::symlink("/etc/passwd", own.join("lib/out.lua")).unwrap();
    assert!(text(&run(&["trust"]).stderr).contains("lib/out.lua is a link"));
    std::fs::remove_file(own.join("lib/out.lua")).unwrap();
    std::fs::rename(&own, folder.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", &own).unwrap();
    assert!(text(&run(&["trust"]).stderr).contains("is not a directory"));
}

/// `host.run` needs the user's manifest, not the project's, and only works before the agent starts.
#[tokio::test]
async fn the_host_runs_what_the_manifest_lists_and_only_before_the_agent() {
    let launch = Launch::new();
    let source = "local launch = require 'std.launch'\nreturn recipe(function(plan)\n  log(host.run({ command = { 'echo', 'from the host' } }).exit_code)\n  log(pcall(host.run, { command = { 'touch', '/nowhere' } }))\n  local agent = launch(plan)\n  agent:wait()\n  log(pcall(host.run, { command = { 'echo' } }))\n  return agent\nend)";
    let mut program = Program::of(recipe(source));
    program.grants.host_commands = vec![vec!["echo".to_owned()]];
    let outcome = launch.run_program(&program, plan()).await;
    assert_eq!(outcome.failure, None);
    let said = launch.logs.lock().unwrap().clone();
    assert_eq!(said[0], "0");
    assert!(said[1].contains("the manifest does not list it"), "{said:?}");
    assert!(said[2].contains("the agent has been released"), "{said:?}");
}

/// A project's top-level code cannot hang a command: the process ends, and names the line.
#[test]
fn scripts_that_never_end_end_every_tool() {
    let folder = tempfile::tempdir().unwrap();
    let state = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let endless = "local s\ns = (''):rep(math.maxinteger)\n";
    write("endless.lua", endless);
    write("tests/x_test.lua", endless);
    let ends = |arguments: &[&str], place: &str| {
        let done = bottler(folder.path(), state.path(), arguments);
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(120), "{arguments:?}: {said}");
        assert!(said.contains(&format!("--> {place}")) && said.contains("computed for 5 s"), "{arguments:?}: {said}");
    };
    std::thread::scope(|scope| {
        for arguments in
            [&["lua", "check", "endless.lua"][..], &["lua", "run", "endless.lua"], &["lua", "test", "tests"]]
        {
            let place = if arguments[1] == "test" { "tests/x_test.lua:2" } else { "endless.lua:2" };
            scope.spawn(move || ends(arguments, place));
        }
    });
    // Nested too deeply for the parser, but not for Lua.
    write("sum.lua", &format!("return function() local x = {}1 end", "1+".repeat(60_000)));
    write("else.lua", &format!("return function(x) if x then {}end end", "elseif x then ".repeat(9000)));
    write("long.lua", &format!("return function() local x = {}1 end", "1+".repeat(200_000)));
    for (name, words) in [("sum.lua", ""), ("else.lua", ""), ("long.lua", "longer than 128 KiB")] {
        let done = bottler(folder.path(), state.path(), &["lua", "check", name]);
        assert!(done.status.code().is_some(), "{name}: {done:?}");
        assert!(text(&done.stderr).contains(words), "{name}: {}", text(&done.stderr));
    }
    write(".bottler/hooks.lua", endless);
    assert_eq!(bottler(folder.path(), state.path(), &["trust"]).status.code(), Some(0));
    ends(&["run", "probe", "--dry-run"], ".bottler/hooks.lua:2");
}
