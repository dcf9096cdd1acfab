//! Egress against its peers: `tests/bench/peers`, then `cargo bench --bench egress [-- quick]`. In one run, on one machine,
//! in a namespace of its own: the same client and the same destination, straight, through egress in its modes, through
//! Squid that takes TLS off, and through mitmproxy. Numbers are for ratios, not for themselves.

#![expect(clippy::unwrap_used, reason = "a bench may panic")]
#![allow(unreachable_pub, reason = "the files are this bench's own")]

mod alone;
mod load;
mod origin;
mod peer;

use std::process::Command;

use load::{Load, Numbers, Way};
use peer::Peer;

/// Set where the bench runs in its own namespaces.
const INSIDE: &str = "BOTTLER_BENCH_NAMESPACE";
/// A public address, which leads to this bench.
pub const ADDRESS: &str = "93.184.215.14";
/// Its name.
pub const HOST: &str = "origin.example.com";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if arguments.first().is_some_and(|word| word == "origin") {
        return origin::run(&arguments[1]);
    }
    if std::env::var_os(INSIDE).is_none() {
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "--mount", "--"]).arg(std::env::current_exe().unwrap()).args(arguments).env(INSIDE, "1");
        assert!(unshare.status().expect("unshare is installed").success());
        return;
    }
    let quick = arguments.iter().any(|word| word == "quick");
    let only = arguments.into_iter().find(|word| word != "quick");
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    std::fs::write(&hosts, format!("127.0.0.1 localhost\n{ADDRESS} {HOST}\n")).unwrap();
    let setup = format!(
        "ip link set lo up; ip addr add {ADDRESS}/32 dev lo; mount --bind {} /etc/hosts; \
         mount -t tmpfs none /dev/shm; mount -t tmpfs none /run; mkdir /run/bottler-ctl /run/bottler-pipelock",
        hosts.display()
    );
    assert!(Command::new("sh").args(["-ec", &setup]).status().unwrap().success());
    let mut permissions = std::fs::metadata(folder.path()).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    std::fs::set_permissions(folder.path(), permissions).unwrap();
    let origin = origin::start(folder.path());
    let text: &[u8] = alone::text().leak();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let rows: Vec<(&str, Numbers)> = Peer::all()
        .into_iter()
        .filter(|(name, _)| only.as_ref().is_none_or(|only| name.contains(only.as_str())))
        .map(|(name, peer)| {
            eprintln!("{name} …");
            let running = peer.start(folder.path());
            let way = running.as_ref().map_or(Way::Direct, |it| it.way.clone());
            let largest = matches!(peer, Peer::Pipelock).then_some(4);
            let load = Load { quick, text, slow: matches!(peer, Peer::Mitmproxy), largest, way };
            (name, runtime.block_on(load.measure(running.as_ref())))
        })
        .collect();
    drop(origin);
    print(&rows);
    println!("\nThe scanner alone, with all rules, on what is sent up: {:.0} MB/s.", alone::rate(text));
}

fn print(rows: &[(&str, Numbers)]) {
    println!(
        "| way | p50, ms | p99, ms | requests/s at 20 | processor, µs/request | new connections/s | up, MB/s | down, MB/s | first event, ms | idle, MiB | peak, MiB |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (name, it) in rows {
        println!(
            "| {name} | {:.3} | {:.3} | {:.0} | {:.1} | {:.0} | {:.0} | {:.0} | {:.2} | {:.0} | {:.0} |",
            it.p50, it.p99, it.rate, it.cost, it.connections, it.up, it.down, it.event, it.idle, it.peak
        );
    }
}
