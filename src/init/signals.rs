//! Signals that reach the command.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that are passed on to the agent; before there is one, they end the bottle.
pub(super) fn signals() -> std::io::Result<Vec<Signal>> {
    PASSED_ON.iter().map(|&kind| signal(SignalKind::from_raw(kind as i32))).collect()
}

const PASSED_ON: [nix::sys::signal::Signal; 4] = [
    nix::sys::signal::Signal::SIGTERM,
    nix::sys::signal::Signal::SIGINT,
    nix::sys::signal::Signal::SIGHUP,
    nix::sys::signal::Signal::SIGQUIT,
];

/// The next signal that came, as an index into [`PASSED_ON`].
pub(super) async fn next_signal(signals: &mut [Signal]) -> nix::sys::signal::Signal {
    let waiting = signals.iter_mut().map(|signal| Box::pin(signal.recv()));
    let (_, index, _) = futures_util::future::select_all(waiting).await;
    PASSED_ON[index]
}
