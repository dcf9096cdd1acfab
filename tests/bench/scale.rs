//! Many bottles: `cargo bench --bench scale [-- BOTTLES CYCLES]`.
//!
//! So many probe bottles started together and torn down together, with what each costs at the beginning and at the end; then
//! launches and teardowns one after the other in one holder, with what that and the engine hold on to. It fails where
//! something is left.

#![expect(clippy::unwrap_used, clippy::cast_precision_loss, reason = "a bench may panic, and counts little")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

const BOTTLES: usize = 100;
const CYCLES: usize = 500;
/// Bottles of one holder; those after which everything that is filled once is full; and those after which it is looked at again,
/// before it ends.
const EACH: usize = 50;
const WARM: usize = 10;
const LATE: usize = 45;
const BOTTLER: &str = env!("CARGO_BIN_EXE_bottler");

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let (bottles, cycles) = (numbers.first().copied().unwrap_or(BOTTLES), numbers.get(1).copied().unwrap_or(CYCLES));
    let state = tempfile::tempdir().unwrap();
    // The image is built by the first.
    assert!(bottler(state.path(), &["run", "probe"]).output().unwrap().status.success());
    let before = Host::now();
    if bottles > 0 {
        together(state.path(), bottles);
        before.is_as_it_was();
    }
    if cycles > 0 {
        one_after_the_other(state.path(), cycles);
        before.is_as_it_was();
    }
}

fn bottler(state: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(BOTTLER);
    command.args(arguments).env("XDG_STATE_HOME", state).env("XDG_CONFIG_HOME", state).stdin(Stdio::null());
    command
}

fn recipe(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path).to_string_lossy().into_owned()
}

fn together(state: &Path, bottles: usize) {
    let idle = recipe("recipes/idle.lua");
    let began = Instant::now();
    let (released, waited) = (Mutex::new(Vec::new()), Mutex::new(0));
    std::thread::scope(|scope| {
        for _ in 0..bottles {
            scope.spawn(|| {
                let done = bottler(state, &["run", "probe", "--recipe", &idle, "--detach"]).output().unwrap();
                let said = String::from_utf8_lossy(&done.stderr).into_owned();
                assert!(done.status.success(), "{said}");
                released.lock().unwrap().push(began.elapsed());
                *waited.lock().unwrap() += usize::from(said.contains("waits for its turn"));
            });
        }
    });
    let mut released = released.into_inner().unwrap();
    released.sort_unstable();
    let all = Host::now();
    // What one more costs, in the first and in the last tenth but the very first: those begin on an idle machine.
    let tenth = (bottles / 10).max(1);
    let cost =
        |from: usize| released[from + tenth - 1].saturating_sub(released[from - 1]).as_secs_f64() * 1e3 / tenth as f64;
    let (early, late) = (cost(tenth), cost(bottles - tenth));
    println!("| {bottles} bottles started together | |\n| --- | ---: |");
    println!("| all released, s | {:.1} |", released[bottles - 1].as_secs_f64());
    println!("| one more, from the {}th, ms | {early:.0} |", tenth + 1);
    println!("| one more, to the {bottles}th, ms | {late:.0} ({:+.0} %) |", (late / early - 1.0) * 100.0);
    println!("| told that they wait | {} |", waited.into_inner().unwrap());
    println!("| containers, networks | {}, {} |", all.containers, all.networks);
    println!("| neighbours, connections tracked | {}, {} |", all.neighbours, all.tracked);

    let listed = bottler(state, &["ps", "--format", "json"]).output().unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let ids: Vec<String> =
        listed.as_array().unwrap().iter().map(|row| row["bottle"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), bottles);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for id in &ids {
            scope.spawn(|| {
                let done = bottler(state, &["stop", id]).output().unwrap();
                assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            });
        }
    });
    wait_empty(&state.join("bottler/bottles"));
    println!("| all gone, s | {:.1} |\n", began.elapsed().as_secs_f64());
}

