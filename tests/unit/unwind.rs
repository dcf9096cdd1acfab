//! Every step of the launch fails, hangs or is cancelled, on the fake engine: nothing is left.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::support::fake::{ID, Launch, OWNER, built_in, plan, recipe, run};
use bottler::engine::Engine;
use bottler::engine::fake::{FakeEngine, Fault};
use bottler::holder::LaunchOutcome;
use bottler::session::{Class, unwind};

/// The calls of a successful launch, each with its number among calls of its kind.
async fn calls() -> Vec<(String, usize)> {
    let launch = Launch::new();
    let outcome = launch.run(&built_in("probe"), plan()).await;
    assert_eq!((outcome.exit_code, outcome.failure), (Some(0), None));
    assert_eq!(launch.engine.left(), Vec::<String>::new());
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    launch
        .engine
        .calls()
        .into_iter()
        .map(|call| {
            let count = counts.entry(call.clone()).or_default();
            *count += 1;
            (call, *count)
        })
        .collect()
}

/// Runs the default launch with one faulty call; hangs and passes are followed by a cancellation.
async fn struck(call: &str, nth: usize, fault: Fault, times: u8) -> (FakeEngine, LaunchOutcome) {
    let launch = Launch::new();
    launch.engine.strike(call, nth, fault);
    let (script, engine) = (built_in("probe"), launch.engine.clone());
    let cancels = !matches!(fault, Fault::FailsBefore | Fault::FailsAfter);
    let cancel = async {
        while cancels && !engine.has_struck() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for _ in 0..if cancels { times } else { 0 } {
            launch.cancel.raise();
        }
        std::future::pending::<()>().await;
    };
    let outcome = tokio::select! {
        outcome = launch.run(&script, plan()) => outcome,
        () = cancel => unreachable!("it never ends"),
    };
    (engine, outcome)
}

async fn assert_clean(engine: &FakeEngine, context: &str) {
    assert!(engine.has_struck(), "{context}: the step was not reached");
    assert_eq!(engine.left(), Vec::<String>::new(), "{context}");
    let removals = engine.removals();
    let again: Arc<dyn Engine> = Arc::new(engine.clone());
    assert_eq!(
        unwind(&again, ID, OWNER, Duration::ZERO, BTreeMap::new(), &[]).await,
        [],
        "{context}: a second undo does nothing"
    );
    assert_eq!(engine.removals(), removals, "{context}");
}

/// Agent, then sidecars, then networks and volumes.
fn assert_order(engine: &FakeEngine, context: &str) {
    let rank = |removal: &str| match removal {
        "container probe-t3st5" => 0,
        other if other.starts_with("container ") => 1,
        _ => 2,
    };
    let ranks: Vec<u8> = engine.removals().iter().map(|removal| rank(removal)).collect();
    assert!(ranks.is_sorted(), "{context}: {:?}", engine.removals());
}

fn removes(call: &str) -> bool {
    call.ends_with("_remove") || call == "list"
}

#[tokio::test(start_paused = true)]
async fn promise_11_every_failing_step_leaves_a_clean_world_and_its_own_error() {
    let calls = calls().await;
    assert!(calls.len() > 20, "the launch makes its calls: {calls:?}");
    for (call, nth) in &calls {
        for fault in [Fault::FailsBefore, Fault::FailsAfter] {
            let context = format!("{call} {nth} {fault:?}");
            let (engine, outcome) = struck(call, *nth, fault, 0).await;
            assert_clean(&engine, &context).await;
            if !removes(call) {
                assert_order(&engine, &context);
                let failure = outcome.failure.expect(&context);
                assert!(
                    failure.message.contains("made to fail"),
                    "{context}: the launch error is not masked: {failure:?}"
                );
                let place = failure.at.expect(&context);
                assert!(place.script.starts_with("scripts/") && !place.text.is_empty(), "{context}: {place}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn promise_13_every_hanging_step_is_left_behind_and_the_world_is_clean() {
    for (call, nth) in calls().await {
        for fault in [Fault::HangsBefore, Fault::HangsAfter] {
            let context = format!("{call} {nth} {fault:?}");
            let (engine, outcome) = struck(&call, nth, fault, 1).await;
            assert_clean(&engine, &context).await;
            if !removes(&call) {
                assert_eq!(outcome.failure.expect(&context).class, Class::Cancelled, "{context}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn promise_11_cancelled_at_every_step_once_and_twice() {
    for (call, nth) in calls().await {
        for times in [1, 2] {
            let context = format!("{call} {nth}, cancelled {times} times");
            let (engine, _) = struck(&call, nth, Fault::Passes, times).await;
            assert_clean(&engine, &context).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_clean_launch_undoes_by_level() {
    let launch = Launch::new();
    launch.run(&built_in("launch"), plan()).await;
    assert_eq!(
        launch.engine.removals(),
        [
            "container probe-t3st5",
            "container probe-t3st5-egress",
            "volume probe-t3st5-egress-socket",
            "network probe-t3st5-outside"
        ]
        .map(str::to_owned)
    );
}

#[tokio::test(start_paused = true)]
async fn promise_11_what_is_used_goes_after_all_that_use_it() {
    let launch = Launch::new();
    launch.run(&recipe(include_str!("../recipes/stubs.lua")), plan()).await;
    let removals = launch.engine.removals();
    let place = |name: &str| {
        let name = format!("container probe-t3st5{name}");
        removals.iter().position(|removed| *removed == name).unwrap_or_else(|| panic!("{name}: {removals:?}"))
    };
    for name in ["-one", "-two", "-three"] {
        assert!(place("") < place(name) && place(name) < place("-egress"), "{removals:?}");
        let volume = format!("volume probe-t3st5-egress{name}-pair");
        assert!(removals[place("-egress")..].contains(&volume), "{removals:?}");
    }
    // They may finish their connections; egress has none any more.
    assert_eq!(launch.engine.graces(), [Duration::from_secs(3); 3]);
    assert_eq!(launch.engine.left(), Vec::<String>::new());
}

/// An engine that does not stop one in time does not keep it from being removed.
#[tokio::test(start_paused = true)]
async fn a_sidecar_that_goes_out_has_so_long_to_finish() {
    let launch = Launch::new();
    launch.engine.strike("container_stop", 1, Fault::HangsBefore);
    launch.run(&recipe(include_str!("../recipes/stubs.lua")), plan()).await;
    assert!(launch.engine.has_struck());
    assert_eq!(launch.engine.graces(), [Duration::from_secs(3); 2]);
    assert_eq!(launch.engine.left(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn defers_run_in_their_places_and_their_errors_mask_nothing() {
    let (launch, outcome) = run(r#"
        return function(plan)
          network_create({ name = "first" }):ready()
          defer(function() log("second") end)
          network_create({ name = "third" }):ready()
          defer(function() error("in the defer") end)
          fail("on purpose", { hint = "none" })
        end"#)
    .await;
    let failure = outcome.failure.unwrap();
    assert_eq!((failure.message.as_str(), failure.hint.as_deref()), ("on purpose", Some("none")));
    assert_eq!(failure.at.unwrap().line, 7);
    assert_eq!(*launch.logs.lock().unwrap(), ["second"]);
    let removals = ["network probe-t3st5-third", "network probe-t3st5-first"].map(str::to_owned);
    assert_eq!(launch.engine.removals(), removals);
    let failed: Vec<_> =
        outcome.undo.iter().filter(|row| format!("{:?}", row.outcome).contains("in the defer")).collect();
    assert_eq!(failed.len(), 1, "{:?}", outcome.undo);
}
