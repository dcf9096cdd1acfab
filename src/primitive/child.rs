//! `bottle`: launches a nested bottle, complete and in its own session.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::bottle::Bottle;
use super::event::Event;
use super::handle::{Child, ChildOptions, ChildRequest, Lifecycle, WorkspaceSource};
use super::name::check_name;
use crate::session::{Class, Failure, Pending, ScriptLocation, new_id};

/// How many bottles a recipe may launch.
const MAX_CHILDREN: usize = 64;
/// How deeply bottles may be nested.
const MAX_DEPTH: usize = 3;

impl Child {
    /// Stops it now.
    pub fn close(&self, bottle: &Arc<Bottle>, at: Option<&ScriptLocation>) -> Pending<()> {
        self.stop.cancel();
        let work = self.work.clone();
        bottle.undo(&self.life, at, async move {
            // `work` reports how it ended.
            let _ = work.get().await;
            Ok(())
        })
    }
}

/// Launches a nested bottle, which starts at once. Its own plan determines what it may reach.
///
/// # Errors
/// An option is invalid, there are too many bottles, or no launcher exists.
pub fn launch_child(
    bottle: &Arc<Bottle>,
    agent: &str,
    options: ChildOptions,
    workspace: Option<WorkspaceSource>,
    at: Option<&ScriptLocation>,
) -> Result<Arc<Child>, Failure> {
    // The script may wait for nested bottles as long as they work, so let other bottles launch.
    bottle.turn.release();
    let bad = |message: String| Failure::new(Class::Input, format!("bottle {agent:?}: {message}")).at(at);
    let slug = options.slug.clone().unwrap_or_else(|| agent.to_owned());
    check_name("bottle: slug", &slug).map_err(|failure| failure.at(at))?;
    if options.command.as_ref().is_some_and(Vec::is_empty) {
        return Err(bad("command is empty".into()));
    }
    for rule in &options.allow {
        bottle.check_allowed(rule, bad)?;
    }
    if bottle.inventory.children().len() >= MAX_CHILDREN {
        return Err(bad(format!("there are {MAX_CHILDREN} bottles already")));
    }
    if bottle.nesting.depth + 1 >= MAX_DEPTH {
        return Err(bad(format!("bottles launch bottles {MAX_DEPTH} deep at most")));
    }
    let launcher = bottle.nesting.launcher.clone().ok_or_else(|| bad("this process cannot launch bottles".into()))?;
    let id = new_id(&slug).map_err(|error| Failure::new(Class::Internal, format!("choose a name: {error}")))?;
    let seq = bottle.session.next_seq();
    bottle.events.tell(Event::Bottle { seq, id: id.clone(), at: at.cloned() });
    let life = Arc::new(Lifecycle::new(seq, format!("bottle {id}"), at));
    let stop = CancellationToken::new();
    let order = ChildRequest { id: id.clone(), agent: agent.to_owned(), options, workspace, stop: stop.clone() };
    let (context, at, ends) = (bottle.clone(), at.cloned(), stop.clone());
    let running = launcher.launch(bottle.clone(), order);
    // Not an effect: it may run for hours, and unwinds itself.
    let work = async move {
        let mut running = running;
        tokio::select! {
            work = &mut running => work,
            () = context.session.effects.cancelled() => {
                ends.cancel();
                running.await
            }
        }
        .map_err(|failure| failure.at(at.as_ref()))
    };
    Ok(bottle.inventory.add_child(Child { id, slug, life, work: Pending::detached(work.boxed()), stop }))
}

impl Bottle {
    /// Waits until the nested bottles have ended.
    ///
    /// # Errors
    /// One could not be launched, and this was not reported to a script.
    pub async fn wait_children(&self) -> Result<(), Failure> {
        let children = self.inventory.children();
        for child in children {
            if let Err(failure) = child.work().await
                && !child.life.is_closed()
                && !self.session.effects.is_handled(&failure)
            {
                return Err(failure);
            }
        }
        Ok(())
    }

    /// The nested bottles, as steps of the teardown.
    pub fn take_children(self: &Arc<Self>) -> Vec<(u64, String, BoxFuture<'static, ()>)> {
        let children = self.inventory.take_children();
        let open = children.into_iter().filter(|child| !child.life.is_closed());
        open.map(|child| (child.life.seq, child.id.clone(), async move { child.end().await }.boxed())).collect()
    }
}
