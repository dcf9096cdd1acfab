//! Garbage collection: removes bottles whose holder and reaper have both died.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::unwind::is_kept;
use super::{BottleImages, KeptWorkspace, StateDir, UndoRow, UnknownEntry, exit_record, queue, recover_exit, unwind};
use crate::engine::{Engine, EngineError, Filter, Object};
use crate::host::sweep_unfinished;

/// How long a dead bottle must stay empty: the engine may still be executing a call of its holder.
const QUIET: Duration = Duration::from_millis(300);

/// Removes the objects of a dead bottle, except the volumes `kept`.
pub async fn unwind_dead(engine: &Arc<dyn Engine>, bottle: &str, owner: &str, kept: &[String]) -> Vec<UndoRow> {
    unwind(engine, bottle, owner, QUIET, BTreeMap::new(), kept).await
}

/// A dead bottle, and what was removed.
#[derive(Debug, serde::Serialize)]
pub struct Collected {
    /// The bottle's id.
    pub bottle: String,
    /// One row for each removed object; empty in a dry run.
    pub undo: Vec<UndoRow>,
}

/// The result of a collection.
#[derive(Debug, Default, serde::Serialize)]
pub struct Collection {
    /// The dead bottles.
    pub bottles: Vec<Collected>,
    /// What could not be collected, and why. One problem does not stop the rest.
    pub troubles: Vec<String>,
    /// Entries of the state directory that are not bottles' directories; they stay.
    pub strays: Vec<UnknownEntry>,
}

impl Collection {
    /// Adds the result for another engine. Strays belong to the state directory, and are the same for all engines.
    pub fn add(&mut self, other: Self) {
        let Self { bottles, troubles, strays } = other;
        self.bottles.extend(bottles);
        self.troubles.extend(troubles);
        self.strays = strays;
    }
}

/// Removes dead bottles of this owner on this engine; with `dry_run`, only names them.
///
/// A bottle is dead if no process holds its lock. Objects are listed *before* the directories: a running bottle
/// creates its directory before its first object, so an object without a directory belongs to a dead bottle. A bottle
/// whose record cannot be read is skipped, because the record says what to keep.
///
/// # Errors
/// The engine cannot list, or the state directory cannot be read.
pub async fn collect(
    engine: &Arc<dyn Engine>,
    endpoint: &str,
    state: &StateDir,
    dry_run: bool,
) -> anyhow::Result<Collection> {
    let objects = engine.list(&Filter::Owner(state.owner.clone())).await?;
    let (known, strays) = state.scan()?;
    let mut done = Collection { strays, ..Collection::default() };
    let mut ids: BTreeSet<String> = known.into_iter().collect();
    ids.extend(objects.iter().filter(|object| object.identity.owner == state.owner).map(session_of));
    for bottle in ids {
        match collect_one(engine, endpoint, state, &objects, &bottle, dry_run).await {
            Ok(collected) => done.bottles.extend(collected),
            Err(error) => done.troubles.push(format!("{bottle}: {error:#}")),
        }
    }
    if !dry_run {
        if let Err(error) = queue::sweep(state.path()) {
            done.troubles.push(format!("remove the tickets of dead processes: {error}"));
        }
        for folder in [state.path(), &exit_record::folder(state)] {
            sweep_unfinished(folder, None);
        }
    }
    Ok(done)
}

