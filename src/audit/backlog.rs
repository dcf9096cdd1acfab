//! Events that cannot be written now: of every decision, code and destination the first, and the last with the count of all
//! after the first. What is beyond the bound is counted by decision and code.

use std::collections::{BTreeMap, HashMap};

use super::Event;

/// Destinations that are held apart.
const MOST: usize = 1024;
/// Codes that are counted apart.
const CODES: usize = 256;

/// What is held.
#[derive(Default)]
pub(super) struct Backlog {
    whole: HashMap<(String, String, String), (Event, Option<Event>)>,
    /// What is only counted.
    pub(super) counted: BTreeMap<String, u64>,
}

impl Backlog {
    pub(super) fn add(&mut self, event: Event) {
        let kind = &event.kind;
        let key = (kind.decision.clone(), kind.code.clone(), kind.destination.clone());
        if let Some((_, last)) = self.whole.get_mut(&key) {
            let before = last.as_ref().map_or(0, |last| last.count);
            *last = Some(Event { count: before.saturating_add(event.count), ..event });
        } else if self.whole.len() < MOST {
            self.whole.insert(key, (event, None));
        } else {
            count(&mut self.counted, &event);
        }
    }

    /// How many decisions that is.
    pub(super) fn decisions(&self) -> u64 {
        let whole = self.whole.values().map(|(first, last)| first.count + last.as_ref().map_or(0, |last| last.count));
        whole.chain(self.counted.values().copied()).sum()
    }

    /// Takes what is held whole, in the order of time.
    pub(super) fn take(&mut self) -> Vec<Event> {
        let mut events: Vec<Event> = std::mem::take(&mut self.whole)
            .into_values()
            .flat_map(|(first, last)| [Some(first), last])
            .flatten()
            .collect();
        events.sort_by_key(|event| event.time);
        events
    }
}

/// Counts an event by its decision and code.
pub(super) fn count(counted: &mut BTreeMap<String, u64>, event: &Event) {
    let name = format!("{} {}", event.kind.decision, event.kind.code);
    let name = if counted.len() < CODES || counted.contains_key(&name) { name } else { "other".to_owned() };
    *counted.entry(name).or_default() += event.count;
}
