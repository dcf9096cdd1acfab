//! Checks whether a host folder may be mounted into a bottle.
//!
//! The agent can write a mounted folder, so the folder must not contain an engine's socket (root on this host),
//! bottler's state or manifest (they control the next launch), system folders, or the whole home (keys, shell start
//! files). The path is resolved before; sockets are also recognised by inode, wherever they are linked. A `.git` or
//! bare repository is refused, because its `config` runs commands on the host.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::executed_paths::is_repository;

/// Folders of which nothing may be mounted: not they, nor their content, nor their parents.
const SYSTEM: [&str; 14] = [
    "/proc",
    "/sys",
    "/dev",
    "/etc",
    "/boot",
    "/bin",
    "/sbin",
    "/lib",
    "/lib64",
    "/usr/bin",
    "/usr/sbin",
    "/usr/lib",
    "/var/lib/docker",
    "/var/lib/containers",
];
/// Folders that may not be mounted, nor their parents; but their content may.
const WHOLE: [&str; 8] = ["/run", "/var", "/var/run", "/var/lib", "/usr", "/home", "/root", "/opt"];
/// The same below a home, including the home itself.
const HOME_WHOLE: [&str; 4] = ["", ".config", ".local", ".cache"];
/// Folders below a home of which nothing may be mounted.
const HOME_CLOSED: [&str; 6] = [".ssh", ".gnupg", ".aws", ".kube", ".docker", ".config/bottler"];
/// Sockets of engines and their helpers.
const SOCKETS: [&str; 7] = [
    "/run/docker.sock",
    "/var/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/podman/podman.sock",
    "/run/crio/crio.sock",
    "/run/buildkit/buildkitd.sock",
    "/run/docker.raw.sock",
];
/// Names of sockets that always belong to an engine.
const SOCKET_NAMES: [&str; 6] =
    ["docker.sock", "docker.raw.sock", "podman.sock", "containerd.sock", "crio.sock", "buildkitd.sock"];
/// How many entries are inspected at most.
const MAX_ENTRIES: usize = 5_000_000;

/// Paths of this host that must not be mounted, in addition to those of every host.
#[derive(Debug, Clone, Default)]
pub struct ForbiddenPaths {
    /// The user's home.
    pub home: Option<PathBuf>,
    /// Sockets of engines.
    pub sockets: Vec<PathBuf>,
    /// bottler's own folders: state, manifest, and the native engine's store.
    pub own: Vec<PathBuf>,
}

impl ForbiddenPaths {
    /// The paths of this host, from the environment, with the engine's socket and the state directory.
    pub fn here(engine: Option<&Path>, state: &Path) -> Self {
        let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = var("HOME");
        let below = |folder: Option<PathBuf>, names: &[&str]| -> Vec<PathBuf> {
            folder
                .into_iter()
                .flat_map(|folder| names.iter().map(move |name| folder.join(name)).collect::<Vec<_>>())
                .collect()
        };
        let mut sockets: Vec<PathBuf> = SOCKETS.iter().map(PathBuf::from).chain(engine.map(Path::to_owned)).collect();
        sockets.extend(below(var("XDG_RUNTIME_DIR"), &["docker.sock", "podman/podman.sock"]));
        sockets.extend(below(home.clone(), &[".docker/run/docker.sock", ".docker/desktop/docker.sock"]));
        let mut own = vec![state.to_owned()];
        own.extend(["XDG_CONFIG_HOME", "XDG_DATA_HOME"].iter().flat_map(|name| below(var(name), &["bottler"])));
        own.extend(below(home.clone(), &[".local/share/bottler", ".local/state/bottler"]));
        Self { home, sockets, own }
    }
}

/// Why a folder may not be mounted; `None` if it may. `root` must not contain symbolic links.
pub fn refusal(root: &Path, closed: &ForbiddenPaths) -> Option<String> {
    by_path(root, closed).or_else(|| by_content(root, closed))
}

/// Checks the path.
fn by_path(root: &Path, closed: &ForbiddenPaths) -> Option<String> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let holds = |path: &Path| path.starts_with(root) || real(path).starts_with(root);
    let within = |path: &Path| root.starts_with(path) || root.starts_with(real(path));
    let named = |path: &Path, what: &str| {
        let is = if root == path || root == real(path) { "it is" } else { "it holds" };
        Some(format!("{is} {}, {what}", path.display()))
    };
    for socket in &closed.sockets {
        if holds(socket) {
            return named(socket, "which makes whoever can connect to it root on this host");
        }
    }
    for own in &closed.own {
        if holds(own) {
            return named(own, "which controls what bottler does");
        }
        if within(own) {
            return Some(format!("it is in {}, which controls what bottler does", own.display()));
        }
    }
    for system in SYSTEM.map(Path::new) {
        if holds(system) {
            return named(system, "which is this system's");
        }
        if within(system) {
            return Some(format!("it is in {}, which is this system's", system.display()));
        }
    }
    for whole in WHOLE.map(Path::new) {
        if holds(whole) {
            return named(whole, "which is more than a project");
        }
    }
    let home = closed.home.as_ref().filter(|home| home.parent().is_some())?;
    for closed in HOME_CLOSED.map(|name| home.join(name)) {
        if within(&closed) {
            return Some(format!("it is, or is in, {}, where keys and settings of this user are", closed.display()));
        }
    }
    for whole in HOME_WHOLE.map(|name| if name.is_empty() { home.clone() } else { home.join(name) }) {
        if holds(&whole) {
            return named(&whole, "which contains keys, settings and the shell's start files");
        }
    }
    None
}

