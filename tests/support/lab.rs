//! A private network in a namespace of this machine: public addresses lead to this test, this test is the DNS server,
//! and the real egress is between them and an agent.

#![allow(dead_code, unreachable_pub, reason = "every test file uses a part of it")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bottler::policy::{EgressSpec, EnforcedPolicy};
use bottler::scan::KnownSecret;
use bottler::sidecar::egress::{Ask, Config, Egress, Pair, Stats, Update};
use bottler::sidecar::role::{CommandOf, MessageOf};
use bottler::sidecar::{Acknowledgement, Action, Command as SidecarCommand, CommandOutcome, Event, OutputLine};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

#[path = "namespace.rs"]
mod namespace;

use namespace::{Names, resolver};
pub use namespace::{in_namespace, sh};

/// The address of everything that is public.
pub const PUBLIC: &str = "93.184.215.14";
/// A private address that the user allows.
pub const MEANT: &str = "10.77.0.9";
/// The credentials for an upstream proxy.
pub const PROXY_CREDENTIALS: &str = "bottler:a proxy's password";
/// The port of a destination that sends informational responses endlessly.
pub const FLOOD: u16 = 8085;
/// The port of a destination that accepts connections and reads nothing.
pub const SINK: u16 = 8086;
/// Where a destination answers inside TLS, in HTTP/1.1, what a test wrote for it.
pub const SCRIPTED: u16 = 8444;
/// How long egress may take for one attempt.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The pieces of an answer to a request's head, each of which is sent by itself.
pub type Script = Arc<dyn Fn(&str) -> Vec<Vec<u8>> + Send + Sync>;

/// A request as it arrived, byte for byte.
pub struct Arrived {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub body: Bytes,
}

/// What arrived at the destinations.
#[derive(Default)]
pub struct Seen {
    /// Connections, by the address that was dialled.
    pub connections: Vec<SocketAddr>,
    /// Requests with their bodies, such as `POST /path`.
    pub requests: Vec<String>,
    /// The same, byte for byte.
    pub arrived: Vec<Arrived>,
    /// Bytes over plain TCP.
    pub bytes: Vec<u8>,
    /// Names that were resolved.
    pub names: Vec<String>,
    /// Heads of requests that arrived, in lines.
    pub heads: Vec<String>,
    /// What is answered at [`SCRIPTED`].
    pub script: Option<Script>,
}

/// A message from egress.
pub type Message = MessageOf<Egress>;
/// A command to egress.
pub type Do = Action<Update, Ask>;

pub struct Lab {
    pub seen: Arc<Mutex<Seen>>,
    pub proxy: SocketAddr,
    /// The folder of the sockets for named destinations.
    pub folder: tempfile::TempDir,
    /// The certificate of egress' CA, in PEM.
    pub ca: String,
    /// The specification that it was started with.
    pub spec: EgressSpec,
    tls: TlsConnector,
    tls_h2: TlsConnector,
    lines: Lines<BufReader<tokio::process::ChildStdout>>,
    input: tokio::process::ChildStdin,
    /// All lines that it has written.
    pub told: String,
    /// Killed when this is dropped.
    pub child: tokio::process::Child,
}

fn ca_file(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("ca.pem")
}

impl Lab {
    /// Starts egress with a specification in YAML. `names` maps host names to addresses; a name that starts with
    /// `rebind` resolves to one address after the other.
    pub async fn new(spec: &str, names: &Names, secrets: &[&str]) -> Self {
        Self::with(spec, names, secrets, true, false).await
    }

    /// The same, for an agent that can ask its operator.
    pub async fn supervised(spec: &str, names: &Names) -> Self {
        Self::with(spec, names, &[], true, true).await
    }

    /// The same, for destinations of the test's own: these addresses are this machine's, and nothing listens there.
    pub async fn without_destinations(spec: &str, names: &Names) -> Self {
        Self::with(spec, names, &[], false, false).await
    }

