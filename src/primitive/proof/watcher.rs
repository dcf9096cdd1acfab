//! The watch: repeats the proof while the agent runs, and pauses the agent if it fails.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::pause::{self, PauseAction, PauseState, step};
use super::prove;
use crate::host::{routes, routes_v6};
use crate::primitive::agent::Agent;
use crate::primitive::bottle::Bottle;
use crate::primitive::channel::health::Health;
use crate::primitive::event::Event;
use crate::session::{Class, Failure};

/// How often the clocks are checked.
const TICK: Duration = Duration::from_secs(5);
/// If the wall clock advances by so much more than the monotonic clock, the machine has slept or its clock was set.
const GAP: Duration = Duration::from_mins(1);
/// How often a proof that cannot be made is retried, the pause before, and for how long: an agent can hold each one up to its end.
const TRIES: usize = 3;
const PAUSE: Duration = Duration::from_secs(1);
const TRYING: Duration = Duration::from_secs(10);
/// The pauses between proofs from beside a paused agent: the first, and the longest.
const FIRST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(30);

/// The time of the last proof, by both clocks.
struct LastProof {
    monotonic: Instant,
    wall: SystemTime,
    looked: Instant,
}

impl LastProof {
    fn now() -> Self {
        Self { monotonic: Instant::now(), wall: SystemTime::now(), looked: Instant::now() }
    }
}

/// Why another proof is due, if it is.
fn due(since: Duration, every: Duration, between_looks: Duration, by_wall: Option<Duration>) -> Option<&'static str> {
    // After the clock was set back, it is unknown how much time has passed.
    let gap = by_wall.map_or(GAP, |by_wall| by_wall.saturating_sub(between_looks));
    if gap >= GAP {
        Some("the clock jumped")
    } else if since >= every {
        Some("it is time")
    } else {
        None
    }
}

/// The state of this host's networks: its addresses, and the targets of its default routes. Bridges of bottles do not
/// affect it.
fn networks() -> Vec<String> {
    let routes = [routes(), routes_v6()].into_iter().flat_map(Result::unwrap_or_default);
    let default = routes.filter(|route| route.is_default() && route.device != "lo");
    let mut networks: Vec<String> =
        prove::host_addresses().into_iter().map(|host| format!("{} {}", host.name, host.address)).collect();
    networks.extend(default.map(|route| format!("{} {}", route.device, route.by)));
    networks.sort_unstable();
    networks
}

/// Repeats the proof on schedule, after a gap in the clock, after the engine was unreachable, and when the networks
/// of its host have changed, if that is this host. If it fails, the agent is paused, and clients are alerted. The
/// agent is also paused while egress is dead or does not respond, until egress responds and a proof passes. Runs
/// until it is dropped.
pub async fn watch(bottle: &Arc<Bottle>, agent: &Agent) -> Infallible {
    let every = Duration::from_secs(bottle.plan.watch);
    let mut reconnected = agent.reconnected();
    let mut egress = bottle.health(&agent.egress.name);
    let mut last = LastProof::now();
    let networks = || if bottle.host.local { networks() } else { Vec::new() };
    let mut known = networks();
    let mut hold = PauseControl::default();
    loop {
        let tick = TICK.min(every);
        let (back, news) = tokio::select! {
            () = tokio::time::sleep(tick) => (false, false),
            changed = reconnected.changed() => (changed.is_ok(), false),
            Ok(()) = egress.changed() => (false, true),
        };
        let (now, wall) = (Instant::now(), SystemTime::now());
        let by_wall = wall.duration_since(last.wall).ok();
        let why = due(now - last.monotonic, every, now - last.looked, by_wall);
        (last.wall, last.looked) = (wall, now);
        let seen = networks();
        let moved = seen != known;
        known = seen;
        let mut why = why
            .or_else(|| back.then_some("the engine was unreachable"))
            .or_else(|| moved.then_some("the network changed"));
        let health = egress.borrow_and_update().clone();
        match step(hold.held, &health) {
            PauseAction::Pause(down) => hold.held = pause::pause(bottle, agent, hold.held, &down).await,
            PauseAction::Look => (hold.held, why) = (None, Some("egress answers again")),
            PauseAction::Prove if hold.is_due(news) => {
                if hold.proves_green(bottle, agent, &mut egress).await && pause::resume(bottle, agent).await {
                    // Once more, from inside.
                    (hold.held, why) = (None, Some("egress answers again"));
                }
            }
            PauseAction::Never | PauseAction::Prove => {}
        }
        let Some(why) = why.filter(|_| hold.held.is_none() && health.why().is_none()) else { continue };
        last.monotonic = now;
        tokio::select! {
            red = look(bottle, agent) => if !red.is_empty() {
                let pause = not_tight(bottle, agent, why, red).await;
                if egress.borrow().why().is_some() || !bottle.answers(&agent.egress.name).await {
                    // Egress is the reason, so the agent continues when egress does.
                    hold.held = Some(pause);
                }
            },
            // Abort the proof: handling egress comes first.
            () = is_down(&mut egress) => {}
        }
    }
}

