//! Upstreams of the git gate: OpenSSH's server, `git http-backend` with a server of Git LFS, and a relay that counts what
//! passes.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;

use crate::support::process::wait_for;

/// Starts sshd with keys of its own in a folder; returns its port.
pub fn start_sshd(folder: &Path, sshd: &mut Option<Child>) -> u16 {
    let file = |name: &str| folder.join(name).display().to_string();
    for name in ["host", "user"] {
        let mut keygen = Command::new("ssh-keygen");
        assert!(keygen.args(["-q", "-t", "ed25519", "-N", "", "-f", &file(name)]).status().unwrap().success());
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
         PermitRootLogin yes\nUsePAM no\nPasswordAuthentication no\nAcceptEnv GIT_PROTOCOL\nMaxStartups 100\n",
        file("host"),
        file("user.pub")
    );
    std::fs::write(file("sshd_config"), config).unwrap();
    let mut command = Command::new("/usr/sbin/sshd");
    command.args(["-D", "-e", "-f", &file("sshd_config")]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    *sshd = Some(command.spawn().expect("openssh-server is installed"));
    wait_for("sshd", || TcpStream::connect(("127.0.0.1", port)).ok());
    port
}

/// An upstream over HTTP.
#[derive(Clone)]
pub struct HttpUpstream {
    root: PathBuf,
    /// The requests, each with the beginning of its body.
    pub requests: Arc<Mutex<Vec<String>>>,
    /// What is responded to pushes instead of git's response.
    pub scripted: Arc<Mutex<Option<Vec<u8>>>>,
    /// Requests that contain these words wait until there are none.
    pub hold: Arc<watch::Sender<Option<&'static str>>>,
    /// Where the server of Git LFS says that objects are, instead of below the repository.
    pub lfs_at: Arc<Mutex<Option<String>>>,
    /// How many requests are served now, also of clients that have gone.
    pub busy: Arc<AtomicU64>,
}

impl HttpUpstream {
    pub fn new(root: PathBuf) -> Self {
        let hold = Arc::new(watch::channel(None).0);
        let (requests, scripted, lfs_at, busy) = (Arc::default(), Arc::default(), Arc::default(), Arc::default());
        Self { root, requests, scripted, hold, lfs_at, busy }
    }
}

/// Serves repositories by `git http-backend`.
pub fn http_backend(upstream: HttpUpstream) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let upstream = upstream.clone();
                let service = service_fn(move |request| serve(upstream.clone(), request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
    });
    address
}

async fn serve(upstream: HttpUpstream, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let first = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
    upstream.requests.lock().unwrap().push(format!("{} {} {first}", head.method, head.uri));
    let holds = |words: Option<&str>| words.is_some_and(|words| first.contains(words));
    upstream.hold.subscribe().wait_for(|words| !holds(*words)).await.map_err(std::io::Error::other)?;
    if let Some((repository, rest)) = head.uri.path().split_once("/info/lfs") {
        let at = upstream.lfs_at.lock().unwrap().clone();
        let host = head.headers["host"].to_str().unwrap_or_default();
        let at = at.unwrap_or_else(|| format!("http://{host}{repository}/info/lfs"));
        return Ok(crate::git_lfs_server::respond(&upstream.root.join("lfs"), head.method.as_str(), rest, &body, &at));
    }
    let scripted = upstream.scripted.lock().unwrap().clone();
    if let Some(scripted) = scripted.filter(|_| head.method == "POST" && head.uri.path().ends_with("receive-pack")) {
        return Ok(Response::new(Full::new(scripted.into())));
    }
    upstream.busy.fetch_add(1, Ordering::SeqCst);
    // A client that goes does not end it.
    let work = tokio::spawn(async move {
        let done = cgi(upstream.root, head, body).await;
        upstream.busy.fetch_sub(1, Ordering::SeqCst);
        done
    });
    work.await.map_err(std::io::Error::other)?
}

async fn cgi(
    root: PathBuf,
    head: hyper::http::request::Parts,
    body: Bytes,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let header =
        |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let mut command = tokio::process::Command::new("/usr/bin/git");
    command.args(["-c", "safe.directory=*", "http-backend"]).env_clear().env("PATH", std::env::var("PATH").unwrap());
    command.env("GIT_PROJECT_ROOT", root).env("GIT_HTTP_EXPORT_ALL", "1").env("REMOTE_USER", "test");
    command.env("PATH_INFO", head.uri.path()).env("QUERY_STRING", head.uri.query().unwrap_or_default());
    command.env("REQUEST_METHOD", head.method.as_str()).env("CONTENT_TYPE", header("content-type"));
    command.env("GIT_PROTOCOL", header("git-protocol")).env("CONTENT_LENGTH", body.len().to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().unwrap();
    tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut stdin, &body).await });
    let output = child.wait_with_output().await?.stdout;
    let end = output.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_default();
    let mut response = Response::builder();
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let (name, value) = line.split_once(": ").unwrap_or_default();
        response = match name {
            "Status" => response.status(value.split(' ').next().unwrap_or_default().parse::<u16>().unwrap_or(500)),
            name => response.header(name, value),
        };
    }
    response
        .body(Full::new(Bytes::copy_from_slice(output.get(end + 4..).unwrap_or_default())))
        .map_err(std::io::Error::other)
}

