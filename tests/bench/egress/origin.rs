//! The destination, in a process of its own: TLS, HTTP/1.1 and HTTP/2.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{ADDRESS, HOST};

/// Killed when it is dropped.
pub struct Origin(Child);

impl Drop for Origin {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Writes an authority and what it certifies, and starts the destination.
pub fn start(folder: &Path) -> Origin {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "bench");
    let root = params.self_signed(&key).unwrap().pem();
    std::fs::write(folder.join("root.pem"), &root).unwrap();
    std::fs::write(folder.join("root.key"), key.serialize_pem()).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![HOST.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    std::fs::write(folder.join("leaf.pem"), leaf.pem()).unwrap();
    std::fs::write(folder.join("leaf.key"), key.serialize_pem()).unwrap();
    let mut origin = Command::new(std::env::current_exe().unwrap());
    let mut child = origin.arg("origin").arg(folder).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    Origin(child)
}

#[tokio::main]
pub async fn run(folder: &str) {
    let read = |name: &str| std::fs::read(Path::new(folder).join(name)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let leaf = CertificateDer::from_pem_slice(&read("leaf.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(&read("leaf.key")).unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(vec![leaf], key).unwrap();
    // One version for all: Squid speaks no other.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((ADDRESS, 443)).await.unwrap();
    println!("listening");
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            if let Ok(stream) = acceptor.accept(stream).await {
                let service = hyper::service::service_fn(answer);
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            }
        });
    }
}

type Body = BoxBody<Bytes, std::convert::Infallible>;

/// `/down/N`: N MiB. `/event`: one event, with the time of its sending. Anything else is read and counted.
async fn answer(request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
    let path = request.uri().path().to_owned();
    if let Some(count) = path.strip_prefix("/down/") {
        let count: usize = count.parse().unwrap();
        let piece = Bytes::from(vec![b'd'; 1 << 20]);
        let pieces = futures_util::stream::iter((0..count).map(move |_| Ok(Frame::data(piece.clone()))));
        let mut response = Response::new(StreamBody::new(pieces).boxed());
        response.headers_mut().insert("content-length", (count << 20).into());
        return Ok(response);
    }
    if path == "/event" {
        let event = futures_util::stream::once(async { Ok(Frame::data(format!("data: {}\n\n", now()).into())) });
        let mut response = Response::new(StreamBody::new(event).boxed());
        response.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
        return Ok(response);
    }
    let mut body = request.into_body();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame?.into_data().map_or(0, |data| data.len());
    }
    Ok(Response::new(Full::new(Bytes::from(format!("{length:>16}"))).boxed()))
}

/// Nanoseconds of a clock that all processes of this machine share.
pub fn now() -> u128 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    std::time::Duration::from(now).as_nanos()
}
