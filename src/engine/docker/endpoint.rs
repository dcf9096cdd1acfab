//! Finds the engine the way the docker command does: `DOCKER_HOST`, else the current context, else the usual socket.

use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

/// The socket that Docker Engine listens on when nobody says otherwise.
const DEFAULT: &str = "unix:///var/run/docker.sock";

/// The engine's address, from the environment and the docker client's configuration directory.
///
/// # Errors
/// A context that is named but not there, or unreadable.
pub fn resolve() -> Result<String, String> {
    let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if let Some(host) = var("DOCKER_HOST") {
        return Ok(host);
    }
    let home = var("HOME").map(PathBuf::from).unwrap_or_default();
    let config = var("DOCKER_CONFIG").map_or_else(|| home.join(".docker"), PathBuf::from);
    match var("DOCKER_CONTEXT").or_else(|| current_context(&config)) {
        Some(name) if name != "default" => context_host(&config, &name),
        _ => Ok(DEFAULT.to_owned()),
    }
}

fn current_context(config: &Path) -> Option<String> {
    let text = std::fs::read_to_string(config.join("config.json")).ok()?;
    let json: serde_json::Value = serde_json::from_str(&text).ok()?;
    json["currentContext"].as_str().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// The layout is the docker client's: `contexts/meta/<sha256 of the name>/meta.json`.
fn context_host(config: &Path, name: &str) -> Result<String, String> {
    let digest = HEXLOWER.encode(&Sha256::digest(name.as_bytes()));
    let file = config.join("contexts/meta").join(digest).join("meta.json");
    let text = std::fs::read_to_string(&file)
        .map_err(|error| format!("docker context {name:?}: read {}: {error}", file.display()))?;
    let json: serde_json::Value = serde_json::from_str(&text)
        .map_err(|error| format!("docker context {name:?}: parse {}: {error}", file.display()))?;
    json["Endpoints"]["docker"]["Host"]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| format!("docker context {name:?}: {} names no docker host", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_found_by_the_digest_of_its_name() {
        let config = tempfile::tempdir().unwrap();
        // sha256("colima"), as the docker client lays it out
        let digest = "f24fd3749c1368328e2b149bec149cb6795619f244c5b584e844961215dadd16";
        let meta = config.path().join("contexts/meta").join(digest);
        std::fs::create_dir_all(&meta).unwrap();
        std::fs::write(meta.join("meta.json"), r#"{"Endpoints":{"docker":{"Host":"unix:///c.sock"}}}"#).unwrap();
        std::fs::write(config.path().join("config.json"), r#"{"currentContext":"colima"}"#).unwrap();
        assert_eq!(current_context(config.path()).as_deref(), Some("colima"));
        assert_eq!(context_host(config.path(), "colima").unwrap(), "unix:///c.sock");
        assert!(context_host(config.path(), "gone").unwrap_err().contains("\"gone\""));
    }
}
