//! `bottler policy show|allow|deny|reload`: asks the holder of a running bottle, which owns the policy.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::cli::bottle::find::FoundBottle;
use crate::cli::failure::input;
use crate::cli::print::{Format, print_json, print_message};
use crate::credential::{Limits, WrittenLimits};
use crate::holder::ask_policy;
use crate::manifest::{EgressSection, SavedGrant, add_grants, grants_file, read_grants};
use crate::policy::{
    AllowSpec, AllowTable, Change, DenySpec, DenyTable, LivePolicy, Preset, Scope, expanded, is_preset,
};
use crate::session::{Class, Failure};

/// What `policy show` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct ShowArgs {
    /// The bottle's id
    bottle: String,
}

/// What is allowed or denied, where, and for how long.
#[derive(clap::Args)]
struct EntryArgs {
    /// The bottle's id
    bottle: String,
    /// Hosts: `host`, `*.host`, or either with a port; to allow, also presets such as `@pypi`
    #[arg(required = true)]
    hosts: Vec<String>,
    /// Only requests with this method; may be repeated
    #[arg(long = "method", value_name = "METHOD")]
    methods: Vec<String>,
    /// Only this path, which may contain `*` and `**`; may be repeated
    #[arg(long = "path", value_name = "PATH")]
    paths: Vec<String>,
    /// For a limited time, such as `10m` [default: until the bottle ends]
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    time: Option<Duration>,
    /// The output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

impl EntryArgs {
    /// Which requests it is about, for a message; nothing if it is about all.
    fn requests(&self) -> String {
        let all: Vec<&str> = self.methods.iter().chain(&self.paths).map(String::as_str).collect();
        if all.is_empty() { String::new() } else { format!(" ({})", all.join(" ")) }
    }
}

/// What `policy allow` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct AllowArgs {
    #[command(flatten)]
    entry: EntryArgs,
    /// For one request only
    #[arg(long, conflicts_with = "time")]
    once: bool,
    /// Also for later launches of this bottle in the same folder
    #[arg(long, conflicts_with_all = ["time", "once"])]
    save: bool,
}

/// What `policy deny` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct DenyArgs {
    #[command(flatten)]
    entry: EntryArgs,
    /// Remove such a denial; what else allows or denies the host stays
    #[arg(long, conflicts_with = "time")]
    undo: bool,
}

/// What `policy limit` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct LimitArgs {
    /// The bottle's id
    bottle: String,
    /// The credential [default: all of the bottle together]
    credential: Option<String>,
    #[command(flatten)]
    limits: LimitOptions,
    /// The output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// The limits that are set; the others stay.
#[derive(clap::Args)]
#[group(required = true, multiple = true)]
struct LimitOptions {
    /// Most requests as long as the bottle lives, with those so far
    #[arg(long, value_name = "N")]
    total: Option<u64>,
    /// Most requests in any period of the length --per
    #[arg(long, value_name = "N", requires = "per")]
    requests: Option<u64>,
    /// The length of the period, such as `1m` or `1h`
    #[arg(long, value_name = "TIME", requires = "requests")]
    per: Option<String>,
    /// Most requests at the same time
    #[arg(long, value_name = "N")]
    concurrent: Option<u64>,
    /// Remove all limits
    #[arg(long, conflicts_with_all = ["total", "requests", "per", "concurrent"])]
    none: bool,
}

/// What `policy reload` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct ReloadArgs {
    /// The bottle's id
    bottle: String,
    /// A file with an `egress` section, which replaces the policy that the bottle was launched with
    #[arg(long, value_name = "FILE")]
    egress: PathBuf,
}

pub(in crate::cli) async fn show(args: &ShowArgs) -> Result<u8, Failure> {
    let policy = ask(&args.bottle, None).await?;
    print_json(&shown(&policy))?;
    Ok(0)
}

