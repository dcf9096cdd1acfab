//! Making containers: their folders, their shims, and what is left of them at the end.

use std::io::ErrorKind as Io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::answer::{broken, failure};
use super::child::{self, SETUP, Setup};
use super::image::{self, Account};
use super::plan::{self, Plan};
use super::shims::{self, Running};
use super::store::{self, NetworkRecord, Record, discard, is_name, remove_tree};
use super::subordinates::Subordinates;
use super::users::Mapping;
use super::{NativeEngine, cgroup, filter, host, mounts, protocol, shim, users};
use crate::engine::{ContainerSpec, ErrorKind, Result};

/// What a refusal for want of bounds ends with.
const BEST_EFFORT: &str =
    "; or accept a bottle without them: `bounds: best-effort` for it in `bottles` of the manifest";

impl NativeEngine {
    /// Makes a container that has ended ready to be started again, from its image as it is.
    pub(super) async fn revive(&self, operation: &'static str, id: &str) -> Result<()> {
        self.settle(id).await?;
        let folder = self.container(operation, id)?;
        if !folder.join(shim::END).exists() {
            return Ok(());
        }
        let _turn = self.creating.lock().await;
        let mut setup: Setup = store::read(&folder.join(SETUP)).map_err(broken(operation, id))?;
        if setup.plan.beside.is_none() {
            setup.beside = match setup.plan.networks.first().and_then(|network| self.on_network(network)) {
                Some(other) => self.shims.first_process(&other, &self.store.container(&other)).await.ok(),
                None => None,
            };
        }
        let fresh = || -> std::io::Result<()> {
            store::note(&folder.join(SETUP), &setup)?;
            for file in [protocol::SOCKET, shim::FIRST_PROCESS, shim::END] {
                std::fs::remove_file(folder.join(file)).or_else(|error| match error.kind() {
                    Io::NotFound => Ok(()),
                    _ => Err(error),
                })?;
            }
            // The host may be on another network by now. The file stays, because it is what is mounted.
            std::fs::write(folder.join("resolv.conf"), resolver(&setup.plan))?;
            make_layers(&folder)
        };
        fresh().map_err(broken(operation, id))?;
        let started = self.start_shim(&folder, &[]).await;
        let Running { lifeline, .. } = started.map_err(|why| failure(operation, id, ErrorKind::Other, why))?;
        self.shims.keep(id, lifeline);
        Ok(())
    }

    /// A container that is on a network.
    fn on_network(&self, network: &str) -> Option<String> {
        let mut on = self.store.containers().into_iter().filter(|name| {
            let record: std::io::Result<Record> = store::read(&self.store.container(name).join("record.json"));
            record.is_ok_and(|record| record.plan.networks.first().is_some_and(|first| first == network))
        });
        // Without a shim, the number of its first process may be another's by now.
        on.find(|name| self.shims.is_starting(name) || is_served(&self.store.container(name)))
    }

    /// Whether a container that may be running has a volume's folder.
    pub(super) fn is_in_use(&self, folder: &Path) -> bool {
        self.store.containers().into_iter().any(|name| {
            let container = self.store.container(&name);
            let record: std::io::Result<Record> = store::read(&container.join("record.json"));
            record.is_ok_and(|record| record.plan.mounts.iter().any(|mount| mount.source == folder))
                && (self.shims.is_starting(&name) || is_served(&container))
        })
    }

    /// The source of connections on a network, and its range's mask. The one address of a range that is assigned is egress', so
    /// that whoever it connects to sees it as on other engines.
    fn addresses(&self, network: &str) -> std::io::Result<(std::net::Ipv4Addr, std::net::Ipv4Addr)> {
        let NetworkRecord { subnet, .. } = store::read(&self.store.network(network))?;
        Ok(((u32::from(subnet.network()) + 2).into(), subnet.netmask()))
    }

