//! Prints the reference: for a terminal, as Markdown, and as LuaCATS stubs for editors.

use super::{Class, Function, classes, functions};

/// The first lines of the stubs.
const HEAD: &str =
    "---@meta\n-- What recipes can call, for editors and emmylua_check. Written by `bottler lua types`; do not edit.\n";

/// A `.luarc.json` that includes the stubs.
pub const SETTINGS: &str = r#"{
  "runtime.version": "Lua 5.4",
  "workspace.library": [".bottler/_meta"]
}
"#;

/// The description of one name, or the list of all names; `None` if the name is unknown.
pub fn text(name: Option<&str>) -> Option<String> {
    let Some(name) = name else {
        let functions = functions().iter().map(|function| format!("{}\n    {}\n", call("", function), function.doc));
        let names: Vec<String> = classes().into_iter().map(|class| class.name).collect();
        return Some(functions.collect::<String>() + "\nclasses: " + &names.join(", ") + "\n");
    };
    if let Some(function) = functions().iter().find(|function| function.name == name) {
        let mut text = format!("{}\n    {}\n", call("", function), function.doc);
        for class in classes().iter().filter(|class| mentions(function, &class.name)) {
            text.push('\n');
            text.push_str(&describe(class));
        }
        return Some(text);
    }
    classes().iter().find(|class| class.name == name).map(describe)
}

fn mentions(function: &Function, class: &str) -> bool {
    let words = |ty: &str| ty.split(|c: char| !c.is_alphanumeric()).any(|word| word == class);
    function.params.iter().any(|param| words(param.ty))
}

fn describe(class: &Class) -> String {
    let mut text = format!("{}: {}\n", class.name, class.doc);
    for field in &class.fields {
        let mark = if field.optional { "?" } else { "" };
        text.push_str(&format!("    {}{mark}: {}\n        {}\n", field.name, field.ty, field.doc));
    }
    for method in class.methods {
        text.push_str(&format!("    {}\n        {}\n", call(":", method), method.doc));
    }
    text
}

fn call(before: &str, function: &Function) -> String {
    let params: Vec<String> = function.params.iter().map(|param| format!("{}: {}", param.name, param.ty)).collect();
    let returns = if function.returns.is_empty() { String::new() } else { format!(": {}", function.returns) };
    format!("{before}{}({}){returns}", function.name, params.join(", "))
}

/// The whole reference as Markdown.
pub fn markdown() -> String {
    let mut text =
        String::from("# Recipe reference\n\nWritten by `bottler lua doc --markdown`; do not edit.\n\n## Functions\n");
    for function in functions() {
        text.push_str(&format!("\n### `{}`\n\n{}\n", call("", function), function.doc));
    }
    text.push_str("\n## Handles, options and results\n");
    for class in classes() {
        text.push_str(&format!("\n### {}\n\n{}\n\n", class.name, class.doc));
        for field in &class.fields {
            let optional = if field.optional { ", optional" } else { "" };
            let ty = field.ty.replace('|', "\\|");
            text.push_str(&format!("- `{}` ({ty}{optional}): {}\n", field.name, field.doc));
        }
        for method in class.methods {
            text.push_str(&format!("- `{}`: {}\n", call(":", method), method.doc));
        }
    }
    text
}

/// The LuaCATS stubs.
pub fn stubs() -> String {
    let mut text = HEAD.to_owned();
    for class in classes() {
        text.push_str(&format!("\n---{}\n---@class (exact) {}\n", class.doc, class.name));
        for field in &class.fields {
            let mark = if field.optional { "?" } else { "" };
            let ty = if field.ty.starts_with("fun(") && field.optional {
                format!("({})", field.ty)
            } else {
                field.ty.clone()
            };
            text.push_str(&format!("---@field {}{mark} {ty} {}\n", field.name, field.doc));
        }
        if !class.methods.is_empty() {
            text.push_str(&format!("local {} = {{}}\n", class.name));
        }
        for method in class.methods {
            text.push_str(&stub(&format!("{}:", class.name), method));
        }
    }
    text.push_str(
        "\n---A recipe: call it with a plan, and with hooks.\n---@alias Recipe fun(plan: Plan, hooks: Hooks?): Agent\n",
    );
    for library in ["secret", "host"] {
        text.push_str(&format!("\n{library} = {{}}\n"));
    }
    for function in functions() {
        if function.name != "require" {
            text.push_str(&stub("", function));
        }
    }
    text
}

fn stub(owner: &str, function: &Function) -> String {
    let mut text = format!("\n---{}\n", function.doc);
    for param in function.params {
        text.push_str(&format!("---@param {} {}\n", param.name, param.ty));
    }
    if !function.returns.is_empty() {
        text.push_str(&format!("---@return {}\n", function.returns));
    }
    if function.name == "fail" {
        text.push_str("---@return never\n");
    }
    let names: Vec<&str> = function.params.iter().map(|param| param.name.trim_end_matches('?')).collect();
    text.push_str(&format!("function {owner}{}({}) end\n", function.name, names.join(", ")));
    text
}
