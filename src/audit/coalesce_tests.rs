//! For any stream of events: counts add up, memory is bounded, first and last events are reported within the limits,
//! and a repeated destination is named beside a flood of new ones.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const SMALL: Limits = Limits {
    destinations: 24,
    variants: 3,
    of_zone: 4,
    zones: 6,
    classes: 3,
    fresh: (12, 1000),
    repeated: (6, 1000),
    counts: (4, 50),
    waiting: 16,
    sieve: 1 << 10,
    window: (500, 4000),
    idle: 90_000,
};

fn kind(code: &str, destination: &str, reason: &str) -> Details {
    Details {
        subject: super::super::Subject::Request,
        sidecar: "egress".into(),
        bottle: "b".into(),
        client: String::new(),
        decision: "refuse".into(),
        code: code.into(),
        reason: reason.into(),
        form: "connect".into(),
        method: "CONNECT".into(),
        destination: destination.into(),
    }
}

/// Events with a destination, a domain, a reason and a code, after a delay; or a delay alone.
fn stream() -> impl Strategy<Value = Vec<(u16, u8, u8, u8, u64)>> {
    proptest::collection::vec((0..40_u16, 0..12_u8, 0..6_u8, 0..6_u8, prop_oneof![Just(0), 0..40_000_u64]), 0..400)
}

/// Everything that is reported of a stream, in order, and everything that was recorded.
fn run(limits: Limits, stream: &[(u16, u8, u8, u8, u64)]) -> (Coalescer, Vec<Event>, Vec<Details>) {
    let (mut coalescer, mut now) = (Coalescer::new(limits, 0), 0);
    let (mut reported, mut noted) = (Vec::new(), Vec::new());
    for &(host, zone, reason, code, after) in stream {
        now += after;
        let kind = kind(&format!("code{code}"), &format!("h{host}.d{zone}.com:443"), &format!("reason {reason}"));
        noted.push(kind.clone());
        coalescer.note(kind, now, now);
        if after % 3 == 0 {
            reported.extend(coalescer.due(now));
        }
    }
    reported.extend(coalescer.flush(now));
    (coalescer, reported, noted)
}

fn total(events: &[Event]) -> u64 {
    events.iter().map(|event| event.count).sum()
}

proptest! {
    #[test]
    fn counts_add_up_and_memory_is_bounded(stream in stream()) {
        let (mut coalescer, reported, noted) = run(SMALL, &stream);
        prop_assert_eq!(total(&reported), noted.len() as u64);
        prop_assert!(coalescer.is_empty() && coalescer.flush(u64::MAX).is_empty());
        let [destinations, variants, rest, waiting] = coalescer.backlog();
        prop_assert!(destinations <= SMALL.destinations && variants <= destinations * (SMALL.variants + 1));
        prop_assert!(rest <= SMALL.zones + 2 * SMALL.classes + 1 && waiting == 0, "{rest}");
        prop_assert!(coalescer.classes.len() <= SMALL.classes + 1 && coalescer.zones.len() <= SMALL.destinations);
        for code in 0..6 {
            let of = |decided: &str| decided == format!("code{code}");
            let counted: u64 = reported.iter().filter(|event| of(&event.kind.code)).map(|event| event.count).sum();
            let came = noted.iter().filter(|kind| of(&kind.code)).count() as u64;
            // Beyond the limit, all classes share one, which is reported with its last event.
            prop_assert!(coalescer.classes.len() > SMALL.classes || counted == came);
        }
    }

    #[test]
    fn what_stays_within_the_bounds_has_its_first_and_last(stream in stream()) {
        let wide = Limits { destinations: 4096, of_zone: 64, zones: 64, classes: 64, fresh: (4096, 1), waiting: 4096, idle: u64::MAX, ..SMALL };
        let (_, reported, noted) = run(wide, &stream);
        let mut keys: BTreeMap<(&str, &str), Vec<&Details>> = BTreeMap::new();
        for kind in &noted {
            keys.entry((&kind.code, &kind.destination)).or_default().push(kind);
        }
        for ((code, destination), came) in keys {
            let mine: Vec<&Event> =
                reported.iter().filter(|it| it.kind.code == code && it.kind.destination == destination).collect();
            prop_assert_eq!(mine.iter().map(|event| event.count).sum::<u64>(), came.len() as u64);
            prop_assert_eq!(&mine[0].kind, came[0]);
            prop_assert!(mine.iter().any(|event| event.kind == *came[came.len() - 1]));
        }
    }

    #[test]
    fn what_repeats_is_named_beside_what_is_ever_new(
        flood in 200..4000_usize,
        each in 1..4_usize,
        shape in 0..4_u8,
        first in any::<bool>(),
    ) {
        let (mut coalescer, mut reported) = (Coalescer::new(Limits { sieve: 1 << 14, ..SMALL }, 0), Vec::new());
        let new = |number: usize| match shape {
            0 => format!("n{number}.com:443"),
            1 => format!("n{number}.flood.com:443"),
            2 => format!("flood.com:{number}"),
            _ => format!("93.{}.{}.7:443", number / 200, number % 200),
        };
        for number in 0..flood {
            for _ in 0..each {
                coalescer.note(kind("host_not_allowed", &new(number), ""), 0, 0);
            }
            if (number + usize::from(!first)) % (flood / 10) == 0 {
                coalescer.note(kind("host_not_allowed", "rare.example.org:443", ""), 0, 0);
            }
            if number % 7 == 0 {
                reported.extend(coalescer.due(0));
            }
        }
        reported.extend(coalescer.flush(0));
        prop_assert!(reported.iter().any(|event| event.kind.destination == "rare.example.org:443"), "{each} of {flood}");
        prop_assert!(reported.len() < 200, "{}", reported.len());
    }
}

