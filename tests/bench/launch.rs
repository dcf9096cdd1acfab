//! What a launch costs beyond the kernel's and an engine's own work: `cargo bench --bench launch [-- ROUNDS] [native]`, as root;
//! with `native`, without Docker.
//!
//! In one run, interleaved: bottler on Docker, and on the native engine as root and as an ordinary user; the same containers by
//! the docker command, one call after another, and by bare calls of the API, in parallel; one container alone by `docker run` and
//! by bubblewrap. Times are medians in milliseconds; the ratios are what counts on a noisy machine.

#![expect(clippy::unwrap_used, reason = "a bench may panic")]
#![allow(dead_code, unreachable_pub, reason = "the world is the tests'")]

#[path = "launch/docker.rs"]
mod docker;
#[path = "launch/native.rs"]
mod native;
#[path = "../support/native.rs"]
mod world;

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bottler::engine::Engine;
use bottler::engine::docker::{DockerEngine, endpoint};
use bottler::engine::native::NativeEngine;

use native::Room;
use world::Who;

const ROUNDS: usize = 7;
/// Bottles that are started together.
const MANY: usize = 50;
const BOTTLER: &str = env!("CARGO_BIN_EXE_bottler");

/// Until the agent may work, and from its end until nothing is left.
#[derive(Clone, Copy)]
pub struct Times {
    /// From the start.
    pub up: Duration,
    /// From the end.
    pub gone: Duration,
}

/// A line of the table.
struct Row {
    name: &'static str,
    times: Vec<Times>,
    exec: Vec<Duration>,
    /// All started, and all removed.
    many: Option<Times>,
}

impl Row {
    fn new(name: &'static str) -> Self {
        Self { name, times: Vec::new(), exec: Vec::new(), many: None }
    }

    fn up(&self) -> Option<Duration> {
        median(self.times.iter().map(|times| times.up))
    }

    fn print(&self) {
        let gone = median(self.times.iter().map(|times| times.gone));
        let exec = median(self.exec.iter().copied());
        let many = self.many.map(|times| format!("{:.1} | {:.1}", times.up.as_secs_f64(), times.gone.as_secs_f64()));
        let many = many.unwrap_or_else(|| " | ".to_owned());
        println!("| {} | {} | {} | {} | {many} |", self.name, shown(self.up()), shown(gone), shown(exec));
    }
}

fn shown(time: Option<Duration>) -> String {
    time.map_or_else(String::new, |time| {
        let ms = time.as_secs_f64() * 1e3;
        if ms < 10.0 { format!("{ms:.1}") } else { format!("{ms:.0}") }
    })
}

