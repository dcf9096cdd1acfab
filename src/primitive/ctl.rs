//! Questions to a running bottle's egress, from whoever may use the engine.

use std::sync::Arc;
use std::time::Duration;

use super::self_image::EXECUTABLE;
use super::stream::{Lines, write_json};
use crate::engine::labels::Kind;
use crate::engine::{Engine, ExecSpec, Filter, Streams};
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
    let name = format!("{bottle}-{}", egress::ROLE);
    let objects = engine.list(&Filter::Session(bottle.to_owned())).await?;
    let mut own =
        objects.iter().filter(|object| object.identity.owner == owner && object.identity.kind == Kind::Sidecar);
    let container = own
        .find(|object| object.name == name)
        .ok_or_else(|| Failure::new(Class::Input, format!("ask egress of {bottle}: it has no sidecar of that name")))?;
    let command = vec![EXECUTABLE.into(), ROLE.into(), "sidecar".into()];
    let spec = ExecSpec::plain(command);
    let (_, Streams { output, mut input }) = engine.exec(&container.id, &spec).await?;
    let mut lines = Lines::new(output);
    let asked = async {
        write_json(&mut input, question).await.ok()?;
        lines.next_json().await
    };
    if let Ok(Some(answer)) = tokio::time::timeout(PATIENCE, asked).await {
        return Ok(answer);
    }
    let failure = Failure::new(Class::Operation, format!("ask egress of {bottle}: no answer"));
    let errors = lines.errors.trim();
    Err(if errors.is_empty() { failure } else { failure.cause(format!("it wrote: {errors}")) })
}
