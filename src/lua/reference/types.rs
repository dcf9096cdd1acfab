//! What describes something that scripts can call.

/// A function's line in a table.
macro_rules! function {
    ($name:literal ( $($param:literal : $ty:literal),* ) -> $returns:literal, $doc:literal) => {
        Function { name: $name, params: &[$(Param { name: $param, ty: $ty }),*], returns: $returns, doc: $doc }
    };
}

pub(super) use function;

/// A function, or a method of a class.
#[derive(Debug, Clone)]
pub struct Function {
    /// Its name: `network_create`, `secret.random`, `exec`.
    pub name: &'static str,
    /// What it takes.
    pub params: &'static [Param],
    /// What it gives, in LuaCATS; empty for nothing.
    pub returns: &'static str,
    /// What it does.
    pub doc: &'static str,
}

/// A parameter.
#[derive(Debug, Clone)]
pub struct Param {
    /// Its name; with a question mark where it may be absent.
    pub name: &'static str,
    /// Its type, in LuaCATS.
    pub ty: &'static str,
}

/// A table of options, a result, or a kind of handle.
#[derive(Debug, Clone)]
pub struct Class {
    /// Its name.
    pub name: String,
    /// What it is.
    pub doc: String,
    /// What it holds.
    pub fields: Vec<Field>,
    /// What it can be asked for.
    pub methods: &'static [Function],
    /// Whether a script writes it: then a name that is not there is a mistake.
    pub written: bool,
}

/// A field of a class.
#[derive(Debug, Clone)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type, in LuaCATS.
    pub ty: String,
    /// Whether it may be absent.
    pub optional: bool,
    /// What it is.
    pub doc: String,
}
