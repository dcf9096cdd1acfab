//! Secrets in scripts: opaque values that can be formatted and passed on, but not read or printed.

use mlua::{Lua, MetaMethod, Table, UserData, UserDataMethods, Value, Variadic};
use secrecy::{ExposeSecret, SecretString};

use super::context::Context;
use crate::lua::error::raise;
use crate::lua::memory::{self, Args};
use crate::session::{Class, Failure};

/// Maximum length of a random secret, in characters.
const MAX_RANDOM: usize = 256;
/// Characters of random secrets; none has a special meaning in URLs, shells or configuration files.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A value that scripts can pass on but not read.
#[derive(Clone)]
pub(super) struct Secret(SecretString);

/// Maximum length of a secret, in bytes: egress searches all traffic for it.
const MAX_SECRET: usize = 64 << 10;
/// How many secrets a bottle may have.
const MAX_SECRETS: usize = 1000;
/// Bytes that a secret uses besides its value, which is stored here and in the bottle.
const SECRET: usize = 256;

impl Secret {
    /// Creates a secret of the bottle, which egress searches for.
    ///
    /// # Errors
    /// The script has too many secrets, or no memory left.
    pub(super) fn new(lua: &Lua, value: String, context: &Context) -> mlua::Result<Self> {
        if context.bottle.secrets() >= MAX_SECRETS {
            return Err(raise(Failure::new(Class::Input, format!("secret: there are {MAX_SECRETS} already"))));
        }
        memory::charge(lua, 2 * value.len() + SECRET)?.keep();
        context.bottle.keep_secret(&value);
        Ok(Self(value.into()))
    }

    /// The value.
    pub(super) fn reveal(&self) -> &str {
        self.0.expose_secret()
    }
}

impl UserData for Secret {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::ToString, |_, _, ()| Ok("(secret)"));
        methods.add_meta_function(MetaMethod::Concat, |_, _: (Value, Value)| -> mlua::Result<()> {
            Err(raise(
                Failure::new(Class::Input, "a secret cannot be joined with ..").hint("secret.format(\"…%s…\", value)"),
            ))
        });
    }
}

pub(super) fn library(lua: &Lua, context: &Context) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    let c = context.clone();
    library.raw_set(
        "random",
        lua.create_function(move |lua, length: usize| {
            if length == 0 || length > MAX_RANDOM {
                let failure =
                    Failure::new(Class::Input, format!("secret.random: {length} is not from 1 to {MAX_RANDOM}"));
                return Err(raise(failure.at(c.place(lua).as_ref())));
            }
            let mut bytes = vec![0_u8; length];
            getrandom::fill(&mut bytes).map_err(mlua::Error::external)?;
            let text: String = bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 64)])).collect();
            Secret::new(lua, text, &c)
        })?,
    )?;
    let c = context.clone();
    library.raw_set(
        "format",
        lua.create_function(move |lua, given: Args<(String, Variadic<Value>)>| {
            let ((format, values), _held) = given.take();
            let bad = |message: &str| {
                raise(Failure::new(Class::Input, format!("secret.format: {message}")).at(c.place(lua).as_ref()))
            };
            let mut pieces = format.split("%s");
            let mut text = pieces.next().unwrap_or_default().to_owned();
            let mut values = values.iter();
            for piece in pieces {
                let value = values.next().ok_or_else(|| bad("there are more %s than values"))?;
                match value.as_userdata().and_then(|value| value.borrow::<Secret>().ok()) {
                    Some(secret) => text.push_str(secret.reveal()),
                    None => text.push_str(&value.to_string()?),
                }
                text.push_str(piece);
                if text.len() > MAX_SECRET {
                    break;
                }
            }
            if text.len() > MAX_SECRET {
                return Err(bad(&format!("the secret is longer than {} KiB", MAX_SECRET >> 10)));
            }
            if values.next().is_some() {
                return Err(bad("there are more values than %s"));
            }
            Secret::new(lua, text, &c)
        })?,
    )?;
    Ok(library)
}
