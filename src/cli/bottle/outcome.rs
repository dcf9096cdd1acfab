//! Reports how a bottle ended.

use super::client::Client;
use crate::holder::Report;
use crate::report;
use crate::session::{Class, Failure, StateDir, crash};

/// The failure for a dead holder: its last message, or where to find it.
pub(in crate::cli) fn holder_died(client: &mut Client, state: &StateDir) -> Failure {
    let left = "`bottler ps --all` shows what is kept of it and what is left, `bottler gc` removes what is left";
    if let Some(failure) = client.last_words.take() {
        return failure.cause(left);
    }
    let failure = Failure::new(Class::Internal, format!("the holder of {} died", client.bottle)).hint(left);
    match crash::written(state.path(), &client.bottle) {
        Some(path) => failure.cause(format!("its last messages are in {}", path.display())),
        None => failure,
    }
}

/// Prints how the bottle ended, and returns the exit code.
pub(in crate::cli) fn tell(client: &Client, report: &Report, text: bool) -> u8 {
    if text && report.times.sidecars_up.is_some() {
        client.progress.line(&report::times(&report.times));
        if let Some(closed) = &report.evidence {
            client.progress.line(&report::evidence(&client.bottle, closed));
        }
    }
    if let Some(kept) = report.kept.as_ref().filter(|_| text) {
        client.progress.line(&report::kept(&client.bottle, kept));
    }
    if let Some(executed) = report.executed.as_ref().filter(|_| text).and_then(report::executed_paths) {
        client.progress.line(&executed);
    }
    if let Some(failure) = &report.failure {
        client.progress.line(&report::failure(failure, &report.undo));
        return failure.class.exit_code();
    }
    if let Some(left) = report::not_undone(&report.undo) {
        client.progress.line(&left);
        return Class::Operation.exit_code();
    }
    if report.evidence.as_ref().is_some_and(|closed| closed.incomplete.is_some()) {
        return Class::Internal.exit_code();
    }
    u8::try_from(report.exit_code.unwrap_or_default() & 0xff).unwrap_or(u8::MAX)
}
