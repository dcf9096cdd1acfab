//! Buffers a body that is inspected as a whole, within limits of memory and time.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::header::HeaderMap;
use tokio::time::{Instant, timeout_at};

use super::capacity::{Capacity, MemoryPermit};
use super::drain::RequestBody;
use crate::policy::Reason;

/// Maximum size of a body that is inspected as a whole, in bytes. An encoded body is never larger.
pub(super) const MAX_WHOLE: usize = 8 << 20;

/// The buffered beginning of a body.
pub(super) struct Buffered {
    pub(super) bytes: Bytes,
    pub(super) trailers: Option<HeaderMap>,
    /// The memory that it takes.
    pub(super) memory: MemoryPermit,
    /// Whether this is the whole body.
    pub(super) ended: bool,
}

/// Buffers a body to its end, or until it is too long to be inspected as a whole.
pub(super) async fn buffer(
    capacity: &Capacity,
    body: &mut RequestBody,
    length: Option<usize>,
) -> Result<Buffered, Reason> {
    let mut memory = capacity.memory();
    // A known length is reserved at once, so that no two bodies wait for each other's rest.
    memory.reserve(length.unwrap_or_default()).await?;
    let mut bytes = BytesMut::with_capacity(length.unwrap_or_default());
    let mut trailers = None;
    let latest = Instant::now() + capacity.times.whole;
    while bytes.len() <= MAX_WHOLE {
        let soon = latest.min(Instant::now() + capacity.times.stall);
        let frame = timeout_at(soon, body.frame()).await.map_err(|_| Reason::Stalled)?;
        let Some(frame) = frame else {
            return Ok(Buffered { bytes: bytes.freeze(), trailers, memory, ended: true });
        };
        match frame.map_err(|_| Reason::BadRequest("the body ended early"))?.into_data() {
            Ok(data) => {
                memory.grow(bytes.len() + data.len(), MAX_WHOLE).await?;
                bytes.extend_from_slice(&data);
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok(Buffered { bytes: bytes.freeze(), trailers, memory, ended: false })
}
