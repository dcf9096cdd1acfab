//! Questions to a running bottle's egress, from whoever may use the engine.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::labels::Kind;
use crate::engine::{Engine, ExecSpec, Filter};
use crate::layout::EXECUTABLE;
use crate::primitive::stream::Talk;
use crate::session::{Class, Failure};
use crate::sidecar::ctl::{Answer, Question, ROLE};
use crate::sidecar::egress::{self, Stats};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the egress of a bottle.
///
/// # Errors
/// It has none, or does not answer.
pub async fn ask_egress(
    engine: &Arc<dyn Engine>,
    bottle: &str,
    owner: &str,
    question: &Question,
) -> Result<Answer<Stats>, Failure> {
    let objects = engine.list(&Filter::Session(bottle.to_owned())).await?;
    let mut own =
        objects.iter().filter(|object| object.identity.owner == owner && object.identity.kind == Kind::Sidecar);
    let container = own
        .find(|object| object.identity.role.as_deref() == Some(egress::ROLE))
        .ok_or_else(|| Failure::new(Class::Input, format!("ask egress of {bottle}: it has no sidecar of that role")))?;
    ask(engine.as_ref(), bottle, &container.id, question).await
}

/// Asks the egress of a bottle, in its container.
pub(in crate::primitive) async fn ask(
    engine: &dyn Engine,
    bottle: &str,
    container: &str,
    question: &Question,
) -> Result<Answer<Stats>, Failure> {
    let spec = ExecSpec::plain(vec![EXECUTABLE.into(), ROLE.into(), "sidecar".into()]);
    let mut talk = Talk::new(engine.exec(container, &spec).await?.1);
    let answer = talk.ask(question, PATIENCE).await;
    answer.map_err(|why| talk.failure(&format!("ask egress of {bottle}"), why))
}
