//! The only owner of a running bottle's policy. Every change goes through this file, whoever requests it: it is
//! validated by the code that enforces it, written to disk, sent to egress, acknowledged by its generation, and
//! audited.
//!
//! Rules:
//! * A crash leaves the old policy or the new one: `policy.json` is replaced atomically.
//! * A change that allows more and is not acknowledged is reverted. A change that allows less stays, and is sent
//!   again until it is acknowledged.
//! * Nested bottles inherit the outer bottle's allowlist when they are launched, and its denials at any time. If a
//!   reload removes an allowed host from the outer bottle, they keep it, because they may have it from another
//!   source.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::bring_up;
use crate::host::{replace, replace_in_memory};
use crate::policy::{AllowSpec, AllowTable, Change, DenySpec, EgressSpec, EnforcedPolicy, LivePolicy, Scope};
use crate::primitive::bottle::Bottle;
use crate::primitive::event::Event;
use crate::primitive::handle::Sidecar;
use crate::primitive::supervise;
use crate::session::{Class, Failure};

/// The policy's file in a bottle's directory.
pub const POLICY_FILE: &str = "policy.json";
/// Maximum size of a policy for egress, in bytes of JSON: it shares one line with other values.
const MAX_POLICY: usize = crate::sidecar::MAX_LINE - (64 << 10);
/// How long to wait before a policy that was not acknowledged is sent again.
const AGAIN: Duration = Duration::from_secs(2);
/// How often the clock is checked for expired grants. A timer does not count the time that a machine sleeps.
const LOOK: Duration = Duration::from_secs(5);

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Bottle {
    /// Sets the initial policy of an egress.
    pub(in crate::primitive) async fn begin_policy(
        self: &Arc<Self>,
        egress: &str,
        base: &EgressSpec,
    ) -> Result<EnforcedPolicy, Failure> {
        loop {
            let (policy, outer) = self.initial_policy(base).await;
            let mut policies = self.policies.by_egress.lock().await;
            self.write_policy(&policies, egress, &policy)?;
            policies.insert(egress.to_owned(), policy.clone());
            drop(policies);
            // If the outer bottle's policy was narrowed meanwhile, this bottle has received that change, or reads it
            // here.
            if self.outer_policy().await == outer {
                self.await_expiry(egress, &policy);
                return Ok(policy.enforced());
            }
        }
    }

    /// The policy that an egress of this bottle begins with, and the one of the bottle around it that it inherits from.
    pub(in crate::primitive) async fn initial_policy(&self, base: &EgressSpec) -> (LivePolicy, Option<LivePolicy>) {
        let outer = self.outer_policy().await;
        let own = LivePolicy::new(base.clone()).limited(self.plan.request_limits());
        (outer.iter().fold(own, LivePolicy::inheriting), outer)
    }

    /// The policy that an egress enforces now.
    pub(in crate::primitive) async fn enforced_policy(&self, egress: &str) -> Result<EnforcedPolicy, Failure> {
        let policies = self.policies.by_egress.lock().await;
        policies.get(egress).map(LivePolicy::enforced).ok_or_else(|| self.none_yet())
    }

    /// The policy of the outer bottle, if there is one with a policy.
    async fn outer_policy(&self) -> Option<LivePolicy> {
        self.nesting.outer.as_ref().and_then(Weak::upgrade)?.policy().await.ok()
    }

    /// The policy that is enforced for the agent.
    ///
    /// # Errors
    /// There is no egress yet.
    pub async fn policy(&self) -> Result<LivePolicy, Failure> {
        let egress = self.policed()?;
        let policies = self.policies.by_egress.lock().await;
        policies.get(&egress.name).cloned().ok_or_else(|| self.none_yet())
    }

    /// What bottles launched by this one may reach, too.
    pub async fn reaches(&self) -> EgressSpec {
        self.policy().await.map_or_else(|_| self.plan.egress.clone(), |policy| policy.lasting())
    }

    /// Changes the policy, and waits until egress enforces it.
    ///
    /// # Errors
    /// The change would have no effect, or is invalid; it cannot be written to disk; egress does not
    /// acknowledge it.
    pub async fn change_policy(self: &Arc<Self>, change: &Change) -> Result<LivePolicy, Failure> {
        let egress = self.policed()?;
        egress.ready().await?;
        self.change(&egress.name, change).await
    }

    /// The egress that an operator's changes apply to.
    fn policed(&self) -> Result<Arc<Sidecar>, Failure> {
        let sidecars = self.inventory.open_sidecars();
        let agents = self.policies.agents();
        let mut own = sidecars.iter().filter(|sidecar| sidecar.is_proxy());
        let found = own.find(|sidecar| agents.is_none_or(|name| name == sidecar.name)).cloned();
        found.ok_or_else(|| self.none_yet())
    }

    fn none_yet(&self) -> Failure {
        Failure::new(Class::Input, format!("{} has no egress yet, or none any more", self.session.id))
    }

    /// Records that a grant for one request was used.
    pub(in crate::primitive) async fn spent(self: &Arc<Self>, egress: &str, grant: u64) {
        // Egress itself does not allow it again, whether or not it acknowledges the change.
        let _ = self.change(egress, &Change::Spent(grant)).await;
    }

    /// Makes a change. Nested bottles receive it if it allows less, even if it is not new to this bottle, and even if
    /// it fails here.
    async fn change(self: &Arc<Self>, egress: &str, change: &Change) -> Result<LivePolicy, Failure> {
        let changed = self.change_own(egress, change).await;
        let is_bad = matches!(&changed, Err(failure) if failure.class == Class::Input);
        if matches!(change, Change::Deny { .. }) && !is_bad {
            self.narrow_inner(change).await;
        }
        changed
    }

    async fn change_own(self: &Arc<Self>, egress: &str, change: &Change) -> Result<LivePolicy, Failure> {
        let what = words(change);
        let failed = |class, why: String| Failure::new(class, format!("{}: {what}: {why}", self.session.id));
        let mut policies = self.policies.by_egress.lock().await;
        let current = policies.get(egress).cloned().ok_or_else(|| self.none_yet())?;
        self.check_known(change).map_err(|(why, hint)| failed(Class::Input, why).hint(hint))?;
        let next = current.with(change, now()).map_err(|error| failed(Class::Input, error.to_string()))?;
        let Some(next) = next else { return Ok(current) };
        let enforced = next.enforced();
        check_size(&enforced).map_err(|why| failed(Class::Input, why).hint("nothing was changed"))?;
        // A change that allows more is written before it is enforced. A change that allows less must hold even if
        // writing fails.
        if !change.narrows() {
            self.write_policy(&policies, egress, &next)?;
        }
        let outcome = bring_up::enforce(self, egress, &enforced).await;
        match &outcome {
            Ok(None) => drop(policies.insert(egress.to_owned(), next.clone())),
            Ok(Some(refused)) => {
                self.write_policy(&policies, egress, &current)?;
                return Err(failed(Class::Input, refused.clone()).hint("nothing was changed"));
            }
            Err(_) if change.narrows() => {
                policies.insert(egress.to_owned(), next.clone());
                self.tell_again(egress);
            }
            Err(why) => {
                // Egress may have received the change, so the previous policy is sent as a newer generation.
                let back = current.as_generation(next.generation + 1);
                let written = self.write_policy(&policies, egress, &back);
                policies.insert(egress.to_owned(), back);
                self.tell_again(egress);
                written?;
                let hint =
                    "egress may have received it: the previous policy is sent again until egress acknowledges it";
                return Err(failed(Class::Operation, why.clone()).hint(hint));
            }
        }
        self.audit(egress, "note", "policy_changed", format!("generation {}: {what}", next.generation));
        self.await_expiry(egress, &next);
        supervise::policy_changed(self);
        if change.narrows() {
            self.write_policy(&policies, egress, &next).map_err(|failure| {
                let hint = "it is enforced as long as the bottle lives, but is not on disk";
                failed(Class::Internal, failure.message).hint(hint)
            })?;
        }
        match outcome {
            Err(why) => Err(failed(Class::Operation, why).hint("it is sent again until egress acknowledges it")),
            Ok(_) => Ok(next),
        }
    }

    /// Checks that the bottle has the credential that a change names, or any.
    fn check_known(&self, change: &Change) -> Result<(), (String, String)> {
        let Change::Limit { credential, .. } = change else { return Ok(()) };
        let names: Vec<&str> = self.plan.credentials.iter().map(|plan| plan.name.as_str()).collect();
        match credential.as_deref() {
            _ if names.is_empty() => {
                Err(("it has no credential, so that nothing would be counted".to_owned(), String::new()))
            }
            Some(name) if !names.contains(&name) => {
                Err((format!("it has no credential {name:?}"), format!("it has {}", names.join(", "))))
            }
            _ => Ok(()),
        }
    }

    /// Writes the policies of all egresses, with a new one for one of them.
    fn write_policy(
        &self,
        policies: &BTreeMap<String, LivePolicy>,
        egress: &str,
        policy: &LivePolicy,
    ) -> Result<(), Failure> {
        let Some(directory) = &self.host.staging else { return Ok(()) };
        let path = directory.join(POLICY_FILE);
        let others = policies.iter().map(|(name, policy)| (name.as_str(), policy));
        let all: BTreeMap<&str, &LivePolicy> = others.chain([(egress, policy)]).collect();
        let written = serde_json::to_vec(&all).map_err(std::io::Error::other);
        // Before the release, which has it on the disk, no launch waits for it.
        let write = if self.is_released() { replace } else { replace_in_memory };
        written.and_then(|text| write(&path, &text)).map_err(|error| {
            Failure::new(Class::Internal, format!("write {}: {error}", path.display()))
                .hint("free some disk space; the policy was not changed")
        })
    }

    /// Sends the policy to egress until egress acknowledges it.
    fn tell_again(self: &Arc<Self>, egress: &str) {
        let (bottle, egress) = (Arc::downgrade(self), egress.to_owned());
        crate::task::spawn(async move {
            loop {
                tokio::time::sleep(AGAIN).await;
                let Some(bottle) = bottle.upgrade() else { return };
                let policies = bottle.policies.by_egress.lock().await;
                let Some(policy) = policies.get(&egress) else { return };
                let told = bring_up::enforce(&bottle, &egress, &policy.enforced()).await;
                if told.is_ok() || bottle.policed().is_err() {
                    return;
                }
            }
        });
    }

    /// Removes expired grants when their time comes.
    fn await_expiry(self: &Arc<Self>, egress: &str, policy: &LivePolicy) {
        let Some(at) = policy.next_expiry() else { return };
        let (bottle, egress) = (Arc::downgrade(self), egress.to_owned());
        crate::task::spawn(async move {
            while now() < at {
                tokio::time::sleep(Duration::from_secs(at.saturating_sub(now())).min(LOOK)).await;
            }
            let Some(bottle) = bottle.upgrade().filter(|bottle| bottle.policed().is_ok()) else { return };
            if let Err(failure) = bottle.change(&egress, &Change::Expire).await {
                bottle.events.tell(Event::Alarm(format!("error: {}", failure.message)));
            }
        });
    }

    /// Applies a change that allows less to the nested bottles.
    fn narrow_inner<'a>(&'a self, change: &'a Change) -> BoxFuture<'a, ()> {
        let inner = self.inner();
        async move {
            for bottle in inner {
                // A nested bottle without an egress reads the denials when it creates one.
                if bottle.policed().is_ok()
                    && let Err(failure) = bottle.change_policy(change).await
                {
                    self.events.tell(Event::Alarm(format!("error: {}", failure.message)));
                }
            }
        }
        .boxed()
    }
}