pub(in crate::cli) async fn allow(args: &AllowArgs) -> Result<u8, Failure> {
    let what = &args.entry;
    let entry = |host: &String| match (&what.methods[..], &what.paths[..]) {
        ([], []) => AllowSpec::Host(host.clone()),
        (methods, paths) => AllowSpec::Table(AllowTable {
            host: host.clone(),
            methods: methods.to_vec(),
            paths: paths.to_vec(),
            ..AllowTable::default()
        }),
    };
    if let Some(preset) = what.hosts.iter().find(|host| is_preset(host)) {
        check_preset(preset, args)?;
    }
    let written: Vec<AllowSpec> = what.hosts.iter().map(entry).collect();
    let entries = expanded(written.iter().cloned()).map_err(|error| input(error.to_string()))?;
    let scope = match (what.time, args.once, args.save) {
        (Some(time), ..) => Scope::Until(until(time)?),
        (_, true, _) => Scope::Once,
        (_, _, true) => Scope::Always,
        _ => Scope::Bottle,
    };
    let saved = if args.save { Some(place(&what.bottle)?) } else { None };
    let policy = ask(&what.bottle, Some(Change::Allow { entries, scope })).await?;
    let holds = match (scope, &saved) {
        (Scope::Once, _) => "for one request".to_owned(),
        (Scope::Until(_), _) => format!("for {}", humantime::format_duration(what.time.unwrap_or_default())),
        (_, Some((path, folder))) => {
            save(path, folder, &written)?;
            format!("for this bottle and later launches in {}; saved in {}", folder.display(), path.display())
        }
        _ => "until the bottle ends".to_owned(),
    };
    let named = |host: &String| match Preset::named(host) {
        Ok(preset) => format!("{host} (version {})", preset.version),
        Err(_) => host.clone(),
    };
    let hosts: Vec<String> = what.hosts.iter().map(named).collect();
    let hosts = format!("{}{}", hosts.join(", "), what.requests());
    told(what.format, &policy, &format!("{} may reach {hosts} {holds}", what.bottle))
}

/// Refuses options that do not go with a preset.
fn check_preset(name: &str, args: &AllowArgs) -> Result<(), Failure> {
    let preset = Preset::named(name).map_err(|error| input(error.to_string()))?;
    let hint = format!("`bottler policy explain {}` prints its entries", preset.name);
    if args.once {
        return Err(input(format!("{name} --once: clients of a preset send more than one request"))
            .hint("`--for 10m`, or --once for a single host"));
    }
    if !args.entry.methods.is_empty() || !args.entry.paths.is_empty() {
        return Err(input(format!("{name} has methods and paths of its own: leave out --method and --path")).hint(hint));
    }
    Ok(())
}

pub(in crate::cli) async fn deny(args: &DenyArgs) -> Result<u8, Failure> {
    let what = &args.entry;
    if let Some(name) = what.hosts.iter().find(|host| is_preset(host)) {
        let preset = Preset::named(name).map_err(|error| input(error.to_string()))?;
        let hosts: Vec<String> =
            preset.entries().map(|entry| entry.host().trim_end_matches(":443").to_owned()).collect();
        let hosts: Vec<&String> =
            hosts.iter().enumerate().filter(|(at, host)| !hosts[..*at].contains(host)).map(|(_, host)| host).collect();
        let hosts = hosts.iter().map(|host| host.as_str()).collect::<Vec<_>>().join(" ");
        return Err(input(format!("deny {name}: a preset lists what is allowed; deny its hosts"))
            .hint(format!("bottler policy deny {} {hosts}", what.bottle)));
    }
    let entry = |host: &String| match (&what.methods[..], &what.paths[..]) {
        ([], []) => DenySpec::Host(host.clone()),
        (methods, paths) => {
            DenySpec::Table(DenyTable { host: host.clone(), methods: methods.to_vec(), paths: paths.to_vec() })
        }
    };
    let entries = what.hosts.iter().map(entry).collect();
    if args.undo {
        let policy = ask(&what.bottle, Some(Change::Lift { entries })).await?;
        return told(
            what.format,
            &policy,
            &format!("{}: {} is not denied any more", what.bottle, what.hosts.join(", ")),
        );
    }
    let until = what.time.map(until).transpose()?;
    let policy = ask(&what.bottle, Some(Change::Deny { entries, until })).await?;
    let holds =
        what.time.map_or_else(|| "any more".to_owned(), |time| format!("for {}", humantime::format_duration(time)));
    if let Ok((path, folder)) = place(&what.bottle)
        && let Ok(saved) = read_grants(&path)
        && saved.iter().any(|one| one.folder == folder && what.hosts.iter().any(|host| grants(one, host)))
    {
        print_message(&format!("later launches may still reach it: remove the entry from {}", path.display()));
    }
    let hosts = format!("{}{}", what.hosts.join(", "), what.requests());
    told(what.format, &policy, &format!("{} may not reach {hosts} {holds}", what.bottle))
}