#[test]
fn the_first_is_told_at_once_and_counts_ever_later_while_they_go_on() {
    let mut coalescer = Coalescer::new(SMALL, 0);
    let mut lines = Vec::new();
    for now in (0..60_000).step_by(100) {
        coalescer.note(kind("denied", "a.com:443", ""), now, now);
        lines.extend(coalescer.due(now).into_iter().map(|event| (now, event.count)));
    }
    assert_eq!(lines[..4], [(0, 1), (600, 6), (1700, 11), (3800, 21)]);
    // At last one event for every longest interval.
    assert!(lines.len() < 20, "{lines:?}");
    // After a pause, events are reported quickly again.
    coalescer.flush(60_000);
    coalescer.note(kind("denied", "a.com:443", ""), 80_000, 80_000);
    assert_eq!(coalescer.due(80_499), []);
    assert_eq!(coalescer.due(80_500).len(), 1);
}

#[test]
fn hosts_of_one_domain_do_not_displace_others() {
    let mut coalescer = Coalescer::new(SMALL, 0);
    for number in 0..1000 {
        coalescer.note(kind("denied", &format!("n{number}.flood.co.uk:443"), "why"), number, 0);
    }
    coalescer.note(kind("denied", "single.example.org:443", ""), 2000, 0);
    let reported = coalescer.flush(0);
    assert!(reported.iter().any(|event| event.kind.destination == "single.example.org:443"));
    let further = reported.iter().find(|event| event.kind.destination == "*.flood.co.uk").unwrap();
    assert_eq!((further.count, further.time), (996, 999));
    assert_eq!(further.kind.reason, "further destinations, counted together; the last n999.flood.co.uk:443: why");
}

#[test]
fn destinations_belong_to_domains_and_blocks() {
    for (destination, expected) in [
        ("a.b.example.com:443", "*.example.com"),
        ("example.com:8443", "*.example.com"),
        ("x.github.io:443", "*.x.github.io"),
        ("localhost:80", "localhost"),
        ("192.0.2.77:443", "192.0.2.0/24"),
        ("[2001:db8:1:2::3]:443", "2001:db8:1::/48"),
        ("", ""),
    ] {
        assert_eq!(zone(destination), expected, "{destination}");
    }
}

/// With the limits of a sidecar.
#[test]
fn so_many_new_destinations_are_named_and_then_one_a_second() {
    let Limits { fresh: (burst, every), of_zone, variants, .. } = Limits::SIDECAR;
    let mut coalescer = Coalescer::new(Limits::SIDECAR, 0);
    let named = |coalescer: &mut Coalescer| coalescer.due(0).len();
    let refused = |coalescer: &mut Coalescer, name: String, now: u64| {
        coalescer.note(kind("host_not_allowed", &name, ""), now, now);
    };
    for number in 0..burst + 100 {
        refused(&mut coalescer, format!("n{number}.com:443"), 0);
    }
    assert_eq!(named(&mut coalescer), usize::try_from(burst).unwrap());
    for number in 0..3 {
        refused(&mut coalescer, format!("later{number}.com:443"), every);
    }
    assert_eq!(named(&mut coalescer), 1);
    let mut coalescer = Coalescer::new(Limits::SIDECAR, 0);
    for number in 0..of_zone + 50 {
        refused(&mut coalescer, format!("n{number}.flood.com:443"), 0);
    }
    assert_eq!(named(&mut coalescer), of_zone, "of one domain");
    // Another code has as many.
    for number in 0..burst + 100 {
        coalescer.note(kind("denied", &format!("n{number}.com:443"), ""), 0, 0);
    }
    assert_eq!(named(&mut coalescer), usize::try_from(burst).unwrap());
    let mut coalescer = Coalescer::new(Limits::SIDECAR, 0);
    for number in 0..variants + 5 {
        coalescer.note(kind("denied", "a.com:443", &format!("reason {number}")), 0, 0);
    }
    assert_eq!(named(&mut coalescer), variants);
    let rest = coalescer.flush(0);
    assert_eq!((rest.len(), rest[0].count, rest[0].kind.reason.as_str()), (1, 5, "reason 12"));
}

/// Those that are requested so often have budgets of their own.
#[test]
fn repeated_destinations_have_room_by_how_often_they_are_requested() {
    let Limits { fresh: (burst, _), repeated: (of_each, _), .. } = Limits::SIDECAR;
    let mut coalescer = Coalescer::new(Limits::SIDECAR, 0);
    let mut note = |name: String| coalescer.note(kind("host_not_allowed", &name, ""), 0, 0);
    (0..burst).for_each(|number| assert!(note(format!("n{number}.com:443"))));
    // A destination is named once it has a place: after 2, 4, 8 … requests, as long as those of that number have room.
    for level in 1..LEVELS {
        let times = 1 << level;
        let mut named = 0;
        for number in 0..of_each + 10 {
            let asked = (0..times).position(|_| note(format!("l{level}-{number}.com:443")));
            named += u64::from(asked == Some(times - 1));
            assert!(asked.is_none_or(|asked| asked == times - 1), "{times} {number} {asked:?}");
        }
        assert_eq!(named, of_each, "{times}");
    }
    assert!(!(0..300).any(|_| note("more.com:443".to_owned())), "there is no room for any number");
}
