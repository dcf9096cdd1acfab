//! What the summary of a resumed bottle says about its agent's home.

use crate::engine::Engine;
use crate::plan::ImagePlan;
use crate::primitive::{HomeOrigin, build_reference};
use crate::report::printable;

/// The source that stands for bottler's own image, whose home is empty.
const OWN: &str = "self";

/// How a resumed bottle's home begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KeptHome {
    /// As its agent left it.
    Left(Option<HomeOrigin>),
    /// The engine has none.
    Gone,
    /// As the image has it, because the user says so.
    Fresh,
}

/// The lines of the summary. `image` is the plan's, if the bottle has that. An image that was built for the bottle is not compared: below its steps it has the same home.
pub(super) async fn lines(id: &str, home: &KeptHome, image: Option<&ImagePlan>, engine: &dyn Engine) -> Vec<String> {
    let mut lines = Vec::new();
    let mut say = |name: &str, text: String| lines.push(printable(&format!("{name:<12}{text}")));
    match home {
        KeptHome::Fresh => say("home", "the image's: what the agent left in its home is REMOVED".to_owned()),
        KeptHome::Gone => say("home", "the image's: the engine has NONE that the agent left".to_owned()),
        KeptHome::Left(origin) => {
            say("home", "as the agent left it".to_owned());
            let place = origin.as_ref().map_or("its place", |origin| origin.path.as_str());
            if let (Some(origin), Some(image)) = (origin, image)
                && let Some(how) = changed(image, &origin.image, engine).await
            {
                say("", format!("{how}: the home hides what the new image has in {place}"));
                say("", format!("`bottler resume {id} --fresh-home` starts with the image's home"));
            }
        }
    }
    lines
}

/// How the image differs from the one that a home comes from, as far as that is known before the launch.
async fn changed(plan: &ImagePlan, before: &str, engine: &dyn Engine) -> Option<String> {
    if plan.source == OWN || before.is_empty() {
        return None;
    }
    let reference = match &plan.build {
        // A build that cannot be read fails the launch, which says why.
        Some(build) => build_reference(build).await.ok()?,
        None => plan.source.clone(),
    };
    match engine.image_find(&reference).await.ok()? {
        Some(found) if found.id == before => {
            let again = plan.pull || plan.rebuild;
            again.then(|| "the image is fetched or built again, and may change".to_owned())
        }
        Some(_) => Some("the image has changed".to_owned()),
        None => Some("the image is made anew".to_owned()),
    }
}
