//! The types that describe what scripts can call.

/// One function of a table of functions.
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
    /// Its parameters.
    pub params: &'static [Param],
    /// Its result type in LuaCATS; empty if there is none.
    pub returns: &'static str,
    /// What it does, as a sentence.
    pub doc: &'static str,
}

/// A parameter.
#[derive(Debug, Clone)]
pub struct Param {
    /// Its name, with a question mark if it is optional.
    pub name: &'static str,
    /// Its type, in LuaCATS.
    pub ty: &'static str,
}

/// A table of options, a result, or a kind of handle.
#[derive(Debug, Clone)]
pub struct Class {
    /// Its name.
    pub name: String,
    /// A description, as a sentence.
    pub doc: String,
    /// Its fields.
    pub fields: Vec<Field>,
    /// Its methods.
    pub methods: &'static [Function],
    /// Whether scripts write it: then an unknown name is a mistake.
    pub written: bool,
}

/// A field of a class.
#[derive(Debug, Clone)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type, in LuaCATS.
    pub ty: String,
    /// Whether it is optional.
    pub optional: bool,
    /// A description, as a sentence.
    pub doc: String,
}