    pub(super) async fn create(&self, spec: &ContainerSpec) -> Result<String> {
        let operation = "create container";
        let refused = |why: String| failure(operation, &spec.name, ErrorKind::Other, why);
        if !is_name(&spec.name) {
            return Err(refused("it cannot be the name of a container".into()));
        }
        let missing =
            || failure(operation, &spec.name, ErrorKind::NotFound, format!("there is no image {}", spec.image));
        let image = self.store.image(&self.store.find(&spec.image).ok_or_else(missing)?);
        let config: image::Config = store::read(&image.join("config.json")).map_err(broken(operation, &spec.name))?;
        // Two that are created at the same moment must find each other.
        let _turn = if spec.networks.is_empty() { None } else { Some(self.creating.lock().await) };
        let beside = match &spec.beside {
            Some(other) => Some((other.clone(), self.record(operation, other)?.plan)),
            None => spec.networks.first().and_then(|place| {
                let other = self.on_network(&place.network)?;
                let plan = self.record(operation, &other).ok()?.plan;
                Some((other, plan))
            }),
        };
        // Where a user makes them, who shares a network is in one user namespace: that one has the rights over it.
        let mapping = match &beside {
            Some((_, other)) if !other.mapping.is_by_root() => other.mapping,
            _ => self.mapping(spec),
        };
        let account = beside.as_ref().filter(|_| spec.beside.is_some()).map(|(_, other)| other.process.account);
        let plan = plan::plan(spec, &image.join("files"), &config, &self.store.volumes(), mapping, account);
        let mut plan = plan.map_err(refused)?;
        let groups = match &self.groups {
            _ if spec.never_starts => Vec::new(),
            Ok(groups) if !self.best_effort_bounds || groups.may_be_made() => groups.of(&spec.name),
            Err(why) if !self.best_effort_bounds => return Err(refused(format!("{why}{BEST_EFFORT}"))),
            _ => Vec::new(),
        };
        let users = (mapping, plan.process.account);
        for (mount, planned) in spec.mounts.iter().zip(&mut plan.mounts) {
            let settled = self.settle_volume(mount, &image.join("files"), &config, users);
            planned.owner = settled.map_err(broken(operation, &spec.name))?;
        }
        let filters = filter::programs(&self.root).map_err(|error| refused(format!("{error:#}")))?;
        let executable = self.executable().map_err(|error| refused(format!("copy this executable: {error}")))?;
        if let (Ok(groups), false) = (&self.groups, spec.never_starts) {
            groups.prepare();
        }
        let addresses = plan.networks.iter().map(|network| self.addresses(network)).collect::<std::io::Result<_>>();
        let addresses = addresses.map_err(broken(operation, &spec.name))?;
        let mut setup = Setup { plan, groups, filters, beside: None, addresses };
        let record = Record { labels: spec.identity.to_labels(), plan: setup.plan.clone() };
        let folder = self.store.container(&spec.name);
        let filled = self.store.create(&folder, |new| fill(new, &setup.plan, &record));
        filled.map_err(broken(operation, &spec.name))?;
        let command = shims::command(executable, &folder, &[]);
        let (shims, store, file) = (self.shims.clone(), self.store.clone(), folder.join(SETUP));
        let groups = setup.groups.clone();
        let complete = async move {
            if let Some((other, _)) = beside {
                let joined = shims.first_process(&other, &store.container(&other)).await;
                setup.beside = Some(joined?);
            }
            store::note(&file, &setup).map_err(|error| format!("write {}: {error}", file.display()))
        };
        self.shims.start(&spec.name, complete, command, || async move {
            let _ = clear(groups, folder).await;
        });
        Ok(spec.name.clone())
    }

    /// Waits until a container's shim is ready.
    pub(super) async fn settle(&self, id: &str) -> Result<()> {
        self.shims.settled(id).await.map_err(|why| {
            let more = if why.starts_with(cgroup::REFUSED) { BEST_EFFORT } else { "" };
            failure("create container", id, ErrorKind::Other, format!("{why}{more}"))
        })
    }

