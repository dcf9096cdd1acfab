//! The policy of a running bottle: the launch's policy, and the operator's grants and denials since. Pure: a change
//! produces a candidate or an error; nothing is sent.
//!
//! Rules:
//! * A denial overrides every grant. A grant that the launch's policy denies would have no effect, and is an error.
//! * A grant has a scope. Expired and used grants are not in later candidates.
//! * A candidate has the next generation; whoever enforces it acknowledges that number.

use serde::{Deserialize, Serialize};

use super::allow::MatchLevel;
use super::{Allow, AllowSpec, DenySpec, EgressEngine, EgressSpec, EntryError, RequestLimits, SpecError};
use crate::credential::Limits;

/// Maximum number of grants, and of denials, of one bottle.
const MAX_ENTRIES: usize = 256;

/// How long a grant is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// For one request, or one tunnel.
    Once,
    /// Until a time, in seconds since the epoch.
    Until(u64),
    /// As long as the bottle lives.
    Bottle,
    /// As long as the bottle lives, and in later ones: it is saved beside the manifest.
    Always,
}

/// A grant of the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Its number in this bottle.
    pub id: u64,
    /// What is allowed.
    pub allow: AllowSpec,
    /// For how long.
    pub scope: Scope,
}

/// A denial of the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Denial {
    /// What is denied.
    pub deny: DenySpec,
    /// Expiry, in seconds since the epoch; the end of the bottle if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

/// The policy of a running bottle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LivePolicy {
    /// 1 at the launch; incremented by every change.
    pub generation: u64,
    /// The launch's policy, or the last reloaded one.
    pub base: EgressSpec,
    /// The grants since.
    pub grants: Vec<Grant>,
    /// The denials since.
    pub denials: Vec<Denial>,
    /// How many requests may use credentials. A reload does not change this.
    #[serde(default, skip_serializing_if = "RequestLimits::is_empty")]
    pub limits: RequestLimits,
    /// The number of the next grant.
    next: u64,
}

/// A change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Allow more.
    Allow {
        /// What.
        entries: Vec<AllowSpec>,
        /// For how long.
        scope: Scope,
    },
    /// Deny, whatever is allowed.
    Deny {
        /// What.
        entries: Vec<DenySpec>,
        /// Expiry, in seconds since the epoch; the end of the bottle if absent.
        until: Option<u64>,
    },
    /// Remove the operator's denials of exactly these; nothing else is allowed by that.
    Lift {
        /// The entries.
        entries: Vec<DenySpec>,
    },
    /// Limit requests with a credential, or with any.
    Limit {
        /// The credential's name; `None` for all together.
        credential: Option<String>,
        /// The limits that are set; the others stay. `None` removes all of them.
        limits: Option<Limits>,
    },
    /// Replace the launch's policy. Grants, denials and limits of credentials stay.
    Reload(Box<EgressSpec>),
    /// A grant for one request was used.
    Spent(u64),
    /// Remove what has expired.
    Expire,
}

/// The policy as a sidecar receives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnforcedPolicy {
    /// The generation.
    pub generation: u64,
    /// The policy without grants for one request.
    pub spec: EgressSpec,
    /// The grants for one request, with their numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub once: Vec<(u64, AllowSpec)>,
    /// How many requests may use credentials.
    #[serde(default, skip_serializing_if = "RequestLimits::is_empty")]
    pub limits: RequestLimits,
}

impl EnforcedPolicy {
    /// The launch's policy, without grants or denials.
    pub fn first(spec: EgressSpec) -> Self {
        Self { generation: 1, spec, once: Vec::new(), limits: RequestLimits::default() }
    }
}

