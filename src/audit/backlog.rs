//! Events that cannot be written now. For each decision, code and destination it keeps the first event, and the last
//! one with the count of all after the first. Beyond the limit, events are counted by decision and code.

use std::collections::{BTreeMap, HashMap};

use super::Event;

/// Maximum number of destinations that are kept individually.
const MOST: usize = 1024;
/// Maximum number of codes that are counted individually.
const CODES: usize = 256;

/// The backlog.
#[derive(Default)]
pub(super) struct Backlog {
    whole: HashMap<(String, String, String), (Event, Option<Event>)>,
    /// Events that are only counted.
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

    /// The number of decisions.
    pub(super) fn decisions(&self) -> u64 {
        let whole = self.whole.values().map(|(first, last)| first.count + last.as_ref().map_or(0, |last| last.count));
        whole.chain(self.counted.values().copied()).sum()
    }

    /// Takes the kept events, in the order of time.
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

#[cfg(test)]
mod tests {
    use super::super::{Details, Subject};
    use super::*;

    #[test]
    fn so_many_destinations_are_kept_and_others_are_counted() {
        let event = |number: usize, code: String| {
            let kind = Details {
                subject: Subject::Request,
                sidecar: "egress".into(),
                bottle: "b".into(),
                client: String::new(),
                decision: "refuse".into(),
                code,
                reason: String::new(),
                form: String::new(),
                method: String::new(),
                destination: format!("h{number}.com:443"),
            };
            Event { time: number as u64, count: 1, kind }
        };
        let mut backlog = Backlog::default();
        let denied = |number| event(number, "denied".into());
        (0..=MOST).for_each(|number| backlog.add(denied(number)));
        assert_eq!(backlog.counted, BTreeMap::from([("refuse denied".to_owned(), 1)]));
        // Of a kept one, the first and the last event.
        (0..3).for_each(|_| backlog.add(denied(7)));
        for code in 0..=CODES {
            backlog.add(event(MOST + 1, format!("code{code}")));
        }
        assert_eq!((backlog.counted.len(), backlog.counted["other"]), (CODES + 1, 2));
        let all = (MOST + 1 + 3 + CODES + 1) as u64;
        assert_eq!(backlog.decisions(), all);
        let kept = backlog.take();
        assert_eq!(kept.len(), MOST + 1);
        assert_eq!(kept.iter().map(|event| event.count).sum::<u64>(), MOST as u64 + 3);
    }
}
