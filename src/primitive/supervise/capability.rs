//! A request for packages, or for steps that the image lacks, as an offer to build another image: what it would begin with, and its
//! steps.

use futures_util::StreamExt;
use serde::{Deserialize, Serialize};

use super::fragment::{BuildStep, PackageManager, steps};
use crate::engine::labels::Kind;
use crate::plan::Isolation;
use crate::primitive::bottle::Bottle;
use crate::primitive::unstarted::unstarted;
use crate::session::BottleImages;

/// An image that is offered: all that its hash covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageOffer {
    /// The id of the image that the steps begin with.
    pub base: String,
    /// The steps, in order.
    pub steps: Vec<BuildStep>,
}

/// Looks at the bottle's image once.
///
/// # Errors
/// Why no image can be built for this bottle.
pub(super) async fn look(bottle: &Bottle) -> Result<(), String> {
    check(bottle)?;
    let found = bottle.desk.package_program.get_or_try_init(|| async {
        let base = base(bottle)?;
        find_program(bottle, &base).await.map_err(|why| format!("its image cannot be read: {why}"))
    });
    found.await.map(drop)
}

/// What a request would build.
///
/// # Errors
/// Why it cannot be built, for the agent.
pub(super) fn offer(bottle: &Bottle, packages: &[String], dockerfile: &str) -> Result<ImageOffer, String> {
    check(bottle)?;
    let program = bottle.desk.package_program.get().ok_or("its image has not been read")?;
    let manager = program.and_then(PackageManager::of);
    Ok(ImageOffer { base: base(bottle)?, steps: steps(packages, dockerfile, manager)? })
}

/// Refuses bottles that no other image can be built for.
fn check(bottle: &Bottle) -> Result<(), String> {
    let plan = &bottle.plan;
    let why = if !bottle.session.engine.commits() {
        "this engine makes no images of containers"
    } else if plan.gvisor {
        "what is written under gVisor is not in an image of the container"
    } else if plan.isolation != Isolation::Sealed {
        "the agent is on a network (isolation: bridge), and a build has none"
    } else if bottle.is_inner() || bottle.host.home.is_none() {
        "nothing of this bottle is kept (workspace: {mode: copy} and keep), so that no later launch would have the image"
    } else {
        return Ok(());
    };
    Err(why.to_owned())
}

/// The id of the image that a build begins with: the one that was built before, or the agent's.
fn base(bottle: &Bottle) -> Result<String, String> {
    let directory = bottle.host.staging.as_deref().ok_or("the bottle has no directory")?;
    let images = BottleImages::read(directory).map_err(|error| error.to_string())?;
    if let Some(current) = images.current {
        return Ok(current.id);
    }
    let base = bottle.build_base.get().ok_or("the agent's image is not known yet")?;
    let id = base.image.base.clone();
    if id.is_empty() { Err("the agent's image is bottler's own, which has no shell".to_owned()) } else { Ok(id) }
}

/// What installs packages in an image: found by its program, through a container that never starts.
async fn find_program(bottle: &Bottle, image: &str) -> Result<Option<&'static str>, String> {
    let engine = &bottle.session.engine;
    let identity = bottle.session.identity(Kind::Sidecar);
    let spec = unstarted(bottle.name("capability-reader"), image.to_owned(), identity);
    let container = engine.container_create(&spec).await.map_err(|error| error.to_string())?;
    let mut found = None;
    for (_, program) in PackageManager::ALL {
        let begins = match engine.container_download(&container, program).await {
            Ok(mut pieces) => matches!(pieces.next().await, Some(Ok(_))),
            Err(_) => false,
        };
        if begins {
            found = Some(program);
            break;
        }
    }
    engine.container_remove(&container).await.map_err(|error| error.to_string())?;
    Ok(found)
}
