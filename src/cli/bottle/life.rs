//! Commands for a running or kept bottle: attach, exec, logs, wait, stop, inspect, rm.

use std::io::{IsTerminal, Read};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use tokio::io::AsyncWriteExt;

use super::client::{ClientOptions, SessionEnd};
use super::find::FoundBottle;
use super::outcome::{holder_died, tell};
use super::remove::remove_kept;
use super::workspace;
use crate::cli::failure::input;
use crate::cli::open::state;
use crate::cli::print::{print_json, print_message};
use crate::cli::terminal::DetachKeys;
use crate::cli::terminal::Writer;
use crate::cli::terminal::{self, Handover};
use crate::engine::labels::Kind;
use crate::engine::{ExecSpec, Object, Output, Streams};
use crate::init::ENTER;
use crate::primitive::POLICY_FILE;
use crate::session::exit_record::{self, OutputChunk};
use crate::session::{Class, Condition, Failure, KeptWorkspace, UndoRow};

/// Default number of log lines.
const LINES: usize = 1000;

/// What `attach` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct AttachArgs {
    /// The bottle's id
    bottle: String,
    /// Pass all control sequences to the terminal, including titles, clipboard and notifications
    #[arg(long)]
    raw: bool,
    /// Keys that disconnect, named as docker names them [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<DetachKeys>,
}

/// What `exec` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct ExecArgs {
    /// The bottle's id
    bottle: String,
    /// The command and its arguments; it gets the agent's environment and limits
    #[arg(last = true, required = true)]
    command: Vec<String>,
    /// Keys that disconnect, named as docker names them [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<DetachKeys>,
}

/// What `logs` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct LogsArgs {
    /// The bottle's id
    bottle: String,
    /// A sidecar, such as `egress` [default: the agent]
    sidecar: Option<String>,
    /// Keep printing new output
    #[arg(short, long)]
    follow: bool,
    /// How many lines to print, from the end
    #[arg(short = 'n', long, default_value_t = LINES)]
    lines: usize,
}

/// What `stop`, `inspect` and `rm` take.
#[derive(clap::Args)]
pub(in crate::cli) struct BottleArgs {
    /// The bottle's id
    bottle: String,
}

/// What `rm` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct RmArgs {
    /// The bottle's id
    bottle: String,
    /// Stop the bottle first if it is running
    #[arg(short, long)]
    force: bool,
    /// Remove work that was not pulled, without asking
    #[arg(long)]
    discard: bool,
}

/// The exit record of a bottle that is not running.
fn ended_of(id: &str) -> Result<Option<(exit_record::ExitRecord, Vec<OutputChunk>)>, Failure> {
    let state = state()?;
    Ok(if state.is_alive(id) { None } else { exit_record::read(&state, id) })
}

/// Prints an agent's recorded output.
fn print_output(output: &[OutputChunk]) {
    let (mut out, mut err) = (Writer::stdout(), Writer::stderr());
    for piece in output {
        let written = if piece.error { err.write(&piece.bytes) } else { out.write(&piece.bytes) };
        crate::cli::print::note_written(written);
    }
}

fn tell_ended(ended: &exit_record::ExitRecord) -> u8 {
    let how = match (&ended.failure, ended.exit_code) {
        (Some(failure), _) => failure.clone(),
        (None, Some(code)) => format!("exit code {code}"),
        (None, None) => "it had no agent".to_owned(),
    };
    print_message(&crate::report::printable(&format!("{} has ended: {how}", ended.id)));
    ended.code()
}

/// What `wait` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct WaitArgs {
    /// The ids of the bottles
    #[arg(required = true)]
    bottles: Vec<String>,
}