/// Collects one bottle if it is dead and on this engine.
async fn collect_one(
    engine: &Arc<dyn Engine>,
    endpoint: &str,
    state: &StateDir,
    objects: &[Object],
    bottle: &str,
    dry_run: bool,
) -> anyhow::Result<Option<Collected>> {
    if state.is_alive(bottle) {
        return Ok(None);
    }
    let record = state.read_record(bottle).map_err(|error| {
        let is_broken = error.kind() == std::io::ErrorKind::InvalidData;
        let remedy = if is_broken {
            format!("; `bottler rm --force --discard {bottle}` removes all of it")
        } else {
            String::new()
        };
        anyhow::Error::new(error).context(format!("nothing of it is removed{remedy}"))
    })?;
    if record.as_ref().is_some_and(|record| record.endpoint != endpoint) {
        return Ok(None);
    }
    // The record names the owner of the objects, even if the directory's id has changed since.
    let owner = record.and_then(|record| record.owner).unwrap_or_else(|| state.owner.clone());
    let kept = KeptWorkspace::of_dead(state, bottle);
    let volumes = kept.as_ref().map(KeptWorkspace::volumes).unwrap_or_default();
    let is_more = |object: &Object| object.identity.session == bottle && !is_kept(object, &volumes);
    if kept.is_some() && owner == state.owner && !objects.iter().any(is_more) {
        return Ok(None);
    }
    if dry_run {
        return Ok(Some(Collected { bottle: bottle.to_owned(), undo: Vec::new() }));
    }
    // Another process may be collecting it.
    let Some(dir) = state.claim(bottle)? else { return Ok(None) };
    recover_exit::record_exit(engine, state, bottle, &owner).await;
    let undo = unwind_dead(engine, bottle, &owner, &volumes).await;
    if kept.is_none() && !undo.iter().any(UndoRow::is_left) {
        BottleImages::remove(engine.as_ref(), &dir.path).await?;
        dir.remove().with_context(|| format!("remove {}", dir.path.display()))?;
    }
    Ok(Some(Collected { bottle: bottle.to_owned(), undo }))
}

/// Removes the bottles of another owner. Only for explicit requests: it is unknown whether they are running.
///
/// # Errors
/// The engine cannot list.
pub async fn collect_foreign(
    engine: &Arc<dyn Engine>,
    owner: &str,
    dry_run: bool,
) -> Result<Vec<Collected>, EngineError> {
    let mut collected = Vec::new();
    for bottle in on_engine(engine, owner).await? {
        let undo = if dry_run { Vec::new() } else { unwind_dead(engine, &bottle, owner, &[]).await };
        collected.push(Collected { bottle, undo });
    }
    Ok(collected)
}

async fn on_engine(engine: &Arc<dyn Engine>, owner: &str) -> Result<BTreeSet<String>, EngineError> {
    let objects = engine.list(&Filter::Owner(owner.to_owned())).await?;
    let ours = objects.into_iter().filter(|object| object.identity.owner == owner);
    Ok(ours.map(|object| object.identity.session).collect())
}

