//! One executable, every role: chooses it by the first argument and runs it on its runtime. A sidecar's process loads
//! neither Lua nor an engine client.
//!
//! It belongs to the library because asynchronous functions are compiled again in each crate that polls them.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context;

use crate::engine::native;
use crate::sidecar::{git_gate, host_service};
use crate::{cli, holder, init, primitive, probe, session, sidecar, workspace};

/// Runs this process' role.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let role = arguments.get(1).and_then(|word| word.to_str());
    if role == Some(session::reaper::ROLE) {
        return ended(session::reaper::run(&arguments[2..]));
    }
    // Words that are no text are paths of the user's; no other role is given any.
    let rest: Vec<&str> = arguments.iter().skip(2).map_while(|word| word.to_str()).collect();
    if let Some(process) = role.and_then(primitive::process) {
        let at = rest.first().map(|&at| at.to_owned());
        return ended((process.prepare)().and_then(|()| role_process(process.parallel, (process.run)(at))));
    }
    match role {
        Some(init::ROLE) => pid_1(|| init::run(rest.first().copied().unwrap_or_default())),
        Some(native::shim::ROLE) => ended(native::shim::run(&rest)),
        Some(native::child::FIRST) => ended(native::child::run(&rest)),
        Some(native::trial::ROLE) => ended(native::trial::run(&rest)),
        Some(native::child::ENTER) => ended(native::child::enter(&rest)),
        Some(init::serve::ROLE) => pid_1(init::serve::run),
        Some(init::builder::ROLE) => pid_1(|| init::builder::run(rest.first().copied().unwrap_or_default())),
        Some(init::build_check::ROLE) => ended(init::build_check::run(&rest)),
        Some(init::files::ROLE) => ended(init::files::run(&rest)),
        Some(sidecar::ctl::ROLE) if rest == ["sidecar"] => inside(false, sidecar::ctl::ask()),
        Some(host_service::ROLE) => inside(false, host_service::relay()),
        Some(git_gate::PIPE) => ended(private().and_then(|()| git_gate::pipe())),
        Some(init::ENTER) => ended_with(init::enter(&rest)),
        Some("ctl") => inside(false, init::bridge()),
        // What an agent does that does nothing: it waits to be stopped.
        Some("idle") => loop {
            std::thread::park();
        },
        Some(init::beside::ROLE) => inside(false, init::beside::run()),
        Some(probe::AGAIN) => inside(false, async { probe::again() }),
        Some("probe") => ended(probe::agent()),
        Some(holder::ROLE) => match session::descriptors::close_inherited() {
            Ok(()) => inside(true, holder::run()),
            Err(error) => ended(Err(error.into())),
        },
        Some(session::sweeper::ROLE) => match rest[..] {
            [id, endpoint, owner, container, folder] => {
                ended(session::sweeper::run((id, endpoint, owner), container, folder.as_ref(), workspace::sweep))
            }
            _ => ended(Err(anyhow::anyhow!("sweeper: takes a bottle, an engine, an owner, a container and a folder"))),
        },
        _ => match runtime(true) {
            Ok(runtime) => {
                let code = runtime.block_on(cli::main());
                // A command that was cancelled does not wait for its threads.
                runtime.shutdown_background();
                ExitCode::from(code)
            }
            Err(error) => ended(Err(error)),
        },
    }
}

/// How many descriptors tokio opens for a runtime: an epoll instance and its copy, an eventfd, and three of its socket pair
/// for signals.
const OF_RUNTIME: usize = 6;

fn runtime(parallel: bool) -> anyhow::Result<tokio::runtime::Runtime> {
    // tokio panics where it cannot open its socket pair, so as many are tried first.
    let tried: std::io::Result<Vec<_>> = (0..OF_RUNTIME).map(|_| std::fs::File::open("/")).collect();
    drop(tried.context("open as many files as the runtime needs (`ulimit -n`)")?);
    let mut builder = if parallel {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    Ok(builder.enable_all().build()?)
}

/// A role that keeps secrets: nobody of the same user may trace it or read its memory.
fn inside(parallel: bool, role: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    ended(private().and_then(|()| runtime(parallel)?.block_on(role)))
}

fn role_process(parallel: bool, role: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    private()?;
    let runtime = runtime(parallel)?;
    let result = runtime.block_on(role);
    // Or its end would wait for the next line of standard input.
    runtime.shutdown_background();
    result
}

fn pid_1<F: Future<Output = anyhow::Result<i32>>>(role: impl FnOnce() -> F) -> ExitCode {
    let run = || {
        private()?;
        runtime(false)?.block_on(role())
    };
    ended_with(run())
}

fn ended_with(result: anyhow::Result<i32>) -> ExitCode {
    match result {
        // Exit codes have eight bits.
        Ok(code) => ExitCode::from(u8::try_from(code & 0xff).unwrap_or(u8::MAX)),
        Err(error) => ended(Err(error)),
    }
}

fn private() -> anyhow::Result<()> {
    Ok(nix::sys::prctl::set_dumpable(false)?)
}

fn ended(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bottler: {error:#}");
            ExitCode::FAILURE
        }
    }
}
