//! The image of a resumed bottle: the plan's, or the one that was built for it.

use crate::engine::Engine;
use crate::plan::{ImagePlan, LaunchPlan};
use crate::report::escaped;
use crate::session::{BuiltImage, Class, Failure};

/// Longest text of a step in the summary, in characters.
const SHOWN: usize = 300;

/// Which image a resumed bottle has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KeptImage {
    /// The plan's.
    Plan,
    /// One that was built for it.
    Built(BuiltImage),
    /// The plan's; one that was built is removed.
    Fresh,
}

/// Uses the image that was built for a bottle.
pub(super) fn apply(image: &KeptImage, plan: &mut LaunchPlan) {
    if let KeptImage::Built(built) = image {
        plan.image = ImagePlan::of(&built.reference);
    }
}

/// Checks that the engine has the image; returns the lines of the summary.
///
/// # Errors
/// It is gone, or is another one.
pub(super) async fn lines(id: &str, image: &KeptImage, engine: &dyn Engine) -> Result<Vec<String>, Failure> {
    let built = match image {
        KeptImage::Built(built) => built,
        KeptImage::Fresh => {
            return Ok(vec![format!("{:<12}the plan's: those that were built for this bottle are REMOVED", "image")]);
        }
        KeptImage::Plan => return Ok(Vec::new()),
    };
    let found = engine.image_find(&built.reference).await?;
    if found.is_none_or(|found| found.id != built.id) {
        let why = format!("resume {id}: the image that was built for it, {}, is gone from the engine", built.reference);
        return Err(Failure::new(Class::Input, why)
            .hint(format!("`bottler resume {id} --fresh-image` uses the image of the plan; the agent can ask again")));
    }
    let mut lines = vec![format!("{:<12}built for this bottle, on {}", "image", escaped(&built.base, SHOWN))];
    lines.extend(built.steps.iter().map(|step| format!("{:<12}{}", "", escaped(step, SHOWN))));
    Ok(lines)
}
