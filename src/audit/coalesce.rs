//! Coalesces events, so that frequent ones do not displace rare ones. Pure: the caller passes the time.
//!
//! Rules:
//! * Events with one decision, code and destination belong together. The first is reported at once. Further ones that
//!   differ in method, form or reason are reported individually while they are few; all others are counted. A count is
//!   reported with the last event, at intervals that grow while events continue.
//! * A new destination is tracked individually while its domain (or address block) has few of them, and its class
//!   (decision and code) had few new ones lately. Otherwise it is counted with its domain, as `*.DOMAIN`, or with its
//!   class, without a destination; the reason names the last one.
//! * A destination that is not tracked and repeats is tracked after all. Those seen twice, four times, eight times …
//!   have separate budgets, so that a flood of new destinations does not displace one that is requested repeatedly.
//! * No event is lost: the reported counts add up to the recorded ones. Everything is bounded.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use super::lossy_counter::LossyCounter;
use super::token_bucket::TokenBucket;
use super::{Details, Event};

/// Limits; times are in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Tracked destinations.
    pub destinations: usize,
    /// Variants of one destination that are tracked individually.
    pub variants: usize,
    /// New destinations of one domain, for each class, that are tracked without a repetition.
    pub of_zone: usize,
    /// Domains that are counted individually.
    pub zones: usize,
    /// Classes that are counted individually.
    pub classes: usize,
    /// New destinations of a class: burst, and interval.
    pub fresh: (u64, u64),
    /// The same for repeated ones, for each power of two.
    pub repeated: (u64, u64),
    /// Counts: burst, and interval.
    pub counts: (u64, u64),
    /// Events that wait to be reported.
    pub waiting: usize,
    /// Slots of the table of destinations that are not tracked.
    pub sieve: usize,
    /// Shortest and longest interval between two counts of one variant.
    pub window: (u64, u64),
    /// How long an idle destination is tracked.
    pub idle: u64,
}

impl Limits {
    /// The limits of a sidecar: about 10 MiB.
    pub const SIDECAR: Self = Self {
        destinations: 2048,
        variants: 8,
        of_zone: 32,
        zones: 1024,
        classes: 128,
        fresh: (256, 1000),
        repeated: (128, 1000),
        counts: (200, 100),
        waiting: 4096,
        sieve: 1 << 20,
        window: (500, 60_000),
        idle: 600_000,
    };
}

/// Powers of two with separate budgets.
const LEVELS: usize = 8;
/// How often idle destinations are removed, in milliseconds.
const TIDY: u64 = 60_000;

/// Events that are counted together.
struct Variant {
    /// The last event.
    kind: Details,
    time: u64,
    /// How many events were not reported yet.
    unreported: u64,
    /// When they are due.
    due: u64,
    window: u64,
    reported: u64,
}

/// A tracked destination.
struct Destination {
    zone: u64,
    /// The individual variants; the last one counts all others if `others` is set.
    variants: Vec<Variant>,
    others: bool,
    last: u64,
}

/// The budgets of a class.
struct Class {
    fresh: TokenBucket,
    repeated: [TokenBucket; LEVELS],
}

/// Coalesces events.
pub struct Coalescer {
    limits: Limits,
    hasher: RandomState,
    destinations: HashMap<u64, Destination>,
    /// The number of tracked destinations, by class and domain.
    zones: HashMap<u64, usize>,
    classes: HashMap<u64, Class>,
    /// Counts of what is not tracked, by class and domain, or by class; with the domain's name.
    rest: HashMap<u64, (String, Variant)>,
    waiting: VecDeque<Event>,
    sieve: LossyCounter,
    counts: TokenBucket,
    tidied: u64,
}

impl Coalescer {
    /// An empty coalescer.
    pub fn new(limits: Limits, now: u64) -> Self {
        Self {
            hasher: RandomState::new(),
            destinations: HashMap::new(),
            zones: HashMap::new(),
            classes: HashMap::new(),
            rest: HashMap::new(),
            waiting: VecDeque::new(),
            sieve: LossyCounter::new(limits.sieve),
            counts: TokenBucket::new(limits.counts.0, limits.counts.1, now),
            tidied: now,
            limits,
        }
    }

    /// Records an event with the wall clock's `time`, at `now` of a monotonic clock, both in milliseconds. Returns
    /// whether an event is due at once.
    pub fn note(&mut self, kind: Details, time: u64, now: u64) -> bool {
        self.note_times(kind, 1, time, now)
    }

    /// The same for as many equal events.
    pub fn note_times(&mut self, kind: Details, times: u64, time: u64, now: u64) -> bool {
        let before = self.waiting.len();
        self.place(kind, times, time, now);
        self.waiting.len() > before
    }

