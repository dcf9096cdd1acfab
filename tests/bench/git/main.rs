//! The git gate against direct pushes and a scanner as a hook: `cargo bench --bench git [-- ROUNDS] [ROWS]`, as root, where
//! ROWS are `large`, `small`, `references` or `hostile`; without one, all of them. In one run, interleaved, in a namespace of
//! its own: the same repositories over real ssh, straight and through the gate. Times are
//! medians; ratios and differences are what counts. `tests/run all` installs gitleaks; without it its line is empty.

#![expect(clippy::unwrap_used, reason = "a bench may panic")]
#![allow(dead_code, unreachable_pub, reason = "the world is the tests'")]

#[path = "../../egress/git_gate_client.rs"]
mod git_gate_client;
#[path = "../../egress/git_gate_lab.rs"]
mod git_gate_lab;
#[path = "../../egress/git_gate_packs.rs"]
mod git_gate_packs;
#[path = "../../egress/git_gate_upstream.rs"]
mod git_gate_upstream;
#[path = "../../egress/git_lfs_server.rs"]
mod git_lfs_server;
#[path = "../../support/namespace.rs"]
mod lab;
mod repositories;
#[path = "../../support/mod.rs"]
mod support;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bottler::policy::GitTerms;
use git_gate_lab::{By, Wish, World};

/// Set where the bench runs in its own namespaces.
const INSIDE: &str = "BOTTLER_BENCH_NAMESPACE";
const ROUNDS: usize = 5;
/// The branch that is pushed.
const BRANCH: &str = "HEAD:refs/heads/agent/x";

/// A line of the table: what was measured, and the goal.
struct Line {
    what: &'static str,
    direct: Option<Duration>,
    gate: Duration,
    goal: String,
    met: bool,
}

/// Rows by their name, and what measures them in so many rounds.
type Group = (&'static str, fn(usize) -> Vec<Line>);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if std::env::var_os(INSIDE).is_none() {
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "--mount", "--"]).arg(std::env::current_exe().unwrap()).args(arguments).env(INSIDE, "1");
        assert!(unshare.status().expect("unshare is installed").success());
        return;
    }
    let rounds = arguments.iter().find_map(|word| word.parse().ok()).unwrap_or(ROUNDS);
    let only = arguments.iter().find(|word| word.parse::<usize>().is_err());
    let groups: [Group; 4] =
        [("large", large), ("small", small), ("references", many_references), ("hostile", hostile)];
    let known = only.is_none_or(|only| groups.iter().any(|(name, _)| name == only));
    assert!(known, "there are no rows {only:?}");
    let chosen = groups.into_iter().filter(|(name, _)| only.is_none_or(|only| only == name));
    let lines: Vec<Line> = chosen.flat_map(|(_, measure)| measure(rounds)).collect();
    println!("| what | direct, ms | through the gate, ms | goal | met |");
    println!("| --- | ---: | ---: | --- | --- |");
    for line in lines {
        let ms = |time: Duration| format!("{:.0}", time.as_secs_f64() * 1000.0);
        let (direct, met) = (line.direct.map(ms).unwrap_or_default(), if line.met { "yes" } else { "no" });
        println!("| {} | {direct} | {} | {} | {met} |", line.what, ms(line.gate), line.goal);
    }
}

