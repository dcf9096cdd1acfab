//! A proxy in front of the real engine, on its own socket, that breaks one call.

#![allow(dead_code, unreachable_pub, reason = "every test file uses a part of it")]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Maximum length of a request's head, in bytes.
const MAX_HEAD: usize = 64 << 10;
/// How long a delayed call is held back.
const DELAY: Duration = Duration::from_secs(2);

/// What goes wrong with the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It succeeds, but later.
    Delay,
    /// It is accepted and never answered, and has no effect.
    Hang,
    /// It is refused, and has no effect.
    Status500,
    /// It takes effect, and half of the response arrives.
    Truncate,
    /// The connection is closed, and it has no effect.
    Reset,
    /// It takes effect, and the connection is closed without a response.
    LoseAnswer,
}

impl Fault {
    pub const ALL: [Self; 6] =
        [Self::Delay, Self::Hang, Self::Status500, Self::Truncate, Self::Reset, Self::LoseAnswer];
}

/// Which call: the `nth` of a kind, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strike {
    pub kind: String,
    pub nth: usize,
    pub fault: Fault,
}

/// The proxy. It runs until the process ends.
pub struct FaultProxy {
    folder: tempfile::TempDir,
    shared: Arc<Shared>,
}

struct Shared {
    engine: PathBuf,
    calls: Mutex<Vec<String>>,
    strike: Option<Strike>,
    struck: AtomicBool,
    open: Mutex<Vec<UnixStream>>,
}

impl FaultProxy {
    pub fn start(engine: &Path, strike: Option<Strike>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
        let (calls, struck, open) = (Mutex::default(), AtomicBool::new(false), Mutex::default());
        let shared = Arc::new(Shared { engine: engine.to_owned(), calls, strike, struck, open });
        let serving = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = serving.clone();
                shared.open.lock().unwrap().extend(client.try_clone());
                // Broken connections are expected here.
                std::thread::spawn(move || serve(client, &shared));
            }
        });
        Self { folder, shared }
    }

    pub fn endpoint(&self) -> String {
        format!("unix://{}/socket", self.folder.path().display())
    }

    /// The kinds of all calls so far, in order.
    pub fn calls(&self) -> Vec<String> {
        self.shared.calls.lock().unwrap().clone()
    }

    /// Closes all open connections. New ones are served.
    pub fn cut(&self) {
        for client in self.shared.open.lock().unwrap().drain(..) {
            let _ = client.shutdown(Shutdown::Both);
        }
    }

    /// Whether the call that is to go wrong has been made.
    pub fn has_struck(&self) -> bool {
        self.shared.struck.load(Ordering::Relaxed)
    }
}

/// A request's method and path without version, ids and query: `POST /containers/ID/start`.
fn kind(head: &str) -> String {
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && !part.starts_with("v1.")).collect();
    if parts.len() > 1 && !matches!(parts[1], "json" | "create") {
        parts[1] = "ID";
    }
    format!("{method} /{}", parts.join("/"))
}

fn serve(mut client: UnixStream, shared: &Shared) -> Option<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
        assert!(head.len() < MAX_HEAD, "a head of a request that never ends");
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let kind = kind(&text);
    let nth = {
        let mut calls = shared.calls.lock().unwrap();
        calls.push(kind.clone());
        calls.iter().filter(|call| **call == kind).count()
    };
    let due = shared.strike.as_ref().filter(|strike| strike.kind == kind && strike.nth == nth);
    let fault = due.map(|strike| strike.fault);
    shared.struck.fetch_or(fault.is_some(), Ordering::Relaxed);
    match fault {
        Some(Fault::Delay) => std::thread::sleep(DELAY),
        Some(Fault::Hang) => {
            // Until the client gives up.
            let _ = std::io::copy(&mut client, &mut std::io::sink());
            return None;
        }
        Some(Fault::Status500) => {
            let body = "{\"message\":\"struck by the test\"}";
            let head = "HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nConnection: close";
            write!(client, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).ok()?;
            client.shutdown(Shutdown::Both).ok()?;
            return None;
        }
        Some(Fault::Reset) => return None,
        Some(Fault::Truncate | Fault::LoseAnswer) | None => {}
    }
    let mut engine = UnixStream::connect(&shared.engine).ok()?;
    // One request per connection, so that all of them are seen here.
    let line = text.find("\r\n").unwrap_or_default();
    let upgrade = text.to_ascii_lowercase().contains("\r\nconnection: upgrade");
    let close = if upgrade { "" } else { "\r\nConnection: close" };
    engine.write_all(format!("{}{close}{}", &text[..line], &text[line..]).as_bytes()).ok()?;
    let (mut from, mut to) = (client.try_clone().ok()?, engine.try_clone().ok()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    match fault {
        Some(Fault::LoseAnswer) => {
            // The call has taken effect when the response starts.
            let _ = engine.read(&mut byte);
        }
        Some(Fault::Truncate) => {
            let mut begin = [0; 40];
            let length = engine.read(&mut begin).ok()?;
            client.write_all(&begin[..length.min(20)]).ok()?;
        }
        _ => drop(std::io::copy(&mut engine, &mut client)),
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = engine.shutdown(Shutdown::Both);
    None
}
