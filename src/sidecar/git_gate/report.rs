//! The response to a push: messages while it is inspected, a sign of life every few seconds, and what became of each
//! command. A refusal is a reason for a reference, never a status of HTTP: clients print "Everything up-to-date" for
//! some of those.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::commands::Request;
use super::pkt;
use super::visible;

/// How long the client hears nothing at most.
const SILENCE: Duration = Duration::from_secs(4);
/// How many pieces of a response wait for the client.
pub(super) const QUEUE: usize = 16;

/// The response, as it is written.
#[derive(Clone)]
pub(super) struct Answer {
    to: mpsc::Sender<Bytes>,
    bands: bool,
    report: bool,
}

impl Answer {
    /// Answers a request.
    pub(super) fn new(to: mpsc::Sender<Bytes>, request: &Request) -> Self {
        Self { to, bands: request.bands, report: request.report }
    }

    /// A message in a line of its own.
    pub(super) async fn say(&self, line: &str) {
        self.say_raw(&format!("{}\n", visible::text(line.as_bytes()))).await;
    }

    /// Text that has no controls.
    pub(super) async fn say_raw(&self, text: &str) {
        if self.bands {
            // A client that has gone does not stop a push that is carried out.
            let _ = self.to.send(pkt::band(pkt::MESSAGES, text.as_bytes()).into()).await;
        }
    }

    /// Says what became of each command, and ends the response. `unpack` is what became of the pack.
    pub(super) async fn finish(&self, unpack: Result<(), &str>, outcomes: &[(String, Result<(), String>)]) {
        let mut report = Vec::new();
        if self.report {
            report.extend(pkt::line(format!("unpack {}\n", unpack.map_or_else(visible::reason, |()| "ok".to_owned()))));
            for (name, outcome) in outcomes {
                report.extend(pkt::line(match outcome {
                    Ok(()) => format!("ok {name}\n"),
                    Err(why) => format!("ng {name} {}\n", visible::reason(why)),
                }));
            }
            report.extend_from_slice(pkt::FLUSH);
        }
        let response = if self.bands { [&pkt::band(pkt::DATA, &report), pkt::FLUSH].concat() } else { report };
        let _ = self.to.send(response.into()).await;
    }

    /// Does work, and meanwhile gives the client a sign of life: an empty packet, as git's own server sends it.
    pub(super) async fn while_waiting<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(SILENCE) => {
                    if self.bands {
                        // A full queue is a sign of life itself.
                        let _ = self.to.try_send(pkt::band(pkt::DATA, b"").into());
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(bands: bool) -> (Answer, mpsc::Receiver<Bytes>) {
        let (to, from) = mpsc::channel(QUEUE);
        (Answer::new(to, &Request { commands: Vec::new(), report: true, bands }), from)
    }

    #[tokio::test]
    async fn outcomes_are_told_as_git_reads_them() {
        let outcomes = [("refs/heads/a".to_owned(), Ok(())), ("refs/heads/b".to_owned(), Err("a\n\x1bb".to_owned()))];
        let report = "000eunpack ok\n0014ok refs/heads/a\n0019ng refs/heads/b a ?b\n0000";
        for bands in [false, true] {
            let (answer, mut from) = answer(bands);
            answer.say("hello").await;
            answer.finish(Ok(()), &outcomes).await;
            drop(answer);
            let mut all = Vec::new();
            while let Some(piece) = from.recv().await {
                all.extend_from_slice(&piece);
            }
            let expected = if bands {
                format!("000b\u{2}hello\n{:04x}\u{1}{report}0000", report.len() + 5)
            } else {
                report.to_owned()
            };
            assert_eq!(String::from_utf8(all).unwrap(), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_waits_hears_a_sign_of_life_in_time() {
        let (answer, mut from) = answer(true);
        answer.while_waiting(tokio::time::sleep(Duration::from_secs(30))).await;
        drop(answer);
        let mut signs = 0;
        while let Some(piece) = from.recv().await {
            assert_eq!(&piece[..], b"0005\x01");
            signs += 1;
        }
        assert!(signs >= 6, "{signs}");
    }
}
