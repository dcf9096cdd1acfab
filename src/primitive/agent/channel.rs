//! The channel to init in the agent's container.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::engine::{Engine, ExecSpec};
use crate::init;
use crate::layout::EXECUTABLE;
use crate::primitive::channel::stream::{JsonChannel, write_json};
use crate::session::Failure;

/// How long init may take for a proof or a release.
const PATIENCE: Duration = Duration::from_mins(1);

/// The open channel to init.
#[derive(Clone)]
pub(in crate::primitive) struct Channel(Arc<Mutex<JsonChannel>>);

impl Channel {
    pub(in crate::primitive) async fn open(engine: &dyn Engine, container: &str) -> Result<Self, Failure> {
        let spec = ExecSpec::plain(vec![EXECUTABLE.into(), "ctl".into()]);
        let (_, streams) = engine.exec(container, &spec).await?;
        Ok(Self(Arc::new(Mutex::new(JsonChannel::new(streams)))))
    }

    /// Lets the command start: the response to the release has arrived. If this does not reach init, it starts a little later.
    pub(in crate::primitive) async fn start(&self) {
        let _ = write_json(&mut self.0.lock().await.input, &init::Request::Start).await;
    }

    pub(in crate::primitive) async fn ask(&self, request: &init::Request) -> Result<init::Response, Failure> {
        let mut talk = self.0.lock().await;
        let answer = talk.ask(request, PATIENCE).await;
        answer.map_err(|why| talk.failure("talk to init in the agent's container", why))
    }
}
