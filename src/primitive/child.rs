//! `bottle`: a whole further bottle, launched in a session of its own, as one thing of this one.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::name::check_name;
use super::{Bottle, Event, Life, Source};
use crate::policy::AllowSpec;
use crate::session::{Class, Failure, Pending, ScriptLocation, new_id};
use crate::sync::lock;
use crate::workspace::Seed;

/// Bottles that one recipe may launch.
const MAX_CHILDREN: usize = 64;
/// How deep bottles may launch bottles.
const MAX_DEPTH: usize = 3;

/// What `bottle` takes, besides the workspace.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChildOptions {
    /// The beginning of its id; the agent's name when absent.
    pub slug: Option<String>,
    /// Its prompt.
    pub prompt: Option<String>,
    /// The recipe that launches it, a built-in one's name; the agent's own when absent.
    pub recipe: Option<String>,
    /// Its agent's image; the agent's own when absent.
    pub image: Option<String>,
    /// Its agent's command and arguments; the agent's own when absent.
    pub command: Option<Vec<String>>,
    /// Variables of its agent's container, beyond the agent's own; never a secret.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Hosts that it may reach, beyond the agent's own and those of this bottle's plan.
    #[serde(default)]
    pub allow: Vec<AllowSpec>,
}

/// A bottle to launch.
pub struct Order {
    /// Its id.
    pub id: String,
    /// Its agent.
    pub agent: String,
    /// How it differs from the agent's own.
    pub options: ChildOptions,
    /// Where its workspace comes from, if it has one.
    pub workspace: Option<Source>,
    /// Cancelled when it is to end at once.
    pub stop: CancellationToken,
}

/// What a bottle came to.
#[derive(Debug, Clone, Default)]
pub struct Work {
    /// The exit code of its agent.
    pub exit_code: i64,
    /// What its agent wrote to standard output, up to 1 MiB.
    pub output: Vec<u8>,
    /// What its agent wrote to standard error, up to 1 MiB.
    pub errors: Vec<u8>,
    /// How its workspace was changed; empty where it was not, or where it has none.
    pub patch: String,
    /// The workspace as it was left.
    pub workspace: Option<Arc<Seed>>,
}

/// Whoever launches bottles: the holder.
pub trait Launcher: Send + Sync {
    /// Launches a bottle, waits for its end, and sees to it that nothing of it is left.
    fn launch(&self, parent: Arc<Bottle>, order: Order) -> BoxFuture<'static, Result<Arc<Work>, Failure>>;
}

/// A bottle that this one launched.
pub struct Child {
    /// Its id.
    pub id: String,
    /// The beginning of its id.
    pub slug: String,
    /// Its life.
    pub life: Arc<Life>,
    work: Pending<Arc<Work>>,
    stop: CancellationToken,
}

impl Child {
    /// Waits until its agent has ended and nothing of it is left.
    ///
    /// # Errors
    /// Its launch failed. A non-zero exit code is no failure.
    pub async fn work(&self) -> Result<Arc<Work>, Failure> {
        self.work.get().await
    }

    /// Ends it now.
    pub fn close(&self, bottle: &Arc<Bottle>, at: Option<&ScriptLocation>) -> Pending<()> {
        self.stop.cancel();
        let work = self.work.clone();
        self.life.close(bottle, at, async move {
            // How it ended is told by `work`.
            let _ = work.get().await;
            Ok(())
        })
    }

    /// Ends it and waits until nothing of it is left, as a step of the teardown.
    pub(super) async fn end(&self) {
        self.stop.cancel();
        let _ = self.work.get().await;
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
    workspace: Option<Source>,
    at: Option<&ScriptLocation>,
) -> Result<Arc<Child>, Failure> {
    // It may wait for them for as long as they work.
    bottle.give_turn_back();
    let bad = |message: String| Failure::new(Class::Input, format!("bottle {agent:?}: {message}")).at(at);
    let slug = options.slug.clone().unwrap_or_else(|| agent.to_owned());
    check_name("bottle: slug", &slug).map_err(|failure| failure.at(at))?;
    if options.command.as_ref().is_some_and(Vec::is_empty) {
        return Err(bad("command is empty".into()));
    }
    for rule in &options.allow {
        bottle.check_allowed(rule, bad)?;
    }
    if lock(&bottle.children).len() >= MAX_CHILDREN {
        return Err(bad(format!("there are {MAX_CHILDREN} bottles already")));
    }
    if bottle.setting.depth + 1 >= MAX_DEPTH {
        return Err(bad(format!("bottles launch bottles {MAX_DEPTH} deep at most")));
    }
    let launcher = bottle.setting.launcher.clone().ok_or_else(|| bad("nobody is there to launch it".into()))?;
    let id = new_id(&slug).map_err(|error| Failure::new(Class::Internal, format!("choose a name: {error}")))?;
    let seq = bottle.session.next_seq();
    bottle.events.tell(Event::Bottle { seq, id: id.clone(), at: at.cloned() });
    let life = Arc::new(Life::new(seq, format!("bottle {id}"), at));
    let stop = CancellationToken::new();
    let order = Order { id: id.clone(), agent: agent.to_owned(), options, workspace, stop: stop.clone() };
    let (context, at, ends) = (bottle.clone(), at.cloned(), stop.clone());
    let begun = launcher.launch(bottle.clone(), order);
    // Not an effect: its end may be hours away, and it unwinds itself.
    let work = async move {
        let mut begun = begun;
        tokio::select! {
            work = &mut begun => work,
            () = context.session.effects.cancelled() => {
                ends.cancel();
                begun.await
            }
        }
        .map_err(|failure| failure.at(at.as_ref()))
    };
    let child = Arc::new(Child { id, slug, life, work: Pending::detached(work.boxed()), stop });
    lock(&bottle.children).push(child.clone());
    Ok(child)
}

impl Bottle {
    /// Waits until the bottles that this one launched have ended.
    ///
    /// # Errors
    /// One could not be launched, and no script was told so.
    pub async fn wait_children(&self) -> Result<(), Failure> {
        let children = lock(&self.children).clone();
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
        let children = std::mem::take(&mut *lock(&self.children));
        let open = children.into_iter().filter(|child| !child.life.is_closed());
        open.map(|child| (child.life.seq, child.id.clone(), async move { child.end().await }.boxed())).collect()
    }
}
