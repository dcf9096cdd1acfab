//! The secrets of a bottle: egress lets them out in no form. Its credentials: egress puts them into requests.

use std::sync::Mutex;

use crate::credential::Credential;
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

/// The credentials of a bottle with their values, which may be renewed while it runs. The placeholders stay.
pub(in crate::primitive) struct HeldCredentials(Mutex<Vec<Credential>>);

impl HeldCredentials {
    pub(in crate::primitive) fn new(credentials: Vec<Credential>) -> Self {
        Self(Mutex::new(credentials))
    }

    pub(in crate::primitive) fn all(&self) -> Vec<Credential> {
        lock(&self.0).clone()
    }

    /// Replaces a value; true if it was another one.
    pub(in crate::primitive) fn renew(&self, name: &str, value: &str) -> bool {
        let mut held = lock(&self.0);
        match held.iter_mut().find(|held| held.name == name && held.value != value) {
            Some(held) => {
                value.clone_into(&mut held.value);
                true
            }
            None => false,
        }
    }
}