    fn place(&mut self, kind: Details, times: u64, time: u64, now: u64) {
        let key = self.hasher.hash_one((&kind.decision, &kind.code, &kind.destination));
        let full = self.waiting.len() >= self.limits.waiting;
        if let Some(place) = self.destinations.get_mut(&key) {
            place.last = now;
            let own = place.variants.len() - usize::from(place.others);
            if let Some(slot) = place.variants[..own].iter_mut().find(|slot| slot.kind == kind) {
                slot.add(kind, times, time, now, self.limits.window);
            } else if own < self.limits.variants && !full {
                place.variants.insert(own, Variant::reported(kind.clone(), time, now, self.limits.window.0));
                self.waiting.push_back(Event { time, count: times, kind });
            } else if place.others {
                place.variants[own].add(kind, times, time, now, self.limits.window);
            } else {
                place.others = true;
                place.variants.push(Variant::unreported(kind, times, time, now, self.limits.window.0));
            }
            return;
        }
        let name = zone(&kind.destination);
        let class = self.class(&kind, now);
        let zone = self.hasher.hash_one((class, &name));
        if !full && self.admits(class, zone, key, now) {
            *self.zones.entry(zone).or_default() += 1;
            let variants = vec![Variant::reported(kind.clone(), time, now, self.limits.window.0)];
            self.destinations.insert(key, Destination { zone, variants, others: false, last: now });
            self.waiting.push_back(Event { time, count: times, kind });
            return;
        }
        let of_zone = self.rest.contains_key(&zone)
            || (self.zones.contains_key(&zone) && self.rest.len() < self.limits.zones + self.limits.classes);
        let (at, name) = if of_zone { (zone, name) } else { (class, String::new()) };
        if let Some((_, slot)) = self.rest.get_mut(&at) {
            slot.add(kind, times, time, now, self.limits.window);
        } else {
            let slot = Variant::unreported(kind, times, time, now, self.limits.window.0);
            self.rest.insert(at, (name, slot));
        }
    }

    /// The class of an event; beyond the limit, all share one.
    fn class(&mut self, kind: &Details, now: u64) -> u64 {
        let mut class = self.hasher.hash_one((&kind.decision, &kind.code));
        if !self.classes.contains_key(&class) && self.classes.len() >= self.limits.classes {
            class = 0;
        }
        let Limits { fresh, repeated, .. } = self.limits;
        self.classes.entry(class).or_insert_with(|| Class {
            fresh: TokenBucket::new(fresh.0, fresh.1, now),
            repeated: [TokenBucket::new(repeated.0, repeated.1, now); LEVELS],
        });
        class
    }

    /// Whether a new destination is tracked.
    fn admits(&mut self, class: u64, zone: u64, key: u64, now: u64) -> bool {
        let few = self.zones.get(&zone).is_none_or(|count| *count < self.limits.of_zone);
        let Some(quota) = self.classes.get_mut(&class) else { return false };
        let fresh = few && quota.fresh.take(now);
        let admitted = fresh || {
            // The table is only used when the budget is exhausted.
            let seen = self.sieve.add(key, 1);
            let level = usize::try_from(seen.ilog2()).unwrap_or_default();
            level > 0 && quota.repeated[level.min(LEVELS - 1)].take(now)
        };
        admitted && (self.destinations.len() < self.limits.destinations || self.forget())
    }

    /// Stops tracking the destination that was quiet for longest, if one has nothing to report.
    fn forget(&mut self) -> bool {
        let quiet = self.destinations.iter().filter(|(_, place)| place.is_reported());
        let Some(oldest) = quiet.min_by_key(|(_, place)| place.last).map(|(key, _)| *key) else { return false };
        self.remove(oldest);
        true
    }

    fn remove(&mut self, key: u64) {
        let Some(place) = self.destinations.remove(&key) else { return };
        if let Some(count) = self.zones.get_mut(&place.zone) {
            *count -= 1;
            if *count == 0 {
                self.zones.remove(&place.zone);
            }
        }
    }

