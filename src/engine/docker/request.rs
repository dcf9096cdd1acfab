//! Request bodies: pure functions from what the core asks to what the Engine API takes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;

use bollard::ClientVersion;
use bollard::models as api;
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::engine::labels::{Identity, Kind};
use crate::engine::{
    Attachment, Bind, ContainerSpec, HostNetwork, ImageBuild, ImageCommit, ImageLayer, NetworkSpec, Product, SECCOMP,
    VolumeMount,
};

/// Keys by which the engine itself would let go of a terminal, in its own notation. It cannot be told to have none, and its
/// default takes ctrl-p ctrl-q away from the program: these are ones that nobody types. The user's are looked for by bottler.
pub(super) const NO_DETACH_KEYS: &str = "ctrl-^,ctrl-_,ctrl-^,ctrl-_,ctrl-^,ctrl-_";

/// Bytes of a container's log that the engine keeps: three files of this size.
const LOG_FILE_SIZE: &str = "5m";
const LOG_FILES: &str = "3";

/// Descriptors that a process may have under Podman, and processes that a user may have.
const DESCRIPTORS: i64 = 16_384;

/// The first API whose bridges have a mode without any address of the host's (Docker 28.0).
const ISOLATED: ClientVersion = ClientVersion { major_version: 1, minor_version: 48 };

/// An internal network's bridge has no address of the host's. Older engines know only how not to set one.
fn bridge(name: &str, version: ClientVersion) -> HashMap<String, String> {
    let mut options =
        pairs(&[("com.docker.network.bridge.name", name), ("com.docker.network.bridge.inhibit_ipv4", "true")]);
    if version >= ISOLATED {
        options.insert("com.docker.network.bridge.gateway_mode_ipv4".into(), "isolated".into());
    }
    options
}

pub(super) fn network(spec: &NetworkSpec, version: ClientVersion) -> api::NetworkCreateRequest {
    let range = api::IpamConfig { subnet: Some(spec.subnet.to_string()), ..Default::default() };
    api::NetworkCreateRequest {
        name: spec.name.clone(),
        driver: Some("bridge".into()),
        internal: Some(spec.internal.is_some()),
        options: spec.internal.as_deref().map(|name| bridge(name, version)),
        attachable: Some(false),
        enable_ipv6: Some(false),
        ipam: Some(api::Ipam { config: Some(vec![range]), ..Default::default() }),
        labels: Some(map(&spec.identity.to_labels())),
        ..Default::default()
    }
}

/// A build that adds one layer: a Dockerfile, and all files in one archive that keeps their owners.
pub(super) fn layer(layer: &ImageLayer) -> std::io::Result<ImageBuild> {
    let dockerfile = format!("FROM {}\nADD layer.tar /\n", layer.base.as_deref().unwrap_or("scratch"));
    let mut context = tar::Builder::new(Vec::with_capacity(layer.tar.len() + (8 << 10)));
    for (name, content) in [("Dockerfile", dockerfile.as_bytes()), ("layer.tar", &layer.tar)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        context.append_data(&mut header, name, content)?;
    }
    Ok(ImageBuild {
        tag: layer.tag.clone(),
        context: context.into_inner()?.into(),
        dockerfile: "Dockerfile".to_owned(),
        args: BTreeMap::new(),
        target: None,
        network: false,
        no_cache: false,
        labels: layer.labels.clone(),
    })
}

/// The profile as Docker takes it, which is the text itself; or, for Podman, the path of a file: one in this process' memory,
/// which an engine of this very host can open.
fn seccomp(product: Product) -> String {
    static FILE: OnceLock<Option<OwnedFd>> = OnceLock::new();
    if product == Product::Docker {
        return format!("seccomp={SECCOMP}");
    }
    let file = FILE.get_or_init(|| {
        let file = memfd_create("seccomp", MFdFlags::MFD_CLOEXEC).ok()?;
        std::fs::File::from(file.try_clone().ok()?).write_all(SECCOMP.as_bytes()).ok()?;
        Some(file)
    });
    // A path that is not there is refused, as it should be.
    let descriptor = file.as_ref().map_or(-1, AsRawFd::as_raw_fd);
    format!("seccomp=/proc/{}/fd/{descriptor}", std::process::id())
}

