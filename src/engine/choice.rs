//! Which engine is used: by an address, which a bottle remembers, and by what the user says where there is none yet.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::docker::endpoint::{Endpoint, UsualSocket};
use super::docker::{DockerEngine, endpoint};
use super::native::{self, NativeEngine};
use super::{Engine, Result};

/// The environment variable that names an engine: `docker`, `podman` or `native`.
pub const VARIABLE: &str = "BOTTLER_ENGINE";

/// The engine at an address.
///
/// # Errors
/// There is none that can be reached in this way.
pub fn connect(endpoint: &str) -> Result<Arc<dyn Engine>> {
    Ok(if endpoint.starts_with(native::SCHEME) {
        Arc::new(NativeEngine::open(endpoint)?)
    } else {
        Arc::new(DockerEngine::connect(endpoint)?)
    })
}

/// The same, for a bottle whose plan may do without bounds of memory and processes: an engine that always has them has them all the
/// same.
///
/// # Errors
/// There is none that can be reached in this way.
pub fn connect_unbounded(endpoint: &str) -> Result<Arc<dyn Engine>> {
    if !endpoint.starts_with(native::SCHEME) {
        return connect(endpoint);
    }
    Ok(Arc::new(NativeEngine::open(endpoint)?.with_best_effort_bounds()))
}

/// The address of the engine that is meant: the one that is named here, or by [`VARIABLE`], or Docker as its own command finds
/// it. Where nothing is named and nothing that this user may use listens at Docker's usual socket, it is the native engine.
///
/// # Errors
/// What is named is not there, or cannot be read. There is no fallback from what the user names.
pub fn resolve(named: Option<&str>) -> std::result::Result<String, String> {
    let variable = variable();
    match named.or(variable.as_deref()) {
        None if !endpoint::is_named() && endpoint::usual_socket() != UsualSocket::Listens => native_address(),
        None | Some("docker" | "podman") => endpoint::resolve().map(|endpoint| endpoint.to_string()),
        Some("native") => native_address(),
        Some(other) => Err(format!("{VARIABLE}: there is no engine {other:?}; it is docker, podman or native")),
    }
}

fn variable() -> Option<String> {
    std::env::var(VARIABLE).ok().filter(|name| !name.is_empty())
}

/// Whether the environment names an engine.
pub fn is_named() -> bool {
    variable().is_some() || endpoint::is_named()
}

/// Why the default engine is not Docker although it runs, and what would change that.
pub fn passed_over() -> Option<&'static str> {
    let forbidden = !is_named() && endpoint::usual_socket() == UsualSocket::Forbidden;
    forbidden.then_some("Docker's socket is not for this user: its group, usually `docker`, may use it")
}

/// Whether the engine at an address runs on this host.
pub fn is_local(address: &str) -> bool {
    address.starts_with(native::SCHEME) || address.parse().is_ok_and(|endpoint: Endpoint| endpoint.is_local())
}

/// The address of this user's native engine, where it has been used.
pub fn native_in_use() -> Option<String> {
    let is_own = |path: &Path| path.is_dir() && crate::host::check_own(path).is_ok();
    native_address().ok().filter(|address| is_own(Path::new(&address[native::SCHEME.len()..])))
}

/// The address of this user's native engine: `$XDG_DATA_HOME/bottler/native`.
fn native_address() -> std::result::Result<String, String> {
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = var("XDG_DATA_HOME").or_else(|| Some(var("HOME")?.join(".local/share")));
    let base = base.ok_or("the native engine keeps its files in XDG_DATA_HOME or HOME, and neither is set")?;
    let path = base.join("bottler/native");
    let path = path.to_str().ok_or("the path of the native engine's files is not UTF-8 text")?;
    Ok(format!("{}{path}", native::SCHEME))
}
