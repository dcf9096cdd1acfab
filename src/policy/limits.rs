//! How many requests with credentials a bottle may make.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::credential::Limits;

/// The limits of a bottle. Requests without a credential are not counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestLimits {
    /// Of all credentials together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<Limits>,
    /// Of single credentials, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub credentials: BTreeMap<String, Limits>,
}

impl RequestLimits {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.all.is_none() && self.credentials.is_empty()
    }

    /// The limits of a credential; of all together if it has no name.
    pub fn of(&self, credential: Option<&str>) -> Option<Limits> {
        match credential {
            Some(name) => self.credentials.get(name).copied(),
            None => self.all,
        }
    }

    /// Sets those limits of a credential that `limits` has, or removes all of them.
    pub(super) fn set(&mut self, credential: Option<&str>, limits: Option<Limits>) {
        let limits = limits.map(|limits| limits.or(self.of(credential)));
        match (credential, limits) {
            (None, limits) => self.all = limits,
            (Some(name), Some(limits)) => drop(self.credentials.insert(name.to_owned(), limits)),
            (Some(name), None) => drop(self.credentials.remove(name)),
        }
    }
}
