//! What the operator sees and decides.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::OwnedMutexGuard;

use super::build::build;
use super::capability::{ImageOffer, offer};
use super::denial::denied;
use super::judge::{has_ended, judge, now, wanted};
use super::offered::Offered;
use super::remedy::remedy;
use crate::policy::{Change, LivePolicy, Scope, Verdict};
use crate::primitive::bottle::{Bottle, Decider, Queue, Request, RequestState, Wish};
use crate::session::{BottleImages, BuiltImage, Class, Failure};
use crate::sidecar::git_gate::{Approval, Offer};
use crate::sidecar::supervise::DeniedRequest;

/// How many refused requests are shown with a request.
const MAX_CAUSES: usize = 5;
/// Maximum length of the operator's reason, in bytes.
const MAX_REASON: usize = 1000;

/// A request, as an operator sees it. Its texts are an agent's: they go through one escaper before they are shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownRequest {
    /// The bottle.
    pub bottle: String,
    /// The request.
    pub request: Request,
    /// What a grant would do; absent for what is decided, and for what cannot be granted any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Offered>,
    /// Why what waits cannot be granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obstacle: Option<String>,
    /// What the operator writes for what no command grants, line by line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remedy: Vec<String>,
    /// The hash of it, which a decision names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// The generation of the policy that it was compared with.
    pub generation: u64,
    /// How many other requests for the same domain wait.
    pub alike: usize,
    /// Whether it was granted, and the grant has ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_ended: bool,
    /// The refused requests of the agent to the same host, the latest first.
    #[serde(default)]
    pub causes: Vec<DeniedRequest>,
}

impl Bottle {
    /// The requests of its agent, the oldest first.
    ///
    /// # Errors
    /// The bottle has no supervise.
    pub async fn requests(&self) -> Result<Vec<ShownRequest>, Failure> {
        self.supervised()?;
        let is_push = |request: &Request| request.is_pending() && matches!(request.wish, Wish::Git { .. });
        let any = self.queue().await.map_err(|error| self.unread(&error))?.all().iter().any(is_push);
        // The gate may take a while, and nobody else waits for that.
        let pushes = if any { self.refused_pushes().await } else { Ok(Vec::new()) };
        let queue = self.desk.queue.lock().await;
        let now = Now { policy: &self.policy().await?, pushes: &pushes, all: queue.all() };
        Ok(queue.all().iter().map(|request| self.shown(&now, request)).collect())
    }

    /// Grants a request that was shown with this hash.
    ///
    /// # Errors
    /// There is no such request, it is decided already, it was shown under another policy, the scope does not fit, or egress does not
    /// acknowledge the grant. Nothing is granted then.
    pub async fn approve(self: &Arc<Self>, id: &str, hash: &str, scope: Scope) -> Result<ShownRequest, Failure> {
        self.supervised()?;
        let mut queue = self.queue().await.map_err(|error| self.unread(&error))?;
        let request = self.undecided(queue.get(id), id)?.clone();
        let policy = self.policy().await?;
        let pushes =
            if matches!(request.wish, Wish::Git { .. }) { self.refused_pushes().await } else { Ok(Vec::new()) };
        let shown = self.shown(&Now { policy: &policy, pushes: &pushes, all: queue.all() }, &request);
        let (Some(candidate), Some(now_hash)) = (&shown.candidate, &shown.hash) else {
            let obstacle = shown.obstacle.as_deref().unwrap_or("it can be granted no more");
            let why = format!("approve {id} of {}: {obstacle}", self.session.id);
            return Err(Failure::new(Class::Operation, why).hint(self.look_again(id)));
        };
        if now_hash != hash {
            let why = format!(
                "approve {id} of {}: stale: it was shown with the hash {hash}, and is {now_hash} under the policy of now ({})",
                self.session.id, policy.generation
            );
            return Err(Failure::new(Class::Operation, why).hint(self.look_again(id)));
        }
        candidate.check(scope).map_err(|(why, hint)| {
            Failure::new(Class::Input, format!("approve {id} of {}: {why}", self.session.id)).hint(hint)
        })?;
        let generation = match candidate {
            Offered::Image(offer) => {
                let offer = offer.clone();
                return self.approve_image(queue, shown, &offer).await;
            }
            Offered::Entry(candidate) => {
                let change = Change::Allow { entries: vec![candidate.entry.clone()], scope };
                self.change_policy(&change).await?.generation
            }
            Offered::Push(offer) => {
                self.release_push(&Approval { id: offer.id.clone(), once: scope == Scope::Once }).await?;
                policy.generation
            }
        };
        let state = RequestState::Approved { scope, generation, at: now() };
        let request = self.record(&mut queue, id, state);
        drop(queue);
        let request = request.ok_or_else(|| self.unknown(id))?;
        self.tell_decided(&request);
        Ok(ShownRequest { request, candidate: None, hash: None, generation, ..shown })
    }

