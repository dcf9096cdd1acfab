//! The client: requests, connections and bytes, and how long they take.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::origin::now;
use super::peer::{HELD, Running};
use super::{ADDRESS, HOST};

/// Connections that ask at once.
const AT_ONCE: usize = 20;
/// Connections that are made at once.
const NEW_AT_ONCE: usize = 4;

#[derive(Clone)]
pub struct Load {
    /// Whether a rough idea is enough.
    pub quick: bool,
    /// What is sent up, again and again: a mebibyte.
    pub text: &'static [u8],
    /// Whether it is so slow that fewer bytes tell as much.
    pub slow: bool,
    /// The most that goes in one request, in MiB, if there is such a bound.
    pub largest: Option<usize>,
    pub way: Way,
}

/// How the client reaches the destination.
#[derive(Clone)]
pub enum Way {
    Direct,
    /// A proxy, and whether requests have the placeholder of a key.
    Proxy {
        address: SocketAddr,
        key: bool,
    },
    /// The socket of a cred-proxy.
    Route(PathBuf),
}

/// A connection.
type Connection = BufReader<Box<dyn Stream>>;

pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What was measured; memory is nought where there is nothing between.
#[derive(Default)]
pub struct Numbers {
    pub p50: f64,
    pub p99: f64,
    pub rate: f64,
    /// Processor time for a request at that rate, in microseconds.
    pub cost: f64,
    pub connections: f64,
    pub up: f64,
    pub down: f64,
    pub event: f64,
    pub idle: f64,
    pub peak: f64,
}

impl Load {
    pub async fn measure(&self, running: Option<&Running>) -> Numbers {
        let mut it = Numbers::default();
        self.connect().await;
        it.idle = running.map_or(0.0, |running| running.memory("VmRSS"));
        (it.p50, it.p99) = self.latency().await;
        let before = running.map_or(0.0, Running::processor);
        it.rate = self.rate().await;
        let spent = running.map_or(0.0, Running::processor) - before;
        it.cost = spent / (it.rate * self.window().as_secs_f64());
        it.connections = self.connections().await;
        let megabytes = match self.largest {
            // Pipelock needs seconds for each.
            Some(each) => 2 * each,
            None if self.quick || self.slow => 128,
            None => 1024,
        };
        (it.up, it.down) = self.bytes(megabytes).await;
        it.event = self.event().await;
        it.peak = running.map_or(0.0, |running| running.memory("VmHWM"));
        it
    }

    /// What the path begins with, and a header.
    fn words(&self) -> (&'static str, String) {
        match &self.way {
            Way::Proxy { key: true, .. } => ("", format!("Authorization: Bearer {HELD}\r\n")),
            Way::Direct | Way::Proxy { .. } => ("", String::new()),
            Way::Route(_) => ("/route", String::new()),
        }
    }