/// Terms under which everything of the bench may be pushed.
fn wish() -> Wish {
    Wish { by: By::Ssh, terms: GitTerms::default(), ..Wish::default() }
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Makes the upstream as it was.
fn reset(world: &World) {
    let (kept, upstream) = (world.path("kept.git"), world.path("upstream.git"));
    if upstream.exists() && kept.exists() {
        std::fs::remove_dir_all(&upstream).unwrap();
    }
    let (from, to) = if kept.exists() { (&kept, &upstream) } else { (&upstream, &kept) };
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// The time of a push, straight and through the gate, of the same commits.
fn pushes(world: &World, clone: &Path, rounds: usize) -> (Duration, Duration) {
    let (url, ssh) = world.direct();
    let (mut direct, mut gate) = (Vec::new(), Vec::new());
    reset(world);
    // The mirror is there, as in any bottle that has cloned.
    world.git(clone, &["fetch", "-q", &world.url(), "main"]).expect(true, &[]);
    for _ in 0..rounds {
        reset(world);
        direct.push(timed(|| world.git(clone, &["-c", &ssh, "push", "-q", &url, BRANCH]).expect(true, &[])));
        reset(world);
        gate.push(timed(|| world.git(clone, &["push", "-q", &world.url(), BRANCH]).expect(true, &[])));
    }
    reset(world);
    (median(direct), median(gate))
}

/// A thousand commits: beside them, what the same costs with gitleaks as a hook of the client's.
fn large(rounds: usize) -> Vec<Line> {
    let world = World::new(wish());
    let clone = world.clone_to("clone");
    repositories::commits(&world, &clone, 1000, 24 << 10);
    let (direct, gate) = pushes(&world, &clone, rounds);
    let added = gate.saturating_sub(direct);
    let ratio = added.as_secs_f64() / direct.as_secs_f64();
    let mut lines = vec![Line {
        what: "push 1,000 commits, 24 MB",
        direct: Some(direct),
        gate,
        goal: format!("adds at most 2 × direct: {ratio:.2} ×"),
        met: ratio <= 2.0,
    }];
    let gitleaks = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/gitleaks/bin/gitleaks");
    if gitleaks.exists() {
        let hook = format!(
            "#!/bin/sh\nexec '{}' git --no-banner --log-opts origin/main..HEAD . >/dev/null\n",
            gitleaks.display()
        );
        repositories::hook(&clone, "pre-push", &hook);
        let (url, ssh) = world.direct();
        let hooked = median(
            (0..rounds)
                .map(|_| {
                    reset(&world);
                    timed(|| world.git(&clone, &["-c", &ssh, "push", "-q", &url, BRANCH]).expect(true, &[]))
                })
                .collect(),
        );
        let ratio = added.as_secs_f64() / hooked.saturating_sub(direct).as_secs_f64();
        lines.push(Line {
            what: "the same, beside a direct push with a hook that runs gitleaks",
            direct: Some(hooked),
            gate,
            goal: format!("adds at most 0.2 × of what the hook adds: {ratio:.2} ×"),
            met: ratio <= 0.2,
        });
    }
    lines
}

/// One commit on five thousand, and clones of them.
fn small(rounds: usize) -> Vec<Line> {
    let world = World::new(wish());
    let seed = world.path("seed");
    repositories::commits(&world, &seed, 5000, 2 << 10);
    let upstream = world.path("upstream.git").display().to_string();
    world.git(&seed, &["push", "-q", &upstream, "HEAD:main"]).expect(true, &[]);
    let clone = world.clone_to("clone");
    world.write("clone/one", "one\n");
    world.commit("clone", "one more");
    let rounds = rounds.max(9);
    let (direct, gate) = pushes(&world, &clone, rounds);
    let (url, ssh) = world.direct();
    // The gate asks the upstream as often as a direct push does.
    let added = gate.saturating_sub(direct);
    let mut lines = vec![Line {
        what: "push one commit on 5,000",
        direct: Some(direct),
        gate,
        goal: format!("adds at most 50 ms: {} ms", added.as_millis()),
        met: added <= Duration::from_millis(50),
    }];
    let at = |number: usize, from: &str| world.path(&format!("{from}-{number}")).display().to_string();
    let (mut times, home) = ((Vec::new(), Vec::new()), world.folder.path());
    for number in 0..rounds {
        let to = at(number, "direct");
        times.0.push(timed(|| world.git(home, &["-c", &ssh, "clone", "-q", &url, &to]).expect(true, &[])));
        let to = at(number, "gate");
        times.1.push(timed(|| world.git(home, &["clone", "-q", &world.url(), &to]).expect(true, &[])));
    }
    let (direct, gate) = (median(times.0), median(times.1));
    let ratio = gate.as_secs_f64() / direct.as_secs_f64();
    lines.push(Line {
        what: "clone 5,000 commits, again",
        direct: Some(direct),
        gate,
        goal: format!("at most 1.15 × direct: {ratio:.2} ×"),
        met: ratio <= 1.15,
    });
    lines
}

fn many_references(rounds: usize) -> Vec<Line> {
    let world = World::new(wish());
    repositories::references(&world, 100_000);
    let clone = world.clone_to("clone");
    world.write("clone/one", "one\n");
    world.commit("clone", "one more");
    let (direct, gate) = pushes(&world, &clone, rounds);
    let added = gate.saturating_sub(direct);
    vec![Line {
        what: "push one commit to an upstream with 100,000 references",
        direct: Some(direct),
        gate,
        goal: format!("adds at most 400 ms: {} ms", added.as_millis()),
        met: added <= Duration::from_millis(400),
    }]
}

/// What is refused, and how soon; and how long a client hears nothing.
fn hostile(_: usize) -> Vec<Line> {
    let world = World::new(wish());
    let clone = world.clone_to("clone");
    let head = world.id(&clone, "HEAD");
    let create = format!("{} {head} refs/heads/agent/x", "0".repeat(40));
    let bomb = git_gate_packs::bomb();
    let (response, time, _) = world.post_timed(&[create], &bomb);
    assert!(response.contains("too much memory"), "{response}");
    let mut lines = vec![Line {
        what: "a pack of about 1,100 bytes that becomes 1 GiB is refused",
        direct: None,
        gate: time,
        goal: "at most 500 ms".to_owned(),
        met: time <= Duration::from_millis(500),
    }];
    let huge = repositories::huge(&world, &clone);
    let pack =
        world.git_with(&clone, &["pack-objects", "--stdout", "-q", "--revs"], format!("{huge}\n^{head}\n").as_bytes());
    let create = format!("{} {huge} refs/heads/agent/x", "0".repeat(40));
    let (response, time, silence) = world.post_timed(&[create], &pack);
    assert!(response.contains("a file may have at most"), "{response}");
    lines.push(Line {
        what: "a file of 1 GiB is refused",
        direct: None,
        gate: time,
        goal: "at most 10,000 ms".to_owned(),
        met: time <= Duration::from_secs(10),
    });
    lines.push(Line {
        what: "the longest silence meanwhile",
        direct: None,
        gate: silence,
        goal: "at most 5,000 ms".to_owned(),
        met: silence <= Duration::from_secs(5),
    });
    lines
}
