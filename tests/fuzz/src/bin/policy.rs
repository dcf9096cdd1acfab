//! Policies and requests: one verdict, whatever the path's spelling, and nothing passes that no entry names.

#![no_main]

use std::collections::BTreeMap;

use bottler_fuzz::net::{Host, canonical};
use bottler_fuzz::policy::{Decision, EgressSpec, Form, Intent, Mode, authorize};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // A policy in YAML, an empty line, a method, a host, a path.
    let (spec, request) = text.split_once("\n\n").unwrap_or((text, ""));
    let policy = serde_yaml::from_str::<EgressSpec>(spec).ok().and_then(|spec| spec.policy(BTreeMap::new()).ok());
    let mut words = request.splitn(3, ' ');
    let method = words.next().unwrap_or_default().to_owned();
    let Ok(host) = Host::parse(words.next().unwrap_or_default()) else { return };
    let Ok(path) = canonical(words.next().unwrap_or("/")) else { return };
    assert_eq!(canonical(&path).as_ref(), Ok(&path), "its own form is another path");
    assert!(!path.split('?').next().unwrap_or_default().split('/').any(|part| part == "." || part == ".."));
    let Some(policy) = policy else { return };
    let intent = Intent { form: Form::Inside, method, host, port: 443, path: Some(path) };
    match authorize(&policy, &intent) {
        Decision::Allow(_) => {
            let canary = intent.host == Host::Name("canary.bottler.invalid".to_owned());
            assert!(canary || !policy.allow.is_empty(), "nothing names it");
        }
        Decision::Audit(..) => assert_eq!(policy.mode, Mode::Audit),
        Decision::Refuse(reason) => assert!(!reason.code().is_empty() && !reason.to_string().is_empty()),
    }
    // A CONNECT that is refused by name hides no request that would pass.
    let connect = Intent { form: Form::Connect, method: "CONNECT".to_owned(), path: None, ..intent.clone() };
    if matches!(authorize(&policy, &connect), Decision::Refuse(_)) {
        assert!(matches!(authorize(&policy, &intent), Decision::Refuse(_)), "the request inside would pass");
    }
});
