//! Handles: what creating primitives give at once, and what scripts can ask of them.

use std::sync::Arc;

use mlua::{Lua, MetaMethod, UserData, UserDataFields, UserDataMethods, Value};

use super::create::Left;
use super::{Context, container, raise};
use crate::primitive::{self, Agent, Bottle, Child, Image, Life, Network, Sidecar, Volume};
use crate::session::{Failure, Pending, Place};

/// A thing of a bottle that scripts hold a handle to.
pub(in crate::lua) trait Thing: Send + Sync + Sized + 'static {
    /// Where handles of this kind come from, for messages.
    const GAVE: &'static str;

    /// Its life; absent where nothing of it is undone.
    fn life(&self) -> Option<&Arc<Life>>;

    /// Undoes it now.
    fn close(&self, bottle: &Arc<Bottle>, at: Option<&Place>) -> Option<Pending<()>>;

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
    pub(super) fn living(&self, at: Option<&Place>) -> mlua::Result<Arc<T>> {
        if let Some(life) = self.it.life() {
            life.check(&self.context.bottle, at).map_err(raise)?;
        }
        Ok(self.it.clone())
    }

    /// What a method begins with: the line it was called at, and the living thing.
    pub(super) fn called(&self, lua: &Lua) -> mlua::Result<Called<T>> {
        let at = self.context.place(lua);
        let it = self.living(at.as_ref())?;
        Ok(Called { it, at, context: self.context.clone() })
    }
}

/// A method's call.
pub(super) struct Called<T> {
    pub(super) it: Arc<T>,
    pub(super) at: Option<Place>,
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

impl Thing for Image {
    const GAVE: &'static str = "what build_image gave";

    fn life(&self) -> Option<&Arc<Life>> {
        None
    }

    fn close(&self, _: &Arc<Bottle>, _: Option<&Place>) -> Option<Pending<()>> {
        None
    }

    fn methods<M: UserDataMethods<Handle<Self>>>(methods: &mut M) {
        methods.add_async_method("ready", |lua, this, ()| async move {
            let call = this.called(&lua)?;
            drop(this);
            call.told(call.it.ready().await)
        });
        methods.add_async_method("inspect", |lua, this, ()| async move {
            let call = this.called(&lua)?;
            drop(this);
            container::to_lua(&lua, &*call.told(call.it.inspect().await)?)
        });
    }
}

impl Thing for Network {
    const GAVE: &'static str = "what network_create gave";

    fn life(&self) -> Option<&Arc<Life>> {
        Some(&self.life)
    }

    fn close(&self, bottle: &Arc<Bottle>, at: Option<&Place>) -> Option<Pending<()>> {
        Some(Network::close(self, bottle, at))
    }

    fn fields<F: UserDataFields<Handle<Self>>>(fields: &mut F) {
        fields.add_field_method_get("name", |_, this| Ok(this.it.name.clone()));
    }

    fn methods<M: UserDataMethods<Handle<Self>>>(methods: &mut M) {
        for name in ["ready", "inspect"] {
            methods.add_async_method(name, |lua, this, ()| async move {
                let call = this.called(&lua)?;
                drop(this);
                let (id, subnet) = call.told(call.it.ready().await)?;
                let table = lua.create_table()?;
                table.set("id", id)?;
                table.set("subnet", subnet.to_string())?;
                Ok(table)
            });
        }
    }
}

impl Thing for Volume {
    const GAVE: &'static str = "what volume_create gave";

    fn life(&self) -> Option<&Arc<Life>> {
        Some(&self.life)
    }

    fn close(&self, bottle: &Arc<Bottle>, at: Option<&Place>) -> Option<Pending<()>> {
        Some(Volume::close(self, bottle, at))
    }

    fn fields<F: UserDataFields<Handle<Self>>>(fields: &mut F) {
        fields.add_field_method_get("name", |_, this| Ok(this.it.name.clone()));
    }

    fn methods<M: UserDataMethods<Handle<Self>>>(methods: &mut M) {
        for name in ["ready", "inspect"] {
            methods.add_async_method(name, |lua, this, ()| async move {
                let call = this.called(&lua)?;
                drop(this);
                let id = call.told(call.it.ready().await)?;
                lua.create_table_from([("id", id)])
            });
        }
    }
}

impl Thing for Sidecar {
    const GAVE: &'static str = "what sidecar_start gave";

    fn life(&self) -> Option<&Arc<Life>> {
        Some(&self.life)
    }