/// Checks the content.
fn by_content(root: &Path, closed: &ForbiddenPaths) -> Option<String> {
    if is_repository(root) || root.components().any(|part| part.as_os_str() == ".git") {
        return Some("it is git's own folder: git on this host runs programs that files in it name".to_owned());
    }
    let identity = |path: &PathBuf| std::fs::metadata(path).ok().map(|seen| (seen.dev(), seen.ino()));
    let engines: Vec<(u64, u64)> = closed.sockets.iter().filter_map(identity).collect();
    let mut folders = vec![root.to_owned()];
    let mut looked = 0;
    while let Some(folder) = folders.pop() {
        // What this user cannot read, the agent cannot read either: it runs as the same user, or with fewer rights.
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            looked += 1;
            if looked > MAX_ENTRIES {
                return Some(format!(
                    "it has more than {MAX_ENTRIES} entries, too many to search for engines' sockets"
                ));
            }
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_socket() {
                let path = entry.path();
                let known = identity(&path).is_some_and(|it| engines.contains(&it));
                if known || entry.file_name().to_str().is_some_and(|name| SOCKET_NAMES.contains(&name)) {
                    return Some(format!("it holds {}, the socket of an engine", path.display()));
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed() -> ForbiddenPaths {
        ForbiddenPaths {
            home: Some("/home/me".into()),
            sockets: vec!["/run/user/7/docker.sock".into(), "/srv/engine/api.sock".into()],
            own: vec!["/home/me/.local/state/bottler".into(), "/home/me/.config/bottler".into()],
        }
    }

    #[test]
    fn what_holds_the_host_is_refused_and_projects_are_not() {
        for root in [
            "/",
            "/run",
            "/run/user",
            "/run/user/7",
            "/srv/engine",
            "/srv",
            "/var",
            "/var/lib",
            "/var/lib/docker/volumes",
            "/home",
            "/home/me",
            "/home/me/.local",
            "/home/me/.local/state",
            "/home/me/.local/state/bottler",
            "/home/me/.local/state/bottler/bottles/x",
            "/home/me/.config",
            "/home/me/.config/bottler",
            "/home/me/.ssh",
            "/home/me/.ssh/keys",
            "/home/me/.docker",
            "/proc",
            "/proc/self",
            "/sys/fs/cgroup",
            "/dev",
            "/dev/shm",
            "/etc",
            "/etc/cron.d",
            "/usr",
            "/usr/bin",
            "/boot",
        ] {
            assert!(by_path(Path::new(root), &closed()).is_some(), "{root}");
        }
        for root in [
            "/home/me/project",
            "/home/me/.config/nvim",
            "/home/me/.local/share/chezmoi",
            "/srv/work",
            "/tmp/x",
            "/var/www",
            "/opt/project",
            "/run/media/me/disk",
            "/usr/src/linux",
            "/runner/work",
        ] {
            assert_eq!(by_path(Path::new(root), &closed()), None, "{root}");
        }
    }

    #[test]
    fn a_socket_is_known_wherever_it_is_linked_to_and_a_repositorys_own_folder_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("project/deep/er")).unwrap();
        std::fs::create_dir(at("engine")).unwrap();
        let root = at("project").canonicalize().unwrap();
        let closed = ForbiddenPaths { sockets: vec![at("engine/api")], ..ForbiddenPaths::default() };
        let _other = std::os::unix::net::UnixListener::bind(at("project/deep/puma")).unwrap();
        assert_eq!(refusal(&root, &closed), None);
        let _engine = std::os::unix::net::UnixListener::bind(at("engine/api")).unwrap();
        std::fs::hard_link(at("engine/api"), at("project/deep/er/x")).unwrap();
        assert!(refusal(&root, &closed).unwrap().contains("deep/er/x"));
        std::fs::remove_file(at("project/deep/er/x")).unwrap();
        let _named = std::os::unix::net::UnixListener::bind(at("project/deep/er/docker.sock")).unwrap();
        assert!(refusal(&root, &closed).unwrap().contains("docker.sock"));
        for name in ["bare/objects", "bare/refs", "repository/.git/hooks"] {
            std::fs::create_dir_all(at(name)).unwrap();
        }
        std::fs::write(at("bare/HEAD"), "ref: refs/heads/main\n").unwrap();
        for own in ["bare", "repository/.git", "repository/.git/hooks"] {
            assert!(refusal(&at(own), &closed).unwrap().contains("git's own"), "{own}");
        }
    }
}