    async fn with(spec: &str, names: &Names, secrets: &[&str], with_destinations: bool, supervised: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let resolv = folder.path().join("resolv.conf");
        std::fs::write(&resolv, "nameserver 127.0.0.1\n").unwrap();
        sh(&format!(
            "ip link set lo up; ip addr replace {PUBLIC}/32 dev lo; ip addr replace {MEANT}/32 dev lo;
             mount -t tmpfs none /run; mkdir -p /run/bottler-ctl;
             ip -6 addr replace 2606:2800:21f::14/128 dev lo 2> /dev/null || true; mount --bind {} /etc/resolv.conf",
            resolv.display()
        ));
        for address in names.values().flatten().filter(|_| !with_destinations) {
            sh(&format!("ip addr replace {address}/32 dev lo"));
        }
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let asked = seen.clone();
        resolver(names.clone(), move |name| asked.lock().unwrap().names.push(name.to_owned())).await;
        let mut spec: EgressSpec = serde_yaml::from_str(spec).unwrap();
        if with_destinations {
            spec.roots.push(destinations(seen.clone(), names).await);
        }
        let proxy_credentials = spec.upstream_proxy.as_ref().map(|_| PROXY_CREDENTIALS.to_owned());
        let pairs = vec![Pair { name: "cred-proxy".into(), folder: folder.path().to_owned() }];
        let config = Config { proxy_credentials, pairs, supervised, ..Config::new("lab", EnforcedPolicy::first(spec)) };
        let mut lab = Self::start(&config, folder, seen).await;
        if !secrets.is_empty() {
            let secrets =
                secrets.iter().map(|&secret| KnownSecret { value: secret.to_owned(), hosts: Vec::new() }).collect();
            lab.update(Update::Secrets(secrets)).await;
        }
        lab
    }

