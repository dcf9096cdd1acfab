//! Limits the interim responses of a destination.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hyper::Request;
use tokio::sync::Notify;

use crate::net::Host;
use crate::policy::Reason;

/// Maximum number of interim responses to one request (RFC 9110, section 15.2).
pub(super) const MAX_INTERIM: u32 = 100;

/// Counts the interim responses to a request, which a destination could send without end.
pub(super) struct Interim(Arc<(AtomicU32, Notify)>);

impl Interim {
    pub(super) fn watch<B>(request: &mut Request<B>) -> Self {
        let counted: Arc<(AtomicU32, Notify)> = Arc::default();
        let count = counted.clone();
        hyper::ext::on_informational(request, move |_| {
            if count.0.fetch_add(1, Ordering::Relaxed) == MAX_INTERIM {
                count.1.notify_one();
            }
        });
        Self(counted)
    }

    /// Resolves when the limit is exceeded.
    pub(super) async fn too_many(&self) {
        self.0.1.notified().await;
    }

    pub(super) fn reason(host: &Host) -> Reason {
        Reason::Unreachable(
            host.clone(),
            format!("it sends more than {MAX_INTERIM} interim answers (1xx) to a request"),
        )
    }
}
