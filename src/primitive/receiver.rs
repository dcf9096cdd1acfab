//! The receiver: a container in the engine's host network that reports what arrives there. Needed to prove a bottle
//! whose agent is attached to a network.

use std::sync::Arc;
use std::time::Duration;

use super::bottle::Bottle;
use super::channel::stream::JsonChannel;
use super::handle::Network;
use super::image::self_image;
use super::roles::receiver::container;
use crate::engine::labels::Kind;
use crate::probe::ProbeResult;
use crate::session::Failure;
use crate::sidecar::receiver::{Arrivals, Ask, Config, Host, HostReceiver as Role};
use crate::sidecar::role::{CommandOf, MessageOf};
use crate::sidecar::{Action, Command, CommandOutcome, Message, OutputLine};

/// Its name, appended to the bottle's.
const NAME: &str = "receiver";
/// How long it may take for a response.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running receiver.
pub(in crate::primitive) struct Receiver {
    id: String,
    device: String,
    talk: JsonChannel,
    pub(in crate::primitive) host: Host,
}

impl Receiver {
    /// Starts a receiver for an internal network. It may set the host's reverse path filter for that bridge only if
    /// the plan, which is the user's, allows that.
    ///
    /// # Errors
    /// It cannot listen.
    pub(in crate::primitive) async fn start(bottle: &Arc<Bottle>, network: &Network) -> Result<Self, Failure> {
        // The bridge must exist.
        network.ready().await?;
        let image = self_image(bottle, None).get().await?.tag.clone();
        let name = bottle.name(NAME);
        let identity = bottle.intend(Kind::Sidecar, &name, None)?;
        let engine = &bottle.session.engine;
        let device = network.device(bottle);
        let config = Config { device: device.clone(), set_filter: bottle.plan.set_rp_filter };
        let id = engine.container_create(&container(name, image, config.set_filter, identity)).await?;
        let talk = JsonChannel::new(engine.container_attach(&id).await?);
        engine.container_start(&id).await?;
        let host = Host { filter: 0, addresses: Vec::new(), port: 0 };
        let mut receiver = Self { id, device, talk, host };
        match receiver.ask(&config).await? {
            Message::Ready(host) => receiver.host = host,
            _ => return Err(receiver.failed("it sent an unexpected response")),
        }
        Ok(receiver)
    }

    async fn ask(&mut self, line: &(impl serde::Serialize + Sync)) -> Result<MessageOf<Role>, Failure> {
        let answer = self.talk.ask::<OutputLine<MessageOf<Role>>>(line, PATIENCE).await;
        answer.map(|told| told.message).map_err(|why| self.failed(why))
    }

    fn failed(&self, why: impl std::fmt::Display) -> Failure {
        let attempted = format!("receive on the engine's host what arrives through {}", self.device);
        self.talk.failure(&attempted, why).hint("isolation: sealed needs no receiver on the host")
    }

    /// Asks for what arrived, and ends the receiver.
    ///
    /// # Errors
    /// It does not respond.
    pub(in crate::primitive) async fn finish(mut self, bottle: &Bottle) -> Result<Arrivals, Failure> {
        let question: CommandOf<Role> = Command { n: 1, action: Action::Ask(Ask::WhatCame) };
        let answer = self.ask(&question).await;
        bottle.session.engine.container_remove(&self.id).await?;
        let Message::Acknowledged(acknowledged) = answer? else {
            return Err(self.failed("it sent an unexpected response"));
        };
        match acknowledged.outcome {
            CommandOutcome::Answer(heard) => Ok(heard),
            CommandOutcome::Refused(why) => Err(self.failed(why)),
            CommandOutcome::Done => Err(self.failed("it sent an unexpected response")),
        }
    }

    /// The bridge that it listens on.
    pub(in crate::primitive) fn device(&self) -> &str {
        &self.device
    }
}

/// The host's report, as results of the probe. `sent` is whether anything was sent that should have arrived.
pub(in crate::primitive) fn lines(device: &str, host: &Host, heard: &Arrivals, sent: bool) -> Vec<ProbeResult> {
    let line = |attempt: String, expected: &str, ok: bool, happened: String| ProbeResult {
        attempt,
        expected: expected.to_owned(),
        happened,
        ok,
    };
    let filter = match host.filter {
        0 => "off",
        1 => "strict",
        _ => "loose",
    };
    let none = |all: &[String], word: &str| if all.is_empty() { word.to_owned() } else { all.join(", ") };
    let addresses = none(&host.addresses, "none");
    let mut lines = vec![
        line(format!("host's rp_filter on {device}"), "strict", host.filters(), filter.to_owned()),
        line(format!("host's addresses on {device}"), "none", host.addresses.is_empty(), addresses),
        line(
            "received on the host, asked there".to_owned(),
            "nothing",
            heard.received.is_empty(),
            none(&heard.received, "nothing"),
        ),
    ];
    if sent {
        // Otherwise silence proves nothing: the packets may have taken another path.
        let happened = format!("{} came, {} turned away", heard.came, heard.turned_away);
        let ok = heard.came > 0 && heard.turned_away > 0;
        lines.push(line("turned away by the host, counted there".to_owned(), "some", ok, happened));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_only_where_something_came_and_was_turned_away() {
        let host = Host { filter: 1, addresses: Vec::new(), port: 1 };
        let heard = |received: &[&str], came, turned_away| Arrivals {
            received: received.iter().map(ToString::to_string).collect(),
            came,
            turned_away,
        };
        let tight = |host: &Host, heard: &Arrivals| lines("br-1", host, heard, true).iter().all(|line| line.ok);
        assert!(tight(&host, &heard(&[], 9, 9)));
        assert!(!tight(&host, &heard(&[], 0, 0)), "nothing came at all");
        assert!(!tight(&host, &heard(&[], 9, 0)), "nothing was turned away");
        assert!(!tight(&host, &heard(&["UDP"], 9, 9)));
        assert!(!tight(&Host { filter: 2, ..host.clone() }, &heard(&[], 9, 9)));
        assert!(!tight(&Host { addresses: vec!["10.0.0.1".into()], ..host }, &heard(&[], 9, 9)));
    }
}
