//! Handles, which creating primitives return at once. [`super::things`] has the methods of each kind.

use std::sync::Arc;

use mlua::{Lua, MetaMethod, UserData, UserDataFields, UserDataMethods, UserDataRef, Value};

use super::context::Context;
use crate::lua::error::raise;
use crate::primitive::{Bottle, Lifecycle};
use crate::session::{Failure, Pending, ScriptLocation};

/// An object of a bottle that scripts hold a handle to.
pub(in crate::lua) trait Thing: Send + Sync + Sized + 'static {
    /// The primitive that creates this kind, for error messages.
    const ORIGIN: &'static str;

    /// Its lifecycle; absent for an object that is never removed.
    fn life(&self) -> Option<&Arc<Lifecycle>>;

    /// Removes it now.
    fn close(&self, bottle: &Arc<Bottle>, at: Option<&ScriptLocation>) -> Option<Pending<()>>;

    /// A short title for messages, such as `network n`.
    fn title(&self) -> String {
        self.life().map_or_else(|| "image".to_owned(), |life| life.title.clone())
    }

    /// Adds its fields.
    fn fields<F: UserDataFields<Handle<Self>>>(_: &mut F) {}

    /// Adds its methods, except `close`.
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

    /// The object, unless it has been closed.
    pub(super) fn living(&self, at: Option<&ScriptLocation>) -> mlua::Result<Arc<T>> {
        if let Some(life) = self.it.life() {
            life.check(&self.context.bottle.session, at).map_err(raise)?;
        }
        Ok(self.it.clone())
    }
}

/// Starts a method call: returns the script's line and the object. Releases the handle, so that the script can use it
/// while the method waits.
pub(super) fn begin<T: Thing>(lua: &Lua, this: UserDataRef<Handle<T>>) -> mlua::Result<Called<T>> {
    let at = this.context.place(lua);
    let it = this.living(at.as_ref())?;
    let context = this.context.clone();
    drop(this);
    Ok(Called { it, at, context })
}

/// A method call.
pub(super) struct Called<T> {
    pub(super) it: Arc<T>,
    pub(super) at: Option<ScriptLocation>,
    context: Context,
}

impl<T> Called<T> {
    pub(super) fn bottle(&self) -> &Arc<Bottle> {
        &self.context.bottle
    }

    /// Returns the result to the script. A failure gets the line of the call, unless it has a more precise one.
    pub(super) fn or_raise<O>(&self, outcome: Result<O, Failure>) -> mlua::Result<O> {
        self.context.or_raise(outcome, self.at.as_ref())
    }
}

impl<T: Thing> UserData for Handle<T> {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        T::fields(fields);
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::ToString, |_, this, ()| Ok(this.it.title()));
        // Removes the object and waits until it is gone; a second call does nothing.
        methods.add_async_method("close", |lua, this, ()| async move {
            let at = this.context.place(&lua);
            let closing = this.it.close(&this.context.bottle, at.as_ref());
            let context = this.context.clone();
            drop(this);
            match closing {
                Some(closing) => context.or_raise(closing.get().await, at.as_ref()),
                None => Ok(()),
            }
        });
        // `local n <close>` does not wait, as creating does not; the teardown waits.
        methods.add_meta_method(MetaMethod::Close, |lua, this, _: Value| {
            let at = this.context.place(lua);
            drop(this.it.close(&this.context.bottle, at.as_ref()));
            Ok(())
        });
        T::methods(methods);
    }
}
