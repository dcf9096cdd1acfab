//! A container as the native engine launches it: plain data, computed from what the core asks for and what the image has. Pure,
//! so that golden files show every mount and every identity before anything runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::image::{Account, Config, Folder};
use super::users::{self, Mapping};
use crate::engine::{ContainerSpec, HostNetwork, ImageLayer, Resources};

/// Variables of a container whose image and specification name none (environ(7)).
const PATH: (&str, &str) = ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");

/// A folder or file that a container sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mount {
    /// Where it is on the host.
    pub(super) source: PathBuf,
    /// Where it is seen.
    pub(super) target: String,
    pub(super) read_only: bool,
    /// Whose it becomes: a new volume's, where only who is inside the user namespace can give it to somebody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) owner: Option<Account>,
}

/// A memory file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memory {
    pub(super) target: String,
    /// As mount(8) takes them.
    pub(super) options: String,
}

/// What a process runs as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    pub(super) command: Vec<String>,
    /// Every variable that it sees.
    pub(super) env: BTreeMap<String, String>,
    pub(super) account: Account,
    pub(super) workdir: String,
    pub(super) tty: bool,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) process: Process,
    pub(super) mapping: Mapping,
    pub(super) hostname: String,
    /// The contents of `/etc/hosts`.
    pub(super) hosts: String,
    /// Whether it is in the host's network namespace. It sees no `/sys` then, which would show the host's devices.
    pub(super) host_network: bool,
    /// The contents of `/etc/resolv.conf`; the host's own in the host's network.
    pub(super) resolver: String,
    /// The image's files.
    pub(super) image: PathBuf,
    /// Whether nothing of the image's tree may be written.
    pub(super) read_only: bool,
    /// Folders of the image that the container's user may write although the tree is read-only.
    pub(super) writable: Vec<String>,
    pub(super) mounts: Vec<Mount>,
    pub(super) memory: Vec<Memory>,
    /// Folders of the image that are not root's, where the store could not give them their owners.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) owned: Vec<Folder>,
    /// Files that nobody inside may write, replace or remove.
    pub(super) fixed: Vec<String>,
    /// The container whose network this one is in.
    pub(super) beside: Option<String>,
    /// The networks that it is on, by name; all who are on the first one share a network namespace that leads nowhere else.
    pub(super) networks: Vec<String>,
    /// Whether standard input stays open for the clients to come.
    pub(super) stdin: bool,
    /// Whether it is removed when it ends.
    pub(super) auto_remove: bool,
    /// Whether its command never starts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) never_starts: bool,
    pub(super) resources: Resources,
}

/// Plans a container. `beside` is the account of the container whose network it joins.
///
/// # Errors
/// This engine cannot do what is asked for: what, and what can instead.
pub(super) fn plan(
    spec: &ContainerSpec,
    image: &Path,
    config: &Config,
    volumes: &Path,
    mapping: Mapping,
    beside: Option<Account>,
) -> Result<Plan, String> {
    refuse(spec)?;
    let one = !mapping.has_users();
    let account = match beside {
        // In the other one's user namespace there is its user and no other.
        Some(account) if one => account,
        _ => account(&spec.user)?,
    };
    // With one user, the image's files belong to the container's user as everything does: the tree cannot be writable, but for
    // root, whose it is.
    let foreign = one && account.user != 0;
    let writable = if foreign && !spec.read_only { config.writable_by(account) } else { Vec::new() };
    let volume = |name: &str| volumes.join(name).join("data");
    let volumes = spec.mounts.iter().map(|mount| Mount {
        source: volume(&mount.volume),
        target: mount.target.clone(),
        read_only: mount.read_only,
        owner: None,
    });
    let binds = spec.binds.iter().map(|bind| Mount {
        source: bind.source.clone().into(),
        target: bind.target.clone(),
        read_only: bind.read_only,
        owner: None,
    });
    let memory =
        spec.tmpfs.iter().map(|(target, options)| Memory { target: target.clone(), options: owned(options, mapping) });
    let env = std::iter::once((PATH.0.to_owned(), PATH.1.to_owned()));
    let env = env.chain([("HOSTNAME".to_owned(), spec.hostname.clone())]).chain(config.env.clone());
    Ok(Plan {
        process: Process {
            command: spec.command.clone(),
            env: env.chain(spec.env.clone()).filter(|(name, _)| !name.is_empty()).collect(),
            account,
            workdir: spec.workdir.clone(),
            tty: spec.tty,
        },
        mapping,
        hostname: spec.hostname.clone(),
        hosts: hosts(spec),
        host_network: spec.host_network.is_some(),
        resolver: format!("nameserver {}\n", spec.resolver.unwrap_or(std::net::Ipv4Addr::LOCALHOST)),
        image: image.to_owned(),
        read_only: spec.read_only || foreign,
        writable,
        mounts: volumes.chain(binds).collect(),
        memory: memory.collect(),
        owned: if matches!(mapping, Mapping::Delegated { .. }) { config.owned() } else { Vec::new() },
        fixed: spec.fixed.clone(),
        beside: spec.beside.clone(),
        networks: spec.networks.iter().map(|place| place.network.clone()).collect(),
        stdin: spec.stdin,
        auto_remove: spec.auto_remove,
        never_starts: spec.never_starts,
        resources: spec.resources,
    })
}

