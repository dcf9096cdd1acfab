//! A bottle on an engine in memory whose events are dropped, for checking scripts.

use std::sync::Arc;

use super::bottle::{Bottle, HostContext, Nesting};
use super::event::Events;
use super::image::placeholder_images;
use crate::engine::fake::FakeEngine;
use crate::session::Session;

/// A bottle on an engine in memory whose events are dropped.
pub fn in_memory() -> Arc<Bottle> {
    let session = Session::new("check-00000", "nobody", Arc::new(FakeEngine::with_any_image()));
    let (plan, host) = (crate::plan::probe("check-00000"), HostContext::bare(placeholder_images()));
    Arc::new(Bottle::new(session, plan, Events::new(drop), host, Nesting::outermost(None)))
}
