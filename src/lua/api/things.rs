//! What each kind of handle can be asked for.

use std::sync::Arc;

use mlua::{UserDataFields, UserDataMethods, Value};

use super::container;
use super::create::Left;
use super::handle::{Handle, Thing, begin};
use crate::primitive::{self, Agent, Bottle, Child, Image, Life, Network, Sidecar, Volume};
use crate::session::{Pending, ScriptLocation};

/// That a thing has a life and can be undone early, by its own functions of these names.
macro_rules! undone {
    ($thing:ty) => {
        fn life(&self) -> Option<&Arc<Life>> {
            Some(&self.life)
        }

        fn close(&self, bottle: &Arc<Bottle>, at: Option<&ScriptLocation>) -> Option<Pending<()>> {
            Some(<$thing>::close(self, bottle, at))
        }
    };
}

impl Thing for Image {
    const GAVE: &'static str = "what build_image gave";

    fn life(&self) -> Option<&Arc<Life>> {
        None
    }

    fn close(&self, _: &Arc<Bottle>, _: Option<&ScriptLocation>) -> Option<Pending<()>> {
        None
    }

    fn methods<M: UserDataMethods<Handle<Self>>>(methods: &mut M) {
        methods.add_async_method("ready", |lua, this, ()| async move {
            let call = begin(&lua, this)?;
            call.told(call.it.ready().await)
        });
        methods.add_async_method("inspect", |lua, this, ()| async move {
            let call = begin(&lua, this)?;
            container::to_lua(&lua, &*call.told(call.it.inspect().await)?)
        });
    }
}

impl Thing for Network {
    const GAVE: &'static str = "what network_create gave";

    undone!(Network);

    fn fields<F: UserDataFields<Handle<Self>>>(fields: &mut F) {
        fields.add_field_method_get("name", |_, this| Ok(this.it.name.clone()));
    }

    fn methods<M: UserDataMethods<Handle<Self>>>(methods: &mut M) {
        for name in ["ready", "inspect"] {
            methods.add_async_method(name, |lua, this, ()| async move {
                let call = begin(&lua, this)?;
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

    undone!(Volume);

    fn fields<F: UserDataFields<Handle<Self>>>(fields: &mut F) {
        fields.add_field_method_get("name", |_, this| Ok(this.it.name.clone()));
    }

    fn methods<M: UserDataMethods<Handle<Self>>>(methods: &mut M) {
        for name in ["ready", "inspect"] {
            methods.add_async_method(name, |lua, this, ()| async move {
                let call = begin(&lua, this)?;
                let id = call.told(call.it.ready().await)?;
                lua.create_table_from([("id", id)])
            });
        }
    }
}

impl Thing for Sidecar {
    const GAVE: &'static str = "what sidecar_start gave";

    undone!(Sidecar);

    fn fields<F: UserDataFields<Handle<Self>>>(fields: &mut F) {
        fields.add_field_method_get("name", |_, this| Ok(this.it.name.clone()));
    }

    fn methods<M: UserDataMethods<Handle<Self>>>(methods: &mut M) {
        container::methods(methods);
        // Waits for its end, which a script may ask for with `stop`.
        methods.add_async_method("wait", |lua, this, options: Value| async move {
            let call = begin(&lua, this)?;
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

    undone!(Agent);

    fn fields<F: UserDataFields<Handle<Self>>>(fields: &mut F) {
        fields.add_field_method_get("name", |_, this| Ok(this.it.config.name.clone()));
        fields.add_field_method_get("prompt_path", |_, this| Ok(this.it.prompt_path()));
    }

    fn methods<M: UserDataMethods<Handle<Self>>>(methods: &mut M) {
        container::methods(methods);
        // Releases the agent and waits for the end of its command; a non-zero exit code is a result.
        methods.add_async_method("wait", |lua, this, options: Value| async move {
            let call = begin(&lua, this)?;
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

    undone!(Child);

    fn fields<F: UserDataFields<Handle<Self>>>(fields: &mut F) {
        fields.add_field_method_get("id", |_, this| Ok(this.it.id.clone()));
        fields.add_field_method_get("slug", |_, this| Ok(this.it.slug.clone()));
    }

    fn methods<M: UserDataMethods<Handle<Self>>>(methods: &mut M) {
        // Waits until its agent has ended and it is gone; a failed launch raises, a non-zero exit code is a result.
        methods.add_async_method("wait", |lua, this, options: Value| async move {
            let call = begin(&lua, this)?;
            let limit = container::timeout(&lua, "wait", options, call.at.as_ref())?;
            let work = call.told(primitive::within("wait", limit, call.it.work()).await)?;
            container::exit(&lua, work.exit_code)
        });
        methods.add_async_method("output", |lua, this, ()| async move {
            let call = begin(&lua, this)?;
            let work = call.told(call.it.work().await)?;
            lua.create_string(&work.output)
        });
        methods.add_async_method("stderr", |lua, this, ()| async move {
            let call = begin(&lua, this)?;
            let work = call.told(call.it.work().await)?;
            lua.create_string(&work.errors)
        });
        methods.add_async_method("patch", |lua, this, ()| async move {
            let call = begin(&lua, this)?;
            let work = call.told(call.it.work().await)?;
            lua.create_string(&work.patch)
        });
        // The workspace as it was left: to give to another bottle.
        methods.add_async_method("workspace", |lua, this, ()| async move {
            let call = begin(&lua, this)?;
            let work = call.told(call.it.work().await)?;
            Ok(work.workspace.clone().map(Left))
        });
        // Writes the patch below the directory of the launch; the path it got, which is another where that was taken.
        methods.add_async_method("save_patch", |lua, this, path: String| async move {
            let call = begin(&lua, this)?;
            let work = call.told(call.it.work().await)?;
            call.told(primitive::save(call.bottle(), &path, &work.patch))
        });
    }
}
