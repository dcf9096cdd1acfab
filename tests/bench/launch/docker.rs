//! Containers of Docker without bottler: by its command, by its API, and one alone.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bottler::engine::labels::{Identity, Kind};
use bottler::engine::{Attachment, ContainerSpec, Engine, ExecSpec, NetworkSpec, Resources, VolumeMount, VolumeSpec};
use futures_util::StreamExt;

use crate::{Times, until_it_speaks};

pub fn docker(arguments: &[&str]) {
    let status = Command::new("docker").args(arguments).stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "docker {arguments:?}");
}

fn lines(arguments: &[&str]) -> Vec<String> {
    let output = Command::new("docker").args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

pub fn image() -> String {
    lines(&["images", "bottler", "--format", "{{.Repository}}:{{.Tag}}"]).remove(0)
}

/// What this bench has on the engine, by name: others may use it, too.
pub fn objects() -> Vec<String> {
    let all = [
        lines(&["ps", "-a", "--format", "{{.Names}}"]),
        lines(&["network", "ls", "--format", "{{.Name}}"]),
        lines(&["volume", "ls", "--format", "{{.Name}}"]),
    ];
    all.concat().into_iter().filter(|name| name.starts_with("bench-")).collect()
}

const INIT: &str = r#"{"relays":{}}"#;

pub fn by_command(image: &str, round: usize) -> Times {
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

pub async fn bare(engine: Arc<dyn Engine>, image: &str, round: usize) -> Times {
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
    let spec =
        VolumeSpec { name: volume.clone(), owner: None, may_be_kept: false, identity: identity(3, Kind::Volume) };
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

/// One container by `docker run`, without any sidecar.
pub fn run(image: &str) -> Times {
    let mut command = Command::new("docker");
    command.args(["run", "--rm", "--network", "none", "--cap-drop", "ALL", image, "/bottler", "--version"]);
    until_it_speaks(&mut command)
}

/// `docker exec`, the whole command.
pub fn exec(container: &str) -> Duration {
    let began = Instant::now();
    docker(&["exec", container, "/bottler", "--version"]);
    began.elapsed()
}

/// A command beside a container's own by an engine's call, to its exit code.
pub async fn exec_by_call(engine: &dyn Engine, container: &str) -> Duration {
    let began = Instant::now();
    let spec = ExecSpec::plain(["/bottler", "--version"].map(str::to_owned).into());
    let (exec, mut streams) = engine.exec(container, &spec).await.unwrap();
    while streams.output.next().await.is_some() {}
    assert_eq!(engine.exec_exit_code(&exec).await.unwrap(), 0);
    began.elapsed()
}