/// Waits for bottles to end, prints their exit codes, and returns the first that is not 0.
pub(in crate::cli) async fn wait(args: &WaitArgs) -> Result<u8, Failure> {
    let mut code = 0;
    for id in &args.bottles {
        if ended_of(id)?.is_none() {
            let known = FoundBottle::find(id)?;
            let (state, bottle) = (known.state.clone(), id.clone());
            let released = crate::task::blocking(move || state.wait_released(&bottle));
            released.await.map_err(|error| Failure::new(Class::Internal, format!("wait for {id}: {error}")))?;
        }
        let Some((ended, _)) = ended_of(id)? else {
            return Err(Failure::new(Class::Internal, format!("it is not known how {id} ended"))
                .hint("its holder was killed; `bottler ps --all` shows whether its workspace is kept"));
        };
        crate::cli::print::print_data(&format!("{}\n", ended.code()));
        code = if code == 0 { ended.code() } else { code };
    }
    Ok(code)
}

pub(in crate::cli) async fn attach(args: &AttachArgs) -> Result<u8, Failure> {
    if let Some((ended, output)) = ended_of(&args.bottle)? {
        print_output(&output);
        return Ok(tell_ended(&ended));
    }
    let known = FoundBottle::living(&args.bottle).await?;
    let keys = args.detach_keys.clone().unwrap_or_default();
    let show =
        ClientOptions { terminal: terminal::is_there(), raw: args.raw, guest: true, keys, ..ClientOptions::default() };
    let mut client = known.reach(show).await?;
    match client.follow(&known.state).await? {
        SessionEnd::Reported(report) => {
            client.take_output().await;
            client.progress.clear();
            Ok(tell(&client, &report, true))
        }
        SessionEnd::Detached => {
            print_message(&format!("{} keeps running: `bottler attach {}`", known.id, known.id));
            Ok(0)
        }
        SessionEnd::Signalled(signal) => Ok(left(&known.id, signal)),
        SessionEnd::AbandonedToReaper => Ok(Class::Cancelled.exit_code()),
        SessionEnd::HolderDied => Err(holder_died(&mut client, &known.state)),
    }
}

