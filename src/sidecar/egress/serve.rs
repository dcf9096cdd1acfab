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

/// Serves requests to the proxy.
pub(super) fn requests(listener: Listener, egress: Arc<Egress>, permits: Arc<Semaphore>) {
    listener.serve(permits, move |connection, permit| {
        http::serve(connection, egress.clone(), ConnectionPermit::new(&egress, Some(permit)))
    });
}

/// Serves requests of a sidecar, which has permits of its own: the agent cannot use them up.
pub(super) fn sidecar(listener: Listener, egress: Arc<Egress>) {
    requests(listener, egress, Arc::new(Semaphore::new(SIDECAR_CONNECTIONS)));
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
            let _permit = ConnectionPermit::new(&egress, Some(permit));
            tcp::serve(connection, index, &egress).await;
        }
    });
}
