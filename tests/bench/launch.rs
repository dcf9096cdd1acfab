//! What a launch costs beyond the engine's own work: `cargo bench --bench launch [-- ROUNDS]`.
//!
//! In one run, interleaved: (a) `bottler run probe`; (b) the same containers by the docker command, one call after
//! another; (c) the bare Engine API calls, in parallel wherever they can be, with nothing in between; (d) `bottler run probe
//! --engine native`. Times are
//! medians in milliseconds; the ratios are what counts on a noisy machine.

#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bottler::engine::docker::{DockerEngine, endpoint};
use bottler::engine::labels::{Identity, Kind};
use bottler::engine::{Attachment, ContainerSpec, Engine, NetworkSpec, Resources, VolumeMount, VolumeSpec};

const ROUNDS: usize = 7;
const BOTTLER: &str = env!("CARGO_BIN_EXE_bottler");

/// Until the agent may work, and from its end until nothing is left.
#[derive(Clone, Copy)]
struct Times {
    up: Duration,
    gone: Duration,
}

fn main() {
    // Cargo passes `--bench`; the first number is the rounds.
    let rounds = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(ROUNDS);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let engine: Arc<dyn Engine> = Arc::new(DockerEngine::connect(&endpoint::resolve().unwrap().to_string()).unwrap());
    runtime.block_on(engine.info()).unwrap();
    let state = tempfile::tempdir().unwrap();
    // The first ones make the images.
    ours(state.path(), "docker");
    ours(state.path(), "native");
    let image = image();
    let before = objects();
    let mut all: [Vec<Times>; 4] = Default::default();
    for round in 0..rounds {
        all[0].push(ours(state.path(), "docker"));
        all[1].push(by_command(&image, round));
        all[2].push(runtime.block_on(bare(engine.clone(), &image, round)));
        all[3].push(ours(state.path(), "native"));
    }
    assert_eq!(objects(), before, "the engine is as it was");
    let [a, b, c, d] = all.map(|times| median(&times));
    println!("| what | released, ms | gone, ms |\n| --- | ---: | ---: |");
    for (name, times) in [
        ("(a) bottler run probe", a),
        ("(b) docker command, one after another", b),
        ("(c) bare API, in parallel", c),
        ("(d) bottler run probe --engine native", d),
    ] {
        println!("| {name} | {} | {} |", times.up.as_millis(), times.gone.as_millis());
    }
    let ratio = |x: Duration, y: Duration| x.as_secs_f64() / y.as_secs_f64();
    println!("| a / b | {:.2} | {:.2} |", ratio(a.up, b.up), ratio(a.gone, b.gone));
    println!("| a / c | {:.2} | {:.2} |", ratio(a.up, c.up), ratio(a.gone, c.gone));
    println!("| a / d | {:.2} | {:.2} |", ratio(a.up, d.up), ratio(a.gone, d.gone));
}

fn median(times: &[Times]) -> Times {
    let middle = |mut values: Vec<Duration>| {
        values.sort_unstable();
        values[values.len() / 2]
    };
    let of = |field: fn(&Times) -> Duration| middle(times.iter().map(field).collect());
    Times { up: of(|times| times.up), gone: of(|times| times.gone) }
}

/// From the process' start to the release; from the agent's end to the process' end.
fn ours(state: &std::path::Path, engine: &str) -> Times {
    let began = Instant::now();
    let mut command = Command::new(BOTTLER);
    command.args(["run", "probe", "--format", "json", "--engine", engine]);
    let output = command.env("XDG_STATE_HOME", state).env("XDG_DATA_HOME", state).output().unwrap();
    let whole = began.elapsed();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let at = |name: &str| Duration::from_millis(json["times"][name].as_u64().unwrap());
    let after_release = at("gone").saturating_sub(at("released"));
    Times { up: whole.saturating_sub(after_release), gone: at("gone").saturating_sub(at("ended")) }
}

fn docker(arguments: &[&str]) {
    let status = Command::new("docker").args(arguments).stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "docker {arguments:?}");
}

