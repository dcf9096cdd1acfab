//! `bottler requests`: what agents ask for, and the operator's decisions. The holder of the bottle decides nothing by itself, and grants
//! only what was shown: an approval names the hash.

use std::time::Duration;

use super::ask::{Grant, now, of_all, of_bottle, reject};
use super::{view, watch};
use crate::cli::bottle::life;
use crate::cli::failure::input;
use crate::cli::launch::resume;
use crate::cli::print::{Format, print_data, print_message};
use crate::primitive::{ShownRequest, Wish};
use crate::report::ascii_json;
use crate::session::{Class, Failure};

/// What `requests` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List the requests that wait for you, and those that only another launch can grant
    List(ListArgs),
    /// Show a request: what a grant would add, what that makes reachable, and the hash that an approval names
    Show(OneArgs),
    /// Grant a request: for 10 minutes if nothing else is said, a push once
    Approve(ApproveArgs),
    /// Reject a request; its agent reads the reason
    Reject(RejectArgs),
    /// Show requests as they come, and decide about them; at a terminal with keys, otherwise one line each
    Watch(watch::Args),
}

#[derive(clap::Args)]
struct ListArgs {
    /// The bottle's id [default: all running bottles]
    bottle: Option<String>,
    /// Also those that are decided, or were answered by a rule
    #[arg(long)]
    all: bool,
    /// The output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(clap::Args)]
struct OneArgs {
    /// The bottle's id
    bottle: String,
    /// The request's id
    id: String,
    /// The output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(clap::Args)]
struct ApproveArgs {
    #[command(flatten)]
    one: OneArgs,
    /// The hash that `requests show` printed: what was shown is granted, and nothing else
    #[arg(long)]
    hash: String,
    /// For one request only, or one push
    #[arg(long, group = "scope")]
    once: bool,
    /// For a limited time, such as `10m`, which is the default but for a push
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration, group = "scope")]
    time: Option<Duration>,
    /// Until the bottle ends
    #[arg(long = "bottle", group = "scope")]
    until_end: bool,
    /// Also for later launches of this bottle in the same folder
    #[arg(long, group = "scope")]
    always: bool,
    /// For an image: stop the bottle when it is built, and resume it with the image, in the background
    #[arg(long)]
    restart: bool,
}

#[derive(clap::Args)]
struct RejectArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Why; the agent reads it
    #[arg(long, default_value = "")]
    reason: String,
}

pub(in crate::cli) async fn main(args: &Args) -> Result<u8, Failure> {
    match &args.command {
        Command::List(args) => list(args).await,
        Command::Show(args) => show(args).await,
        Command::Approve(args) => approve(args).await,
        Command::Reject(args) => {
            let OneArgs { bottle, id, format } = &args.one;
            let shown = reject(bottle, id, &args.reason).await?;
            told(&shown, *format, &format!("{id} of {bottle} is rejected"))
        }
        Command::Watch(args) => watch::watch(args).await,
    }
}

async fn list(args: &ListArgs) -> Result<u8, Failure> {
    let mut shown = match &args.bottle {
        Some(bottle) => of_bottle(bottle).await?,
        None => of_all().await?,
    };
    shown.retain(|one| args.all || one.request.is_pending() || one.request.is_noted());
    match args.format {
        Format::Json => json(&shown)?,
        Format::Text if shown.is_empty() => print_message("no request waits"),
        Format::Text => print_data(&view::table(&shown, now())),
    }
    Ok(0)
}

async fn show(args: &OneArgs) -> Result<u8, Failure> {
    let all = of_bottle(&args.bottle).await?;
    let one = all.into_iter().find(|one| one.request.id == args.id);
    let one = one.ok_or_else(|| {
        input(format!("{} has no request {:?}", args.bottle, args.id))
            .hint(format!("`bottler requests list {} --all`", args.bottle))
    })?;
    match args.format {
        Format::Json => json(&one)?,
        Format::Text => print_data(&(view::detail(&one, now()).join("\n") + "\n" + &view::commands(&one))),
    }
    Ok(0)
}

async fn approve(args: &ApproveArgs) -> Result<u8, Failure> {
    let OneArgs { bottle, id, format } = &args.one;
    let grant = match (args.once, args.time, args.until_end, args.always) {
        (true, ..) => Some(Grant::Once),
        (_, Some(time), ..) => Some(Grant::For(time)),
        (_, _, true, _) => Some(Grant::Bottle),
        (_, _, _, true) => Some(Grant::Always),
        _ => None,
    };
    if args.restart && !is_image(bottle, id).await? {
        return Err(input("--restart: only an image takes effect at the next launch").hint("leave it out"));
    }
    let (shown, text) = Grant::carry_out(grant, bottle, id, &args.hash).await?;
    let code = told(&shown, *format, &text)?;
    if !matches!(shown.request.wish, Wish::Capability { .. }) {
        return Ok(code);
    }
    if args.restart {
        return restart(bottle).await;
    }
    print_message(&format!("hint: `bottler stop {bottle}`, then `bottler resume {bottle}`"));
    Ok(code)
}

/// Whether a request is one for an image.
async fn is_image(bottle: &str, id: &str) -> Result<bool, Failure> {
    let shown = of_bottle(bottle).await?;
    let found = shown.iter().find(|one| one.request.id == id);
    Ok(found.is_some_and(|one| matches!(one.request.wish, Wish::Capability { .. })))
}

/// Stops a bottle, and launches it again in the background.
async fn restart(bottle: &str) -> Result<u8, Failure> {
    let code = life::stop_bottle(bottle).await?;
    if code != 0 {
        return Ok(code);
    }
    Box::pin(resume::in_background(bottle)).await
}

fn told(shown: &ShownRequest, format: Format, text: &str) -> Result<u8, Failure> {
    match format {
        Format::Json => json(shown)?,
        Format::Text => print_message(text),
    }
    Ok(0)
}

/// Prints JSON that a terminal cannot mistake for anything else: it holds an agent's text.
fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::new(Class::Internal, error.to_string()))?;
    print_data(&format!("{}\n", ascii_json(&text)));
    Ok(())
}
