//! `bottler policy`: what egress would decide, by the very code that decides it.

use hyper::Uri;

use super::program::input;
use super::{Format, print_data, print_json};
use crate::plan::AgentTemplate;
use crate::policy::{Allow, AllowSpec, Decision, Form, Host, Intent, Policy, Reason, authorize, canonical};
use crate::session::{Class, Failure};

/// What `policy` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Tell whether a request may leave, and why; 0 if it may, 1 if not. Nothing is resolved and nothing is sent
    Explain(ExplainArgs),
}

#[derive(clap::Args)]
struct ExplainArgs {
    /// What is asked for, as in `https://host/path`
    url: String,
    /// With which method
    #[arg(long, default_value = "GET")]
    method: String,
    /// The agent whose own hosts are allowed
    #[arg(long, default_value = "shell")]
    agent: String,
    /// As of `run`; may be repeated
    #[arg(long, value_name = "HOST")]
    allow: Vec<String>,
    /// As of `run`; may be repeated
    #[arg(long, value_name = "CIDR")]
    allow_ip: Vec<ipnet::IpNet>,
    /// How to print
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn main(args: &Args) -> Result<u8, Failure> {
    let Command::Explain(args) = &args.command;
    explain(args)
}

fn explain(args: &ExplainArgs) -> Result<u8, Failure> {
    let policy = policy(args)?;
    let decided = intent(&args.url, &args.method).and_then(|intent| match authorize(&policy, &intent) {
        Decision::Allow(_) => Ok(()),
        Decision::Refuse(reason) => Err(reason),
    });
    let (decision, code, reason, hint) = match &decided {
        Ok(()) => ("allow", "allowed", String::new(), ""),
        Err(reason) => ("refuse", reason.code(), reason.to_string(), reason.hint()),
    };
    if args.format == Format::Json {
        print_json(&serde_json::json!({ "decision": decision, "code": code, "reason": reason, "hint": hint }))?;
    } else if reason.is_empty() {
        print_data("allowed\n");
    } else {
        print_data(&format!("refused: {code}\n{reason}\nhint: {hint}\n"));
    }
    Ok(u8::from(decided.is_err()))
}

fn policy(args: &ExplainArgs) -> Result<Policy, Failure> {
    let template = AgentTemplate::built_in(&args.agent).map_err(|error| input(error.to_string()))?;
    let hosts = template.hosts.into_iter().chain(args.allow.clone());
    let entries: Result<Vec<Allow>, _> = hosts.map(|host| AllowSpec::Host(host).read()).collect();
    let allow = entries.map_err(|error| Failure::new(Class::Input, format!("--allow {error}")))?;
    Ok(Policy { allow, ip_allow: args.allow_ip.clone(), ..Policy::default() })
}

/// What a request for a URL wants, as egress would read it inside TLS, or in absolute form without.
fn intent(url: &str, method: &str) -> Result<Intent, Reason> {
    let uri: Uri = url.parse().map_err(|_| Reason::BadRequest("it is no URL"))?;
    let (form, default) = match uri.scheme_str() {
        Some("https") => (Form::Inside, 443),
        Some("http") => (Form::Absolute, 80),
        _ => return Err(Reason::BadRequest("it is no http:// or https:// URL")),
    };
    let authority = uri.authority().ok_or(Reason::BadRequest("it names no host"))?;
    if authority.as_str().contains('@') {
        return Err(Reason::BadRequest("it holds user information"));
    }
    let host = Host::parse(authority.host())?;
    let path = canonical(uri.path_and_query().map_or("/", hyper::http::uri::PathAndQuery::as_str))?;
    let port = authority.port_u16().unwrap_or(default);
    Ok(Intent { form, method: method.to_owned(), host, port, path: Some(path) })
}