    /// Builds the image of a request, and grants it when that is complete. Other requests are answered meanwhile.
    async fn approve_image(
        self: &Arc<Self>,
        queue: OwnedMutexGuard<Queue>,
        shown: ShownRequest,
        offer: &ImageOffer,
    ) -> Result<ShownRequest, Failure> {
        let id = shown.request.id.as_str();
        let building = self.desk.begin_build(id).map_err(|other| {
            let why = format!("approve {id} of {}: the image of {other} is being built", self.session.id);
            Failure::new(Class::Operation, why)
                .hint("one image is built at a time, and each begins with the one before")
        })?;
        drop(queue);
        let built = build(self, id, offer, &building.stop).await.map_err(|failure| match failure.class {
            Class::Operation => failure.hint(format!("nothing was granted, and {id} still waits")),
            _ => failure,
        })?;
        let mut queue = self.queue().await.map_err(|error| self.unread(&error))?;
        let reference = built.reference.clone();
        let noted = self.undecided(queue.get(id), id).map(drop).and_then(|()| self.use_image(built));
        if let Err(failure) = noted {
            // Its reference is written down: what cannot be removed now is removed with the bottle.
            let _ = self.session.engine.image_remove(&reference).await;
            return Err(failure);
        }
        let generation = shown.generation;
        let request =
            self.record(&mut queue, id, RequestState::Approved { scope: Scope::Bottle, generation, at: now() });
        drop(queue);
        drop(building);
        let request = request.ok_or_else(|| self.unknown(id))?;
        self.tell_decided(&request);
        Ok(ShownRequest { request, candidate: None, hash: None, ..shown })
    }

    /// Writes down that the bottle has an image from its next launch on.
    fn use_image(&self, built: BuiltImage) -> Result<(), Failure> {
        let failed = |error: std::io::Error| {
            Failure::new(Class::Internal, format!("record the image of {}: {error}", self.session.id))
        };
        let directory = self.host.staging.as_deref().ok_or_else(|| failed(std::io::Error::other("no directory")))?;
        let images = BottleImages::read(directory).map_err(failed)?;
        // An image that begins with the one before has its steps as well.
        let below = images.current.as_ref().filter(|current| current.id == built.base);
        let steps = below.iter().flat_map(|current| current.steps.clone()).chain(built.steps).collect();
        let base = below.map_or(built.base, |current| current.base.clone());
        let built = BuiltImage { base, steps, ..built };
        BottleImages { current: Some(built), ..images }.write(directory).map_err(failed)
    }

    /// Rejects a request. The agent reads the reason.
    ///
    /// # Errors
    /// There is no such request, or it is decided already.
    pub async fn reject(self: &Arc<Self>, id: &str, reason: &str) -> Result<ShownRequest, Failure> {
        self.supervised()?;
        if reason.len() > MAX_REASON {
            return Err(Failure::new(
                Class::Input,
                format!("reject {id}: the reason is longer than {MAX_REASON} bytes"),
            ));
        }
        self.undecided(self.queue().await.map_err(|error| self.unread(&error))?.get(id), id)?;
        let state = RequestState::Rejected { reason: reason.to_owned(), by: Decider::Operator, at: now() };
        let settled = self.settle(id, state).await;
        if settled.is_some() {
            self.desk.stop_build(id);
        }
        let queue = self.desk.queue.lock().await;
        let request = match settled {
            Some(request) => request,
            // Another operator was faster.
            None => self.undecided(queue.get(id), id)?.clone(),
        };
        let now = Now { policy: &self.policy().await?, pushes: &Ok(Vec::new()), all: queue.all() };
        Ok(self.shown(&now, &request))
    }

    fn supervised(&self) -> Result<(), Failure> {
        if self.plan.supervise.is_some() {
            return Ok(());
        }
        let why = format!("{}: its agent cannot ask for anything", self.session.id);
        Err(Failure::new(Class::Input, why)
            .hint("`supervise: true` in the bottle, at the next launch; `bottler policy allow` works now"))
    }

