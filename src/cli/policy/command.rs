//! `bottler policy`: explains what egress would decide, with the code that decides; proposes a policy from an audit log;
//! prints and changes the policy of a running bottle.

use std::collections::BTreeMap;

use hyper::Uri;

use super::{audit, change};
use crate::audit::learn;
use crate::cli::failure::input;
use crate::cli::launch::agent::granted;
use crate::cli::launch::egress::EgressArgs;
use crate::cli::launch::program::{self, ProjectArgs};
use crate::cli::open::state;
use crate::cli::print::{Format, print_data, print_json, print_message};
use crate::manifest::choose;
use crate::net::{Host, canonical};
use crate::policy::{AllowSpec, Decision, Form, Intent, Preset, Reason, authorize, is_preset};
use crate::session::{Class, Failure};

/// What `policy` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Say whether a request may leave, and why; exits with 0 if it may and 1 if not. Resolves and sends nothing. Prints
    /// the entries of a preset
    Explain(Box<ExplainArgs>),
    /// Propose an allowlist from the requests of a bottle
    Learn {
        /// The id of a bottle that runs or has ended
        bottle: String,
    },
    /// Print the active policy of a running bottle, and what was granted and denied since its launch
    Show(change::ShowArgs),
    /// Allow a running bottle to reach a host: until it ends, for a time, once, or also in later launches
    Allow(change::AllowArgs),
    /// Deny a running bottle a host; its open connections to that host end
    Deny(change::DenyArgs),
    /// Change how many requests of a running bottle may use a credential: in all, in a time, and at once
    Limit(change::LimitArgs),
    /// Replace the policy of a running bottle; connections that the new policy allows continue
    Reload(change::ReloadArgs),
}

#[derive(clap::Args)]
struct ExplainArgs {
    /// The URL, such as `https://host/path`, or `tcp://host:port` for plain TCP; or a preset, such as `@pypi`, which is
    /// printed
    url: String,
    /// The method of the request
    #[arg(long, default_value = "GET")]
    method: String,
    /// The agent whose policy is used
    #[arg(long, default_value = "shell")]
    agent: String,
    #[command(flatten)]
    egress: EgressArgs,
    #[command(flatten)]
    project: ProjectArgs,
    /// The output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(in crate::cli) async fn main(args: &Args) -> Result<u8, Failure> {
    match &args.command {
        Command::Explain(args) => explain(args),
        Command::Learn { bottle } => {
            let chain = audit::chain(state()?.path(), bottle, 0)?;
            if let Some(line) = chain.broken_at {
                print_message(&format!("warning: the audit of {bottle} was changed at line {line}"));
            }
            print_data(&learn(bottle, chain.events()));
            Ok(0)
        }
        Command::Show(args) => change::show(args).await,
        Command::Allow(args) => change::allow(args).await,
        Command::Deny(args) => change::deny(args).await,
        Command::Limit(args) => change::limit(args).await,
        Command::Reload(args) => change::reload(args).await,
    }
}

/// Prints a preset: its file, with its sources.
fn print_preset(name: &str, format: Format) -> Result<u8, Failure> {
    let preset = Preset::named(name).map_err(|error| input(error.to_string()))?;
    if format == Format::Json {
        let entries: Vec<AllowSpec> = preset.entries().collect();
        print_json(&serde_json::json!({
            "preset": preset.name, "version": preset.version, "description": preset.description, "allow": entries
        }))?;
    } else {
        print_data(preset.text);
    }
    Ok(0)
}

fn explain(args: &ExplainArgs) -> Result<u8, Failure> {
    if is_preset(&args.url) {
        return print_preset(&args.url, args.format);
    }
    let defined = program::defined(&args.project, None, &state()?)?;
    let chosen = choose(&defined.catalogue, &args.agent, None).map_err(program::failure)?;
    let mut spec = args.egress.read(chosen.egress.clone())?.spec;
    let here = std::env::current_dir().and_then(|folder| folder.canonicalize());
    let here = here.map_err(|error| Failure::new(Class::Internal, format!("find the current directory: {error}")))?;
    spec.allow.extend(granted(chosen.grants_name(), &here)?.1);
    spec.add_template(&chosen.template.hosts);
    spec.host_services.extend(chosen.bottle.host_services.iter().cloned());
    let policy = spec.policy(BTreeMap::new()).map_err(|error| input(format!("egress: {error}")))?;
    let intent = intent(&args.url, &args.method);
    let preset = intent.as_ref().ok().and_then(|intent| spec.preset_of(intent));
    let (decision, reason) =
        match intent.as_ref().map_or_else(|reason| Err(reason.clone()), |intent| Ok(authorize(&policy, intent))) {
            Ok(Decision::Allow(_)) => ("allow", None),
            Ok(Decision::Audit(_, reason)) => ("audit", Some(reason)),
            Ok(Decision::Refuse(reason)) | Err(reason) => ("refuse", Some(reason)),
        };
    let (code, hint) = reason.as_ref().map_or(("allowed", "".into()), |reason| (reason.code(), reason.hint()));
    let hint = match reason.as_ref().and_then(|reason| policy.note(reason)) {
        Some(note) => format!("{note}; {hint}"),
        None => hint.into_owned(),
    };
    // What decided is a denial, if anything but the allowlist did.
    let preset = preset.filter(|_| decision == "allow");
    let sentence = reason.as_ref().map(ToString::to_string).unwrap_or_default();
    if args.format == Format::Json {
        print_json(
            &serde_json::json!({ "decision": decision, "code": code, "reason": sentence, "hint": hint, "preset": preset }),
        )?;
    } else if reason.is_none() {
        let by = preset.map(|preset| format!("by {preset}\n")).unwrap_or_default();
        print_data(&format!("allowed\n{by}"));
    } else {
        let word = if decision == "audit" { "allowed, because the mode is audit; otherwise" } else { "refused" };
        print_data(&format!("{word}: {code}\n{sentence}\nhint: {hint}\n"));
    }
    Ok(u8::from(decision == "refuse"))
}

/// The intent of a request for a URL, as egress would parse it.
fn intent(url: &str, method: &str) -> Result<Intent, Reason> {
    let uri: Uri = url.parse().map_err(|_| Reason::BadRequest("it is not a URL"))?;
    let (form, default) = match uri.scheme_str() {
        Some("https") => (Form::Inside, 443),
        Some("http") => (Form::Absolute, 80),
        Some("tcp") => (Form::Tcp, 0),
        _ => return Err(Reason::BadRequest("it is not an http://, https:// or tcp:// URL")),
    };
    let authority = uri.authority().ok_or(Reason::BadRequest("it names no host"))?;
    if authority.as_str().contains('@') {
        return Err(Reason::BadRequest("it contains user information"));
    }
    let host = Host::parse(authority.host())?;
    let path = match form {
        Form::Tcp => None,
        _ => Some(canonical(uri.path_and_query().map_or("/", hyper::http::uri::PathAndQuery::as_str))?),
    };
    let port = authority.port_u16().unwrap_or(default);
    Ok(Intent { form, method: method.to_owned(), host, port, path })
}