/// A direction through a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    There,
    Back,
}

/// Something that is done when so many bytes have passed.
struct Trap {
    way: Way,
    at: u64,
    action: Box<dyn FnOnce() + Send>,
}

/// Passes connections on, and counts.
pub struct Relay {
    pub address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    passed: Mutex<[u64; 2]>,
    trap: Mutex<Option<Trap>>,
    open: AtomicU64,
    accepted: AtomicU64,
    words: Vec<&'static str>,
    seen: Mutex<Vec<usize>>,
}

impl Relay {
    /// Listens, and leads to where `to` says at the moment of each connection. Counts `words` on the way there.
    pub fn new(words: &[&'static str], to: impl Fn() -> SocketAddr + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Mutex::new(vec![0; words.len()]);
        let state = Arc::new(State { words: words.to_vec(), seen, ..State::default() });
        let shared = state.clone();
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let near = near.unwrap();
                let Ok(far) = TcpStream::connect(to()) else { continue };
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                shared.open.fetch_add(2, Ordering::SeqCst);
                for (way, from, into) in [(Way::There, &near, &far), (Way::Back, &far, &near)] {
                    let (from, into) = (from.try_clone().unwrap(), into.try_clone().unwrap());
                    let state = shared.clone();
                    std::thread::spawn(move || {
                        state.copy(way, from, &into);
                        let _ = into.shutdown(Shutdown::Write);
                        state.open.fetch_sub(1, Ordering::SeqCst);
                    });
                }
            }
        });
        Self { address, state }
    }

    /// How many bytes have passed since the last call.
    pub fn take(&self) -> [u64; 2] {
        std::mem::take(&mut self.state.passed.lock().unwrap())
    }

    /// How often each word has passed.
    pub fn seen(&self) -> Vec<usize> {
        self.state.seen.lock().unwrap().clone()
    }

    /// How many connections there have been.
    pub fn accepted(&self) -> u64 {
        self.state.accepted.load(Ordering::SeqCst)
    }

    /// How many directions are open.
    pub fn open(&self) -> u64 {
        self.state.open.load(Ordering::SeqCst)
    }

    /// Does something when so many bytes have passed; replaces what was to be done.
    pub fn trap(&self, way: Way, at: u64, action: impl FnOnce() + Send + 'static) {
        *self.state.trap.lock().unwrap() = Some(Trap { way, at, action: Box::new(action) });
    }

    /// Whether nothing is to be done any more.
    pub fn is_sprung(&self) -> bool {
        self.state.trap.lock().unwrap().is_none()
    }
}

impl State {
    fn copy(&self, way: Way, mut from: TcpStream, mut into: &TcpStream) {
        let (mut piece, mut before) = (vec![0; 16 << 10], Vec::new());
        while let Ok(length @ 1..) = from.read(&mut piece) {
            if way == Way::There {
                self.count(&mut before, &piece[..length]);
            }
            let mut passed = self.passed.lock().unwrap();
            let total = &mut passed[way as usize];
            let (start, end) = (*total, *total + length as u64);
            *total = end;
            drop(passed);
            let springs = |trap: &mut Trap| trap.way == way && trap.at <= end;
            let trap = self.trap.lock().unwrap().take_if(springs);
            let cut = trap.as_ref().map_or(length, |trap| usize::try_from(trap.at.saturating_sub(start)).unwrap());
            let written = into.write_all(&piece[..cut]);
            if let Some(trap) = trap {
                (trap.action)();
            }
            if written.and_then(|()| into.write_all(&piece[cut..length])).is_err() {
                // What is still sent is dropped.
                let _ = from.shutdown(Shutdown::Both);
                return;
            }
        }
    }

    fn count(&self, before: &mut Vec<u8>, piece: &[u8]) {
        before.extend_from_slice(piece);
        let longest = self.words.iter().map(|word| word.len()).max().unwrap_or_default();
        let mut seen = self.seen.lock().unwrap();
        for (word, count) in self.words.iter().zip(seen.iter_mut()) {
            // Only what ends in the new piece.
            let from = before.len().saturating_sub(piece.len() + word.len() - 1);
            *count += memchr::memmem::find_iter(&before[from..], word).count();
        }
        let excess = before.len().saturating_sub(longest);
        before.drain(..excess);
    }
}