/// A longer line would end the channel: the sidecar cannot read it.
fn check_size(policy: &EnforcedPolicy) -> Result<(), String> {
    let length = serde_json::to_vec(policy).map_or(usize::MAX, |text| text.len());
    if length < MAX_POLICY {
        Ok(())
    } else {
        Err(format!("the policy is {length} bytes long, of at most {MAX_POLICY}"))
    }
}

/// The conditions of an entry, as command-line options.
fn conditions(methods: &[String], paths: &[String]) -> String {
    let methods = methods.iter().map(|method| format!(" --method {method}"));
    methods.chain(paths.iter().map(|path| format!(" --path {path}"))).collect()
}

/// A denial, as its command-line arguments.
fn denied(entry: &DenySpec) -> String {
    match entry {
        DenySpec::Host(host) => host.clone(),
        DenySpec::Table(table) => format!("{}{}", table.host, conditions(&table.methods, &table.paths)),
    }
}

/// A change, as its command-line arguments.
fn words(change: &Change) -> String {
    let until =
        |until: u64| format!(" for {}", humantime::format_duration(Duration::from_secs(until.saturating_sub(now()))));
    match change {
        Change::Allow { entries, scope } => {
            let entry = |entry: &AllowSpec| match entry {
                AllowSpec::Host(host) => host.clone(),
                AllowSpec::Table(AllowTable { preset: Some(preset), .. }) => preset.to_string(),
                AllowSpec::Table(table) => format!("{}{}", table.host, conditions(&table.methods, &table.paths)),
            };
            let mut hosts: Vec<String> = entries.iter().map(entry).collect();
            hosts.dedup();
            let scope = match scope {
                Scope::Once => " once".to_owned(),
                Scope::Until(time) => until(*time),
                Scope::Bottle => String::new(),
                Scope::Always => " always".to_owned(),
            };
            format!("allow {}{scope}", hosts.join(" "))
        }
        Change::Deny { entries, until: time } => {
            let hosts: Vec<String> = entries.iter().map(denied).collect();
            format!("deny {}{}", hosts.join(" "), time.map(until).unwrap_or_default())
        }
        Change::Lift { entries } => {
            let hosts: Vec<String> = entries.iter().map(denied).collect();
            format!("deny {} no more", hosts.join(" "))
        }
        Change::Limit { credential, limits } => {
            let whose = credential.as_deref().unwrap_or("all credentials");
            limits.map_or_else(|| format!("limit {whose} no more"), |limits| format!("limit {whose} to {limits}"))
        }
        Change::Reload(_) => "reload the policy".to_owned(),
        Change::Spent(grant) => format!("grant {grant} was used"),
        Change::Expire => "remove expired grants".to_owned(),
    }
}