    fn close(&self, bottle: &Arc<Bottle>, at: Option<&Place>) -> Option<Pending<()>> {
        Some(Sidecar::close(self, bottle, at))
    }

    fn fields<F: UserDataFields<Handle<Self>>>(fields: &mut F) {
        fields.add_field_method_get("name", |_, this| Ok(this.it.name.clone()));
    }

    fn methods<M: UserDataMethods<Handle<Self>>>(methods: &mut M) {
        container::methods(methods);
        // Waits for its end, which a script may ask for with `stop`.
        methods.add_async_method("wait", |lua, this, options: Value| async move {
            let call = this.called(&lua)?;
            drop(this);
            let limit = container::timeout(&lua, "wait", options, call.at.as_ref())?;
            let end = async {
                let id = call.it.container().await?;
                call.it.ready().await?;
                Ok(call.bottle().session.engine.container_wait(&id, true).await?)
            };
            container::exit(&lua, call.told(primitive::within("wait", limit, end).await)?)
        });
    }
}

impl Thing for Agent {
    const GAVE: &'static str = "what run_agent gave";

    fn life(&self) -> Option<&Arc<Life>> {
        Some(&self.life)
    }

    fn close(&self, bottle: &Arc<Bottle>, at: Option<&Place>) -> Option<Pending<()>> {
        Some(Agent::close(self, bottle, at))
    }

    fn fields<F: UserDataFields<Handle<Self>>>(fields: &mut F) {
        fields.add_field_method_get("name", |_, this| Ok(this.it.config.name.clone()));
        fields.add_field_method_get("prompt_path", |_, this| Ok(this.it.prompt_path()));
    }

    fn methods<M: UserDataMethods<Handle<Self>>>(methods: &mut M) {
        container::methods(methods);
        // Releases the agent and waits for the end of its command; a non-zero exit code is a result.
        methods.add_async_method("wait", |lua, this, options: Value| async move {
            let call = this.called(&lua)?;
            drop(this);
            let limit = container::timeout(&lua, "wait", options, call.at.as_ref())?;
            let end = async {
                primitive::release(call.bottle(), &call.it).await?;
                call.it.exit_code().await
            };
            container::exit(&lua, call.told(primitive::within("wait", limit, end).await)?)
        });
    }
}

impl Thing for Child {
    const GAVE: &'static str = "what bottle gave";

    fn life(&self) -> Option<&Arc<Life>> {
        Some(&self.life)
    }

    fn close(&self, bottle: &Arc<Bottle>, at: Option<&Place>) -> Option<Pending<()>> {
        Some(Child::close(self, bottle, at))
    }

    fn fields<F: UserDataFields<Handle<Self>>>(fields: &mut F) {
        fields.add_field_method_get("id", |_, this| Ok(this.it.id.clone()));
        fields.add_field_method_get("slug", |_, this| Ok(this.it.slug.clone()));
    }

    fn methods<M: UserDataMethods<Handle<Self>>>(methods: &mut M) {
        // Waits until its agent has ended and it is gone; a failed launch raises, a non-zero exit code is a result.
        methods.add_async_method("wait", |lua, this, options: Value| async move {
            let call = this.called(&lua)?;
            drop(this);
            let limit = container::timeout(&lua, "wait", options, call.at.as_ref())?;
            let work = call.told(primitive::within("wait", limit, call.it.work()).await)?;
            container::exit(&lua, work.exit_code)
        });
        methods.add_async_method("output", |lua, this, ()| async move {
            let call = this.called(&lua)?;
            drop(this);
            let work = call.told(call.it.work().await)?;
            lua.create_string(&work.output)
        });
        methods.add_async_method("patch", |lua, this, ()| async move {
            let call = this.called(&lua)?;
            drop(this);
            let work = call.told(call.it.work().await)?;
            lua.create_string(&work.patch)
        });
        // The workspace as it was left: to give to another bottle.
        methods.add_async_method("workspace", |lua, this, ()| async move {
            let call = this.called(&lua)?;
            drop(this);
            let work = call.told(call.it.work().await)?;
            Ok(work.workspace.clone().map(Left))
        });
        // Writes the patch below the directory of the launch; the path it got, which is another where that was taken.
        methods.add_async_method("save_patch", |lua, this, path: String| async move {
            let call = this.called(&lua)?;
            drop(this);
            let work = call.told(call.it.work().await)?;
            call.told(primitive::save(call.bottle(), &path, &work.patch))
        });
    }
}