    /// How a container's users are mapped.
    fn mapping(&self, spec: &ContainerSpec) -> Mapping {
        let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
        if !host::is_privileged() {
            let one = Mapping::One(Account { user: user.as_raw(), group: group.as_raw() });
            let delegated = || {
                Subordinates::find()
                    .ok()
                    .map(|theirs| theirs.mapping())
                    .filter(|mapping| users::namespace(*mapping).is_ok())
            };
            // A mounted folder of this user's would be nobody's inside.
            let delegated = *self.delegated.get_or_init(delegated);
            let may = spec.binds.is_empty() && plan::account(&spec.user).is_ok_and(users::has);
            return delegated.filter(|_| may).unwrap_or(one);
        }
        let store = || users::can_be_mapped([self.root.as_path()]).is_ok();
        let sources = || spec.binds.iter().map(|bind| Path::new(&bind.source));
        // A mounted folder of an owner beyond the range would be nobody's inside.
        let has = |source: &Path| {
            let account = std::fs::metadata(source).map(|of| Account { user: of.uid(), group: of.gid() });
            account.is_ok_and(users::has)
        };
        let may = plan::account(&spec.user).is_ok_and(users::has)
            && *self.has_users.get_or_init(store)
            && sources().all(has)
            && (spec.binds.is_empty() || users::can_be_mapped(sources()).is_ok());
        if may { Mapping::Range { first: users::first_of(&spec.name) } } else { Mapping::Host }
    }

    /// Opens a container that has ended so that files can be copied out of it, until the answer is dropped.
    pub(super) async fn start_copy(&self, folder: &Path) -> std::result::Result<Running, String> {
        self.start_shim(folder, &[child::COPY]).await
    }

    /// Removes what is left of a container whose shim has ended.
    pub(super) async fn clear(&self, id: &str, folder: PathBuf) -> std::io::Result<()> {
        clear(self.groups_of(id), folder).await
    }

    async fn start_shim(&self, folder: &Path, more: &[&str]) -> std::result::Result<Running, String> {
        let executable = self.executable().map_err(|error| format!("copy this executable: {error}"))?;
        shims::run(shims::command(executable, folder, more), || {}).await
    }
}

async fn clear(groups: Vec<(String, PathBuf)>, folder: PathBuf) -> std::io::Result<()> {
    let cleared = crate::task::blocking(move || cgroup::end(&groups).and_then(|()| discard(&folder)));
    cleared.await.map_err(std::io::Error::other)?
}

/// Whether a container has a shim that listens.
fn is_served(container: &Path) -> bool {
    // A socket's path has a bound; that of a descriptor is short.
    let served = std::fs::File::open(container).and_then(|folder| {
        std::os::unix::net::UnixStream::connect(format!("/proc/self/fd/{}/{}", folder.as_raw_fd(), protocol::SOCKET))
    });
    served.is_ok()
}

/// Makes the folders that an overlay is mounted by, empty.
fn make_layers(container: &Path) -> std::io::Result<()> {
    for name in ["upper", "work"].into_iter().chain(mounts::PLACES) {
        let folder = container.join(name);
        remove_tree(&folder)?;
        std::fs::create_dir(&folder)?;
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// The contents of a container's `/etc/resolv.conf`.
fn resolver(plan: &Plan) -> String {
    let hosts = plan.host_network.then(|| std::fs::read_to_string("/etc/resolv.conf").ok()).flatten();
    hosts.unwrap_or_else(|| plan.resolver.clone())
}

/// Fills the folder of a container, but for what its shim reads: that is complete once the network beside is there.
fn fill(new: &Path, plan: &Plan, record: &Record) -> std::io::Result<()> {
    let Plan { hosts, hostname, image, .. } = plan;
    let resolver = resolver(plan);
    for (name, content) in
        [("hosts", hosts.as_str()), ("resolv.conf", &resolver), ("hostname", &format!("{hostname}\n"))]
    {
        std::fs::write(new.join(name), content)?;
        std::fs::set_permissions(new.join(name), std::fs::Permissions::from_mode(0o644))?;
    }
    make_layers(new)?;
    // By a link: the options of a mount have no room for every path.
    symlink(image, new.join("image"))?;
    store::note(&new.join("record.json"), record)
}