/// The state of the agent's pause.
#[derive(Default)]
struct PauseControl {
    held: Option<PauseState>,
    /// The last failed attempts, which are reported only once.
    red: Vec<String>,
    /// When the next proof may be made, and the pause after it if it fails, too.
    next: Option<(Instant, Duration)>,
}

impl PauseControl {
    /// Whether a proof from beside is due. Each one costs a container.
    fn is_due(&mut self, fresh: bool) -> bool {
        let (at, pause) = self.next.filter(|_| !fresh).unwrap_or((Instant::now(), FIRST));
        let due = at <= Instant::now();
        if due {
            self.next = Some((at + pause, (pause * 2).min(LONGEST)));
        }
        due
    }

    /// Proves the bottle from beside; reports failed attempts.
    async fn proves_green(
        &mut self,
        bottle: &Arc<Bottle>,
        agent: &Agent,
        egress: &mut tokio::sync::watch::Receiver<Health>,
    ) -> bool {
        let red = tokio::select! {
            red = pause::prove(bottle, agent) => red.unwrap_or_else(|failure| vec![in_words(&failure)]),
            () = is_down(egress) => return false,
        };
        let green = red.is_empty();
        if !green && red != self.red && !is_gone(bottle, agent).await {
            audit_red(bottle, &red);
            bottle.events.tell(Event::NotTight {
                why: "egress answers again".to_owned(),
                red: red.clone(),
                unpaused: None,
            });
        }
        self.red = red;
        green
    }
}

/// Resolves when egress is dead or does not respond.
async fn is_down(egress: &mut tokio::sync::watch::Receiver<Health>) {
    if egress.wait_for(|health| health.why().is_some()).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Proves the bottle beside the running agent; returns the failed attempts.
async fn look(bottle: &Arc<Bottle>, agent: &Agent) -> Vec<String> {
    let (mut red, began) = (Vec::new(), Instant::now());
    for _ in 0..TRIES {
        match prove::again(bottle, agent).await {
            Ok(lines) => {
                red = lines;
                break;
            }
            // The engine could not pause the agent either. The proof is repeated when it is back.
            Err(failure) if failure.class == Class::Engine => return Vec::new(),
            Err(failure) => red = vec![in_words(&failure)],
        }
        if is_over(bottle, agent).await {
            return Vec::new();
        }
        if began.elapsed() >= TRYING {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    if !red.is_empty() && is_over(bottle, agent).await {
        return Vec::new();
    }
    red
}

fn in_words(failure: &Failure) -> String {
    let causes: Vec<String> = failure.causes.iter().map(|cause| format!("; {cause}")).collect();
    format!("{}{}", failure.message, causes.concat())
}

/// Whether there is nothing to probe: the agent has ended, or somebody has paused it.
async fn is_over(bottle: &Bottle, agent: &Agent) -> bool {
    let Ok(id) = agent.container().await else { return true };
    match bottle.session.engine.container_inspect(&id).await {
        Ok(state) => state.status != "running",
        Err(error) => error.kind == crate::engine::ErrorKind::NotFound,
    }
}

/// Whether the agent has ended.
async fn is_gone(bottle: &Bottle, agent: &Agent) -> bool {
    let Ok(id) = agent.container().await else { return true };
    bottle.session.engine.container_inspect(&id).await.is_ok_and(|state| state.exit_code.is_some())
}

/// Pauses the agent because of failed attempts, and reports it. Returns the resulting state.
async fn not_tight(bottle: &Arc<Bottle>, agent: &Agent, why: &str, red: Vec<String>) -> PauseState {
    let paused = match agent.container().await {
        Ok(id) => bottle.session.engine.container_pause(&id, true).await.map_err(|error| error.to_string()),
        Err(failure) => Err(failure.message),
    };
    audit_red(bottle, &red);
    let held = if paused.is_ok() { PauseState::Paused } else { PauseState::Unpaused };
    if paused.is_ok() {
        let words = format!("not tight: {}", red.first().map_or("", String::as_str));
        bottle.condition(|condition| condition.paused = Some(words.clone()));
        bottle.events.tell(Event::Paused(Some(words)));
    }
    bottle.events.tell(Event::NotTight { why: why.to_owned(), red, unpaused: paused.err() });
    held
}

fn audit_red(bottle: &Bottle, red: &[String]) {
    bottle.audit("probe", "refuse", "not_tight", red.join("; "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_time_by_schedule_and_after_a_gap_of_the_clock() {
        let (every, tick) = (Duration::from_mins(10), Duration::from_secs(5));
        let seconds = Duration::from_secs;
        assert_eq!(due(seconds(30), every, tick, Some(tick)), None);
        assert_eq!(due(every, every, tick, Some(tick)), Some("it is time"));
        // The machine slept for two minutes: only the wall clock advanced.
        assert_eq!(due(seconds(30), every, tick, Some(seconds(125))), Some("the clock jumped"));
        // The clock was set back; the elapsed time is unknown.
        assert_eq!(due(seconds(30), every, tick, None), Some("the clock jumped"));
        // A busy machine is late by both clocks.
        assert_eq!(due(seconds(30), every, seconds(90), Some(seconds(91))), None);
    }
}