    fn undecided<'a>(&self, request: Option<&'a Request>, id: &str) -> Result<&'a Request, Failure> {
        let request = request.ok_or_else(|| self.unknown(id))?;
        let what = match &request.state {
            RequestState::Pending => return Ok(request),
            RequestState::Approved { .. } => "approved",
            RequestState::Rejected { .. } => "rejected",
        };
        let why = format!("{id} of {}: it was {what} already", self.session.id);
        Err(Failure::new(Class::Operation, why)
            .hint("nothing was changed; `bottler policy allow` and `policy deny` change a decision"))
    }

    fn unread(&self, error: &std::io::Error) -> Failure {
        Failure::new(Class::Internal, format!("read the requests of {}: {error}", self.session.id))
    }

    fn unknown(&self, id: &str) -> Failure {
        let why = format!("{} has no request {id:?}", self.session.id);
        Failure::new(Class::Input, why).hint(format!("`bottler requests list {}`", self.session.id))
    }

    fn look_again(&self, id: &str) -> String {
        format!("nothing was granted; look at it again: `bottler requests show {} {id}`", self.session.id)
    }

    fn shown(&self, now: &Now<'_>, request: &Request) -> ShownRequest {
        let Now { policy, all, .. } = *now;
        let generation = policy.generation;
        let (candidate, obstacle) = match self.offered(now, request) {
            _ if !request.is_pending() => (None, None),
            Ok(offered) => (Some(offered), None),
            Err(why) => (None, Some(why)),
        };
        let hash = candidate.as_ref().map(|candidate| candidate.hash(&self.session.id, &request.id, generation));
        let class = request.wish.class();
        let alike =
            all.iter().filter(|other| other.is_pending() && other.id != request.id && other.wish.class() == class);
        let is_noted = request.is_noted();
        ShownRequest {
            bottle: self.session.id.clone(),
            candidate,
            obstacle,
            remedy: if is_noted { remedy(&self.plan, &self.session.id, &request.wish) } else { Vec::new() },
            hash,
            generation,
            // A list of hosts says nothing about anything else.
            alike: if matches!(request.wish, Wish::Egress(_)) { alike.count() } else { 0 },
            has_ended: has_ended(self, policy, request),
            causes: self.causes(&request.wish),
            request: request.clone(),
        }
    }

    /// What a grant of a request would do now, or why there can be none.
    fn offered(&self, now: &Now<'_>, request: &Request) -> Result<Offered, String> {
        if let Wish::Git { operation, .. } = &request.wish {
            let offer = now.pushes.as_ref().map_err(Clone::clone)?.iter().find(|offer| offer.id == *operation);
            let offer =
                offer.ok_or("the git gate offers this push no more; if the agent pushes again, it may ask again")?;
            return Ok(Offered::Push(offer.clone()));
        }
        if let Wish::Capability { packages, dockerfile } = &request.wish {
            if self.desk.is_building(&request.id) {
                return Err("it was approved, and its image is being built".to_owned());
            }
            return offer(self, packages, dockerfile).map(Offered::Image);
        }
        let wanted = wanted(self, &request.wish).ok_or("no command grants it")?;
        match judge(self, now.policy, &wanted) {
            Verdict::Candidate(candidate) => Ok(Offered::Entry(candidate)),
            Verdict::Allowed => Err("the policy has changed since, and allows it".to_owned()),
            Verdict::Refused(why) | Verdict::Invalid(why) => Err(format!("the policy has changed since: {why}")),
        }
    }

    /// The refused requests that a wish is probably about.
    fn causes(&self, wish: &Wish) -> Vec<DeniedRequest> {
        let Some(wanted) = wanted(self, wish) else { return Vec::new() };
        let named = wanted.host.trim_start_matches("*.");
        let about = |destination: &str| {
            destination.rsplit_once(':').is_some_and(|(host, _)| host == named || wanted.host == destination)
        };
        let all = self.desk.denials().into_iter().filter(|event| about(&event.kind.destination));
        all.map(|event| denied(&event, true)).take(MAX_CAUSES).collect()
    }
}

/// What requests are compared with.
#[derive(Clone, Copy)]
struct Now<'a> {
    policy: &'a LivePolicy,
    /// The pushes that the git gate has refused, or why they are not known.
    pushes: &'a Result<Vec<Offer>, String>,
    /// All requests.
    all: &'a [Request],
}
