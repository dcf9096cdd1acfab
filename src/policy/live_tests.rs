//! The tests of [`super`].

use std::collections::BTreeMap;

use super::*;
use crate::net::Host;
use crate::policy::{Decision, Destination, Form, HostService, Intent, Reason, authorize};

fn base() -> EgressSpec {
    serde_yaml::from_str("allow: [a.com]\ndeny: ['*.evil.org', {host: b.com, paths: [/x]}]\ntcp: ['db.com:5432']")
        .unwrap()
}

fn allow(host: &str, scope: Scope) -> Change {
    Change::Allow { entries: vec![AllowSpec::Host(host.into())], scope }
}

fn deny(host: &str, until: Option<u64>) -> Change {
    Change::Deny { entries: vec![DenySpec::Host(host.into())], until }
}

/// Applies changes one second apart, from 100 on: the generation, and the allowed and denied hosts.
fn after(changes: &[Change]) -> (u64, String) {
    let mut policy = LivePolicy::new(base());
    for (now, change) in (100..).zip(changes) {
        policy = policy.with(change, now).unwrap().unwrap_or(policy);
    }
    let spec = policy.effective();
    let allowed: Vec<&str> = spec.allow.iter().map(AllowSpec::host).collect();
    let denied: Vec<&str> = spec.deny.iter().map(DenySpec::host).collect();
    let once: Vec<String> = policy.once().iter().map(|(id, allow)| format!("{id}:{}", allow.host())).collect();
    (policy.generation, format!("{} | {} | {}", allowed.join(" "), denied[2..].join(" "), once.join(" ")))
}

#[test]
fn changes_are_carried_out_in_their_order() {
    use Scope::{Always, Bottle, Once, Until};
    for (changes, generation, expected) in [
        (vec![], 1, "a.com |  | "),
        (vec![allow("c.com", Bottle)], 2, "a.com c.com |  | "),
        // What is allowed already changes nothing.
        (vec![allow("a.com", Bottle)], 1, "a.com |  | "),
        (vec![allow("c.com", Bottle), allow("c.com", Until(500))], 2, "a.com c.com |  | "),
        (vec![allow("c.com", Until(500)), allow("c.com", Always)], 3, "a.com c.com |  | "),
        // Any change removes what has expired.
        (vec![allow("c.com", Until(101)), Change::Expire], 3, "a.com |  | "),
        (vec![allow("c.com", Until(102)), Change::Expire], 2, "a.com c.com |  | "),
        (vec![allow("c.com", Until(101)), allow("d.com", Bottle)], 3, "a.com d.com |  | "),
        (vec![allow("c.com", Once), allow("c.com", Once)], 3, "a.com |  | 1:c.com 2:c.com"),
        (vec![allow("c.com", Once), Change::Spent(1), Change::Spent(1)], 3, "a.com |  | "),
        // The later change counts.
        (vec![deny("c.com", None), allow("C.com", Bottle)], 3, "a.com C.com |  | "),
        (vec![deny("a.com", None), allow("A.com", Bottle)], 3, "a.com |  | "),
        (vec![allow("Foo.com", Bottle), deny("foo.com", None)], 3, "a.com | foo.com | "),
        // A longer denial stays.
        (vec![deny("c.com", None), deny("c.com", Some(500))], 2, "a.com | c.com | "),
        (vec![deny("c.com", Some(400)), deny("c.com", Some(500))], 3, "a.com | c.com | "),
        (vec![allow("c.com", Bottle), deny("c.com", None)], 3, "a.com | c.com | "),
        (vec![deny("a.com", Some(101)), Change::Expire], 3, "a.com |  | "),
        (vec![deny("*.evil.org", None)], 1, "a.com |  | "),
    ] {
        assert_eq!(after(&changes), (generation, expected.to_owned()), "{changes:?}");
    }
}