fn median(values: impl Iterator<Item = Duration>) -> Option<Duration> {
    let mut values: Vec<Duration> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

fn main() {
    // Cargo passes `--bench`; the first number is the rounds.
    let rounds = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(ROUNDS);
    let on_docker = if std::env::args().any(|word| word == "native") { Vec::new() } else { docker_rows(rounds) };
    let on_native: Vec<(Row, Row, Vec<native::Memory>)> =
        [Who::Root, Who::User].into_iter().map(|who| native_rows(who, rounds)).collect();
    println!("| what | released, ms | gone, ms | exec, ms | {MANY} released, s | {MANY} gone, s |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    on_docker.iter().for_each(Row::print);
    for (ours, bubblewrap, _) in &on_native {
        ours.print();
        bubblewrap.print();
    }
    if let [a, b, c, _] = on_docker.as_slice() {
        let ratio = |of: &Row, to: &Row| of.up().unwrap().as_secs_f64() / to.up().unwrap().as_secs_f64();
        println!("\nreleased on Docker, times (b): {:.2}, times (c): {:.2}", ratio(a, b), ratio(a, c));
    }
    for (ours, _, memory) in &on_native {
        println!("\n| {}: process | PSS, MiB | of it not of files |\n| --- | ---: | ---: |", ours.name);
        let mib = |kib: u64| f64::from(u32::try_from(kib).unwrap()) / 1024.0;
        for native::Memory { what, all, anonymous } in memory {
            println!("| {what} | {:.1} | {:.1} |", mib(*all), mib(*anonymous));
        }
        let sum = |field: fn(&native::Memory) -> u64| mib(memory.iter().map(field).sum());
        println!("| all | {:.1} | {:.1} |", sum(|it| it.all), sum(|it| it.anonymous));
    }
}

/// With Docker.
fn docker_rows(rounds: usize) -> Vec<Row> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let engine: Arc<dyn Engine> = Arc::new(DockerEngine::connect(&endpoint::resolve().unwrap().to_string()).unwrap());
    runtime.block_on(engine.info()).unwrap();
    let state = tempfile::tempdir().unwrap();
    let bottler = |arguments: &[&str]| {
        let mut command = Command::new(BOTTLER);
        command.args(arguments).env("BOTTLER_ENGINE", "docker").env("XDG_STATE_HOME", state.path());
        command.env("XDG_CONFIG_HOME", state.path());
        command
    };
    // The first one makes the image.
    ours(&bottler);
    let image = docker::image();
    let names = [
        "(a) `bottler run probe` on Docker",
        "(b) the same containers by the docker command, one call after another",
        "(c) the same by calls of the API, in parallel, with nothing in between",
        "`docker run`, one container",
    ];
    let mut rows: Vec<Row> = names.into_iter().map(Row::new).collect();
    for round in 0..rounds {
        rows[0].times.push(ours(&bottler));
        rows[1].times.push(docker::by_command(&image, round));
        rows[2].times.push(runtime.block_on(docker::bare(engine.clone(), &image, round)));
        rows[3].times.push(docker::run(&image));
    }
    rows[3].many = Some(together(MANY, || {
        docker::run(&image);
    }));
    let bottle = idle(&bottler);
    for _ in 0..rounds {
        rows[0].exec.push(exec(&bottler, &bottle));
        rows[2].exec.push(runtime.block_on(docker::exec_by_call(engine.as_ref(), &bottle)));
        rows[3].exec.push(docker::exec(&bottle));
    }
    stop(&bottler, &bottle);
    rows[0].many = Some(many(&bottler));
    assert_eq!(docker::objects(), Vec::<String>::new(), "something is left on the engine");
    rows
}

/// Without a daemon: bottler's row, bubblewrap's row, and the memory of a bottle.
fn native_rows(who: Who, rounds: usize) -> (Row, Row, Vec<native::Memory>) {
    let room = Room::enter(who);
    let bottler = |arguments: &[&str]| room.bottler(arguments);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (mut own, mut other) = match who {
        Who::Root => (Row::new("(d) `bottler run probe` without a daemon, as root"), Row::new("bubblewrap, as root")),
        _ => (
            Row::new("(e) `bottler run probe` without a daemon, as an ordinary user"),
            Row::new("bubblewrap, as an ordinary user"),
        ),
    };
    ours(&bottler);
    for _ in 0..rounds {
        own.times.push(ours(&bottler));
        other.times.push(bubblewrap(&room));
    }
    other.many = Some(together(MANY, || {
        bubblewrap(&room);
    }));
    let bottle = idle(&bottler);
    let memory = native::memory(&room);
    for _ in 0..rounds {
        own.exec.push(exec(&bottler, &bottle));
    }
    // This process is root's, and opens no store of another user's.
    if who == Who::Root {
        let store = room.world.store();
        let engine = NativeEngine::open(&format!("native:{}", store.display())).unwrap();
        let call = || runtime.block_on(docker::exec_by_call(&engine, &bottle));
        let calls = (0..rounds).map(|_| call()).collect::<Vec<_>>().into_iter();
        println!("{}: exec by the engine's call alone: {} ms", own.name, shown(median(calls)));
    }
    stop(&bottler, &bottle);
    own.many = Some(many(&bottler));
    room.world.wait_clean();
    (own, other, memory)
}

/// From the process' start to the release; from the agent's end to the process' end.
fn ours(bottler: &dyn Fn(&[&str]) -> Command) -> Times {
    let began = Instant::now();
    let output = bottler(&["run", "probe", "--format", "json"]).stdin(Stdio::null()).output().unwrap();
    let whole = began.elapsed();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let at = |name: &str| Duration::from_millis(json["times"][name].as_u64().unwrap());
    let after_release = at("gone").saturating_sub(at("released"));
    Times { up: whole.saturating_sub(after_release), gone: at("gone").saturating_sub(at("ended")) }
}

/// A bottle whose agent idles; its name.
fn idle(bottler: &dyn Fn(&[&str]) -> Command) -> String {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recipes/idle.lua");
    // Another user may not read where this checkout is.
    let copy = tempfile::NamedTempFile::with_suffix(".lua").unwrap();
    std::fs::write(copy.path(), std::fs::read(recipe).unwrap()).unwrap();
    std::fs::set_permissions(copy.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let words = ["run", "probe", "--recipe", copy.path().to_str().unwrap(), "--detach", "--yes"];
    let done = bottler(&words).stdin(Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

fn stop(bottler: &dyn Fn(&[&str]) -> Command, bottle: &str) {
    let done = bottler(&["stop", bottle]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// `bottler exec`, the whole command.
fn exec(bottler: &dyn Fn(&[&str]) -> Command, bottle: &str) -> Duration {
    let began = Instant::now();
    let done = bottler(&["exec", bottle, "--", "/bottler", "--version"]).stdin(Stdio::null()).output().unwrap();
    let took = began.elapsed();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    took
}

/// So many bottles started together, and removed together.
fn many(program: &(dyn Fn(&[&str]) -> Command + Sync)) -> Times {
    let started = std::sync::Mutex::new(Vec::new());
    let Times { up, .. } = together(MANY, || {
        let bottle = idle(&|words| program(words));
        started.lock().unwrap().push(bottle);
    });
    let started = started.into_inner().unwrap();
    let ended = Instant::now();
    std::thread::scope(|scope| {
        for bottle in &started {
            scope.spawn(|| stop(&|words| program(words), bottle));
        }
    });
    Times { up, gone: ended.elapsed() }
}

/// Something done so often at once, until all is done.
fn together(count: usize, one: impl Fn() + Sync) -> Times {
    let began = Instant::now();
    std::thread::scope(|scope| {
        (0..count).for_each(|_| {
            scope.spawn(&one);
        });
    });
    Times { up: began.elapsed(), gone: Duration::ZERO }
}

/// A command: from its start to the first thing that it says, and from there to its end.
pub fn until_it_speaks(command: &mut Command) -> Times {
    let began = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    assert_eq!(output.read(&mut [0]).unwrap(), 1, "{command:?}");
    let up = began.elapsed();
    output.read_to_end(&mut Vec::new()).unwrap();
    assert!(child.wait().unwrap().success(), "{command:?}");
    Times { up, gone: began.elapsed().saturating_sub(up) }
}

/// One sandbox of bubblewrap's: without an overlay, a filter, bounds, or a sidecar.
fn bubblewrap(room: &Room) -> Times {
    let bottler = room.world.folder().join("bottler");
    let mut words = vec!["--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"];
    words.extend(["--ro-bind", bottler.to_str().unwrap(), "/bottler", "--proc", "/proc", "--dev", "/dev"]);
    words.extend(["--tmpfs", "/tmp", "/bottler", "--version"]);
    until_it_speaks(&mut room.program("bwrap", &words))
}
