//! What the native engine runs on: this host.

use rustix::thread::CapabilitySet;

use crate::engine::{EngineDetails, Product};

/// Whether containers are made by root, with the host's privileges. Root in somebody's container has not got them: it makes
/// containers as an ordinary user does.
pub(super) fn is_privileged() -> bool {
    let may = |sets: rustix::thread::CapabilitySets| sets.effective.contains(CapabilitySet::SYS_ADMIN);
    nix::unistd::geteuid().is_root() && rustix::thread::capabilities(None).is_ok_and(may)
}

/// This host, as an engine describes what it runs on.
pub(super) fn details() -> EngineDetails {
    let uname = rustix::system::uname();
    let system = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = system.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux");
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.trim().parse::<i64>().ok());
    EngineDetails {
        product: Product::Native,
        default_runtime: "kernel".into(),
        rootless: !is_privileged(),
        seccomp: true,
        storage: "overlay".into(),
        kernel: uname.release().to_string_lossy().into_owned(),
        system: name.trim_matches('"').to_owned(),
        processors: std::thread::available_parallelism().map_or(1, |count| i64::try_from(count.get()).unwrap_or(1)),
        memory: total.unwrap_or_default() << 10,
        time: humantime::format_rfc3339_nanos(std::time::SystemTime::now()).to_string(),
        ..EngineDetails::default()
    }
}