/// Reports that a signal ended only this client; returns the exit code that a shell would.
fn left(id: &str, signal: i32) -> u8 {
    print_message(&format!("{id} keeps running: `bottler attach {id}`"));
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

pub(in crate::cli) async fn stop(args: &BottleArgs) -> Result<u8, Failure> {
    stop_bottle(&args.bottle).await
}

/// Stops a running bottle.
pub(in crate::cli) async fn stop_bottle(id: &str) -> Result<u8, Failure> {
    end(&FoundBottle::living(id).await?).await
}

/// Ends a bottle and waits until it is gone.
async fn end(known: &FoundBottle) -> Result<u8, Failure> {
    // Do not show the agent's output any more.
    let mut client = known.reach(ClientOptions { capture: true, guest: true, ..ClientOptions::default() }).await?;
    client.cancel();
    match client.follow(&known.state).await? {
        SessionEnd::Reported(report) => {
            client.progress.clear();
            let cancelled = report.failure.as_ref().is_none_or(|failure| failure.class == Class::Cancelled);
            if let Some(kept) = &report.kept {
                client.progress.line(&crate::report::kept(&known.id, kept));
            }
            let left = report.undo.iter().any(UndoRow::is_left);
            if cancelled && !left {
                return Ok(0);
            }
            Ok(tell(&client, &report, false))
        }
        // The bottle has ended, and the reaper has removed it.
        SessionEnd::HolderDied if !known.state.is_alive(&known.id) => {
            if let Some(words) = client.last_words.take().filter(|_| !client.has_killed) {
                client.progress.line(&crate::report::failure(&words, &[]));
            }
            Ok(0)
        }
        SessionEnd::HolderDied => Err(holder_died(&mut client, &known.state)),
        SessionEnd::Signalled(signal) => {
            print_message(&format!("{} is being stopped anyway", known.id));
            Ok(u8::try_from(128 + signal).unwrap_or(u8::MAX))
        }
        SessionEnd::Detached | SessionEnd::AbandonedToReaper => Ok(Class::Cancelled.exit_code()),
    }
}

pub(in crate::cli) async fn logs(args: &LogsArgs) -> Result<u8, Failure> {
    if let (Some((ended, output)), None) = (ended_of(&args.bottle)?, &args.sidecar) {
        print_output(&output);
        tell_ended(&ended);
        return Ok(0);
    }
    let found = async |known: FoundBottle| -> Result<_, Failure> {
        let container = known.container(args.sidecar.as_deref()).await?;
        Ok((known, container))
    };
    let (known, container) = match FoundBottle::living(&args.bottle).await {
        Ok(known) => found(known).await?,
        // After the death of holder and reaper the container may still exist.
        Err(failure) => {
            let left = match FoundBottle::find(&args.bottle) {
                Ok(known) => found(known).await.ok(),
                Err(_) => None,
            };
            left.ok_or(failure)?
        }
    };
    let mut pieces = known.engine.container_logs(&container, Some(args.lines), args.follow).await?;
    let (mut out, mut err) = (Writer::stdout(), Writer::stderr());
    while let Some(piece) = pieces.next().await {
        let written = match piece? {
            Output::Stdout(bytes) => out.write(&bytes),
            Output::Stderr(bytes) => err.write(&bytes),
        };
        // A closed pipe, as in `| head`, is not an error.
        if let Err(error) = written {
            crate::cli::print::note_written(Err(error));
            break;
        }
    }
    Ok(0)
}

pub(in crate::cli) async fn exec(args: &ExecArgs) -> Result<u8, Failure> {
    let known = FoundBottle::living(&args.bottle).await?;
    let container = known.container(None).await?;
    let tty = terminal::is_there();
    let words = [crate::layout::EXECUTABLE, ENTER].into_iter().map(str::to_owned);
    let spec = ExecSpec {
        command: words.chain(args.command.clone()).collect(),
        user: None,
        env: if tty { terminal_name() } else { Vec::new() },
        workdir: Some(known.plan()?.agent.workdir),
        tty,
    };
    let (exec, streams) = known.engine.exec(&container, &spec).await?;
    if tty {
        let (engine, id) = (known.engine.clone(), exec.clone());
        let resize = move |size| -> BoxFuture<'static, ()> {
            let (engine, id) = (engine.clone(), id.clone());
            Box::pin(async move { drop(engine.exec_resize(&id, size).await) })
        };
        if let Some(size) = terminal::size() {
            resize(size).await;
        }
        let keys = args.detach_keys.clone().unwrap_or_default();
        let mute = terminal::give(streams, resize, false, keys).await;
        let mute = mute.map_err(|error| Failure::new(Class::Internal, format!("give the terminal: {error}")))?;
        if mute.handover == Handover::Detached {
            print_message(&format!("detached; the command keeps running in {}", known.id));
            return Ok(0);
        }
    } else {
        carry(streams).await?;
    }
    let code = known.engine.exec_exit_code(&exec).await?;
    Ok(u8::try_from(code & 0xff).unwrap_or(u8::MAX))
}

fn terminal_name() -> Vec<String> {
    std::env::var("TERM").map(|name| format!("TERM={name}")).into_iter().collect()
}

