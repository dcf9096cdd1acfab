//! Finds the engine the way the docker command does: `DOCKER_HOST`, else the current context, else the usual socket.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use url::Url;

/// The socket that Docker Engine listens on when nobody says otherwise.
const DEFAULT: &str = "unix:///var/run/docker.sock";
/// The port of an engine with TLS, and of one without, where an address has none.
const TLS_PORT: u16 = 2376;
const TCP_PORT: u16 = 2375;

/// Where an engine is. Written down it is one word, from which holder, reaper and `gc` find the same engine again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A socket of this host.
    Unix(PathBuf),
    /// An address, without TLS: whoever can send to it is root there.
    Tcp(String),
    /// An address, with TLS.
    Tls {
        /// Host and port.
        host: String,
        /// The folder with `ca.pem`, `cert.pem` and `key.pem`.
        certificates: PathBuf,
    },
    /// A host on which ssh runs the docker command.
    Ssh(Ssh),
}

/// An address of ssh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ssh {
    /// The user, where it is not ssh's own choice.
    pub user: Option<String>,
    /// The host, or a name of ssh's configuration.
    pub host: String,
    /// The port, where it is not ssh's own choice.
    pub port: Option<u16>,
    /// The engine's socket there, where it is not the usual one.
    pub socket: Option<String>,
}

impl Endpoint {
    /// Whether the engine runs on this very host, so that the host's routes, addresses and folders concern it.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Unix(_))
    }
}

impl FromStr for Endpoint {
    type Err = String;

    /// Reads what `DOCKER_HOST` may be, and what [`fmt::Display`] writes: for TLS, the certificates' folder after a `#`.
    fn from_str(text: &str) -> Result<Self, String> {
        let known = "unix://PATH, tcp://HOST:PORT, ssh://USER@HOST are known";
        if let Some(path) = text.strip_prefix("unix://") {
            return Ok(Self::Unix(path.into()));
        }
        // Its port may be that of the scheme, which URLs leave out.
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| format!("{text:?} is not an engine address: {known}"))?;
        let bad = |why: &dyn fmt::Display| format!("{text:?} is not an engine address: {why}");
        let url = Url::parse(&format!("engine://{rest}")).map_err(|error| bad(&error))?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| bad(&"it has no host"))?.to_owned();
        let plain = |text: &str| !text.starts_with('-') && !text.contains(char::is_whitespace);
        match scheme {
            "tcp" | "http" | "https" => match url.fragment() {
                Some(folder) => {
                    let certificates = percent_decoded(folder).into();
                    Ok(Self::Tls { host: format!("{host}:{}", url.port().unwrap_or(TLS_PORT)), certificates })
                }
                None if scheme == "https" => {
                    Err(bad(&"TLS needs certificates: DOCKER_TLS_VERIFY and DOCKER_CERT_PATH"))
                }
                None => Ok(Self::Tcp(format!("{host}:{}", url.port().unwrap_or(TCP_PORT)))),
            },
            "ssh" if url.password().is_some() => Err(bad(&"a password in it would be visible to everyone: use a key")),
            "ssh" => {
                let user = Some(percent_decoded(url.username())).filter(|user| !user.is_empty());
                let socket = Some(percent_decoded(url.path())).filter(|path| !path.is_empty() && path != "/");
                // Each is a word of a command line, here and there.
                let words = [Some(&host), user.as_ref(), socket.as_ref()];
                if !words.into_iter().flatten().all(|word| plain(word) && !word.contains(['\'', '"', '$', '`', ';'])) {
                    return Err(bad(&"its parts would be options of the ssh command"));
                }
                Ok(Self::Ssh(Ssh { user, host, port: url.port(), socket }))
            }
            _ => Err(bad(&known)),
        }
    }
}

fn percent_decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(host) => write!(f, "tcp://{host}"),
            Self::Tls { host, certificates } => write!(f, "tcp://{host}#{}", certificates.display()),
            Self::Ssh(Ssh { user, host, port, socket }) => {
                write!(f, "ssh://")?;
                user.iter().try_for_each(|user| write!(f, "{user}@"))?;
                write!(f, "{host}")?;
                port.iter().try_for_each(|port| write!(f, ":{port}"))?;
                socket.iter().try_for_each(|socket| write!(f, "{socket}"))
            }
        }
    }
}

/// The engine's address, from the environment and the docker client's configuration directory.
///
/// # Errors
/// A context that is named but not there, or unreadable; an address of an unknown form.
pub fn resolve() -> Result<Endpoint, String> {
    let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let home = var("HOME").map(PathBuf::from).unwrap_or_default();
    let config = var("DOCKER_CONFIG").map_or_else(|| home.join(".docker"), PathBuf::from);
    if let Some(host) = var("DOCKER_HOST") {
        let tcp = ["tcp://", "http://", "https://"].iter().any(|scheme| host.starts_with(scheme));
        if tcp && (var("DOCKER_TLS_VERIFY").is_some() || host.starts_with("https://")) {
            let folder = var("DOCKER_CERT_PATH").map_or(config, PathBuf::from);
            return with_certificates(&host, &folder);
        }
        return host.parse();
    }
    match var("DOCKER_CONTEXT").or_else(|| current_context(&config)) {
        Some(name) if name != "default" => context(&config, &name),
        _ => DEFAULT.parse(),
    }
}

