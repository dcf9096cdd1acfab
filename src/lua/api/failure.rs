//! Failures in scripts: `pcall` returns an object with fields; raising it again raises the same failure.

use mlua::{Lua, MetaMethod, Table, UserData, UserDataFields, UserDataMethods, Value};

use super::context::Context;
use crate::lua::error;
use crate::lua::error::raise;
use crate::lua::globals::globals;
use crate::lua::memory::{self, Charge};
use crate::session::{Class, Failure};

/// A failure that a script has caught.
pub(in crate::lua) struct Caught {
    failure: Failure,
    _held: Charge,
}

impl Caught {
    pub(in crate::lua) fn new(lua: &Lua, failure: Failure) -> mlua::Result<Self> {
        let texts = failure.causes.iter().chain(&failure.hint).chain([&failure.message]);
        let held = memory::charge(lua, size_of::<Self>() + texts.map(String::len).sum::<usize>())?;
        Ok(Self { failure, _held: held })
    }
}

impl UserData for Caught {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_field_method_get("message", |_, this| Ok(this.failure.message.clone()));
        fields.add_field_method_get("hint", |_, this| Ok(this.failure.hint.clone()));
        fields.add_field_method_get("at", |_, this| Ok(this.failure.at.as_ref().map(ToString::to_string)));
        fields.add_field_method_get("causes", |_, this| Ok(this.failure.causes.clone()));
        fields.add_field_method_get("kind", |_, this| Ok(this.failure.class.word()));
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::ToString, |_, this, ()| Ok(this.failure.message.clone()));
    }
}

pub(super) fn install(lua: &Lua, context: &Context, core: &Table) -> mlua::Result<()> {
    let c = context.clone();
    core.raw_set(
        "caught",
        lua.create_function(move |lua, value: Value| match value {
            Value::Error(error) => {
                let failure = error::failure(&error, &c.sources);
                c.bottle.session.effects.handle(&failure);
                lua.create_userdata(Caught::new(lua, failure)?).map(Value::UserData)
            }
            other => Ok(other),
        })?,
    )?;
    let c = context.clone();
    core.raw_set(
        "no_global",
        lua.create_function(move |lua, name: String| -> mlua::Result<()> {
            let mut failure = Failure::new(Class::Input, format!("there is no global {name}"));
            failure.hint = crate::suggest::nearest(&name, globals()).map(|near| format!("did you mean {near}?"));
            Err(raise(failure.at(c.place(lua).as_ref())))
        })?,
    )?;
    core.raw_set(
        "raise",
        lua.create_function(|_, value: Value| -> mlua::Result<Value> {
            match value.as_userdata().and_then(|value| value.borrow::<Caught>().ok()) {
                Some(caught) => Err(raise(caught.failure.clone())),
                None => Ok(value),
            }
        })?,
    )
}