#[test]
fn limits_are_changed_one_by_one_and_outlive_a_reload() {
    let limits = |text: &str| Some(serde_yaml::from_str::<Limits>(text).unwrap());
    let limit = |credential: Option<&str>, limits| Change::Limit { credential: credential.map(str::to_owned), limits };
    let first = RequestLimits { all: None, credentials: [("own".to_owned(), limits("{total: 5}").unwrap())].into() };
    let mut policy = LivePolicy::new(base()).limited(first);
    let reload = Change::Reload(Box::new(serde_yaml::from_str("{allow: [z.com], tcp: ['db.com:5432']}").unwrap()));
    for (change, own, all) in [
        (limit(Some("own"), limits("{concurrent: 2}")), "5 in all, 2 at a time", ""),
        (limit(Some("own"), limits("{total: 9}")), "9 in all, 2 at a time", ""),
        (limit(None, limits("{requests: 1, per: 1h}")), "9 in all, 2 at a time", "1 in 1h"),
        (reload, "9 in all, 2 at a time", "1 in 1h"),
        (limit(Some("own"), None), "", "1 in 1h"),
        (limit(None, None), "", ""),
    ] {
        policy = policy.with(&change, 100).unwrap().unwrap();
        let shown = |credential| policy.enforced().limits.of(credential).map_or(String::new(), |it| it.to_string());
        assert_eq!((shown(Some("own")), shown(None)), (own.to_owned(), all.to_owned()), "{change:?}");
    }
    assert_eq!(policy.with(&limit(Some("own"), None), 100), Ok(None));
}

#[test]
fn what_has_no_effect_or_cannot_be_read_is_an_error() {
    let tunnel: AllowSpec = serde_yaml::from_str("{host: c.com, tls: tunnel}").unwrap();
    let reload = |text: &str| Change::Reload(Box::new(serde_yaml::from_str(text).unwrap()));
    for (change, expected) in [
        (allow("x.evil.org", Scope::Bottle), "is denied by \"*.evil.org\""),
        (allow("*.evil.org", Scope::Bottle), "is denied by"),
        // Only one path is denied.
        (allow("b.com", Scope::Bottle), ""),
        (allow("*.com", Scope::Bottle), "a star is only allowed"),
        (allow("http://c.com/x", Scope::Bottle), "name its host alone"),
        (allow("localhost", Scope::Once), "no effect"),
        (allow("169.254.169.254", Scope::Bottle), "no effect"),
        (allow("10.1.2.3:80", Scope::Bottle), "no effect"),
        (allow("c.com", Scope::Until(100)), "already over"),
        (Change::Allow { entries: vec![tunnel], scope: Scope::Bottle }, "would not be inspected"),
        (deny("a b", None), "a b"),
        (deny("c.com", Some(99)), "already over"),
        (reload("allow: [z.com]"), "fixed at the launch"),
        (reload("{allow: ['*.com'], tcp: ['db.com:5432']}"), "allow: "),
        (reload("{allow: [z.com], tcp: ['db.com:5432']}"), ""),
    ] {
        let error = LivePolicy::new(base()).with(&change, 100).err().map(|error| error.to_string());
        let error = error.unwrap_or_default();
        assert!(error.contains(expected) && error.is_empty() == expected.is_empty(), "{change:?}: {error:?}");
    }
    let many = Change::Allow {
        entries: (0..=MAX_ENTRIES).map(|n| AllowSpec::Host(format!("h{n}.com"))).collect(),
        scope: Scope::Bottle,
    };
    assert_eq!(LivePolicy::new(base()).with(&many, 100), Err(ChangeError::TooMany));
}

/// A grant gives exactly its scope, whatever was denied before.
#[test]
fn a_grant_takes_no_more_of_a_denial_back_than_it_says() {
    let denied = |text: &str| Change::Deny { entries: vec![serde_yaml::from_str(text).unwrap()], until: None };
    let allowed = |text: &str, scope| Change::Allow { entries: vec![serde_yaml::from_str(text).unwrap()], scope };
    for (denial, grant, refused, denials) in [
        (denied("a.com"), allow("a.com", Scope::Once), true, 1),
        (denied("a.com"), allow("A.com.", Scope::Until(500)), true, 1),
        (denied("a.com"), allowed("{host: a.com, paths: [/x]}", Scope::Bottle), true, 1),
        (denied("a.com"), allow("a.com:443", Scope::Bottle), true, 1),
        (
            denied("{host: a.com, paths: ['/secret/**']}"),
            allowed("{host: a.com, paths: [/x]}", Scope::Bottle),
            false,
            1,
        ),
        (denied("{host: a.com, paths: [/x]}"), allowed("{host: a.com, paths: [/x]}", Scope::Bottle), false, 0),
        (denied("a.com"), allow("a.com", Scope::Bottle), false, 0),
        (denied("'*.a.com'"), allow("b.a.com", Scope::Bottle), true, 1),
    ] {
        let policy = LivePolicy::new(base()).with(&denial, 100).unwrap().unwrap();
        let after = policy.with(&grant, 100);
        assert_eq!(after.is_err(), refused, "{denial:?} {grant:?}: {after:?}");
        let left = after.ok().flatten().unwrap_or(policy).denials.len();
        assert_eq!(left, denials, "{denial:?} {grant:?}");
    }
}

