//! Whatever a script does, it ends, and the user is told the line: loops where Lua can be suspended, where it cannot, and inside
//! C functions, where only the end of the process stops it. Every script runs in a process of its own.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::fake::{Launch, plan, recipe};
use bottler::lua::{Grants, Program};

/// Says to the process of one script which it is.
const SCRIPT: &str = "BOTTLER_TEST_SCRIPT";
/// The time that these scripts may compute: the shortest that a loaded machine lets honest ones keep.
const BURST: Duration = Duration::from_millis(300);

/// Bodies of a recipe's function, which begins on line 1; each does not end on line 3.
const ENDLESS: &[(&str, &str)] = &[
    ("loop", "local x\nwhile true do end"),
    ("loop that catches", "local x\nwhile true do pcall(function() while true do end end) end"),
    ("comparator", "local t = { 3, 1, 2 }\ntable.sort(t, function() while true do end end)"),
    (
        "comparator that catches",
        "local loop = function() while true do end end\ntable.sort({ 3, 1, 2 }, function() while true do pcall(loop) end end)",
    ),
    (
        "caught comparators",
        "local loop = function() while true do end end\nwhile true do pcall(table.sort, { 3, 1, 2 }, loop) end",
    ),
    ("gsub's function", "local x\nlocal y = (('x'):gsub('.', function() while true do end end))"),
    ("backtracking find", "local s, p = ('x'):rep(100000), ('.-'):rep(9)\nlocal x = s:find(p .. 'y')"),
    ("backtracking match", "local s, p = ('a'):rep(40), ('a?'):rep(40)\nlocal x = s:match(p .. s)"),
    ("backtracking gmatch", "local s, p = ('x'):rep(100000), ('.-'):rep(9)\nfor x in s:gmatch(p .. 'y') do end"),
    ("backtracking gsub", "local s, p = ('x'):rep(100000), ('.-'):rep(9)\nlocal x = s:gsub(p .. 'y', '')"),
    ("rep of nothing", "local x\nlocal s = (''):rep(math.maxinteger)"),
    ("rep of nothing, caught", "local x\nwhile true do pcall(string.rep, '', math.maxinteger) end"),
    ("move", "local x\ntable.move({}, 1, math.maxinteger - 1, 2)"),
    ("insert", "local t = setmetatable({}, { __len = function() return 1 << 60 end })\ntable.insert(t, 1, 'x')"),
    ("remove", "local t = setmetatable({}, { __len = function() return 1 << 60 end })\ntable.remove(t, 1)"),
    (
        "concat",
        "local t = setmetatable({}, { __index = function() return '' end })\nlocal s = table.concat(t, '', 1, 1 << 60)",
    ),
    (
        "sort in C alone",
        "local t = setmetatable({}, { __len = function() return 1 << 30 end, __index = rawlen, __newindex = rawlen })\ntable.sort(t)",
    ),
    (
        "__index under concat",
        "local t = setmetatable({}, { __index = function() while true do end end })\nlocal s = table.concat(t, '', 1, 2)",
    ),
    (
        "__lt",
        "local m = { __lt = function() while true do end end }\nlocal x = setmetatable({}, m) < setmetatable({}, m)",
    ),
    (
        "__eq",
        "local m = { __eq = function() while true do end end }\nlocal x = setmetatable({}, m) == setmetatable({}, m)",
    ),
    ("__concat", "local m = { __concat = function() while true do end end }\nlocal x = setmetatable({}, m) .. 'x'"),
    (
        "__len under unpack",
        "local t = setmetatable({}, { __len = function() while true do end end })\nlocal x = table.unpack(t)",
    ),
    (
        "__tostring",
        "local t = setmetatable({}, { __tostring = function() while true do end end })\nlocal x = tostring(t)",
    ),
    ("__tostring under log", "local t = setmetatable({}, { __tostring = function() while true do end end })\nlog(t)"),
    (
        "__name under format",
        "local t = setmetatable({}, { __tostring = function() while true do end end })\nlocal x = ('%s'):format(t)",
    ),
    ("__pairs", "local t = setmetatable({}, { __pairs = function() while true do end end })\nfor x in pairs(t) do end"),
    ("handler", "local loop = function() while true do end end\nxpcall(error, loop, 'x')"),
    ("step", "local x\nstep('x', function() while true do end end)"),
    ("close of a local", "do local x <close> = setmetatable({}, { __close = function()\nwhile true do end end }) end"),
    (
        "after being caught",
        "local ok = pcall(table.sort, { 3, 1, 2 }, function() while true do end end)\nwhile true do end",
    ),
    ("module", "local x\nrequire('endless')"),
];

/// Prints how the launch of a script ended.
#[test]
#[ignore = "run by the test below, in processes of its own"]
fn one_script() {
    let Ok(script) = std::env::var(SCRIPT) else { return };
    let endless = "local x\nlocal y\nwhile true do end\n".to_owned();
    let project = BTreeMap::from([("endless.lua".to_owned(), endless)]);
    let program = Program { recipe: recipe(&script), project, grants: Grants::none() };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut launch = Launch::new();
    launch.burst = BURST;
    let outcome = runtime.block_on(launch.run_program(&program, plan()));
    if let Some(failure) = outcome.failure {
        println!("ended: {}: {failure}", failure.at.as_ref().map(ToString::to_string).unwrap_or_default());
    }
    for row in outcome.undo {
        println!("undone: {row:?}");
    }
    assert_eq!(launch.engine.left(), Vec::<String>::new());
}

/// What the process of a script said.
fn run(script: &str) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "lua_limits::one_script", "--ignored", "--nocapture"]).env(SCRIPT, script);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let id = nix::unistd::Pid::from_raw(child.id().cast_signed());
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(child.wait_with_output().unwrap()));
    let output = ended.recv_timeout(Duration::from_mins(1)).unwrap_or_else(|_| {
        let _ = nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGKILL);
        panic!("it does not end: {script}")
    });
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn whatever_does_not_end_is_ended_with_its_line() {
    let mut wrong = Vec::new();
    for (name, body) in ENDLESS {
        let said = run(&format!("return function()\n{body}\nend"));
        let place = if *name == "module" { ".bottler/endless.lua:3: " } else { "test.lua:3: " };
        if !said.contains(place) || !said.contains("the script computed for 0.3 s") {
            wrong.push(format!("{name}: {said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