    /// Whether there is nothing to report, now or later.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
            && self.destinations.values().all(Destination::is_reported)
            && self.rest.values().all(|(_, slot)| slot.unreported == 0)
    }

    /// The events that are due.
    pub fn due(&mut self, now: u64) -> Vec<Event> {
        self.tidy(now);
        let mut reported: Vec<Event> = self.waiting.drain(..).collect();
        let (counts, longest) = (&mut self.counts, self.limits.window.1);
        for slot in self.destinations.values_mut().flat_map(|place| &mut place.variants) {
            if slot.unreported > 0 && slot.due <= now && counts.take(now) {
                reported.push(slot.report(now, longest));
            }
        }
        for (zone, slot) in self.rest.values_mut() {
            if slot.unreported > 0 && slot.due <= now && counts.take(now) {
                reported.push(further(zone, slot.report(now, longest)));
            }
        }
        reported
    }

    /// Everything that was not reported yet.
    pub fn flush(&mut self, now: u64) -> Vec<Event> {
        let longest = self.limits.window.1;
        let mut reported: Vec<Event> = self.waiting.drain(..).collect();
        let of_places = self.destinations.values_mut().flat_map(|place| &mut place.variants);
        reported.extend(of_places.filter(|slot| slot.unreported > 0).map(|slot| slot.report(now, longest)));
        let rest = self.rest.values_mut().filter(|(_, slot)| slot.unreported > 0);
        reported.extend(rest.map(|(zone, slot)| further(zone, slot.report(now, longest))));
        reported
    }

    /// Removes destinations and counts that were idle for long.
    fn tidy(&mut self, now: u64) {
        if now.saturating_sub(self.tidied) < TIDY {
            return;
        }
        self.tidied = now;
        let idle = |last: u64| now.saturating_sub(last) >= self.limits.idle;
        let old: Vec<u64> = self
            .destinations
            .iter()
            .filter(|(_, place)| place.is_reported() && idle(place.last))
            .map(|(key, _)| *key)
            .collect();
        for key in old {
            self.remove(key);
        }
        self.rest.retain(|_, (_, slot)| slot.unreported > 0 || now.saturating_sub(slot.reported) < self.limits.idle);
    }

    /// The number of destinations, variants, domains, and waiting events.
    #[cfg(test)]
    fn backlog(&self) -> [usize; 4] {
        let variants = self.destinations.values().map(|place| place.variants.len()).sum();
        [self.destinations.len(), variants, self.rest.len(), self.waiting.len()]
    }
}

impl Destination {
    fn is_reported(&self) -> bool {
        self.variants.iter().all(|slot| slot.unreported == 0)
    }
}

impl Variant {
    /// A variant whose first event is reported individually.
    fn reported(kind: Details, time: u64, now: u64, window: u64) -> Self {
        Self { kind, time, unreported: 0, due: now, window, reported: now }
    }

    fn unreported(kind: Details, times: u64, time: u64, now: u64, window: u64) -> Self {
        Self { kind, time, unreported: times, due: now.saturating_add(window), window, reported: now }
    }

    fn add(&mut self, kind: Details, times: u64, time: u64, now: u64, (shortest, _): (u64, u64)) {
        if self.unreported == 0 {
            if now.saturating_sub(self.reported) > self.window.saturating_mul(2) {
                self.window = shortest;
            }
            self.due = now.saturating_add(self.window);
        }
        self.unreported = self.unreported.saturating_add(times);
        (self.kind, self.time) = (kind, time);
    }

    fn report(&mut self, now: u64, longest: u64) -> Event {
        self.reported = now;
        self.window = self.window.saturating_mul(2).min(longest);
        Event { time: self.time, count: std::mem::take(&mut self.unreported), kind: self.kind.clone() }
    }
}

/// An event for several destinations of a domain, or of any.
fn further(zone: &str, Event { kind, time, count }: Event) -> Event {
    let Details { destination, reason, .. } = &kind;
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let what = if destination.is_empty() { "further requests without a destination" } else { "further destinations" };
    let last = if destination.is_empty() { String::new() } else { format!(" {destination}") };
    let reason = format!("{what}, counted together; the last{last}{why}");
    let kind = Details { reason, destination: zone.to_owned(), form: String::new(), method: String::new(), ..kind };
    Event { time, count, kind }
}

/// The registered domain of a destination, or its address block.
fn zone(destination: &str) -> String {
    let host = destination.rsplit_once(':').map_or(destination, |(host, _)| host);
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        let Ok(address) = address.parse::<std::net::Ipv6Addr>() else { return host.to_owned() };
        let [a, b, c, ..] = address.segments();
        return format!("{}/48", std::net::Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0));
    }
    if let Ok(address) = host.parse::<std::net::Ipv4Addr>() {
        let [a, b, c, _] = address.octets();
        return format!("{a}.{b}.{c}.0/24");
    }
    match psl::domain_str(host) {
        Some(domain) => format!("*.{domain}"),
        None => host.to_owned(),
    }
}

#[cfg(test)]
#[path = "coalesce_tests.rs"]
mod tests;