/// A bottle's directory is the last of it.
fn wait_empty(folder: &Path) {
    let began = Instant::now();
    while folder.read_dir().unwrap().next().is_some() {
        assert!(began.elapsed() < Duration::from_mins(5), "bottles are left");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// In holders that launch so many each: a recipe may have 64 bottles.
fn one_after_the_other(state: &Path, cycles: usize) {
    let began = Instant::now();
    println!(
        "| launches and teardowns | holder MiB | holder fds | dockerd MiB | dockerd fds | containerd MiB | objects |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    let mut all = Vec::new();
    for round in 0..cycles.div_ceil(EACH) {
        let seen = one_holder(state);
        for (cycle, held) in &seen {
            let Held { holder, engine, containerd, objects } = held;
            let (mib, files) = (|it: &(u64, usize)| it.0 >> 10, |it: &(u64, usize)| it.1);
            println!(
                "| {} | {} | {} | {} | {} | {} | {objects} |",
                round * EACH + cycle,
                mib(holder),
                files(holder),
                mib(engine),
                files(engine),
                mib(containerd)
            );
        }
        all.extend(seen.into_iter().map(|(_, held)| held));
    }
    let took = began.elapsed().as_secs_f64();
    println!("\n{took:.0} s, {:.0} ms for each", took * 1e3 / cycles as f64);
    // Of each holder there is an early and a late look; of the engine, the first holder's late one and the last one's.
    let (first, last) = (&all[1], &all[all.len() - 1]);
    assert!(last.holder.1 <= all[all.len() - 2].holder.1 + 2, "the holder's descriptors grow");
    // Of an executable as it is released: one with what debuggers read is many times as large, and is read at every launch.
    assert!(last.holder.0 <= all[all.len() - 2].holder.0 * 5 / 4 + (4 << 10), "the holder's memory grows");
    assert!(last.engine.1 <= first.engine.1 + 8, "the engine's descriptors grow");
    assert!(last.objects <= first.objects + 2, "the engine's objects grow");
}

/// What is held after some launches and after the last of them.
fn one_holder(state: &Path) -> Vec<(usize, Held)> {
    let (set, script) = (format!("cycles={EACH}"), recipe("bench/cycles.lua"));
    let mut child = bottler(state, &["run", "probe", "--recipe", &script, "--set", &set, "--name", "cycles"])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut seen: Vec<(usize, Held)> = Vec::new();
    let mut last = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok) {
        let cycle = line.trim().strip_prefix("cycle ").and_then(|number| number.trim().parse::<usize>().ok());
        if let Some(cycle) = cycle.filter(|cycle| [WARM, LATE].contains(cycle)) {
            seen.push((cycle, Held::now(state)));
        }
        last = line;
    }
    assert!(child.wait().unwrap().success(), "{last}");
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|(_, held)| held.holder.1 > 0), "the holder is found");
    seen
}

/// Memory in KiB and descriptors, and how many objects the engine has.
#[derive(Debug)]
struct Held {
    holder: (u64, usize),
    engine: (u64, usize),
    containerd: (u64, usize),
    objects: usize,
}

impl Held {
    fn now(state: &Path) -> Self {
        let state = state.to_string_lossy().into_owned();
        let host = Host::now();
        Self {
            holder: process(|words, environment| words.ends_with("holder") && environment.contains(&state)),
            engine: process(|words, _| words.starts_with("/usr/sbin/dockerd")),
            containerd: process(|words, _| words.contains("containerd --config")),
            objects: host.containers + host.networks,
        }
    }
}

fn process(is: impl Fn(&str, &str) -> bool) -> (u64, usize) {
    let read = |pid: &str, file: &str| {
        let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', " ").trim().to_owned()
    };
    let pids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let found = pids.filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()));
    for pid in found {
        if is(&read(&pid, "cmdline"), &read(&pid, "environ")) {
            let status = read(&pid, "status");
            let memory =
                status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().split(' ').next()?.parse().ok());
            let files = std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
            return (memory.unwrap_or_default(), files);
        }
    }
    (0, 0)
}

/// What this host and its engine have.
#[derive(Debug, PartialEq)]
struct Host {
    containers: usize,
    networks: usize,
    volumes: usize,
    devices: usize,
    neighbours: usize,
    tracked: usize,
}

impl Host {
    fn now() -> Self {
        let count = |arguments: &[&str]| {
            let output = Command::new("docker").args(arguments).output().unwrap();
            String::from_utf8_lossy(&output.stdout).lines().count()
        };
        let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            containers: count(&["ps", "-aq"]),
            networks: count(&["network", "ls", "-q"]),
            volumes: count(&["volume", "ls", "-q"]),
            devices: std::fs::read_dir("/sys/class/net").unwrap().count(),
            neighbours: file("/proc/net/arp").lines().count(),
            tracked: file("/proc/sys/net/netfilter/nf_conntrack_count").trim().parse().unwrap_or_default(),
        }
    }

    /// Neighbours and connections are forgotten by themselves, in time.
    fn is_as_it_was(&self) {
        let now = Self::now();
        assert_eq!(
            (now.containers, now.networks, now.volumes, now.devices),
            (self.containers, self.networks, self.volumes, self.devices),
            "the engine is as it was"
        );
    }
}