    async fn start(started: &Config, folder: tempfile::TempDir, seen: Arc<Mutex<Seen>>) -> Self {
        let at = if started.policy.spec.tcp.is_empty() {
            "127.0.0.1:0".to_owned()
        } else {
            folder.path().display().to_string()
        };
        let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_bottler"))
            .args(["egress", &at])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(&[&serde_json::to_vec(started).unwrap()[..], b"\n"].concat()).await.unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
        let proxy = if started.policy.spec.tcp.is_empty() {
            let line = errors.next_line().await.unwrap().unwrap();
            line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}")).parse().unwrap()
        } else {
            "127.0.0.1:1".parse().unwrap()
        };
        let told: OutputLine<Message> = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
        let Message::Ready(ready) = told.message else { panic!("egress is not ready") };
        let mut roots = RootCertStore::empty();
        let ca = ready.ca;
        std::fs::write(ca_file(&folder), &ca).unwrap();
        roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let config = builder.with_root_certificates(roots).with_no_client_auth();
        let mut h2 = config.clone();
        h2.alpn_protocols = vec![b"h2".to_vec()];
        let (tls, tls_h2) = (TlsConnector::from(Arc::new(config)), TlsConnector::from(Arc::new(h2)));
        let spec = started.policy.spec.clone();
        Self { seen, proxy, folder, ca, spec, tls, tls_h2, lines, input, told: String::new(), child }
    }

    /// The file of `ca`. It is written once, so clients that run at the same time can read it.
    pub fn ca_file(&self) -> PathBuf {
        ca_file(&self.folder)
    }

    /// Sends something with curl; returns what was answered, and the status.
    pub async fn curl(&self, arguments: &[impl AsRef<std::ffi::OsStr>]) -> String {
        let mut command = tokio::process::Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "60", "-w", " %{http_code}"]);
        command.arg("--proxy").arg(format!("http://{}", self.proxy)).arg("--cacert").arg(self.ca_file());
        let output = command.args(arguments).output().await.unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// Sends something with curl that is refused for what it holds, and does not arrive.
    pub async fn curl_is_refused(&mut self, arguments: &[impl AsRef<std::ffi::OsStr>], what: &str) {
        let said = self.curl(arguments).await;
        assert!(said.contains("secret_found") && said.ends_with(" 400"), "{what}: {said}");
        self.until_refused(what, Some("secret_found")).await;
        assert!(self.seen.lock().unwrap().arrived.is_empty(), "{what}: it has arrived");
    }

    /// Sends a command, without waiting for its acknowledgement.
    pub async fn tell(&mut self, action: Do) {
        let command: CommandOf<Egress> = SidecarCommand { n: 1, action };
        self.input.write_all(&[&serde_json::to_vec(&command).unwrap()[..], b"\n"].concat()).await.unwrap();
    }

    /// Sends an update, which must be accepted.
    pub async fn update(&mut self, update: Update) {
        self.tell(Action::Update(update)).await;
        loop {
            if let Message::Acknowledged(acknowledged) = self.message().await {
                assert!(matches!(acknowledged.outcome, CommandOutcome::Done));
                return;
            }
        }
    }

    pub async fn message(&mut self) -> Message {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await.expect("egress says something");
        let line = line.unwrap().expect("egress is_alive");
        self.told.push_str(&line);
        serde_json::from_str::<OutputLine<Message>>(&line).unwrap().message
    }

    /// Sends a request as `bottler policy` does, through the executable that an exec runs.
    pub async fn ctl(&self, action: Do) -> CommandOutcome<Stats> {
        let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_bottler"))
            .args(["ctl", "sidecar"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let command: CommandOf<Egress> = SidecarCommand { n: 7, action };
        let command = [&serde_json::to_vec(&command).unwrap()[..], b"\n"].concat();
        child.stdin.take().unwrap().write_all(&command).await.unwrap();
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("it answers").unwrap();
        let answer: Acknowledgement<Stats> = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer.n, 7);
        answer.outcome
    }

    /// All decisions so far.
    pub async fn decisions(&mut self) -> Vec<Event> {
        self.tell(Action::Flush).await;
        let mut events = Vec::new();
        loop {
            match self.message().await {
                Message::Audit(event) => events.push(*event),
                Message::Acknowledged(_) => return events,
                Message::Notice(_) => {}
                Message::Ready(_) => panic!("it says that it is ready again"),
            }
        }
    }

    /// Sends bytes to the proxy; returns the whole response.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.proxy).await.unwrap();
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        read(&mut stream).await
    }

    /// Sends a CONNECT; returns the connection if it was granted, or else the response.
    pub async fn connect(&self, authority: &str) -> Result<TcpStream, String> {
        let mut stream = TcpStream::connect(self.proxy).await.unwrap();
        let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match tokio::time::timeout(PATIENCE, stream.read_u8()).await.expect("egress answers") {
                Ok(byte) => head.push(byte),
                Err(_) => return Err(String::from_utf8_lossy(&head).into_owned()),
            }
        }
        if head.starts_with(b"HTTP/1.1 200") {
            return Ok(stream);
        }
        Err(String::from_utf8_lossy(&head).into_owned() + &read(&mut stream).await)
    }

    /// Opens TLS inside a CONNECT.
    pub async fn tls(&self, authority: &str, name: &str, h2: bool) -> Result<TlsStream<TcpStream>, String> {
        let stream = self.connect(authority).await?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connector = if h2 { &self.tls_h2 } else { &self.tls };
        connector.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))
    }

    /// Sends bytes inside TLS to a host; returns the whole response.
    pub async fn inside(&self, host: &str, bytes: &[u8]) -> String {
        let mut stream = match self.tls(&format!("{host}:443"), host, false).await {
            Ok(stream) => stream,
            Err(answer) => return answer,
        };
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        read(&mut stream).await
    }

    /// Waits until a refusal was reported, with this code if one is given. A connection may end slightly earlier.
    pub async fn until_refused(&mut self, name: &str, code: Option<&str>) {
        let told = async {
            while !self
                .decisions()
                .await
                .iter()
                .any(|event| event.kind.decision == "refuse" && code.is_none_or(|code| event.kind.code == code))
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, told).await.unwrap_or_else(|_| panic!("{name}: no audit event"));
    }

    pub fn arrived(&self) -> (usize, usize) {
        let seen = self.seen.lock().unwrap();
        (seen.connections.len(), seen.requests.len())
    }
}

async fn read(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "egress keeps the connection open: {}", String::from_utf8_lossy(&answer));
    String::from_utf8_lossy(&answer).into_owned()
}

pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Destinations at every address of this namespace: TLS at 443, HTTP at 80, bytes at 5432, and what must never be reached
/// at other ports. The authority that certifies them, in PEM.
async fn destinations(seen: Arc<Mutex<Seen>>, names: &Names) -> String {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let known = ["*.example.com", "example.com", "*.example.org"];
    let names: Vec<String> = known.into_iter().chain(names.keys().copied()).map(str::to_owned).collect();
    let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(vec![leaf.der().clone()], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut plain = config.clone();
    plain.alpn_protocols.clear();
    let scripted_tls = TlsAcceptor::from(Arc::new(plain));
    let acceptor = TlsAcceptor::from(Arc::new(config));
    for port in [443_u16, 80, 8080, 22, 5432, FLOOD, SINK, SCRIPTED] {
        let listener = TcpListener::bind(("0.0.0.0", port)).await.unwrap();
        let (seen, acceptor, scripted_tls) = (seen.clone(), acceptor.clone(), scripted_tls.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let at = stream.local_addr().unwrap();
                seen.lock().unwrap().connections.push(at);
                let (seen, acceptor, scripted_tls) = (seen.clone(), acceptor.clone(), scripted_tls.clone());
                tokio::spawn(async move {
                    match port {
                        443 => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                http(TokioIo::new(stream), seen).await;
                            }
                        }
                        SCRIPTED => {
                            if let Ok(stream) = scripted_tls.accept(stream).await {
                                scripted(stream, seen).await;
                            }
                        }
                        80 => http(TokioIo::new(stream), seen).await,
                        FLOOD => flood(stream).await,
                        SINK => {
                            let _stream = stream;
                            std::future::pending::<()>().await;
                        }
                        _ => bytes(stream, seen).await,
                    }
                });
            }
        });
    }
    root
}

/// The response of a destination.
type Answer = http_body_util::combinators::BoxBody<Bytes, hyper::Error>;

fn whole(text: String) -> Answer {
    http_body_util::Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed()
}

async fn http<I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static>(io: I, seen: Arc<Mutex<Seen>>) {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let seen = seen.clone();
        async move {
            let mut request = request;
            let lines = request
                .headers()
                .iter()
                .map(|(name, value)| format!("\n{name}: {}", String::from_utf8_lossy(value.as_bytes())));
            let line =
                format!("{} {} {:?}{}", request.method(), request.uri(), request.version(), lines.collect::<String>());
            seen.lock().unwrap().heads.push(line);
            if let Some(key) = request.headers().get("sec-websocket-key") {
                let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
                if request.uri().path() == "/socket" {
                    tokio::spawn(socket(hyper::upgrade::on(&mut request), seen));
                    let answer = Response::builder().status(101).header("upgrade", "websocket");
                    let answer = answer.header("connection", "Upgrade").header("sec-websocket-accept", accept);
                    return Ok(answer.body(whole(String::new())).unwrap());
                }
            }
            let (head, body) = request.into_parts();
            let authorization = head.headers.get("proxy-authorization").is_some();
            assert!(!authorization, "a proxy's credentials have come here");
            match head.uri.path() {
                "/reflect" => return Ok(reflected(&head.headers)),
                // Echoes every piece as soon as it arrives.
                "/echo" => return Ok(Response::new(body.boxed())),
                "/big" => {
                    let piece = Bytes::from(vec![b'z'; 1 << 20]);
                    let pieces = (0..64).map(move |_| Ok(hyper::body::Frame::data(piece.clone())));
                    return Ok(Response::new(
                        http_body_util::StreamBody::new(futures_util::stream::iter(pieces)).boxed(),
                    ));
                }
                "/leak" => return Ok(Response::new(whole(leak()))),
                _ => {}
            }
            let body = BodyExt::collect(body).await.map(http_body_util::Collected::to_bytes);
            // A body that was cut off has not arrived.
            let Ok(body) = body else { return Err("cut off") };
            let line = format!("{} {} {}", head.method, head.uri.path(), String::from_utf8_lossy(&body));
            let target = head.uri.path_and_query().map_or_else(String::new, ToString::to_string);
            let arrived = Arrived { method: head.method.to_string(), target, body };
            let mut all = seen.lock().unwrap();
            all.requests.push(line);
            all.arrived.push(arrived);
            drop(all);
            let newer = head
                .headers
                .get("authorization")
                .is_some_and(|value| value.as_bytes().starts_with(b"Bearer sk-live-newer"));
            let (status, text) = match (head.uri.path(), newer) {
                ("/newer", true) => (200, "accepted"),
                ("/newer", false) => (401, "rejected"),
                ("/forbidden", _) => (403, "forbidden"),
                // A body of a response to HEAD is an error in HTTP/2.
                _ if head.method == "HEAD" => (200, ""),
                _ => (200, "here"),
            };
            Ok(Response::builder().status(status).body(whole(text.to_owned())).unwrap())
        }
    });
    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    let _ = builder.serve_connection_with_upgrades(io, service).await;
}

