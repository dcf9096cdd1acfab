//! What the supervise sidecar is told: answers, decisions, and the bottle's configuration, which the agent reads there.

use std::sync::Arc;

use serde_json::json;

use super::judge::{judge, now, wanted};
use crate::plan::{LaunchPlan, RepositoryPlan, RoutePlan};
use crate::policy::{LivePolicy, Verdict};
use crate::primitive::bottle::{Bottle, Decider, RequestState};
use crate::primitive::channel::control::ControlChannel;
use crate::session::{Class, Failure};
use crate::sidecar::supervise::{RouteView, Update, View};

/// Most bytes of a Dockerfile that the agent is shown.
const MAX_DOCKERFILE: usize = 64 << 10;

fn channel(bottle: &Bottle) -> Option<Arc<ControlChannel>> {
    bottle.channels.all().into_values().find(|channel| channel.role.shows_policy)
}

/// Sends an update. A sidecar that does not take it has died, or will ask again: requests are kept here.
pub(super) async fn tell(bottle: &Bottle, update: Update) {
    if let (Some(channel), Ok(update)) = (channel(bottle), serde_json::to_value(update)) {
        let _ = channel.update(bottle.session.engine.as_ref(), update).await;
    }
}

/// Shows the agent the bottle's configuration.
///
/// # Errors
/// The sidecar does not take it.
pub(in crate::primitive) async fn publish(bottle: &Arc<Bottle>) -> Result<(), Failure> {
    let Some(channel) = channel(bottle) else { return Ok(()) };
    let view = view(&bottle.plan, &bottle.policy().await?);
    let failed = |why: String| Failure::new(Class::Operation, format!("show the agent its configuration: {why}"));
    let update = serde_json::to_value(Update::View(Box::new(view))).map_err(|error| failed(error.to_string()))?;
    channel.update(bottle.session.engine.as_ref(), update).await.map_err(failed)
}

/// What follows from a change of the policy: the agent sees it, and requests that it answers are answered.
pub(in crate::primitive) fn policy_changed(bottle: &Arc<Bottle>) {
    if bottle.plan.supervise.is_none() {
        return;
    }
    let bottle = bottle.clone();
    crate::task::spawn(async move {
        // The next change publishes it, too; a sidecar that has died is reported elsewhere.
        let _ = publish(&bottle).await;
        let Ok(policy) = bottle.policy().await else { return };
        let mut answered = Vec::new();
        {
            let mut queue = bottle.desk.queue.lock().await;
            let pending: Vec<_> = queue.pending().cloned().collect();
            for request in pending {
                let Some(wanted) = wanted(&bottle, &request.wish) else { continue };
                let state = match judge(&bottle, &policy, &wanted) {
                    Verdict::Allowed => RequestState::Approved {
                        scope: crate::policy::Scope::Bottle,
                        generation: policy.generation,
                        at: now(),
                    },
                    Verdict::Refused(reason) => RequestState::Rejected { reason, by: Decider::Rule, at: now() },
                    Verdict::Candidate(_) | Verdict::Invalid(_) => continue,
                };
                answered.extend(bottle.record(&mut queue, &request.id, state));
            }
        }
        for request in &answered {
            bottle.tell_decided(request);
        }
    });
}

fn view(plan: &LaunchPlan, policy: &LivePolicy) -> View {
    let effective = policy.effective();
    let route = |route: &RoutePlan| RouteView {
        url: format!("{}/", route.url()),
        upstream: route.upstream(),
        methods: route.methods.clone(),
        paths: route.paths.clone(),
    };
    // No key, and not where it is on the host.
    let repository = |one: &RepositoryPlan| json!({ "name": one.name, "url": one.url, "terms": one.terms });
    let inline = plan.image.build.as_ref().and_then(|build| build.dockerfile_inline.clone());
    let dockerfile = inline.filter(|text| text.len() <= MAX_DOCKERFILE).unwrap_or_default();
    View {
        generation: policy.generation,
        mode: effective.mode,
        allow: effective.allow,
        deny: effective.deny,
        tcp: effective.tcp,
        grants: policy.grants.clone(),
        routes: plan.cred_proxy.iter().flat_map(|plan| &plan.routes).map(route).collect(),
        git: plan.git.iter().flat_map(|git| &git.repositories).map(repository).collect(),
        dockerfile,
    }
}