#[test]
fn bottles_inside_inherit_what_is_for_a_time_and_what_is_denied() {
    let mut outer = LivePolicy::new(base());
    for change in [
        allow("bottle.com", Scope::Bottle),
        allow("timed.com", Scope::Until(500)),
        allow("once.com", Scope::Once),
        deny("never.com", None),
    ] {
        outer = outer.with(&change, 100).unwrap().unwrap();
    }
    let hosts: Vec<String> = outer.lasting().allow.iter().map(|entry| entry.host().to_owned()).collect();
    assert_eq!(hosts, ["a.com", "bottle.com"]);
    let inner = LivePolicy::new(EgressSpec::default()).inheriting(&outer);
    let spec = inner.effective();
    assert_eq!(spec.allow.iter().map(AllowSpec::host).collect::<Vec<_>>(), ["timed.com"]);
    assert_eq!(spec.deny.iter().map(DenySpec::host).collect::<Vec<_>>(), ["never.com"]);
    assert!(inner.once().is_empty() && inner.next_expiry() == Some(500));
}

#[test]
fn services_of_the_users_machine_are_denied_and_allowed_again_and_nothing_else_of_their_name() {
    let service = HostService { name: "model".into(), port: 11434 };
    let bottle = LivePolicy::new(EgressSpec { host_services: vec![service], ..base() });
    for host in ["model", "model:80"] {
        let why = bottle.with(&allow(host, Scope::Bottle), 0).unwrap_err().to_string();
        assert!(why.contains("no effect") && why.contains("port 11434"), "{why}");
    }
    let bottle = bottle.with(&deny("model", None), 0).unwrap().unwrap();
    let decide = |bottle: &LivePolicy, form| {
        let host = Host::parse("model").unwrap();
        let intent = Intent { form, method: String::new(), host, port: 11434, path: None };
        authorize(&bottle.effective().policy(BTreeMap::new()).unwrap(), &intent)
    };
    for form in [Form::Connect, Form::Tcp] {
        assert!(matches!(decide(&bottle, form), Decision::Refuse(Reason::Denied(..))));
    }
    let bottle = bottle.with(&allow("model", Scope::Bottle), 0).unwrap().unwrap();
    for form in [Form::Connect, Form::Tcp] {
        assert!(matches!(decide(&bottle, form), Decision::Allow(Destination::Sidecar(_))));
    }
    // A reload knows no services, and takes none away.
    let bottle = bottle.with(&Change::Reload(Box::new(base())), 0).unwrap().unwrap();
    assert_eq!(bottle.effective().host_services.len(), 1);
}

#[test]
fn a_denial_is_lifted_and_allows_nothing_else() {
    let bottle = LivePolicy::new(base());
    let lift = |host: &str| Change::Lift { entries: vec![DenySpec::Host(host.into())] };
    let denied = bottle.with(&deny("a.com", None), 0).unwrap().unwrap();
    for other in ["b.com", "a.com:443", "*.a.com"] {
        assert!(denied.with(&lift(other), 0).unwrap_err().to_string().contains("was not denied"), "{other}");
    }
    let lifted = denied.with(&lift("a.com"), 0).unwrap().unwrap();
    assert_eq!(lifted.effective(), bottle.effective());
    assert!(bottle.with(&lift("*.evil.org"), 0).is_err(), "it is of the launch's policy");
}

#[test]
fn a_reload_keeps_the_engine_and_cannot_change_it() {
    let image = |digit: &str| Some(format!("sha256:{}", digit.repeat(64)));
    let of = |engine, image| EgressSpec { engine, image, ..base() };
    let live = LivePolicy::new(of(EgressEngine::Pipelock, image("a")));
    let reload = |spec: EgressSpec| live.with(&Change::Reload(Box::new(spec)), 0);
    let kept = reload(base()).unwrap().unwrap();
    assert_eq!((kept.base.engine, &kept.base.image), (EgressEngine::Pipelock, &image("a")));
    assert!(reload(of(EgressEngine::Pipelock, image("a"))).is_ok());
    assert_eq!(reload(of(EgressEngine::Pipelock, image("b"))), Err(ChangeError::Engine));
    assert!(reload(EgressSpec { mode: crate::policy::Mode::Audit, ..base() }).is_err());
}
