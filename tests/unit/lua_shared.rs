//! Scripts of several authors in one machine: what a project's hooks do to shared values does not affect the recipe.

use crate::support::fake::{Launch, built_in, plan, recipe};
use bottler::lua::{Grants, Program};
use bottler::session::Failure;

/// Runs the default launch with a project's hooks; returns its engine calls, and its failure.
async fn launched(hooks: Option<&str>) -> (Vec<String>, Option<Failure>) {
    let launch = Launch::new();
    let project = hooks.map(|hooks| ("hooks.lua".to_owned(), hooks.to_owned())).into_iter().collect();
    let program = Program { recipe: built_in("launch"), project, grants: Grants::none() };
    let outcome = launch.run_program(&program, plan()).await;
    assert_eq!(launch.engine.left(), Vec::<String>::new(), "{hooks:?}");
    let mut calls = launch.engine.calls();
    // Effects run concurrently.
    calls.sort();
    (calls, outcome.failure)
}

/// All ways to put one's own function where another script finds it. Each is an error at its line, or does not affect
/// others.
const ATTACKS: &[&str] = &[
    "sidecar_start = TAKEN",
    "rawset(_ENV, 'sidecar_start', TAKEN)",
    "rawset(_ENV, 'require', TAKEN) rawset(_ENV, 'recipe', TAKEN)",
    "getmetatable(_ENV).__index = TAKEN",
    "setmetatable(_ENV, { __index = TAKEN })",
    "pcall = TAKEN",
    "type = TAKEN",
    "string.format = TAKEN",
    "rawset(string, 'format', TAKEN) rawset(string, 'find', TAKEN)",
    "table.insert = TAKEN",
    "rawset(table, 'pack', TAKEN) rawset(table, 'unpack', TAKEN)",
    "table.insert(string, TAKEN)",
    "math.huge = 1",
    "utf8.char = TAKEN",
    "secret.random = TAKEN",
    "rawset(secret, 'random', TAKEN)",
    "host.run = TAKEN",
    "setmetatable(string, { __index = TAKEN })",
    "getmetatable('').__index = TAKEN",
    "setmetatable('', {})",
    "getmetatable(string).__index.format = TAKEN",
    "for _, library in pairs { string, table, secret } do for name in pairs(library) do rawset(library, name, TAKEN) end end",
    "require('std.sidecars').egress = TAKEN",
    "rawset(require('std.sidecars'), 'egress', TAKEN)",
    "getmetatable(require('std.sidecars')).__index = TAKEN",
    "getmetatable(require('std.launch')).__call = TAKEN",
    "setmetatable(require('std.launch'), { __call = TAKEN })",
    "rawset(require('std.launch'), '__call', TAKEN)",
    "local _, inner = pairs(string) if inner then inner.format = TAKEN end",
    "return { before = { outside = function(_, bottle) bottle.sidecar = TAKEN end } }",
    "return { after = { outside = function(net) getmetatable(net).__index = TAKEN end } }",
    "return { after = { outside = function(net) setmetatable(net, { __index = TAKEN }) end } }",
    "local _, problem = pcall(fail, 'x') getmetatable(problem).__index = TAKEN",
    "xpcall(error, function(problem) getmetatable(problem).__index = TAKEN end, setmetatable({}, {}))",
    "local hooks = { before = {} } hooks.after = { outside = function() hooks.replace = { egress = TAKEN } end } return hooks",
];

#[tokio::test(start_paused = true)]
async fn no_script_changes_what_another_calls() {
    let (expected, failure) = launched(None).await;
    assert_eq!(failure, None);
    let mut errors = 0;
    for attack in ATTACKS {
        let hooks = format!("local TAKEN = function() error('taken over') end\n{attack}\n");
        let (calls, failure) = launched(Some(&hooks)).await;
        match failure {
            None => assert_eq!(calls, expected, "{attack}"),
            Some(failure) => {
                errors += 1;
                assert!(!failure.message.contains("taken over"), "{attack}: {failure:?}");
                let at = failure.at.unwrap_or_else(|| panic!("{attack}: {}", failure.message));
                assert_eq!((at.script.as_str(), at.line), (".bottler/hooks.lua", 2), "{attack}");
            }
        }
    }
    assert!(errors > 15, "{errors}");
}

#[tokio::test(start_paused = true)]
async fn what_scripts_share_is_there_to_be_used() {
    let source = "local names = {}\nfor name in pairs(string) do names[#names + 1] = name end\n\
        return function()\n  assert(#names > 10 and ('x'):rep(3) == string.rep('x', 3))\n  local t = setmetatable({}, { __index = rawget })\n\
        rawset(t, 'a', 1)\n  log(#table.pack(table.unpack { 1, 2 }), require('std.json').encode { t.a }, getmetatable('') == false)\nend";
    let launch = Launch::new();
    let outcome = launch.run(&recipe(source), plan()).await;
    assert_eq!(outcome.failure, None);
    assert_eq!(*launch.logs.lock().unwrap(), ["2 [1] true"]);
}

/// A hook that changes the role of a part of the isolation, under the same name.
#[tokio::test(start_paused = true)]
async fn a_hook_that_changes_a_role_replaces() {
    for change in [
        "o.role = nil o.network = nil o.allow = nil o.image = 'evil:1'",
        "setmetatable(o, { __index = { role = 'egress' } }) o.role = nil o.network = nil o.allow = nil o.image = 'evil:1'",
    ] {
        let hooks = format!("return {{ before = {{ egress = function(o) {change} end }} }}");
        let (_, failure) = launched(Some(&hooks)).await;
        let failure = failure.unwrap_or_else(|| panic!("allowed: {change}"));
        assert!(failure.message.contains("before.egress replaces a part of the isolation"), "{failure:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn bounds_that_bound_nothing_are_refused_everywhere() {
    for bad in [
        "cpus = 0",
        "cpus = -1",
        "cpus = 0/0",
        "cpus = 1/0",
        "memory = 0",
        "memory = -1",
        "pids = 0",
        "pids = -1",
        "pids = 1 << 40",
    ] {
        let service = format!(
            "return function()\n  local r = {{ cpus = 1, memory = 1 << 28, pids = 10 }}\n  r.{bad}\n  \
             sidecar_start {{ name = 'db', image = 'postgres:16', resources = r }}\nend"
        );
        let agent = format!(
            "local launch = require 'std.launch'\nreturn function(plan)\n  plan.agent.resources.{bad}\n  return launch(plan)\nend"
        );
        for source in [service, agent] {
            let launch = Launch::new();
            let outcome = launch.run(&recipe(&source), plan()).await;
            let failure = outcome.failure.unwrap_or_else(|| panic!("allowed: {source}"));
            let name = bad.split(' ').next().unwrap();
            assert!(failure.message.contains(&format!("resources.{name}: ")), "{source}: {failure:?}");
        }
    }
}

/// What a project's hooks may launch, whatever the client's drafts contain.
#[tokio::test(start_paused = true)]
async fn a_projects_hooks_launch_nothing_that_reaches_more() {
    let hooks = "return { before = { agent = function() bottle('claude', { command = { 'x' } }):wait() end } }";
    let (_, failure) = launched(Some(hooks)).await;
    let failure = failure.unwrap();
    assert!(failure.message.contains("which this launch does not"), "{failure:?}");
}