pub(in crate::cli) async fn limit(args: &LimitArgs) -> Result<u8, Failure> {
    let LimitOptions { total, requests, ref per, concurrent, none } = args.limits;
    let written = WrittenLimits { total, requests, per: per.clone(), concurrent };
    let limits = if none { None } else { Some(Limits::try_from(written).map_err(|error| input(error.to_string()))?) };
    let change = Change::Limit { credential: args.credential.clone(), limits };
    let policy = ask(&args.bottle, Some(change)).await?;
    let whose = args.credential.as_deref().unwrap_or("all credentials together");
    let now = match policy.limits.of(args.credential.as_deref()) {
        Some(limits) => limits.to_string(),
        None => "any number".to_owned(),
    };
    told(args.format, &policy, &format!("requests of {} with {whose}: {now}", args.bottle))
}

pub(in crate::cli) async fn reload(args: &ReloadArgs) -> Result<u8, Failure> {
    let read = EgressSection::read(&args.egress).map_err(input)?;
    let policy = ask(&args.bottle, Some(Change::Reload(Box::new(read.spec)))).await?;
    print_json(&shown(&policy))?;
    Ok(0)
}

/// Whether a saved grant is for a host, by itself or by its preset.
fn grants(saved: &SavedGrant, host: &str) -> bool {
    let entries = saved.entries().unwrap_or_default();
    entries.iter().any(|entry| entry.host().trim_end_matches(":443") == host.trim_end_matches(":443"))
}

async fn ask(bottle: &str, change: Option<Change>) -> Result<LivePolicy, Failure> {
    let known = FoundBottle::find(bottle)?;
    if !known.state.is_alive(bottle) {
        return Err(input(format!("{bottle} is not running")).hint("`bottler ps` lists running bottles"));
    }
    ask_policy(bottle, &known.state.bottle(bottle), change).await
}

fn shown(policy: &LivePolicy) -> serde_json::Value {
    serde_json::json!({
        "generation": policy.generation,
        "egress": policy.effective(),
        "grants": policy.grants,
        "denials": policy.denials,
        "limits": policy.limits,
    })
}

fn told(format: Format, policy: &LivePolicy, text: &str) -> Result<u8, Failure> {
    match format {
        Format::Json => print_json(&shown(policy))?,
        Format::Text => print_message(&format!("{text} (policy {})", policy.generation)),
    }
    Ok(0)
}

/// A time from now, in seconds since the epoch.
fn until(time: Duration) -> Result<u64, Failure> {
    let at = SystemTime::now().checked_add(time).and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    match at.map(|at| at.as_secs()).filter(|_| time.as_secs() > 0) {
        Some(at) => Ok(at),
        None => {
            Err(input("--for: the time must be at least a second, and must end").hint("a time such as 90s, 10m or 2h"))
        }
    }
}

/// The file of a bottle's saved grants, and the folder that they apply to.
pub(in crate::cli) fn place(bottle: &str) -> Result<(PathBuf, PathBuf), Failure> {
    let known = FoundBottle::find(bottle)?;
    let named = known.record.invocation.and_then(|invocation| invocation.grants);
    let named =
        named.ok_or_else(|| input(format!("save a grant of {bottle}: its record does not say how it was launched")))?;
    let path = grants_file(&named.name).map_err(input)?;
    // If the file cannot be read, it is not overwritten and nothing is granted.
    read_grants(&path).map_err(input)?;
    Ok((path, named.folder))
}

pub(in crate::cli) fn save(
    path: &std::path::Path,
    folder: &std::path::Path,
    entries: &[AllowSpec],
) -> Result<(), Failure> {
    let failed = |why: String| {
        Failure::new(Class::Operation, format!("save the grant in {}: {why}", path.display()))
            .hint("the grant is active until the bottle ends")
    };
    let parent = path.parent().unwrap_or(path);
    crate::host::make_private(parent).map_err(|error| failed(error.to_string()))?;
    let _lock = crate::host::wait_exclusive(&parent.join(".lock")).map_err(|error| failed(error.to_string()))?;
    let before = read_grants(path).map_err(&failed)?;
    let text = add_grants(&before, folder, entries).map_err(&failed)?;
    crate::host::replace(path, text.as_bytes()).map_err(|error| failed(error.to_string()))
}
