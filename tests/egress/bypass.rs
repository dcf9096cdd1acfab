//! What a hostile agent would try, each attempt with a name: none arrives anywhere. The real egress runs in a
//! namespace where public addresses lead to this test, so that no other filter can be the reason.

use std::collections::BTreeSet;

use crate::attempt::Attempt;
use crate::{requests, secrets, streams};

/// The number of attempts in all files.
const AT_LEAST: usize = 270;

#[test]
fn there_are_many_attempts_and_each_has_a_name_of_its_own() {
    let all = [
        requests::forms(),
        requests::addresses(),
        requests::inside(),
        secrets::bodies(),
        secrets::places(),
        secrets::unreadable(),
        secrets::framings(),
        secrets::beside(),
    ];
    let streams = streams::pieces();
    let streams = streams.iter().map(|(name, _)| *name);
    let names: Vec<&str> = all.iter().flatten().map(|Attempt { name, .. }| *name).chain(streams).collect();
    let distinct: BTreeSet<&&str> = names.iter().collect();
    assert!(names.len() >= AT_LEAST && distinct.len() == names.len(), "{} of them", names.len());
}
