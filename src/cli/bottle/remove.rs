//! Removes a kept bottle with its workspace. The caller has asked the user.

use std::sync::Arc;

use super::find::FoundBottle;
use crate::cli::failure::input;
use crate::cli::print::print_message;
use crate::engine::Engine;
use crate::session::{BottleImages, Class, Failure, KeptWorkspace, gc};

/// Removes everything of a bottle that is not running.
pub(super) async fn remove_kept(known: &FoundBottle) -> Result<u8, Failure> {
    let id = &known.id;
    let failed = |error: std::io::Error| Failure::new(Class::Internal, format!("remove {id}: {error}"));
    let Some(dir) = known.state.claim(id).map_err(failed)? else {
        return Err(input(format!("{id} is running again")).hint(format!("bottler stop {id}")));
    };
    let engine: Arc<dyn Engine> = known.engine.clone();
    // What could not be removed stays with the bottle, and can be fetched.
    for volume in KeptWorkspace::of_dead(&known.state, id).iter().flat_map(KeptWorkspace::volumes) {
        engine.volume_check(&volume).await?;
    }
    KeptWorkspace::forget(&dir.path);
    let undo = gc::unwind_dead(&engine, id, known.owner(), &[]).await;
    if let Some(left) = crate::report::not_undone(&undo) {
        print_message(&left);
        return Ok(Class::Operation.exit_code());
    }
    if let Err(error) = BottleImages::remove(engine.as_ref(), &dir.path).await {
        print_message(&crate::report::printable(&format!("not removed: an image of {id}: {error:#}")));
        return Ok(Class::Operation.exit_code());
    }
    dir.remove().map_err(failed)?;
    print_message(&format!("removed {id}"));
    Ok(0)
}
