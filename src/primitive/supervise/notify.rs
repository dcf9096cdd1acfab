//! Tells somebody that a request is there: a command on this host, with the bottle's id, the request's id and its kind in its
//! environment, and a webhook. Nothing that the agent wrote is passed on. A failure is audited, and nobody waits.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::webhook;
use crate::host::{Limits, output};
use crate::primitive::bottle::{Bottle, Request};

/// The command's time, and how much it may write.
const LIMITS: Limits = Limits { time: Duration::from_secs(10), bytes: 64 << 10 };

/// Starts the command and the webhook in the background.
pub(super) fn notify(bottle: &Arc<Bottle>, request: &Request) {
    webhook::post(bottle, request);
    let Some([program, arguments @ ..]) = bottle.plan.supervise.as_ref().map(|plan| plan.notify.as_slice()) else {
        return;
    };
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(&bottle.host.command_env).stdin(Stdio::null());
    command.env("BOTTLER_BOTTLE", &bottle.session.id).env("BOTTLER_REQUEST", &request.id);
    command.env("BOTTLER_KIND", request.wish.kind());
    if let Some(directory) = &bottle.host.directory {
        command.current_dir(directory);
    }
    let (bottle, program, id) = (bottle.clone(), program.clone(), request.id.clone());
    crate::task::blocking(move || {
        let why = match output(&mut command, LIMITS) {
            Ok(done) if done.status.success() => return,
            Ok(done) => done.status.to_string(),
            Err(error) => error.to_string(),
        };
        bottle.audit("supervise", "warn", "notify_failed", format!("run {program} for request {id}: {why}"));
    });
}
