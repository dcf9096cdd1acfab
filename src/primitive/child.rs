//! `bottle`: a whole further bottle, launched in a session of its own, as one thing of this one.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::bottle::Bottle;
use super::event::Event;
use super::handle::{Child, ChildOptions, ChildRequest, Lifecycle, WorkspaceSource};
use super::name::check_name;
use crate::session::{Class, Failure, Pending, ScriptLocation, new_id};

/// Bottles that one recipe may launch.
const MAX_CHILDREN: usize = 64;
/// How deep bottles may launch bottles.
const MAX_DEPTH: usize = 3;

impl Child {
    /// Ends it now.
    pub fn close(&self, bottle: &Arc<Bottle>, at: Option<&ScriptLocation>) -> Pending<()> {
        self.stop.cancel();
        let work = self.work.clone();
        bottle.undo(&self.life, at, async move {
            // How it ended is told by `work`.
            let _ = work.get().await;
            Ok(())
        })
    }
}

/// Launches a bottle. It begins at once; what it allows is in its own plan.
///
/// # Errors
/// An option is bad, there are too many bottles, or nobody is there to launch it.
pub fn launch_child(
    bottle: &Arc<Bottle>,
    agent: &str,
    options: ChildOptions,
    workspace: Option<WorkspaceSource>,
    at: Option<&ScriptLocation>,
) -> Result<Arc<Child>, Failure> {
    // It may wait for them for as long as they work.
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
    let launcher = bottle.nesting.launcher.clone().ok_or_else(|| bad("nobody is there to launch it".into()))?;
    let id = new_id(&slug).map_err(|error| Failure::new(Class::Internal, format!("choose a name: {error}")))?;
    let seq = bottle.session.next_seq();
    bottle.events.tell(Event::Bottle { seq, id: id.clone(), at: at.cloned() });
    let life = Arc::new(Lifecycle::new(seq, format!("bottle {id}"), at));
    let stop = CancellationToken::new();
    let order = ChildRequest { id: id.clone(), agent: agent.to_owned(), options, workspace, stop: stop.clone() };
    let (context, at, ends) = (bottle.clone(), at.cloned(), stop.clone());
    let running = launcher.launch(bottle.clone(), order);
    // Not an effect: its end may be hours away, and it unwinds itself.
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
    /// Waits until the bottles that this one launched have ended.
    ///
    /// # Errors
    /// One could not be launched, and no script was told so.
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

    /// The bottles that this one launched, as steps of the teardown.
    pub fn take_children(self: &Arc<Self>) -> Vec<(u64, String, BoxFuture<'static, ()>)> {
        let children = self.inventory.take_children();
        let open = children.into_iter().filter(|child| !child.life.is_closed());
        open.map(|child| (child.life.seq, child.id.clone(), async move { child.end().await }.boxed())).collect()
    }
}