fn lines(arguments: &[&str]) -> Vec<String> {
    let output = Command::new("docker").args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn image() -> String {
    lines(&["images", "bottler", "--format", "{{.Repository}}:{{.Tag}}"]).remove(0)
}

fn objects() -> Vec<Vec<String>> {
    vec![lines(&["ps", "-aq"]), lines(&["network", "ls", "-q"]), lines(&["volume", "ls", "-q"])]
}

const INIT: &str = r#"{"relays":{}}"#;

fn by_command(image: &str, round: usize) -> Times {
    let name = |part: &str| format!("bench-b{round}-{part}");
    let (outside, elsewhere, volume) = (name("outside"), name("elsewhere"), name("socket"));
    let (egress, counterpart, agent) = (name("egress"), name("counterpart"), name("agent"));
    let began = Instant::now();
    docker(&["network", "create", "--subnet", "10.214.0.0/28", &outside]);
    docker(&["network", "create", "--subnet", "10.214.0.16/28", &elsewhere]);
    docker(&["volume", "create", &volume]);
    let mount = format!("{volume}:/run/bottler-service");
    docker(&[
        "create",
        "-i",
        "--name",
        &egress,
        "--network",
        &outside,
        "-v",
        &mount,
        "--cap-drop",
        "ALL",
        image,
        "/bottler",
        "egress",
    ]);
    docker(&[
        "create",
        "-i",
        "--name",
        &counterpart,
        "--network",
        &outside,
        "--cap-drop",
        "ALL",
        image,
        "/bottler",
        "counterpart",
    ]);
    docker(&["network", "connect", &elsewhere, &counterpart]);
    let seen = format!("{volume}:/run/bottler-services/egress:ro");
    docker(&[
        "create",
        "--name",
        &agent,
        "--network",
        "none",
        "-v",
        &seen,
        "--tmpfs",
        "/run/bottler",
        "--cap-drop",
        "ALL",
        image,
        "/bottler",
        "init",
        INIT,
    ]);
    for container in [&egress, &counterpart, &agent] {
        docker(&["start", container]);
    }
    let up = began.elapsed();
    let ended = Instant::now();
    for container in [&agent, &counterpart, &egress] {
        docker(&["rm", "-f", container]);
    }
    for network in [&elsewhere, &outside] {
        docker(&["network", "rm", network]);
    }
    docker(&["volume", "rm", &volume]);
    Times { up, gone: ended.elapsed() }
}

async fn bare(engine: Arc<dyn Engine>, image: &str, round: usize) -> Times {
    let id = format!("bench-c{round}");
    let identity =
        |seq, kind| Identity { session: id.clone(), owner: "bench".into(), seq, kind, role: None, uses: [].into() };
    let network = |name: &str, seq, subnet: &str| NetworkSpec {
        name: format!("{id}-{name}"),
        subnet: subnet.parse().unwrap(),
        internal: None,
        identity: identity(seq, Kind::Network),
    };
    let volume = format!("{id}-socket");
    let container = |name: &str, seq, command: &[&str], networks: Vec<Attachment>, target: Option<(&str, bool)>| {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        let (user, resources) = ("1000:1000".to_owned(), Resources { cpus: 2.0, memory: 256 << 20, pids: 128 });
        let identity = identity(seq, Kind::Sidecar);
        ContainerSpec {
            hostname: name.to_owned(),
            networks,
            mounts: target
                .map(|(target, read_only)| VolumeMount { volume: volume.clone(), target: target.into(), read_only })
                .into_iter()
                .collect(),
            tmpfs: [("/run/bottler".to_owned(), "uid=1000".to_owned())].into(),
            read_only: false,
            stdin: true,
            ..ContainerSpec::closed(format!("{id}-{name}"), image.to_owned(), command, user, resources, identity)
        }
    };
    let place =
        |network: &str, address: [u8; 4]| Attachment { network: network.to_owned(), address: Ipv4Addr::from(address) };
    let began = Instant::now();
    let (outside, elsewhere) = (network("outside", 1, "10.214.1.0/28"), network("elsewhere", 2, "10.214.1.16/28"));
    let spec = VolumeSpec { name: volume.clone(), owner: None, identity: identity(3, Kind::Volume) };
    let (outside, elsewhere, ()) = tokio::try_join!(
        engine.network_create(&outside),
        engine.network_create(&elsewhere),
        engine.volume_create(&spec)
    )
    .unwrap();
    let both = vec![place(&outside, [10, 214, 1, 3]), place(&elsewhere, [10, 214, 1, 19])];
    let specs = [
        container(
            "egress",
            4,
            &["/bottler", "egress"],
            vec![place(&outside, [10, 214, 1, 2])],
            Some(("/run/bottler-service", false)),
        ),
        container("counterpart", 5, &["/bottler", "counterpart"], both, None),
        container("agent", 6, &["/bottler", "init", INIT], Vec::new(), Some(("/run/bottler-services/egress", true))),
    ];
    let made = specs.iter().map(|spec| async {
        let id = engine.container_create(spec).await?;
        engine.container_start(&id).await?;
        Ok::<_, bottler::engine::EngineError>(id)
    });
    let containers = futures_util::future::try_join_all(made).await.unwrap();
    let up = began.elapsed();
    let ended = Instant::now();
    futures_util::future::try_join_all(containers.iter().map(|id| engine.container_remove(id))).await.unwrap();
    tokio::try_join!(engine.network_remove(&outside), engine.network_remove(&elsewhere), engine.volume_remove(&volume))
        .unwrap();
    Times { up, gone: ended.elapsed() }
}