/// Shows what it was sent, in headers, body and trailers.
fn reflected(headers: &hyper::HeaderMap) -> Response<Answer> {
    let shown =
        headers.get("authorization").cloned().unwrap_or_else(|| hyper::header::HeaderValue::from_static("none"));
    let text = String::from_utf8_lossy(shown.as_bytes()).into_owned();
    let trailers: hyper::HeaderMap =
        [(hyper::header::HeaderName::from_static("x-trailer"), shown.clone())].into_iter().collect();
    let (one, two) = text.split_at(text.len() / 2);
    let data = |text: &str| Ok(hyper::body::Frame::data(Bytes::from(text.to_owned())));
    let frames = [data(one), data(two), Ok(hyper::body::Frame::trailers(trailers))];
    let body = http_body_util::StreamBody::new(futures_util::stream::iter(frames)).boxed();
    Response::builder().header("x-header", shown).body(body).unwrap()
}

/// Answers by the test's script, once for each connection.
async fn scripted(mut stream: tokio_rustls::server::TlsStream<TcpStream>, seen: Arc<Mutex<Seen>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let script = {
        let mut seen = seen.lock().unwrap();
        seen.heads.push(head.clone());
        seen.script.clone()
    };
    let plain = || vec![b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhere".to_vec()];
    for piece in script.map_or_else(plain, |script| script(&head)) {
        if stream.write_all(&piece).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
    let _ = stream.shutdown().await;
}

/// Records every byte that arrives.
async fn socket(upgrade: hyper::upgrade::OnUpgrade, seen: Arc<Mutex<Seen>>) {
    let Ok(stream) = upgrade.await else { return };
    let (mut stream, mut buffer) = (TokioIo::new(stream), vec![0; 64 << 10]);
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        seen.lock().unwrap().bytes.extend_from_slice(&buffer[..length]);
    }
}

/// Sends informational responses endlessly.
async fn flood(mut stream: TcpStream) {
    let mut buffer = vec![0; 4096];
    let _ = stream.read(&mut buffer).await;
    let many = "HTTP/1.1 102 Processing\r\n\r\n".repeat(1000);
    while stream.write_all(many.as_bytes()).await.is_ok() {}
}

/// A token in a provider's format, assembled at run time.
pub fn leak() -> String {
    ["the token is ghp_", "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx"].concat()
}

/// A proxy at a private address that requires credentials. It connects to any public name, and records the names.
pub async fn upstream_proxy(credentials: &str) -> Arc<Mutex<Vec<String>>> {
    let noted: Arc<Mutex<Vec<String>>> = Arc::default();
    let listener = TcpListener::bind((MEANT, 3128)).await.unwrap();
    let expected = format!("Basic {}", data_encoding::BASE64.encode(credentials.as_bytes()));
    let list = noted.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (list, expected) = (list.clone(), expected.clone());
            let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
                let (list, expected) = (list.clone(), expected.clone());
                async move {
                    list.lock().unwrap().push(format!("{} {}", request.method(), request.uri()));
                    let shown = request.headers().get("proxy-authorization").map(|value| value.as_bytes().to_vec());
                    let mut response = Response::new(whole("from the proxy".to_owned()));
                    if shown.as_deref() != Some(expected.as_bytes()) {
                        *response.status_mut() = hyper::StatusCode::PROXY_AUTHENTICATION_REQUIRED;
                    } else if request.method() == hyper::Method::CONNECT {
                        *response.body_mut() = whole(String::new());
                        tokio::spawn(async move {
                            let mut near = TokioIo::new(hyper::upgrade::on(&mut request).await.unwrap());
                            let mut far = TcpStream::connect((PUBLIC, 443)).await.unwrap();
                            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                        });
                    }
                    Ok::<_, std::convert::Infallible>(response)
                }
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection.with_upgrades());
        }
    });
    noted
}

/// Sends `hello`, then records and echoes what arrives.
async fn bytes(mut stream: TcpStream, seen: Arc<Mutex<Seen>>) {
    let _ = stream.write_all(b"hello").await;
    let mut buffer = vec![0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        seen.lock().unwrap().bytes.extend_from_slice(&buffer[..length]);
        let _ = stream.write_all(&buffer[..length]).await;
    }
}
