//! Converts JSON Schema, which schemars derives from the Rust structures, to LuaCATS classes.

use serde_json::Value;

use super::{Class, Field};

/// The class of a structure, and the classes that it refers to.
pub(super) fn classes(name: &str, schema: &Value, written: bool) -> Vec<Class> {
    let mut found = vec![class(name, schema, written)];
    if let Some(definitions) = schema["$defs"].as_object() {
        let objects = definitions.iter().filter(|(_, schema)| schema["properties"].is_object());
        found.extend(objects.map(|(name, schema)| class(name, schema, written)));
    }
    // A definition that is not an object has no class; `ty` writes it in place.
    let definitions = schema["$defs"].clone();
    for class in &mut found {
        for field in &mut class.fields {
            resolve(&mut field.ty, &definitions);
        }
    }
    found
}

fn class(name: &str, schema: &Value, written: bool) -> Class {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema["properties"].as_object();
    let field = |(name, property): (&String, &Value)| Field {
        name: name.clone(),
        ty: ty(property),
        // A field with a default is always present when a script reads it.
        optional: !required.contains(&name.as_str()) && (written || property["default"].is_null()),
        doc: doc(property),
    };
    Class {
        name: name.to_owned(),
        doc: doc(schema),
        fields: properties.into_iter().flatten().map(field).collect(),
        methods: &[],
        written,
    }
}

fn doc(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Replaces references to definitions that are not classes by their types.
fn resolve(ty: &mut String, definitions: &Value) {
    let Some(definitions) = definitions.as_object() else { return };
    for (name, schema) in definitions {
        if !schema["properties"].is_object() && ty.contains(name.as_str()) {
            let stands_for = self::ty(schema);
            replace(ty, &format!("{name}[]"), &format!("{}[]", parenthesised(&stands_for)));
            replace(ty, name, &stands_for);
        }
    }
}

/// Replaces a name, but not inside a longer name.
fn replace(text: &mut String, name: &str, by: &str) {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut from = 0;
    while let Some(at) = text[from..].find(name).map(|at| at + from) {
        let end = at + name.len();
        if text[..at].ends_with(is_word) || text[end..].starts_with(is_word) {
            from = end;
        } else {
            text.replace_range(at..end, by);
            from = at + by.len();
        }
    }
}

fn ty(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        return reference.rsplit('/').next().unwrap_or_default().to_owned();
    }
    if let Some(value) = schema["const"].as_str() {
        return format!("\"{value}\"");
    }
    if let Some(values) = schema["enum"].as_array() {
        return union(values.iter().filter_map(Value::as_str).map(|value| format!("\"{value}\"")));
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(alternatives) = schema[key].as_array() {
            return union(alternatives.iter().map(ty).filter(|ty| ty != "nil"));
        }
    }
    match &schema["type"] {
        Value::Array(types) => union(
            types.iter().filter_map(Value::as_str).filter(|name| *name != "null").map(|name| simple(name, schema)),
        ),
        Value::String(name) => simple(name, schema),
        _ => "any".to_owned(),
    }
}

fn simple(name: &str, schema: &Value) -> String {
    match name {
        "null" => "nil".to_owned(),
        "array" => format!("{}[]", parenthesised(&ty(&schema["items"]))),
        "object" => match (&schema["properties"], &schema["additionalProperties"]) {
            (Value::Object(properties), _) => {
                let fields: Vec<String> = properties.iter().map(|(name, it)| format!("{name}: {}", ty(it))).collect();
                format!("{{ {} }}", fields.join(", "))
            }
            (_, Value::Object(_)) => format!("table<string, {}>", ty(&schema["additionalProperties"])),
            _ => "table".to_owned(),
        },
        other => other.to_owned(),
    }
}

fn parenthesised(ty: &str) -> String {
    if ty.contains('|') { format!("({ty})") } else { ty.to_owned() }
}

fn union(types: impl Iterator<Item = String>) -> String {
    types.collect::<Vec<_>>().join("|")
}