/// Why a change is not possible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// An entry cannot be parsed.
    #[error("{0}")]
    Entry(#[from] EntryError),
    /// The new policy cannot be parsed.
    #[error("{0}")]
    Spec(#[from] SpecError),
    /// The grant is denied.
    #[error("{host} is denied by {by:?}: to allow it would have no effect")]
    Denied {
        /// The host of the grant.
        host: String,
        /// The entry that denies it.
        by: String,
    },
    /// There is no such denial.
    #[error("{0} was not denied by `bottler policy deny` in exactly this form: `bottler policy show` lists what was")]
    NotDenied(String),
    /// The host is never allowed.
    #[error("to allow {0} would have no effect: {1}")]
    NoEffect(String, String),
    /// A running bottle cannot get a tunnel without inspection.
    #[error("{0}: `tls: tunnel` is not granted to a running bottle: what leaves would not be inspected")]
    Tunnel(String),
    /// TCP destinations are fixed.
    #[error("tcp: these destinations are fixed at the launch: the agent's container has their names and sockets")]
    Tcp,
    /// The engine of egress is fixed.
    #[error("engine: the engine of egress and its image are fixed at the launch")]
    Engine,
    /// The limit is reached.
    #[error("there are at most {MAX_ENTRIES} grants or denials: reload with a file that contains them")]
    TooMany,
    /// The expiry is in the past.
    #[error("the time is already over")]
    Over,
}

impl Change {
    /// Whether the change allows nothing new. Such a candidate stays even if it cannot be delivered now, and is
    /// delivered later.
    pub fn narrows(&self) -> bool {
        matches!(self, Self::Deny { .. } | Self::Spent(_) | Self::Expire)
    }
}

impl LivePolicy {
    /// The launch's policy.
    pub fn new(base: EgressSpec) -> Self {
        let (grants, denials) = (Vec::new(), Vec::new());
        Self { generation: 1, base, grants, denials, limits: RequestLimits::default(), next: 1 }
    }

    /// The same with limits of credentials.
    #[must_use]
    pub fn limited(self, limits: RequestLimits) -> Self {
        Self { limits, ..self }
    }

    /// Adds the temporary grants and the denials of an outer bottle.
    #[must_use]
    pub fn inheriting(mut self, outer: &Self) -> Self {
        let timed = outer.grants.iter().filter(|grant| matches!(grant.scope, Scope::Until(_))).cloned();
        self.grants.extend(timed);
        self.denials.extend(outer.denials.iter().cloned());
        self.next = outer.next;
        self
    }

    /// The same with another generation.
    #[must_use]
    pub fn as_generation(self, generation: u64) -> Self {
        Self { generation, ..self }
    }

    /// What nested bottles may reach as well: without temporary grants and those for one request.
    pub fn lasting(&self) -> EgressSpec {
        let lasts = |grant: &&Grant| matches!(grant.scope, Scope::Bottle | Scope::Always);
        self.combined(|grant| lasts(&grant))
    }

    /// The enforced policy, without grants for one request.
    pub fn effective(&self) -> EgressSpec {
        self.combined(|grant| grant.scope != Scope::Once)
    }

    /// The policy as egress receives it.
    pub fn enforced(&self) -> EnforcedPolicy {
        EnforcedPolicy {
            generation: self.generation,
            spec: self.effective(),
            once: self.once(),
            limits: self.limits.clone(),
        }
    }

    /// The grants for one request, with their numbers.
    pub fn once(&self) -> Vec<(u64, AllowSpec)> {
        let once = self.grants.iter().filter(|grant| grant.scope == Scope::Once);
        once.map(|grant| (grant.id, grant.allow.clone())).collect()
    }

    /// The next expiry, in seconds since the epoch.
    pub fn next_expiry(&self) -> Option<u64> {
        let grants = self.grants.iter().filter_map(|grant| match grant.scope {
            Scope::Until(time) => Some(time),
            _ => None,
        });
        grants.chain(self.denials.iter().filter_map(|denial| denial.until)).min()
    }

    /// The candidate after a change at `now`, in seconds since the epoch; `None` if nothing changes.
    ///
    /// # Errors
    /// The change is not possible, or has no effect.
    pub fn with(&self, change: &Change, now: u64) -> Result<Option<Self>, ChangeError> {
        let mut next = self.without_expired(now);
        match change {
            Change::Allow { entries, scope } => {
                for entry in entries {
                    next.allow(entry, *scope, now)?;
                }
            }
            Change::Deny { entries, until } => {
                for entry in entries {
                    next.deny(entry, *until, now)?;
                }
            }
            Change::Lift { entries } => {
                for entry in entries {
                    next.lift(entry)?;
                }
            }
            Change::Limit { credential, limits } => next.limits.set(credential.as_deref(), *limits),
            Change::Reload(spec) => {
                spec.check()?;
                if spec.tcp != self.base.tcp {
                    return Err(ChangeError::Tcp);
                }
                let Self { base: EgressSpec { git, engine, image, host_services, .. }, .. } = self;
                if spec.engine != EgressEngine::default() && (spec.engine, &spec.image) != (*engine, image) {
                    return Err(ChangeError::Engine);
                }
                // The repositories are those of the launch: their gate has their keys. So are the services of this machine.
                let (git, image, host_services) = (git.clone(), image.clone(), host_services.clone());
                next.base = EgressSpec { git, engine: *engine, image, host_services, ..(**spec).clone() };
                next.base.check()?;
            }
            Change::Spent(id) => next.grants.retain(|grant| grant.id != *id),
            Change::Expire => {}
        }
        if next.grants.len() > MAX_ENTRIES || next.denials.len() > MAX_ENTRIES {
            return Err(ChangeError::TooMany);
        }
        // A reload of the same policy may be meant to read its files again: it counts as a change.
        if next == *self && !matches!(change, Change::Reload(_)) {
            return Ok(None);
        }
        next.generation = self.generation + 1;
        Ok(Some(next))
    }

    fn combined(&self, keeps: impl Fn(&Grant) -> bool) -> EgressSpec {
        let mut spec = self.base.clone();
        spec.allow.extend(self.grants.iter().filter(|grant| keeps(grant)).map(|grant| grant.allow.clone()));
        spec.deny.extend(self.denials.iter().map(|denial| denial.deny.clone()));
        spec
    }

    fn without_expired(&self, now: u64) -> Self {
        let mut next = self.clone();
        next.grants.retain(|grant| !matches!(grant.scope, Scope::Until(time) if time <= now));
        next.denials.retain(|denial| denial.until.is_none_or(|time| time > now));
        next
    }

    fn allow(&mut self, entry: &AllowSpec, scope: Scope, now: u64) -> Result<(), ChangeError> {
        let read = entry.read()?;
        if entry.is_tunnel() {
            return Err(ChangeError::Tunnel(entry.host().to_owned()));
        }
        if matches!(scope, Scope::Until(time) if time <= now) {
            return Err(ChangeError::Over);
        }
        if let Err(reason) = self.base.check_reachable(&read) {
            return Err(ChangeError::NoEffect(entry.host().to_owned(), reason.to_string()));
        }
        // A lasting grant removes the operator's denial of exactly the same. A temporary grant, or one for one request,
        // does not: nothing would restore the denial.
        let takes_back = matches!(scope, Scope::Bottle | Scope::Always);
        let denials = self.denials.len();
        self.denials.retain(|denial| !(takes_back && denial.deny.read().is_ok_and(|deny| deny.matches_exactly(&read))));
        if self.denials.len() == denials {
            self.check_service(&read)?;
        }
        for denial in self.base.deny.iter().chain(self.denials.iter().map(|denial| &denial.deny)) {
            if denial.read()?.covers(&read) {
                return Err(ChangeError::Denied { host: entry.host().to_owned(), by: denial.host().to_owned() });
            }
        }
        let is_same = |other: &AllowSpec| other.read().is_ok_and(|other| other == read);
        if self.base.allow.iter().any(is_same) {
            return Ok(());
        }
        if scope != Scope::Once {
            // The latest grant of an entry counts, but does not shorten a longer one.
            if self.grants.iter().any(|grant| is_same(&grant.allow) && outlasts(grant.scope, scope)) {
                return Ok(());
            }
            self.grants.retain(|grant| !is_same(&grant.allow));
        }
        self.grants.push(Grant { id: self.next, allow: entry.clone(), scope });
        self.next += 1;
        Ok(())
    }

    /// Refuses an entry for another port of a service of the user's machine.
    fn check_service(&self, entry: &Allow) -> Result<(), ChangeError> {
        let Some((service, host)) = self.base.service_of(entry) else { return Ok(()) };
        if entry.match_level(&host, service.port, None) > MatchLevel::Host {
            return Ok(());
        }
        let why = format!("it is a service of this machine, at port {} alone, as host_services says", service.port);
        Err(ChangeError::NoEffect(service.name.clone(), why))
    }

    fn lift(&mut self, entry: &DenySpec) -> Result<(), ChangeError> {
        let read = entry.read()?;
        let before = self.denials.len();
        self.denials.retain(|denial| denial.deny.read().as_ref() != Ok(&read));
        if self.denials.len() < before { Ok(()) } else { Err(ChangeError::NotDenied(entry.host().to_owned())) }
    }

    fn deny(&mut self, entry: &DenySpec, until: Option<u64>, now: u64) -> Result<(), ChangeError> {
        let read = entry.read()?;
        if until.is_some_and(|time| time <= now) {
            return Err(ChangeError::Over);
        }
        self.grants.retain(|grant| !grant.allow.read().is_ok_and(|allow| read.covers(&allow)));
        let is_same = |other: &DenySpec| other.read().is_ok_and(|other| other == read);
        // A longer denial stays.
        let holds = |denial: &Denial| denial.until.is_none_or(|old| until.is_some_and(|until| until <= old));
        let denied = self.base.deny.iter().any(is_same)
            || self.denials.iter().any(|denial| is_same(&denial.deny) && holds(denial));
        if !denied {
            self.denials.retain(|denial| !is_same(&denial.deny));
            self.denials.push(Denial { deny: entry.clone(), until });
        }
        Ok(())
    }
}

/// Whether one scope lasts at least as long as another.
fn outlasts(one: Scope, other: Scope) -> bool {
    let rank = |scope| match scope {
        Scope::Once => 0,
        Scope::Until(time) => time,
        Scope::Bottle => u64::MAX - 1,
        Scope::Always => u64::MAX,
    };
    rank(one) >= rank(other)
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
