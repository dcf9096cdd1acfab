//! Prints the differences between a bottle's last plan and its new plan, for `resume`.

use crate::cli::print::print_message;
use crate::report::printable;

/// What is different from the plan that the bottle was launched with, a line for each place.
pub(in crate::cli) fn tell_differences(before: &serde_json::Value, after: &serde_json::Value) {
    let mut found = Vec::new();
    differences("", before, after, &mut found);
    for line in found {
        print_message(&printable(&format!("different   {line}")));
    }
}

fn differences(place: &str, before: &serde_json::Value, after: &serde_json::Value, found: &mut Vec<String>) {
    use serde_json::Value;
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for name in names {
                let below = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
                let none = Value::Null;
                differences(&below, old.get(name).unwrap_or(&none), new.get(name).unwrap_or(&none), found);
            }
        }
        (old, new) if old != new => found.push(format!("{place}: {} → {}", short(old), short(new))),
        _ => {}
    }
}

/// A value in one line; of a long one, its beginning.
fn short(value: &serde_json::Value) -> String {
    const LONG: usize = 120;
    let text = value.to_string();
    if text.chars().count() <= LONG { text } else { text.chars().take(LONG).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named_by_its_place() {
        let before = serde_json::json!({"a": {"b": 1, "c": [1]}, "d": null});
        let after = serde_json::json!({"a": {"b": 2, "c": [1]}, "e": "x"});
        let mut found = Vec::new();
        differences("", &before, &after, &mut found);
        assert_eq!(found, ["a.b: 1 → 2", "e: null → \"x\""]);
    }
}
