//! Scripts always end, and the user is told the line: loops where Lua can be suspended, where it cannot, and inside C
//! functions, where only ending the process helps. Every script runs in its own process.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::fake::{Launch, plan, recipe};
use bottler::lua::{Grants, Program};

/// Tells a child process which script to run.
const SCRIPT: &str = "BOTTLER_TEST_SCRIPT";
/// The computing time of these scripts: the shortest that honest scripts can keep on a loaded machine.
const BURST: Duration = Duration::from_millis(300);

/// Bodies of a recipe's function, which starts on line 1. Each hangs on line 2 or 3.
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
    ("defer", "local x\ndefer(function() while true do end end)"),
    ("defer in C", "local x\ndefer(function() return (''):rep(math.maxinteger) end)"),
    ("defer that catches", "local x\ndefer(function() while true do pcall(string.rep, '', math.maxinteger) end end)"),
    ("deadline", "local x\ndeadline('1s', function() return (''):rep(math.maxinteger) end)"),
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

/// The output of a script's process.
fn run(script: &str) -> String {
    run_as("one_script", script)
}

fn run_as(test: &str, script: &str) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("lua_limits::{test}"), "--ignored", "--nocapture"]).env(SCRIPT, script);
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
        let places: &[&str] =
            if *name == "module" { &[".bottler/endless.lua:3: "] } else { &["test.lua:2: ", "test.lua:3: "] };
        let told = |place: &&str| said.contains(&format!("{place}the script computed for 0.3 s"));
        if !places.iter().any(told) {
            wrong.push(format!("{name}: {said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Scripts that use too much memory: in Lua, in copies that primitives make, and in what they keep.
const GREEDY: &[(&str, &str)] = &[
    ("strings", "local t = {} while true do t[#t + 1] = ('x'):rep(1000000) end"),
    ("secret that doubles", "local s = secret.random(256) while true do s = secret.format('%s%s', s, s) end"),
    ("secrets", "for i = 1, 1 << 30 do secret.format('%s%s', ('x'):rep(60000), i) end"),
    ("log of one string often", "local s = ('x'):rep(1 << 24) log(s, s, s, s, s, s, s, s)"),
    ("json of shared tables", "local t = {} for i = 1, 40 do t = { t, t } end require('std.json').encode(t)"),
    ("json of a circle", "local t = {} t.t = t require('std.json').encode(t)"),
    ("json that is read", "require('std.json').decode('[' .. ('[],'):rep(6000000) .. '1]')"),
    ("json that grows", "require('std.json').encode { ('\\1'):rep(1 << 25) }"),
    (
        "options that share",
        "local s = ('x'):rep(1 << 24) provision(nil, { env = { a = s, b = s, c = s, d = s, e = s } })",
    ),
    (
        "files that share",
        "local s, f = ('x'):rep(1 << 20), {} for i = 1, 1000 do f['f' .. i] = s end bottle('probe', { workspace = f })",
    ),
    ("failures that are kept", "local t = {} for i = 1, 1 << 30 do t[i] = select(2, pcall(fail, ('x'):rep(500))) end"),
    ("things", "for i = 1, 1 << 30 do volume_create { name = 'v' .. i } end"),
    ("images", "for i = 1, 1 << 30 do build_image { source = 'i' .. i } end"),
];

/// The peak memory of this process, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Prints how the launch of a script ended, and its peak memory.
#[test]
#[ignore = "run by the test below, in processes of its own"]
fn one_greedy_script() {
    let Ok(script) = std::env::var(SCRIPT) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let launch = Launch::new();
    let outcome = runtime.block_on(launch.run(&recipe(&script), plan()));
    let failure = outcome.failure.map(|failure| failure.to_string()).unwrap_or_default();
    println!("ended with {} MiB: {failure}", peak() >> 10);
}

#[test]
fn the_bound_on_memory_holds_for_what_primitives_copy_and_keep_too() {
    let mut wrong = Vec::new();
    for (name, body) in GREEDY {
        let said = run_as("one_greedy_script", &format!("return function()\n{body}\nend"));
        let ended = said.lines().find_map(|line| line.strip_prefix("ended with ")?.split_once(" MiB: "));
        match ended {
            // The test itself, the engine in memory and the unwinding use some, and garbage that Lua has not
            // collected yet.
            Some((peak, failure)) if !failure.is_empty() && peak.parse::<u64>().unwrap() < 640 => {}
            _ => wrong.push(format!("{name}: {said}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
