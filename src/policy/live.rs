//! The policy of a running bottle: the launch's policy, and the operator's grants and denials since. Pure: a change
//! produces a candidate or an error; nothing is sent.
//!
//! Rules:
//! * A denial overrides every grant. A grant that the launch's policy denies would have no effect, and is an error.
//! * A grant has a scope. Expired and used grants are not in later candidates.
//! * A candidate has the next generation; whoever enforces it acknowledges that number.

use serde::{Deserialize, Serialize};

use super::allow::MatchLevel;
use super::authorize::check_host;
use super::{Allow, AllowSpec, DenySpec, EgressEngine, EgressSpec, EntryError, Policy, RequestLimits, SpecError};
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
        let addresses = Policy { ip_allow: self.base.ip_allow.clone(), ..Policy::default() };
        if let Some(Err(reason)) = read.single_host().map(|host| check_host(&addresses, host)) {
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
mod tests {
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
        let limit =
            |credential: Option<&str>, limits| Change::Limit { credential: credential.map(str::to_owned), limits };
        let first =
            RequestLimits { all: None, credentials: [("own".to_owned(), limits("{total: 5}").unwrap())].into() };
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
}