fn session_of(object: &Object) -> String {
    object.identity.session.clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fake::FakeEngine;
    use crate::session::{Record, Session, SessionDir};

    fn die(state: &StateDir, id: &str) -> SessionDir {
        let dir = state.claim(id).unwrap().unwrap();
        let record: Record = serde_json::from_value(serde_json::json!({
            "id": id, "endpoint": "unix:///x", "owner": state.owner, "agent": "a", "launched": 1,
        }))
        .unwrap();
        dir.write_record(&record).unwrap();
        dir
    }

    #[tokio::test]
    async fn what_is_odd_stops_nothing_and_is_told_once_and_a_broken_record_keeps_its_bottle() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::at(folder.path()).unwrap();
        let engine: Arc<dyn Engine> = Arc::new(FakeEngine::with_any_image());
        drop(die(&state, "dead-1"));
        let broken = die(&state, "broken-1");
        std::fs::write(broken.path.join("bottle.json"), "{\"id\": \"bro").unwrap();
        drop(broken);
        let living = die(&state, "living-1");
        std::fs::write(folder.path().join("bottles/aaa"), "").unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("bottles/zzz")).unwrap();
        for name in ["turns", "audit", "strange", "trust.json"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let done = collect(&engine, "unix:///x", &state, false).await.unwrap();
        let ids: Vec<&str> = done.bottles.iter().map(|one| one.bottle.as_str()).collect();
        assert_eq!(ids, ["dead-1"]);
        assert_eq!(done.strays.len(), 2);
        let [trouble] = &done.troubles[..] else { panic!("{:?}", done.troubles) };
        assert!(trouble.starts_with("broken-1: ") && trouble.contains("bottle.json"), "{trouble}");
        assert_eq!(state.bottles().unwrap(), ["broken-1", "living-1"]);
        drop(living);
    }

    #[tokio::test]
    async fn volumes_are_kept_and_nothing_else_that_has_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::at(folder.path()).unwrap();
        let engine: Arc<dyn Engine> = Arc::new(FakeEngine::with_any_image());
        let dir = die(&state, "dead-1");
        let session = Session::new("dead-1", &state.owner, engine.clone());
        for (name, subnet) in [("workspace", "10.213.0.0/24"), ("home", "10.213.1.0/24"), ("cache", "10.213.2.0/24")] {
            let identity = session.identity(crate::engine::labels::Kind::Volume);
            let volume =
                crate::engine::VolumeSpec { name: format!("dead-1-{name}"), owner: None, may_be_kept: false, identity };
            engine.volume_create(&volume).await.unwrap();
            let network = crate::engine::NetworkSpec {
                name: volume.name.clone(),
                subnet: subnet.parse().unwrap(),
                internal: None,
                identity: session.identity(crate::engine::labels::Kind::Network),
            };
            engine.network_create(&network).await.unwrap();
        }
        let kept = KeptWorkspace::unknown("dead-1-workspace", "").with_home(Some("dead-1-home".to_owned()));
        kept.write(&dir.path).unwrap();
        drop(dir);
        for _ in 0..2 {
            collect(&engine, "unix:///x", &state, false).await.unwrap();
            let left = engine.list(&Filter::Session("dead-1".into())).await.unwrap();
            let mut left: Vec<(&str, &str)> =
                left.iter().map(|object| (object.identity.kind.word(), object.name.as_str())).collect();
            left.sort_unstable();
            assert_eq!(left, [("volume", "dead-1-home"), ("volume", "dead-1-workspace")]);
        }
        assert_eq!(state.bottles().unwrap(), ["dead-1"]);
    }

    #[tokio::test]
    async fn the_images_of_a_dead_bottle_go_with_it_and_are_not_forgotten_while_they_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::at(folder.path()).unwrap();
        let fake = FakeEngine::with_any_image();
        let engine: Arc<dyn Engine> = Arc::new(fake.clone());
        let dir = die(&state, "dead-1");
        BottleImages::default().note("bottler-kept/dead-1:1", &dir.path).unwrap();
        drop(dir);
        fake.strike("image_remove", 1, crate::engine::fake::Fault::FailsBefore);
        let done = collect(&engine, "unix:///x", &state, false).await.unwrap();
        assert!(fake.has_struck() && done.troubles.len() == 1, "{:?}", done.troubles);
        assert_eq!(state.bottles().unwrap(), ["dead-1"]);
        fake.strike("image_remove", 1, crate::engine::fake::Fault::Passes);
        let done = collect(&engine, "unix:///x", &state, false).await.unwrap();
        assert!(fake.has_struck() && done.troubles.is_empty(), "{:?}", done.troubles);
        assert_eq!(state.bottles().unwrap(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn what_a_record_proves_is_collected_under_its_own_owner() {
        let folder = tempfile::tempdir().unwrap();
        let before = StateDir::at(folder.path()).unwrap();
        let engine: Arc<dyn Engine> = Arc::new(FakeEngine::with_any_image());
        let dir = die(&before, "dead-1");
        let session = Session::new("dead-1", &before.owner, engine.clone());
        let identity = session.identity(crate::engine::labels::Kind::Volume);
        let volume = crate::engine::VolumeSpec { name: "dead-1-x".into(), owner: None, may_be_kept: false, identity };
        engine.volume_create(&volume).await.unwrap();
        drop(dir);
        // An earlier version would have created another id.
        let after = StateDir::unchecked(folder.path(), "0123456789abcdef");
        let done = collect(&engine, "unix:///x", &after, false).await.unwrap();
        assert_eq!(done.bottles.len(), 1);
        assert!(engine.list(&Filter::Session("dead-1".into())).await.unwrap().is_empty());
    }
}
