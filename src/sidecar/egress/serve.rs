//! Serves connections: the agent's, and those of sidecars that go out through egress, each from its own listener.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::connection_permit::ConnectionPermit;
use super::{Egress, http, tcp};
use crate::sidecar::listener::Listener;

/// Maximum number of concurrent connections; further ones wait.
const MAX_CONNECTIONS: usize = 1024;
/// The same for one sidecar.
const SIDECAR_CONNECTIONS: usize = 256;
/// Connections reserved for the repeated proof, and how long each may last. The agent cannot use them up; a connection
/// there is treated like any other.
const PROOF_CONNECTIONS: usize = 8;
const PROOF_TIME: Duration = Duration::from_secs(30);

/// The connection permits that the agent's listeners share.
pub(super) fn agent_permits() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_CONNECTIONS))
}

/// The connection permits of one sidecar: the agent cannot use them up.
fn sidecar_permits() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(SIDECAR_CONNECTIONS))
}

/// Serves requests to the proxy.
pub(super) fn requests(listener: Listener, egress: Arc<Egress>, permits: Arc<Semaphore>) {
    listener.serve(permits, move |connection, permit| {
        http::serve(connection, egress.clone(), ConnectionPermit::new(&egress, Some(permit)))
    });
}

/// Serves requests of a sidecar.
pub(super) fn sidecar(listener: Listener, egress: Arc<Egress>) {
    requests(listener, egress, sidecar_permits());
}

/// Serves requests of the repeated proof.
pub(super) fn proof(listener: Listener, egress: Arc<Egress>) {
    listener.serve(Arc::new(Semaphore::new(PROOF_CONNECTIONS)), move |connection, permit| {
        let served = http::serve(connection, egress.clone(), ConnectionPermit::new(&egress, Some(permit)));
        async move { drop(tokio::time::timeout(PROOF_TIME, served).await) }
    });
}

/// Serves connections to the TCP destination with an index.
pub(super) fn destination(listener: Listener, index: usize, egress: Arc<Egress>, permits: Arc<Semaphore>) {
    listener.serve(permits, move |connection, permit| {
        let egress = egress.clone();
        async move {
            let permit = ConnectionPermit::new(&egress, Some(permit));
            tcp::serve(connection, index, &egress, &permit).await;
        }
    });
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;
    use tokio::time::timeout;

    use super::super::Config;
    use super::super::tests::new_egress;
    use super::*;
    use crate::policy::{EgressSpec, EnforcedPolicy};

    /// The agent's connections and those of a sidecar, each with as many as there may be but one.
    #[tokio::test]
    async fn promise_15_connections_beyond_the_limit_wait_for_another_to_end() {
        let egress = new_egress(&Config::new("test", EnforcedPolicy::first(EgressSpec::default())));
        for (permits, most) in [(agent_permits(), MAX_CONNECTIONS), (sidecar_permits(), SIDECAR_CONNECTIONS)] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("socket");
            let others = permits.clone().try_acquire_many_owned(u32::try_from(most - 1).unwrap()).unwrap();
            requests(Listener::at(&path).unwrap(), egress.clone(), permits.clone());
            let request = b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n";
            let mut first = UnixStream::connect(&path).await.unwrap();
            first.write_all(request).await.unwrap();
            assert_eq!(first.read_u8().await.unwrap(), b'H');
            let mut second = UnixStream::connect(&path).await.unwrap();
            second.write_all(request).await.unwrap();
            assert!(
                timeout(Duration::from_millis(50), second.read_u8()).await.is_err(),
                "{most}: it is served as well"
            );
            drop(first);
            assert_eq!(second.read_u8().await.unwrap(), b'H');
            drop(others);
            assert!(permits.available_permits() >= most - 2, "{most}");
        }
    }
}
