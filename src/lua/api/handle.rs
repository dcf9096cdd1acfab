//! Handles: what creating primitives give at once. What each kind can be asked for is in `things`.

use std::sync::Arc;

use mlua::{Lua, MetaMethod, UserData, UserDataFields, UserDataMethods, UserDataRef, Value};

use super::{Context, raise};
use crate::primitive::{Bottle, Life};
use crate::session::{Failure, Pending, ScriptLocation};

/// A thing of a bottle that scripts hold a handle to.
pub(in crate::lua) trait Thing: Send + Sync + Sized + 'static {
    /// Where handles of this kind come from, for messages.
    const GAVE: &'static str;

    /// Its life; absent where nothing of it is undone.
    fn life(&self) -> Option<&Arc<Life>>;

    /// Undoes it now.
    fn close(&self, bottle: &Arc<Bottle>, at: Option<&ScriptLocation>) -> Option<Pending<()>>;

    /// What it is called, in one word or two.
    fn title(&self) -> String {
        self.life().map_or_else(|| "image".to_owned(), |life| life.title.clone())
    }

    /// What can be read of it.
    fn fields<F: UserDataFields<Handle<Self>>>(_: &mut F) {}

    /// What it can be asked for, beyond being closed.
    fn methods<M: UserDataMethods<Handle<Self>>>(methods: &mut M);
}

/// A handle.
pub(in crate::lua) struct Handle<T> {
    pub(in crate::lua) it: Arc<T>,
    pub(super) context: Context,
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        Self { it: self.it.clone(), context: self.context.clone() }
    }
}

impl<T: Thing> Handle<T> {
    pub(super) fn new(it: Arc<T>, context: &Context) -> Self {
        Self { it, context: context.clone() }
    }

    /// The thing, unless it has been undone.
    pub(super) fn living(&self, at: Option<&ScriptLocation>) -> mlua::Result<Arc<T>> {
        if let Some(life) = self.it.life() {
            life.check(&self.context.bottle, at).map_err(raise)?;
        }
        Ok(self.it.clone())
    }
}

/// What a method begins with: the line it was called at, and the living thing. The handle itself is let go, so that the
/// script may use it while the method waits.
pub(super) fn begin<T: Thing>(lua: &Lua, this: UserDataRef<Handle<T>>) -> mlua::Result<Called<T>> {
    let at = this.context.place(lua);
    let it = this.living(at.as_ref())?;
    let context = this.context.clone();
    drop(this);
    Ok(Called { it, at, context })
}

/// A method's call.
pub(super) struct Called<T> {
    pub(super) it: Arc<T>,
    pub(super) at: Option<ScriptLocation>,
    context: Context,
}

impl<T> Called<T> {
    pub(super) fn bottle(&self) -> &Arc<Bottle> {
        &self.context.bottle
    }

    /// An outcome as the script gets it: with the line that asked, unless one nearer to the cause is known.
    pub(super) fn told<O>(&self, outcome: Result<O, Failure>) -> mlua::Result<O> {
        self.context.told(outcome, self.at.as_ref())
    }
}

impl<T: Thing> UserData for Handle<T> {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        T::fields(fields);
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::ToString, |_, this, ()| Ok(this.it.title()));
        // Undoes the thing now and waits until it is gone; again, it does nothing.
        methods.add_async_method("close", |lua, this, ()| async move {
            let at = this.context.place(&lua);
            let closing = this.it.close(&this.context.bottle, at.as_ref());
            let context = this.context.clone();
            drop(this);
            match closing {
                Some(closing) => context.told(closing.get().await, at.as_ref()),
                None => Ok(()),
            }
        });
        // `local n <close>`: like every creation, it does not wait; the teardown does.
        methods.add_meta_method(MetaMethod::Close, |lua, this, _: Value| {
            let at = this.context.place(lua);
            drop(this.it.close(&this.context.bottle, at.as_ref()));
            Ok(())
        });
        T::methods(methods);
    }
}
