//! What Lua costs: `cargo bench --bench lua`. Medians of interleaved rounds; a primitive is compared with its own Rust
//! function in the same run.

#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bottler::engine::fake::FakeEngine;
use bottler::lua::{Program, Script, Vm};
use bottler::plan::{AgentTemplate, LaunchPlan, resolve};
use bottler::primitive::{Bottle, Events, HostContext, Nesting, VolumeOptions, placeholder_images, volume_create};
use bottler::session::Session;

const ROUNDS: usize = 21;
const CALLS: u32 = 1000;

fn plan() -> LaunchPlan {
    resolve("bench-00000", false, "probe", &AgentTemplate::probe(), None, bottler::policy::EgressSpec::default())
}

fn bottle() -> Arc<Bottle> {
    let session = Session::new("bench-00000", "nobody", Arc::new(FakeEngine::with_any_image()));
    let host = HostContext::bare(placeholder_images());
    Arc::new(Bottle::new(session, plan(), Events::new(drop), host, Nesting::outermost(None)))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// The same calls from a script and from Rust; what the effects then do is not waited for.
async fn calls() -> (Duration, Duration) {
    let source = format!("return function()\n  for i = 1, {CALLS} do volume_create {{ name = 'v' .. i }} end\nend");
    let program = Program::of(Script { name: "bench.lua".into(), source });
    let bottle_of_lua = bottle();
    let vm = Vm::new(&bottle_of_lua, &program).unwrap();
    let began = Instant::now();
    vm.run(&bottle_of_lua.plan).await.unwrap();
    let lua = began.elapsed();
    let bottle_of_rust = bottle();
    let began = Instant::now();
    for i in 1..=CALLS {
        volume_create(&bottle_of_rust, &VolumeOptions { name: format!("v{i}") }, None).unwrap();
    }
    let rust = began.elapsed();
    bottle_of_lua.session.effects.stop(Duration::from_secs(5)).await;
    bottle_of_rust.session.effects.stop(Duration::from_secs(5)).await;
    (lua, rust)
}

fn start() -> Duration {
    let (bottle, program) = (bottle(), Program::of(bottler::lua::built_in_recipe("launch").unwrap()));
    let began = Instant::now();
    let vm = Vm::new(&bottle, &program).unwrap();
    let took = began.elapsed();
    drop(vm);
    took
}

fn check(state: &std::path::Path) -> Duration {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bottler"));
    command.args(["lua", "check", "--no-project", "launch"]).env("XDG_STATE_HOME", state);
    let began = Instant::now();
    assert!(command.output().unwrap().status.success());
    began.elapsed()
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let state = tempfile::tempdir().unwrap();
    let (mut lua, mut rust, mut starts, mut checks) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (from_lua, from_rust) = runtime.block_on(calls());
        lua.push(from_lua);
        rust.push(from_rust);
        starts.push(runtime.block_on(async { start() }));
        checks.push(check(state.path()));
    }
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let (lua, rust) = (micros(median(lua)) / f64::from(CALLS), micros(median(rust)) / f64::from(CALLS));
    println!("| what | median | goal |");
    println!("| --- | ---: | ---: |");
    println!(
        "| a primitive's call from Lua beyond its Rust function | {:.1} µs ({lua:.1} − {rust:.1}) | ≤ 20 µs |",
        lua - rust
    );
    println!("| a machine with the library, ready | {:.2} ms | ≤ 5 ms |", micros(median(starts)) / 1e3);
    println!("| `bottler lua check launch`, the whole process | {:.1} ms | ≤ 50 ms |", micros(median(checks)) / 1e3);
}
