//! What a recipe's author encounters: the restricted language, its limits, and the errors for common mistakes.

use std::time::Duration;

use crate::support::fake::{Launch, plan, recipe, run};
use bottler::session::{Class, Failure};

async fn failure(source: &str) -> Failure {
    let (launch, outcome) = run(source).await;
    assert_eq!(launch.engine.left(), Vec::<String>::new(), "{source}");
    outcome.failure.unwrap_or_else(|| panic!("it did not fail: {source}"))
}

#[tokio::test(start_paused = true)]
async fn mistakes_are_told_with_their_line_and_in_the_words_of_scripts() {
    for (source, line, words) in [
        (
            "return recipe(function(plan)\n  network_create { nam = 'x' }\nend)",
            2,
            "network_create: there is no option nam",
        ),
        ("return recipe(function(plan)\n  network_create { }\nend)", 2, "network_create: option is missing: name"),
        ("return recipe(function(plan)\n  network_create { name = 'X y' }\nend)", 2, "\"X y\" cannot be a name"),
        ("return recipe(function(plan)\n  network_create 'x'\nend)", 2, "takes a table of options, not a string"),
        ("return recipe(function(plan)\n  network_create { 'x' }\nend)", 2, "takes named options only"),
        ("return recipe(function(plan)\n  local n = network_create { name = 5 == 5 }\nend)", 2, "network_create"),
        ("return recipe(function(plan)\n  build_image { source = '' }\nend)", 2, "build_image: source is empty"),
        ("return recipe(function(plan)\n  build_image { source = 'gone:1' }\n  return\nend)", 2, "pull image gone:1"),
        (
            "return recipe(function(plan)\n  sidecar_start { name = 'egress', role = 'egress' }\nend)",
            2,
            "it needs a network",
        ),
        (
            "return recipe(function(plan)\n  sidecar_start { name = 'e', role = 'egres', network = network_create { name = 'n' } }\nend)",
            2,
            "there is no egres",
        ),
        (
            "return recipe(function(plan)\n  sidecar_start { name = 'e', role = 'egress', network = 'n' }\nend)",
            2,
            "option network takes the result of network_create, not a string",
        ),
        (
            "return recipe(function(plan)\n  local n = network_create { name = 'n' }\n  sidecar_start { name = 'e', role = 'egress', network = n, allow = { 'a b' } }\nend)",
            3,
            "allow: \"a b\"",
        ),
        (
            "return recipe(function(plan)\n  local n = network_create { name = 'n' }\n  sidecar_start { name = 'e', role = 'egress', network = n, allow = { '*.com' } }\nend)",
            3,
            "a star is only allowed",
        ),
        (
            "return recipe(function(plan)\n  run_agent { config = plan.agent }\nend)",
            2,
            "run_agent: option image is missing: the result of build_image",
        ),
        ("return recipe(function(plan)\n  provision('x', {})\nend)", 2, "provision"),
        ("return recipe(function(plan)\n  local x = undefined_thing\nend)", 2, "there is no global undefined_thing"),
        ("return recipe(function(plan)\n  made_up = 1\nend)", 2, "cannot make a global made_up"),
        ("return recipe(function(plan)\n  local t = nil\n  t.x = 1\nend)", 3, "attempt to index a nil value"),
        ("return recipe(function(plan\n  local x = 1\nend)", 2, "expected"),
        ("return 5", 0, "test.lua: the script returned an integer, not a recipe"),
        ("local x = 1", 0, "the script returned nothing"),
        ("local r = recipe(5)\nreturn r", 1, "recipe: takes a function"),
        ("return recipe(function(plan)\n  return 5\nend)", 0, "the recipe returned an integer"),
        (
            "return recipe(function(plan)\n  local x = require 'std.nothing'\nend)",
            2,
            "there is no module \"std.nothing\"",
        ),
        ("return recipe(function(plan)\n  local x = require '/etc/passwd'\nend)", 2, "there is no module"),
        ("return recipe(function(plan)\n  local s = secret.random(8) .. 'x'\nend)", 2, "a secret cannot be joined"),
        ("return recipe(function(plan)\n  local s = secret.random(0)\nend)", 2, "secret.random: 0"),
        ("return recipe(function(plan)\n  local s = secret.format('%s %s', 1)\nend)", 2, "more %s than values"),
        ("return recipe(function(plan)\n  step('named', function() fail('inside') end)\nend)", 2, "inside"),
        ("return recipe(function(plan)\n  error({})\nend)", 2, ""),
    ] {
        let failure = failure(source).await;
        assert!(failure.class == Class::Input || failure.message.contains("pull image"), "{source}: {failure:?}");
        assert!(failure.message.contains(words), "{source}: {failure:?}");
        assert!(!failure.message.contains("stack traceback") && !failure.message.contains("::"), "{failure:?}");
        if line > 0 && !words.is_empty() {
            let place = failure.at.unwrap_or_else(|| panic!("no place: {source}"));
            assert_eq!((place.script.as_str(), place.line), ("test.lua", line), "{source}");
            assert!(!place.text.is_empty(), "{source}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_language_is_closed() {
    for name in [
        "io",
        "os",
        "package",
        "debug",
        "coroutine",
        "load",
        "loadfile",
        "dofile",
        "loadstring",
        "collectgarbage",
        "print",
    ] {
        let message = failure(&format!("return function() local x = {name} end")).await.message;
        assert!(message.contains(&format!("there is no global {name}")), "{message}");
    }
    let message = failure("return function() fail(tostring(string.dump)) end").await.message;
    assert_eq!(message, "nil");
}

#[tokio::test(start_paused = true)]
async fn bytecode_is_not_loaded() {
    let message = failure("\x1bLua").await.message;
    assert!(message.contains("binary") || message.contains("unexpected symbol"), "{message}");
}

/// In real time, because the clock stops the loop.
#[tokio::test(flavor = "multi_thread")]
async fn an_endless_loop_ends_also_inside_pcall_and_a_callback() {
    for body in ["while true do end", "while true do pcall(function() while true do end end) end"] {
        let launch = Launch::new();
        let script = recipe(&format!("return function()\n  {body}\nend"));
        let run = launch.run(&script, plan());
        let outcome = tokio::time::timeout(Duration::from_secs(30), run).await.unwrap();
        let failure = outcome.failure.unwrap();
        assert!(failure.message.contains("without waiting"), "{failure:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_depth_and_huge_strings_are_bounded() {
    for (body, words) in [
        ("local t = {} while true do t[#t + 1] = ('x'):rep(1000000) end", "memory"),
        ("return ('x'):rep(1 << 40)", ""),
        ("local function f() return 1 + f() end return f()", "stack overflow"),
    ] {
        let failure = failure(&format!("return function()\n  {body}\nend")).await;
        assert!(failure.message.contains(words), "{body}: {failure:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn creation_works_inside_callbacks_and_comparators() {
    let (launch, outcome) = run(r#"
        return function()
          ("a b"):gsub("%a", function(letter) network_create { name = letter } end)
          table.sort({ 2, 1 }, function(x, y) network_create { name = "c" } return x < y end)
        end"#)
    .await;
    assert_eq!(outcome.failure, None);
    let made = launch.engine.calls().iter().filter(|call| *call == "network_create").count();
    assert!(made >= 3, "{made}");
    assert_eq!(launch.engine.left(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_caught_failure_can_be_raised_again_without_loss() {
    let failure =
        failure("return function()\n  local ok, e = pcall(fail, 'first', { hint = 'kept' })\n  error(e)\nend").await;
    assert_eq!((failure.message.as_str(), failure.hint.as_deref()), ("first", Some("kept")));
}

#[tokio::test(start_paused = true)]
async fn a_failure_nobody_awaited_fails_the_launch_at_the_line_that_made_it() {
    let failure =
        failure("return recipe(function(plan)\n  local image = build_image { source = 'nowhere:1' }\nend)").await;
    assert_eq!(
        (failure.at.unwrap().line, failure.hint.as_deref()),
        (2, Some("check the name, and that its registry can be reached"))
    );
}

#[tokio::test(start_paused = true)]
async fn absent_sections_of_the_plan_are_nil_and_the_rest_is_there() {
    let (launch, outcome) = run(r"
        return function(plan)
          log(type(plan.git), plan.agent.name, plan.isolation, #plan.egress.allow, plan.provision.prompt)
        end")
    .await;
    assert_eq!(outcome.failure, None);
    assert_eq!(*launch.logs.lock().unwrap(), ["nil probe sealed 0 a prompt"]);
}

#[tokio::test(start_paused = true)]
async fn hooks_edit_options_and_see_handles() {
    let (launch, outcome) = run(r#"
        local launch = require "std.launch"
        return recipe(function(plan)
          local agent = launch(plan, {
            before = { egress = function(options, bottle) options.allow = { "example.com" } log(bottle.id) end },
            after = { outside = function(net) log(net.name) end, provision = function(agent) log(agent.prompt_path) end },
          })
          return agent
        end)"#)
    .await;
    assert_eq!(outcome.failure, None);
    let expected = ["outside", "probe-t3st5", "/home/agent/.bottler/prompt.md"];
    assert_eq!(*launch.logs.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn secrets_format_and_never_print() {
    let (launch, outcome) = run(r#"
        return function()
          local s = secret.random(24)
          log(s, tostring(s), tostring(secret.format("postgres://%s@db", s)))
        end"#)
    .await;
    assert_eq!(outcome.failure, None);
    assert_eq!(*launch.logs.lock().unwrap(), ["(secret) (secret) (secret)"]);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_resources_are_made_and_undone() {
    let (launch, outcome) = run("return function() for i = 1, 100 do network_create { name = 'n' .. i } end end").await;
    assert_eq!(outcome.failure, None);
    assert_eq!(outcome.undo.len(), 100);
    assert_eq!(launch.engine.left(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn numbered_names_are_tried_up_to_a_bound_unless_pinned() {
    use bottler::engine::Engine;
    for (pinned, expected_calls) in [(false, 99), (true, 1)] {
        let launch = Launch::new();
        // Another owner's containers have all the names.
        for number in 1..=99 {
            let name = if number == 1 { "probe-t3st5".to_owned() } else { format!("probe-t3st5-{number}") };
            launch.engine.container_create(&crate::support::fake::stranger(&name)).await.unwrap();
        }
        let before = launch.engine.calls().iter().filter(|call| *call == "container_create").count();
        let mut plan = plan();
        plan.pinned = pinned;
        let outcome = launch.run(&crate::support::fake::built_in("launch"), plan).await;
        let failure = outcome.failure.unwrap();
        assert_eq!(failure.class, Class::Name, "{failure:?}");
        let calls = launch.engine.calls().iter().filter(|call| *call == "container_create").count() - before;
        // One of them is egress.
        assert_eq!(calls, expected_calls + 1, "{failure:?}");
        assert!(failure.hint.unwrap().contains(if pinned { "choose another name" } else { "clean up old containers" }));
        assert_eq!(launch.engine.left().len(), 99, "strangers are not touched");
    }
}