/// Connects a command's streams with this process' streams.
async fn carry(streams: Streams) -> Result<(), Failure> {
    let Streams { mut output, mut input } = streams;
    let (sender, mut typed) = tokio::sync::mpsc::channel::<Vec<u8>>(16);
    if !std::io::stdin().is_terminal() {
        // A detached thread: the command may end before its input does.
        std::thread::spawn(move || {
            let mut bytes = vec![0; 64 << 10];
            while let Ok(count @ 1..) = std::io::stdin().read(&mut bytes) {
                if sender.blocking_send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
    }
    let (mut out, mut err) = (Writer::stdout(), Writer::stderr());
    let mut open = true;
    loop {
        tokio::select! {
            piece = output.next() => match piece {
                Some(Ok(Output::Stdout(bytes))) => crate::cli::print::note_written(out.write(&bytes)),
                Some(Ok(Output::Stderr(bytes))) => drop(err.write(&bytes)),
                Some(Err(error)) => return Err(error.into()),
                None => return Ok(()),
            },
            bytes = typed.recv(), if open => if let Some(bytes) = bytes {
                // The command may have closed its input.
                let _ = input.write_all(&bytes).await;
            } else {
                open = false;
                let _ = input.shutdown().await;
            }
        }
    }
}

pub(in crate::cli) async fn inspect(args: &BottleArgs) -> Result<u8, Failure> {
    let ended = ended_of(&args.bottle)?.map(|(ended, _)| ended);
    let known = match (FoundBottle::find(&args.bottle), &ended) {
        (Err(_), Some(ended)) => {
            print_json(&serde_json::json!({ "bottle": ended.id, "state": "ended", "ended": ended }))?;
            return Ok(0);
        }
        (known, _) => known?,
    };
    known.engine.info().await?;
    let alive = known.state.is_alive(&known.id);
    let kept = if alive { None } else { KeptWorkspace::of_dead(&known.state, &known.id) };
    let condition = if alive { Condition::read(&known.state.bottle(&known.id)) } else { Condition::default() };
    let objects: Vec<serde_json::Value> = known
        .objects()
        .await?
        .into_iter()
        .map(|object| serde_json::json!({ "kind": object.identity.kind, "name": object.name, "id": object.id }))
        .collect();
    print_json(&serde_json::json!({
        "bottle": known.id,
        "state": if condition.paused.is_some() { "paused" } else if alive { "running" } else if kept.is_some() { "kept" } else { "dead" },
        "condition": condition,
        "record": known.record,
        "plan": known.plan().ok(),
        "policy": policies(&known),
        "kept": kept,
        "ended": ended,
        "objects": objects,
    }))?;
    Ok(0)
}

/// The active policies of a bottle's egress sidecars, by name.
fn policies(known: &FoundBottle) -> Option<serde_json::Value> {
    let text = std::fs::read(known.state.bottle(&known.id).join(POLICY_FILE)).ok()?;
    serde_json::from_slice(&text).ok()
}

pub(in crate::cli) async fn rm(args: &RmArgs) -> Result<u8, Failure> {
    let known = match FoundBottle::find(&args.bottle) {
        Err(failure) if args.force && failure.class == Class::Internal => FoundBottle::find_broken(&args.bottle)?,
        found => found?,
    };
    known.engine.info().await?;
    let id = &known.id;
    if known.state.is_alive(id) {
        if !args.force {
            return Err(input(format!("{id} is running")).hint(format!("`bottler stop {id}` first, or --force")));
        }
        end(&known).await?;
    }
    if !known.state.bottle(id).exists() {
        return Ok(0);
    }
    if !args.discard {
        ask_to_discard(&known).await?;
    }
    remove_kept(&known).await
}

/// Asks whether work that was not pulled may be dropped; an error without a terminal.
async fn ask_to_discard(known: &FoundBottle) -> Result<(), Failure> {
    let id = &known.id;
    let Some(kept) = KeptWorkspace::of_dead(&known.state, id) else { return Ok(()) };
    let hint = format!(
        "`bottler pull {id}` fetches it, with --archive FILE ignored files and nested repositories as well; `bottler rm --discard {id}` drops it"
    );
    // A volume that does not exist contains nothing.
    let is_it = |object: &Object| object.identity.kind == Kind::Volume && object.name == kept.volume;
    if !known.objects().await?.iter().any(is_it) {
        return Ok(());
    }
    let lines = match workspace::until_signal(workspace::read(id), &workspace::CancelFlag::default()).await {
        Ok(work) => work.outstanding().lines(),
        Err(failure) if failure.class == Class::Cancelled => return Err(failure),
        Err(failure) => vec![format!("it cannot be read: {}", failure.message)],
    };
    if lines.is_empty() {
        return Ok(());
    }
    print_message(&format!("{id} has work that was not pulled:"));
    for line in &lines {
        print_message(&crate::report::printable(&format!("  {line}")));
    }
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(input(format!("{id} is kept")).hint(hint));
    }
    if terminal::confirm("drop it?").await? {
        Ok(())
    } else {
        Err(Failure::new(Class::Cancelled, format!("{id} is kept")))
    }
}