    async fn connect(&self) -> Connection {
        let stream = match &self.way {
            Way::Direct => TcpStream::connect((ADDRESS, 443)).await.unwrap(),
            Way::Route(socket) => {
                let stream = UnixStream::connect(socket).await.unwrap();
                return BufReader::with_capacity(256 << 10, Box::new(stream));
            }
            Way::Proxy { address, .. } => {
                let mut stream = TcpStream::connect(address).await.unwrap();
                let request = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n");
                stream.write_all(request.as_bytes()).await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
                stream
            }
        };
        stream.set_nodelay(true).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone));
        let config = builder.with_no_client_auth();
        let name = ServerName::try_from(HOST).unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        BufReader::with_capacity(256 << 10, Box::new(stream))
    }

    /// A POST of 1 KB on a connection that stays: median and 99th percentile, in milliseconds.
    async fn latency(&self) -> (f64, f64) {
        let mut stream = self.connect().await;
        let count = if self.quick { 300 } else { 3000 };
        let mut times = Vec::new();
        for _ in 0..count {
            let began = Instant::now();
            self.post(&mut stream).await;
            times.push(began.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        (times[count / 2], times[count * 99 / 100])
    }

    fn window(&self) -> Duration {
        Duration::from_secs(if self.quick { 1 } else { 4 })
    }

    async fn rate(&self) -> f64 {
        let (done, until) = (Arc::new(AtomicU64::new(0)), Instant::now() + self.window());
        let mut tasks = Vec::new();
        for _ in 0..AT_ONCE {
            let (mut stream, done, this) = (self.connect().await, done.clone(), self.clone());
            tasks.push(tokio::spawn(async move {
                while Instant::now() < until {
                    this.post(&mut stream).await;
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        per_second(&done, self.window())
    }

    async fn connections(&self) -> f64 {
        let (done, until) = (AtomicU64::new(0), Instant::now() + self.window());
        let one = async || {
            while Instant::now() < until {
                self.post(&mut self.connect().await).await;
                done.fetch_add(1, Ordering::Relaxed);
            }
        };
        futures_util::future::join_all((0..NEW_AT_ONCE).map(|_| one())).await;
        per_second(&done, self.window())
    }

    /// Megabytes per second, there and back.
    async fn bytes(&self, count: usize) -> (f64, f64) {
        // In one request, or in as many as the way needs.
        let (each, times) = self.largest.map_or((count, 1), |each| (each, count / each));
        let megabytes = f64::from(u32::try_from(count).unwrap()) * 1.048_576;
        let mut stream = self.connect().await;
        let (before, header) = self.words();
        let began = Instant::now();
        let head =
            format!("POST {before}/up HTTP/1.1\r\nHost: {HOST}\r\n{header}Content-Length: {}\r\n\r\n", each << 20);
        for _ in 0..times {
            stream.write_all(head.as_bytes()).await.unwrap();
            for _ in 0..each {
                stream.write_all(self.text).await.unwrap();
            }
            stream.flush().await.unwrap();
            answer(&mut stream).await;
        }
        let up = megabytes / began.elapsed().as_secs_f64();
        let began = Instant::now();
        let head = format!("GET {before}/down/{each} HTTP/1.1\r\nHost: {HOST}\r\n{header}\r\n");
        for _ in 0..times {
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            answer(&mut stream).await;
        }
        (up, megabytes / began.elapsed().as_secs_f64())
    }

    /// From the sending of an event to its arrival: the median, in milliseconds.
    async fn event(&self) -> f64 {
        let mut times = Vec::new();
        let mut stream = self.connect().await;
        let (before, header) = self.words();
        for _ in 0..51 {
            let request = format!("GET {before}/event HTTP/1.1\r\nHost: {HOST}\r\n{header}\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            let mut sent = None;
            let mut line = String::new();
            // Chunked: the event is on a line of its own, an empty chunk ends it.
            while line.trim_end() != "0" {
                line.clear();
                stream.read_line(&mut line).await.unwrap();
                if let Some(time) = line.trim_end().strip_prefix("data: ") {
                    let elapsed = now().saturating_sub(time.parse::<u128>().unwrap());
                    sent = Some(Duration::from_nanos(u64::try_from(elapsed).unwrap()).as_secs_f64() * 1e3);
                }
            }
            stream.read_line(&mut line).await.unwrap();
            times.push(sent.unwrap());
        }
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    }
}

fn per_second(done: &AtomicU64, window: Duration) -> f64 {
    f64::from(u32::try_from(done.load(Ordering::Relaxed)).unwrap()) / window.as_secs_f64()
}

impl Load {
    async fn post(&self, stream: &mut Connection) {
        let (before, header) = self.words();
        let mut request = format!(
            "POST {before}/v1/messages HTTP/1.1\r\nHost: {HOST}\r\n{header}Content-Type: application/json\r\n\
             Content-Length: 1024\r\n\r\n"
        )
        .into_bytes();
        let body = b"{\"role\": \"user\", \"content\": \"an ordinary sentence of a conversation.\"}\n";
        request.extend(body.iter().copied().cycle().take(1024));
        stream.write_all(&request).await.unwrap();
        stream.flush().await.unwrap();
        answer(stream).await;
    }
}

/// Reads an answer of known length.
async fn answer(stream: &mut Connection) {
    let (mut length, mut line) = (None, String::new());
    loop {
        line.clear();
        stream.read_line(&mut line).await.unwrap();
        let text = line.trim_end().to_ascii_lowercase();
        if text.is_empty() {
            break;
        }
        length = text.strip_prefix("content-length:").map(|text| text.trim().parse().unwrap()).or(length);
    }
    let mut left: usize = length.expect("its length is known");
    while left > 0 {
        let taken = stream.fill_buf().await.unwrap().len().min(left);
        assert!(taken > 0, "it ends early");
        stream.consume(taken);
        left -= taken;
    }
}

/// Each way has an authority of its own: what is measured is not whether it is trusted.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