/// Whether the user names an engine: by `DOCKER_HOST`, or a context that is not the default one.
pub fn is_named() -> bool {
    let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let home = var("HOME").map(PathBuf::from).unwrap_or_default();
    let config = var("DOCKER_CONFIG").map_or_else(|| home.join(".docker"), PathBuf::from);
    let context = var("DOCKER_CONTEXT").or_else(|| current_context(&config));
    var("DOCKER_HOST").is_some() || context.is_some_and(|name| name != "default")
}

/// What is at Docker's usual socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsualSocket {
    /// Something listens.
    Listens,
    /// It is for other users.
    Forbidden,
    /// Nobody listens there.
    Absent,
}

/// Looks for Docker's usual socket.
pub fn usual_socket() -> UsualSocket {
    let Some(path) = DEFAULT.strip_prefix("unix://") else { return UsualSocket::Listens };
    match std::os::unix::net::UnixStream::connect(path).map_err(|error| error.kind()) {
        Err(std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused) => UsualSocket::Absent,
        Err(std::io::ErrorKind::PermissionDenied) => UsualSocket::Forbidden,
        _ => UsualSocket::Listens,
    }
}

fn with_certificates(host: &str, folder: &Path) -> Result<Endpoint, String> {
    let folder = std::path::absolute(folder).map_err(|error| format!("find {}: {error}", folder.display()))?;
    let ca = folder.join("ca.pem");
    if !ca.exists() {
        return Err(format!("{host}: {} is missing; without it the engine cannot be verified", ca.display()));
    }
    format!("{host}#{}", folder.display()).parse()
}

fn current_context(config: &Path) -> Option<String> {
    let text = std::fs::read_to_string(config.join("config.json")).ok()?;
    let json: serde_json::Value = serde_json::from_str(&text).ok()?;
    json["currentContext"].as_str().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// The layout is the docker client's: `contexts/meta/<sha256 of the name>/meta.json`, and certificates in
/// `contexts/tls/<the same>/docker/`.
fn context(config: &Path, name: &str) -> Result<Endpoint, String> {
    let digest = HEXLOWER.encode(&Sha256::digest(name.as_bytes()));
    let file = config.join("contexts/meta").join(&digest).join("meta.json");
    let text = std::fs::read_to_string(&file)
        .map_err(|error| format!("docker context {name:?}: read {}: {error}", file.display()))?;
    let json: serde_json::Value = serde_json::from_str(&text)
        .map_err(|error| format!("docker context {name:?}: parse {}: {error}", file.display()))?;
    let docker = &json["Endpoints"]["docker"];
    let host = docker["Host"]
        .as_str()
        .ok_or_else(|| format!("docker context {name:?}: {} names no docker host", file.display()))?;
    let certificates = config.join("contexts/tls").join(&digest).join("docker");
    if docker["SkipTLSVerify"] == true {
        return Err(format!("docker context {name:?}: it skips the verification of the engine (SkipTLSVerify)"));
    }
    let found = if certificates.is_dir() { with_certificates(host, &certificates) } else { host.parse() };
    found.map_err(|why| format!("docker context {name:?}: {why}"))
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
        assert_eq!(context(config.path(), "colima").unwrap().to_string(), "unix:///c.sock");
        assert!(context(config.path(), "gone").unwrap_err().contains("\"gone\""));

        // With TLS, its certificates are beside it, and without its authority it is refused.
        std::fs::write(meta.join("meta.json"), r#"{"Endpoints":{"docker":{"Host":"tcp://h:2376"}}}"#).unwrap();
        let tls = config.path().join("contexts/tls").join(digest).join("docker");
        std::fs::create_dir_all(&tls).unwrap();
        assert!(context(config.path(), "colima").unwrap_err().contains("is missing"));
        std::fs::write(tls.join("ca.pem"), "").unwrap();
        let found = context(config.path(), "colima").unwrap();
        assert_eq!(found, Endpoint::Tls { host: "h:2376".into(), certificates: tls });
        assert_eq!(found.to_string().parse(), Ok(found));
        let skips = r#"{"Endpoints":{"docker":{"Host":"tcp://h:2376","SkipTLSVerify":true}}}"#;
        std::fs::write(meta.join("meta.json"), skips).unwrap();
        assert!(context(config.path(), "colima").unwrap_err().contains("SkipTLSVerify"));
    }

    #[test]
    fn an_address_written_down_is_the_same_address() {
        for text in [
            "unix:///var/run/docker.sock",
            "tcp://127.0.0.1:2375",
            "tcp://[::1]:2375",
            "tcp://engine.example.com:2376#/home/me/.docker",
            "ssh://me@host:2222/run/user/1000/docker.sock",
            "ssh://host",
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), text);
        }
        assert_eq!("http://h".parse::<Endpoint>().unwrap().to_string(), "tcp://h:2375");
        for text in
            ["docker", "ftp://h", "ssh://me:secret@h", "ssh://-oProxyCommand=x", "ssh://h/$(x)", "tcp://", "https://h"]
        {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }
}
