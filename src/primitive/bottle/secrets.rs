//! The secrets of a bottle: egress lets them out in no form.

use std::sync::Mutex;

use crate::scan::KnownSecret;
use crate::sync::lock;

/// The secrets that a bottle knows.
#[derive(Default)]
pub(in crate::primitive) struct Secrets(Mutex<Vec<KnownSecret>>);

impl Secrets {
    /// Notes a secret that the agent may send nowhere.
    pub(in crate::primitive) fn add(&self, value: &str) {
        let mut known = lock(&self.0);
        if known.iter().all(|other| other.value != value) {
            known.push(KnownSecret { value: value.to_owned(), hosts: Vec::new() });
        }
    }

    pub(in crate::primitive) fn all(&self) -> Vec<KnownSecret> {
        lock(&self.0).clone()
    }

    pub(in crate::primitive) fn len(&self) -> usize {
        lock(&self.0).len()
    }
}