pub(super) fn container(spec: &ContainerSpec, product: Product) -> api::ContainerCreateBody {
    let networking = spec.networks.iter().take(1).map(|place| (place.network.clone(), endpoint(place)));
    api::ContainerCreateBody {
        // In the network of another, names are that one's: the engine refuses further ones.
        hostname: spec.beside.is_none().then(|| spec.hostname.clone()),
        user: Some(spec.user.clone()),
        attach_stdin: Some(spec.stdin),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(spec.tty),
        open_stdin: Some(spec.stdin),
        // Whoever leaves a terminal does not end it.
        stdin_once: Some(spec.stdin && !spec.tty),
        env: Some(spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        entrypoint: Some(spec.command.clone()),
        // An empty list keeps the image's own arguments off our entry point.
        cmd: Some(Vec::new()),
        healthcheck: Some(api::HealthConfig { test: Some(vec!["NONE".into()]), ..Default::default() }),
        image: Some(spec.image.clone()),
        working_dir: Some(spec.workdir.clone()),
        stop_signal: Some("SIGTERM".into()),
        labels: Some(map(&spec.identity.to_labels())),
        host_config: Some(host_config(spec, product)),
        networking_config: Some(api::NetworkingConfig { endpoints_config: Some(networking.collect()) }),
        ..Default::default()
    }
}

pub(super) fn connection(container: &str, place: &Attachment) -> api::NetworkConnectRequest {
    api::NetworkConnectRequest { container: container.to_owned(), endpoint_config: Some(endpoint(place)) }
}

fn endpoint(place: &Attachment) -> api::EndpointSettings {
    let address = api::EndpointIpamConfig { ipv4_address: Some(place.address.to_string()), ..Default::default() };
    api::EndpointSettings { ipam_config: Some(address), ..Default::default() }
}

#[expect(clippy::cast_possible_truncation, reason = "a count of processors times 1e9 fits 64 bits")]
fn host_config(spec: &ContainerSpec, product: Product) -> api::HostConfig {
    let limits = spec.resources;
    let sysctls = [
        ("net.ipv4.ip_forward", "0"),
        // An address is answered for on its own network only.
        ("net.ipv4.conf.all.arp_ignore", "1"),
        ("net.ipv6.conf.all.disable_ipv6", "1"),
        ("net.ipv6.conf.default.disable_ipv6", "1"),
    ];
    api::HostConfig {
        memory: Some(limits.memory),
        memory_swap: Some(limits.memory),
        nano_cpus: Some((limits.cpus * 1e9) as i64),
        pids_limit: Some(limits.pids),
        ulimits: Some(ulimits(product)),
        init: Some(false),
        log_config: Some(log(product)),
        network_mode: Some(match (&spec.beside, spec.host_network, spec.networks.first()) {
            (Some(other), ..) => format!("container:{other}"),
            (None, Some(_), _) => "host".into(),
            (None, None, Some(place)) => place.network.clone(),
            (None, None, None) => "none".into(),
        }),
        restart_policy: Some(api::RestartPolicy {
            name: Some(api::RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        auto_remove: Some(spec.auto_remove),
        mounts: Some(spec.mounts.iter().map(|volume| mount(volume, spec)).chain(spec.binds.iter().map(bind)).collect()),
        runtime: spec.runtime.clone(),
        storage_opt: spec.disk.map(|bytes| HashMap::from([("size".to_owned(), bytes.to_string())])),
        tmpfs: Some(spec.tmpfs.iter().map(|(target, options)| (target.clone(), tmpfs(options, product))).collect()),
        cap_drop: Some(vec!["ALL".into()]),
        cap_add: Some(capabilities(spec)).filter(|added| !added.is_empty()),
        readonly_paths: readonly_paths(spec),
        privileged: Some(false),
        readonly_rootfs: Some(spec.read_only),
        security_opt: Some(vec!["no-new-privileges:true".into(), seccomp(product)]),
        // Those of the host are not a container's.
        sysctls: (spec.host_network.is_none() && spec.beside.is_none()).then(|| pairs(&sysctls)),
        dns: spec.beside.is_none().then(|| dns(spec)),
        extra_hosts: Some(spec.hosts.iter().map(|(name, address)| format!("{name}:{address}")).collect()),
        ipc_mode: Some("private".into()),
        ..Default::default()
    }
}

fn capabilities(spec: &ContainerSpec) -> Vec<String> {
    let configures = (spec.host_network == Some(HostNetwork::Configure)).then_some("NET_ADMIN");
    configures.into_iter().chain(spec.capabilities.iter().copied()).map(str::to_owned).collect()
}

/// Variables as an image has them: `NAME=value`.
pub(super) fn variables(lines: &[String]) -> BTreeMap<String, String> {
    let pairs = lines.iter().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// An image's configuration for one that is made of a container. What is absent or empty here is taken from the container
/// (moby, `daemon/commit.go`), whose entry point and check are bottler's.
pub(super) fn committed(base: api::ImageConfig, commit: &ImageCommit) -> api::ContainerConfig {
    let mut env: BTreeMap<String, String> = variables(&base.env.unwrap_or_default());
    env.extend(commit.env.clone());
    let labels = base.labels.unwrap_or_default().into_iter().chain(commit.labels.clone());
    api::ContainerConfig {
        user: base.user,
        exposed_ports: base.exposed_ports,
        env: Some(env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()),
        cmd: Some(base.cmd.unwrap_or_default()),
        healthcheck: base.healthcheck,
        volumes: base.volumes,
        working_dir: base.working_dir,
        entrypoint: Some(base.entrypoint.unwrap_or_default()),
        labels: Some(labels.collect()),
        stop_signal: base.stop_signal,
        shell: base.shell,
        ..Default::default()
    }
}

/// The kernel's settings, which are read-only in every container where nothing is said (moby, `oci/defaults.go`), but in the
/// one that is to set some; and files that are to stay: each becomes a mount of its own, which nobody without the capability
/// for mounts gets rid of.
fn readonly_paths(spec: &ContainerSpec) -> Option<Vec<String>> {
    const SETTINGS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
    if spec.host_network == Some(HostNetwork::Configure) {
        return Some(Vec::new());
    }
    let settings = SETTINGS.into_iter().map(str::to_owned);
    (!spec.fixed.is_empty()).then(|| settings.chain(spec.fixed.iter().cloned()).collect())
}

/// A volume that belongs to somebody.
pub(super) fn owned((user, group): (u32, u32)) -> HashMap<String, String> {
    pairs(&[("o", &format!("uid={user},gid={group}"))])
}

/// No core dumps, and as many descriptors on every engine. Podman raises what is not said to the most that a kernel knows,
/// which not every host lets it.
fn ulimits(product: Product) -> Vec<api::ResourcesUlimits> {
    let limit =
        |name: &str, most| api::ResourcesUlimits { name: Some(name.into()), soft: Some(most), hard: Some(most) };
    match product {
        Product::Docker | Product::Native => vec![limit("core", 0), limit("nofile", DESCRIPTORS)],
        Product::Podman => vec![limit("core", 0), limit("nofile", DESCRIPTORS), limit("nproc", DESCRIPTORS)],
    }
}

/// A bounded log, in the driver that each has for that.
fn log(product: Product) -> api::HostConfigLogConfig {
    let (driver, config) = match product {
        Product::Docker | Product::Native => ("local", pairs(&[("max-size", LOG_FILE_SIZE), ("max-file", LOG_FILES)])),
        Product::Podman => ("k8s-file", pairs(&[("max-size", LOG_FILE_SIZE)])),
    };
    api::HostConfigLogConfig { typ: Some(driver.into()), config: Some(config) }
}

/// A memory file system's options. Podman cannot give one to a user: there everybody in the container may write to it, who
/// are that user's processes alone.
fn tmpfs(options: &str, product: Product) -> String {
    if product == Product::Docker {
        return options.to_owned();
    }
    let owned = |option: &&str| ["uid=", "gid=", "mode="].iter().any(|key| option.starts_with(key));
    let kept = options.split(',').filter(|option| !owned(option));
    kept.chain(["mode=1777", "notmpcopyup"]).collect::<Vec<_>>().join(",")
}

/// Without a network there is no resolver: the one named is this container's own loopback, which refuses at once.
fn dns(spec: &ContainerSpec) -> Vec<String> {
    match spec.resolver {
        Some(server) => vec![server.to_string()],
        None if spec.networks.is_empty() => vec!["127.0.0.1".into()],
        None => Vec::new(),
    }
}

fn mount(mount: &VolumeMount, spec: &ContainerSpec) -> api::Mount {
    // A create that the teardown has overtaken makes the volume anew: then it is this bottle's, too, and is found.
    let labels = Identity { kind: Kind::Volume, uses: BTreeSet::new(), ..spec.identity.clone() }.to_labels();
    api::Mount {
        target: Some(mount.target.clone()),
        source: Some(mount.volume.clone()),
        typ: Some(api::MountType::VOLUME),
        read_only: Some(mount.read_only),
        // The owner of a volume's folder comes from the writer's image; a reader must not fill it from its own.
        volume_options: Some(api::MountVolumeOptions {
            no_copy: Some(mount.read_only),
            labels: Some(map(&labels)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Without propagation either way: what is mounted inside stays there, and what is mounted on the host later does not come.
fn bind(bind: &Bind) -> api::Mount {
    api::Mount {
        target: Some(bind.target.clone()),
        source: Some(bind.source.clone()),
        typ: Some(api::MountType::BIND),
        read_only: Some(bind.read_only),
        bind_options: Some(api::MountBindOptions {
            propagation: Some(api::MountBindOptionsPropagationEnum::RPRIVATE),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn pairs(entries: &[(&str, &str)]) -> HashMap<String, String> {
    entries.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

pub(super) fn map(entries: &BTreeMap<String, String>) -> HashMap<String, String> {
    entries.clone().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Resources;

    fn spec() -> ContainerSpec {
        let command = vec!["/bottler".into(), "agent-init".into()];
        let resources = Resources { cpus: 1.5, memory: 64 << 20, pids: 32 };
        let identity = Identity {
            session: "p-1".into(),
            owner: "o".into(),
            seq: 1,
            kind: Kind::Agent,
            role: None,
            uses: BTreeSet::new(),
        };
        ContainerSpec {
            workdir: "/home/agent".into(),
            hostname: "p-1".into(),
            read_only: false,
            auto_remove: true,
            ..ContainerSpec::closed("p-1".into(), "hostile".into(), command, "1000:1000".into(), resources, identity)
        }
    }

    #[test]
    fn whatever_an_image_could_set_is_set() {
        let body = container(&spec(), Product::Docker);
        assert_eq!(body.healthcheck.unwrap().test.unwrap(), ["NONE"]);
        assert_eq!(body.entrypoint.unwrap(), ["/bottler", "agent-init"]);
        assert_eq!(body.cmd.unwrap(), Vec::<String>::new());
        assert_eq!(body.user.as_deref(), Some("1000:1000"));
        assert_eq!(body.stop_signal.as_deref(), Some("SIGTERM"));
    }

    #[test]
    fn a_container_without_networks_has_none_and_no_privileges() {
        let host = container(&spec(), Product::Docker).host_config.unwrap();
        assert_eq!(host.network_mode.as_deref(), Some("none"));
        assert_eq!(host.cap_drop.unwrap(), ["ALL"]);
        assert_eq!(host.cap_add, None);
        assert_eq!(host.binds, None);
        assert_eq!(host.nano_cpus, Some(1_500_000_000));
        assert_eq!(host.memory, host.memory_swap);
        assert!(host.security_opt.unwrap().contains(&"no-new-privileges:true".to_owned()));
    }

    #[test]
    fn the_seccomp_profile_is_an_allowlist() {
        let profile: serde_json::Value = serde_json::from_str(SECCOMP).unwrap();
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
        let rules = profile["syscalls"].as_array().unwrap();
        let plainly_allowed = |name: &str| {
            rules.iter().any(|rule| {
                rule["action"] == "SCMP_ACT_ALLOW"
                    && rule["args"].as_array().is_none_or(Vec::is_empty)
                    && rule["names"].as_array().unwrap().iter().any(|listed| listed == name)
            })
        };
        for name in ["read", "mmap", "munmap", "madvise", "execve", "futex"] {
            assert!(plainly_allowed(name), "{name}");
        }
        for name in [
            "socket",
            "clone",
            "unshare",
            "setns",
            "io_uring_setup",
            "bpf",
            "keyctl",
            "add_key",
            "mount",
            "ptrace",
            "userfaultfd",
        ] {
            assert!(!plainly_allowed(name), "{name}");
        }
    }
}
