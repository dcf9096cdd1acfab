//! The fields and methods of each kind of handle.

use std::sync::Arc;

use mlua::{UserDataFields, UserDataMethods, Value};

use super::container;
use super::convert::to_lua;
use super::create::WorkspaceResult;
use super::handle::{Handle, Thing, begin};
use crate::primitive::{self, Agent, Bottle, Child, Image, Lifecycle, Network, Sidecar, Volume};
use crate::session::{Pending, ScriptLocation};

/// Implements the lifecycle of an object that can be closed early.
macro_rules! undone {
    ($thing:ty) => {
        fn life(&self) -> Option<&Arc<Lifecycle>> {
            Some(&self.life)
        }

        fn close(&self, bottle: &Arc<Bottle>, at: Option<&ScriptLocation>) -> Option<Pending<()>> {
            Some(<$thing>::close(self, bottle, at))
        }
    };
}

impl Thing for Image {
    const ORIGIN: &'static str = "the result of build_image";

    fn life(&self) -> Option<&Arc<Lifecycle>> {
        None
    }

    fn close(&self, _: &Arc<Bottle>, _: Option<&ScriptLocation>) -> Option<Pending<()>> {
        None
    }

    fn methods<M: UserDataMethods<Handle<Self>>>(methods: &mut M) {
        methods.add_async_method("ready", |lua, this, ()| async move {
            let call = begin(&lua, this)?;
            call.or_raise(call.it.ready().await)
        });
        methods.add_async_method("inspect", |lua, this, ()| async move {
            let call = begin(&lua, this)?;
            to_lua(&lua, &*call.or_raise(call.it.inspect().await)?)
        });
    }
}

impl Thing for Network {
    const ORIGIN: &'static str = "the result of network_create";

    undone!(Network);

    fn fields<F: UserDataFields<Handle<Self>>>(fields: &mut F) {
        fields.add_field_method_get("name", |_, this| Ok(this.it.name.clone()));
    }

    fn methods<M: UserDataMethods<Handle<Self>>>(methods: &mut M) {
        for name in ["ready", "inspect"] {
            methods.add_async_method(name, |lua, this, ()| async move {
                let call = begin(&lua, this)?;
                let (id, subnet) = call.or_raise(call.it.ready().await)?;
                let table = lua.create_table()?;
                table.set("id", id)?;
                table.set("subnet", subnet.to_string())?;
                Ok(table)
            });
        }
    }
}

impl Thing for Volume {
    const ORIGIN: &'static str = "the result of volume_create";

    undone!(Volume);

    fn fields<F: UserDataFields<Handle<Self>>>(fields: &mut F) {
        fields.add_field_method_get("name", |_, this| Ok(this.it.name.clone()));
    }

    fn methods<M: UserDataMethods<Handle<Self>>>(methods: &mut M) {
        for name in ["ready", "inspect"] {
            methods.add_async_method(name, |lua, this, ()| async move {
                let call = begin(&lua, this)?;
                let id = call.or_raise(call.it.ready().await)?;
                lua.create_table_from([("id", id)])
            });
        }
    }
}

impl Thing for Sidecar {
    const ORIGIN: &'static str = "the result of sidecar_start";

    undone!(Sidecar);

    fn fields<F: UserDataFields<Handle<Self>>>(fields: &mut F) {
        fields.add_field_method_get("name", |_, this| Ok(this.it.name.clone()));
    }

    fn methods<M: UserDataMethods<Handle<Self>>>(methods: &mut M) {
        container::methods(methods);
        // Waits for its end, which a script may cause with `stop`.
        methods.add_async_method("wait", |lua, this, options: Value| async move {
            let call = begin(&lua, this)?;
            let limit = container::timeout(&lua, "wait", options, call.at.as_ref())?;
            let end = async {
                let id = call.it.container().await?;
                call.it.ready().await?;
                Ok(call.bottle().session.engine.container_wait(&id, true).await?)
            };
            container::exit(&lua, call.or_raise(primitive::within("wait", limit, end).await)?)
        });
    }
}

impl Thing for Agent {
    const ORIGIN: &'static str = "the result of run_agent";

    undone!(Agent);

    fn fields<F: UserDataFields<Handle<Self>>>(fields: &mut F) {
        fields.add_field_method_get("name", |_, this| Ok(this.it.config.name.clone()));
        fields.add_field_method_get("prompt_path", |_, this| Ok(this.it.prompt_path()));
    }

    fn methods<M: UserDataMethods<Handle<Self>>>(methods: &mut M) {
        container::methods(methods);
        // Releases the agent and waits until its command ends; a non-zero exit code is a result, not an error.
        methods.add_async_method("wait", |lua, this, options: Value| async move {
            let call = begin(&lua, this)?;
            let limit = container::timeout(&lua, "wait", options, call.at.as_ref())?;
            let end = async {
                primitive::release(call.bottle(), &call.it).await?;
                call.it.exit_code().await
            };
            container::exit(&lua, call.or_raise(primitive::within("wait", limit, end).await)?)
        });
    }
}

impl Thing for Child {
    const ORIGIN: &'static str = "the result of bottle";

    undone!(Child);

    fn fields<F: UserDataFields<Handle<Self>>>(fields: &mut F) {
        fields.add_field_method_get("id", |_, this| Ok(this.it.id.clone()));
        fields.add_field_method_get("slug", |_, this| Ok(this.it.slug.clone()));
    }

    fn methods<M: UserDataMethods<Handle<Self>>>(methods: &mut M) {
        // Waits until the bottle is gone. A failed launch raises an error; a non-zero exit code of the agent is a
        // result.
        methods.add_async_method("wait", |lua, this, options: Value| async move {
            let call = begin(&lua, this)?;
            let limit = container::timeout(&lua, "wait", options, call.at.as_ref())?;
            let work = call.or_raise(primitive::within("wait", limit, call.it.work()).await)?;
            container::exit(&lua, work.exit_code)
        });
        methods.add_async_method("output", |lua, this, ()| async move {
            let call = begin(&lua, this)?;
            let work = call.or_raise(call.it.work().await)?;
            lua.create_string(&work.output)
        });
        methods.add_async_method("stderr", |lua, this, ()| async move {
            let call = begin(&lua, this)?;
            let work = call.or_raise(call.it.work().await)?;
            lua.create_string(&work.errors)
        });
        methods.add_async_method("patch", |lua, this, ()| async move {
            let call = begin(&lua, this)?;
            let work = call.or_raise(call.it.work().await)?;
            lua.create_string(&work.patch)
        });
        // The workspace as the agent left it, which can be given to another bottle.
        methods.add_async_method("workspace", |lua, this, ()| async move {
            let call = begin(&lua, this)?;
            let work = call.or_raise(call.it.work().await)?;
            Ok(work.workspace.clone().map(WorkspaceResult))
        });
        // Writes the patch below the launch's directory. Returns its path, which differs from the given one if that
        // existed.
        methods.add_async_method("save_patch", |lua, this, path: String| async move {
            let call = begin(&lua, this)?;
            let work = call.or_raise(call.it.work().await)?;
            call.or_raise(primitive::save(call.bottle(), &path, &work.patch))
        });
    }
}