fn refuse(spec: &ContainerSpec) -> Result<(), String> {
    if matches!(spec.host_network, Some(HostNetwork::Listen | HostNetwork::Configure)) {
        return Err("the native engine has no container that listens in the host's network; \
                    `isolation: sealed` needs none"
            .into());
    }
    if let Some(runtime) = &spec.runtime {
        return Err(format!("the native engine has no runtime {runtime:?}; leave `runtime` out, or use Docker"));
    }
    if !spec.capabilities.is_empty() {
        return Err("the native engine gives no container a capability".into());
    }
    if spec.disk.is_some() {
        return Err("the native engine has no storage-opt to bound a disk; leave resources.disk out".into());
    }
    Ok(())
}

/// Shows how a container would be launched, as JSON, without looking at this host: `layer` is its image, `user` the ordinary user
/// who launches it (root where absent), `beside` the container whose network it joins. The store is at `/STORE`.
///
/// # Errors
/// The layer is not an archive, or this engine cannot do what is asked for.
pub fn preview(
    spec: &ContainerSpec,
    layer: &ImageLayer,
    user: Option<u32>,
    beside: Option<&ContainerSpec>,
) -> Result<serde_json::Value, String> {
    let config = super::image::config(layer.tar.as_ref()).map_err(|error| error.to_string())?;
    let range = Mapping::Range { first: users::first_of(&spec.name) };
    let mapping = user.map_or(range, |user| Mapping::One(Account { user, group: user }));
    let beside = beside.map(|other| account(&other.user)).transpose()?;
    let (image, volumes) = (Path::new("/STORE/images/ID/files"), Path::new("/STORE/volumes"));
    let plan = plan(spec, image, &config, volumes, mapping, beside)?;
    serde_json::to_value(plan).map_err(|error| error.to_string())
}

/// Two numbers with a colon, or one for both.
///
/// # Errors
/// It is a name.
pub(super) fn account(text: &str) -> Result<Account, String> {
    let (user, group) = text.split_once(':').unwrap_or((text, text));
    let number = |text: &str| text.parse().map_err(|_| format!("user {text:?} is not a number"));
    Ok(Account { user: number(user)?, group: number(group)? })
}

/// Options of a memory file system with the host's number of its owner, and without it where there is one user.
fn owned(options: &str, mapping: Mapping) -> String {
    let owner = |option: &str| {
        let (name, number) = option.split_once('=').filter(|(name, _)| ["uid", "gid"].contains(name))?;
        let number: Option<u32> = number.parse().ok();
        Some(number.map_or_else(|| option.to_owned(), |number| format!("{name}={}", mapping.outside(number))))
    };
    let kept = options.split(',').filter_map(|option| match owner(option) {
        Some(_) if !mapping.has_users() => None,
        Some(owner) => Some(owner),
        None => Some(option.to_owned()),
    });
    kept.collect::<Vec<_>>().join(",")
}

fn hosts(spec: &ContainerSpec) -> String {
    let own = [("127.0.0.1", "localhost"), ("::1", "localhost"), ("127.0.0.1", &spec.hostname)];
    let others = spec.hosts.iter().map(|(name, address)| (address.as_str(), name.as_str()));
    let lines = own.into_iter().chain(others).filter(|(_, name)| !name.is_empty());
    lines.map(|(address, name)| format!("{address}\t{name}\n")).collect::<Vec<_>>().concat()
}
