//! Signals that are forwarded to the command.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Receives the signals that are forwarded to the agent; before the command starts, they end the bottle.
pub(super) fn signals() -> std::io::Result<Vec<Signal>> {
    PASSED_ON.iter().map(|&kind| signal(SignalKind::from_raw(kind as i32))).collect()
}

const PASSED_ON: [nix::sys::signal::Signal; 4] = [
    nix::sys::signal::Signal::SIGTERM,
    nix::sys::signal::Signal::SIGINT,
    nix::sys::signal::Signal::SIGHUP,
    nix::sys::signal::Signal::SIGQUIT,
];

/// The next signal.
pub(super) async fn next_signal(signals: &mut [Signal]) -> nix::sys::signal::Signal {
    let waiting = signals.iter_mut().map(|signal| Box::pin(signal.recv()));
    let (_, index, _) = futures_util::future::select_all(waiting).await;
    PASSED_ON[index]
}
