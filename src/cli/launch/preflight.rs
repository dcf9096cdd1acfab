//! The summary of a launch, printed before it starts.

use std::collections::BTreeSet;
use std::io::IsTerminal;

use url::Url;

use super::agent::PreparedLaunch;
use super::{credentials, git};
use crate::cli::failure::input;
use crate::plan::{
    ImagePlan, Isolation, Keep, LaunchPlan, OnRequest, SupervisePlan, WorkspaceMode, WorkspacePlan, supervise_url,
};
use crate::policy::{AllowSpec, AllowTable, EgressSpec, HostService, PresetTag};
use crate::report::printable;
use crate::session::Failure;
use crate::workspace::{list, looks_secret, shown};

/// Names of a list that are shown before the rest is counted.
const SHOWN: usize = 3;

/// What the workspace's file names show.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub(in crate::cli) struct WorkspaceScan {
    /// How many there are.
    pub(in crate::cli) files: usize,
    /// Those whose names are such as files with secrets have.
    pub(in crate::cli) look_secret: Vec<String>,
    /// Folders that are not copied, and what they are.
    pub(in crate::cli) left_out: Vec<String>,
    /// Where the repository is, if that is outside of the folder: of a linked worktree, or a submodule.
    pub(in crate::cli) git_elsewhere: Option<String>,
}

/// Where `.git` of a folder leads, where it is a file (gitrepository-layout(5)).
fn elsewhere(folder: &std::path::Path) -> Option<String> {
    let file = folder.join(".git");
    let text = file.is_file().then(|| std::fs::read_to_string(file).ok())??;
    Some(text.strip_prefix("gitdir: ").unwrap_or(&text).trim().to_owned())
}

/// Looks at what would be copied or mounted.
///
/// # Errors
/// The folder cannot be read.
pub(in crate::cli) fn look(plan: &LaunchPlan) -> Result<Option<WorkspaceScan>, Failure> {
    let Some(WorkspacePlan { source: Some(source), exclude, mode, .. }) = &plan.workspace else { return Ok(None) };
    let failed = |error: std::io::Error| input(format!("read the workspace {}: {error}", source.display()));
    // A mount shows the whole folder: patterns leave nothing out.
    let exclude = if *mode == WorkspaceMode::Copy { exclude.as_slice() } else { &[] };
    let listing = list(source, exclude).map_err(failed)?;
    let secret = listing.paths.iter().filter(|path| looks_secret(&String::from_utf8_lossy(path)));
    let look_secret = secret.map(|path| shown(path)).collect();
    let left_out = listing.omitted.iter().map(|(path, what)| format!("{}, {what}", shown(path))).collect();
    Ok(Some(WorkspaceScan { files: listing.paths.len(), look_secret, left_out, git_elsewhere: elsewhere(source) }))
}

/// What becomes of the agent's requests.
fn requests(plan: &SupervisePlan) -> String {
    let what = match (plan.on_request, plan.deadline) {
        (OnRequest::Reject, _) => "rejected at once".to_owned(),
        (_, Some(seconds)) => format!("wait {seconds} s for `bottler requests`, then are rejected"),
        (_, None) => "wait for `bottler requests`".to_owned(),
    };
    let notify = plan.notify.first().map(|program| format!("; each runs {program} on this host")).unwrap_or_default();
    // The rest of the URL may be a key.
    let host = plan.webhook.as_ref().and_then(|url| Url::parse(url).ok()?.host_str().map(str::to_owned));
    let webhook = host.map(|host| format!("; {host} is told of each")).unwrap_or_default();
    format!("the agent can ask you for more, at {}; its requests {what}{notify}{webhook}", supervise_url())
}

/// The lines.
pub(in crate::cli) fn lines(
    ready: &PreparedLaunch,
    found: Option<&WorkspaceScan>,
    hooks: &[String],
    is_resumed: bool,
) -> Vec<String> {
    let (plan, chosen) = (&ready.planned.plan, &ready.chosen);
    let mut lines = Vec::new();
    let mut say = |name: &str, text: String| lines.push(printable(&format!("{name:<12}{text}")));
    let from = chosen.file.as_ref().map(|file| format!(", from {}", file.display())).unwrap_or_default();
    say("agent", format!("{} ({}){from}", plan.agent.name, chosen.template_name));
    let bottle = chosen.bottle_name.as_ref().map(|name| format!(", as {name}")).unwrap_or_default();
    say("bottle", format!("{}{bottle}", plan.bottle));
    say("image", image(&plan.image));
    let runtime = match (&plan.runtime, plan.gvisor) {
        (Some(name), true) => format!("{name}, with a kernel of its own"),
        (Some(name), false) => name.clone(),
        (None, _) => "the engine's own runtime".to_owned(),
    };
    let isolation = match (plan.isolation, plan.set_rp_filter) {
        (Isolation::Sealed, _) => "sealed: no network of its own",
        (Isolation::Bridge, false) => "bridge: a network with only its sidecars, proved from the engine's host",
        (Isolation::Bridge, true) => {
            "bridge: a network with only its sidecars, proved; a container SETS ITS FILTER on the engine's host"
        }
    };
    say("isolation", format!("{isolation}; {runtime}"));
    let bounds = &plan.agent.resources;
    let (memory, pids) = (bounds.memory >> 20, bounds.pids);
    let enforced =
        if plan.best_effort_bounds { "; NOT ENFORCED where this host has no control groups for it" } else { "" };
    let bounds = format!("{} processors, {memory} MiB, {pids} processes{enforced}", bounds.cpus);
    say("runs as", format!("{}, {bounds}", plan.agent.user));
    let env: Vec<&String> = plan.agent.env.keys().collect();
    if !env.is_empty() {
        say("env", some(&env));
    }
    if !plan.agent.secret_env.is_empty() {
        let names: Vec<String> = plan
            .agent
            .secret_env
            .iter()
            .map(|name| {
                let asked = if ready.planned.ask.contains_key(name) { " (asked for)" } else { "" };
                format!("{name}{asked}")
            })
            .collect();
        say("secrets", format!("only for the agent: {}", names.join(", ")));
    }
    for (label, line) in egress(&plan.egress) {
        say(label, line);
    }
    if !ready.granted.is_empty() {
        let hosts: Vec<&str> = ready.granted.iter().map(AllowSpec::host).collect();
        say("", format!("saved grants: {}, from `grants/{}.yaml`", some(&hosts), ready.grants.name));
    }
    for (label, line) in uninspected(plan).into_iter().chain(reached(plan)) {
        say(label, line);
    }
    let behind = inspected(plan).into_iter().chain(credentials::lines(&ready.planned)).chain(git::lines(plan));
    for (label, line) in behind {
        say(label, line);
    }
    plan.supervise.iter().for_each(|plan| say("requests", requests(plan)));
    if let Some((why, remedy)) = credentials::no_key(&ready.planned.unset, &chosen.template_name, chosen.file.is_some())
    {
        say("NO KEY", why);
        say("", remedy);
    }
    if let Some(workspace) = &plan.workspace {
        say("workspace", self::workspace(workspace, found, is_resumed));
        if let Some(found) = found.filter(|found| !found.look_secret.is_empty()) {
            let names: Vec<&String> = found.look_secret.iter().collect();
            let remedy = match workspace.mode {
                WorkspaceMode::Copy => "leave files out with `exclude`",
                _ => "the agent can read them; a copy can leave files out",
            };
            say("", format!("may contain secrets: {}; {remedy}", some(&names)));
        }
        if workspace.mode == WorkspaceMode::Mount && !workspace.exclude.is_empty() {
            say("", format!("`exclude` HAS NO EFFECT on a mount: {}", some(&workspace.exclude)));
        }
        if let Some(found) = found.filter(|found| !found.left_out.is_empty() && workspace.mode == WorkspaceMode::Copy) {
            let names: Vec<&String> = found.left_out.iter().collect();
            say("", format!("NOT COPIED: {}", some(&names)));
        }
        if let (Some(place), WorkspaceMode::Mount) =
            (found.and_then(|found| found.git_elsewhere.as_ref()), workspace.mode)
        {
            say("", format!("git WILL NOT WORK in it: its repository, {place}, is not mounted; a copy has its own"));
        }
        if workspace.mode == WorkspaceMode::Copy {
            let keep = match plan.keep {
                Keep::Never => "never: work that is not pulled is lost with the bottle",
                Keep::OnFailure => "the workspace and the agent's home, if the agent fails or is interrupted",
                Keep::Always => "the workspace and the agent's home, if something in the workspace has changed",
            };
            say("keep", keep.to_owned());
        }
    }
    lines.extend(hooks.iter().map(|hook| printable(hook)));
    lines
}

/// What Pipelock inspects, if it does.
fn inspected(plan: &LaunchPlan) -> Vec<(&'static str, String)> {
    let Some(image) = &plan.egress.image else { return Vec::new() };
    let by = format!("by Pipelock, too, from the image {image}, which sees every request that it inspects");
    let past = unread(plan).map(|what| ("", format!("NOT by Pipelock, but by bottler: {what}")));
    [("inspected", by)].into_iter().chain(past).collect()
}

/// What does not pass Pipelock, which refuses every credential in a header.
fn unread(plan: &LaunchPlan) -> Option<String> {
    let off = plan.egress.allow.iter().filter(|entry| entry.is_unread() && !entry.is_tunnel()).map(AllowSpec::host);
    let hosts: BTreeSet<&str> = off.chain(plan.credential_hosts()).collect();
    let hosts: Vec<&str> = hosts.into_iter().collect();
    let sidecars = [plan.cred_proxy.as_ref().map(|_| "the routes of cred_proxy"), plan.git.as_ref().map(|_| "git")];
    let tcp = (!plan.egress.tcp.is_empty()).then_some("plain TCP");
    let services = (!plan.egress.host_services.is_empty()).then_some("services of this host");
    let what: Vec<String> = (!hosts.is_empty())
        .then(|| some(&hosts))
        .into_iter()
        .chain(sidecars.into_iter().flatten().chain(tcp).chain(services).map(str::to_owned))
        .collect();
    (!what.is_empty()).then(|| what.join(", "))
}

/// Hosts towards which requests are not scanned and refused like others.
fn uninspected(plan: &LaunchPlan) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let masked = plan.egress.masked_hosts();
    if !masked.is_empty() {
        lines.push(("masking", format!("secrets in plain text are masked towards {}", some(&masked))));
    }
    let tunnels: Vec<&str> = plan.egress.allow.iter().filter(|entry| entry.is_tunnel()).map(AllowSpec::host).collect();
    if !tunnels.is_empty() {
        lines.push(("tunnels", format!("{}: content is not inspected", tunnels.join(", "))));
    }
    lines
}

/// Destinations of plain TCP, and services of this machine.
fn reached(plan: &LaunchPlan) -> Vec<(&'static str, String)> {
    let tcp = (!plan.egress.tcp.is_empty()).then(|| ("tcp", plan.egress.tcp.join(", ")));
    let services: Vec<String> = plan.egress.host_services.iter().map(HostService::authority).collect();
    let services =
        (!services.is_empty()).then(|| ("this host", format!("{} on its loopback interface", services.join(", "))));
    tcp.into_iter().chain(services).collect()
}

/// What the agent may reach.
fn egress(policy: &EgressSpec) -> Vec<(&'static str, String)> {
    let hosts = policy.allow.iter().filter(|entry| entry.preset().is_none());
    let hosts: Vec<&str> = hosts.map(AllowSpec::host).collect();
    let presets = presets(&policy.allow);
    let counted = if presets.is_empty() { String::new() } else { format!("; {}", count(presets.len(), "preset")) };
    let enforced = if policy.mode == crate::policy::Mode::Audit { "; NOT ENFORCED" } else { "" };
    let line = format!("{}{}{counted}{enforced}", count(hosts.len(), "host"), some_after(&hosts));
    std::iter::once(("egress", line)).chain(presets.into_iter().map(|preset| ("preset", preset))).collect()
}

/// The presets of an allowlist, each with what it allows at which hosts.
fn presets(allow: &[AllowSpec]) -> Vec<String> {
    let mut found: Vec<(&PresetTag, Vec<&AllowTable>)> = Vec::new();
    for entry in allow {
        let AllowSpec::Table(table @ AllowTable { preset: Some(preset), .. }) = entry else { continue };
        match found.iter_mut().find(|(known, _)| *known == preset) {
            Some((_, entries)) => entries.push(table),
            None => found.push((preset, vec![table])),
        }
    }
    let line = |(preset, entries): (&PresetTag, Vec<&AllowTable>)| {
        let mut by_methods: Vec<(&[String], Vec<&str>)> = Vec::new();
        for entry in entries {
            let host = entry.host.trim_end_matches(":443");
            match by_methods.iter_mut().find(|(methods, _)| *methods == entry.methods) {
                Some((_, hosts)) => hosts.push(host),
                None => by_methods.push((&entry.methods, vec![host])),
            }
        }
        let parts = by_methods.iter().map(|(methods, hosts)| format!("{} at {}", methods.join(", "), hosts.join(", ")));
        format!("{preset}: {}", parts.collect::<Vec<_>>().join("; "))
    };
    found.into_iter().map(line).collect()
}

fn image(plan: &ImagePlan) -> String {
    let Some(build) = &plan.build else {
        let source = if plan.source == "self" { "built from this executable" } else { &plan.source };
        return format!("{source}{}", if plan.pull { ", pulled again" } else { "" });
    };
    let place = match (&build.context, &build.dockerfile_inline) {
        (Some(context), _) => context.display().to_string(),
        (None, _) => "a Dockerfile of the template or manifest".to_owned(),
    };
    let network = match build.network {
        crate::plan::BuildNetwork::None => "without a network",
        crate::plan::BuildNetwork::Default => "with the engine's network, which bypasses egress",
    };
    format!("built from {place}, {network}")
}

fn workspace(plan: &WorkspacePlan, found: Option<&WorkspaceScan>, is_resumed: bool) -> String {
    let source = plan.source.as_ref().map(|source| source.display().to_string()).unwrap_or_default();
    let files = found.map(|found| format!(", {}", count(found.files, "file"))).unwrap_or_default();
    match (plan.mode, plan.read_only) {
        (WorkspaceMode::Mount, true) => format!("{source} itself, read-only, at {}{files}", plan.path),
        (WorkspaceMode::Mount, false) => {
            format!(
                "{source} ITSELF, writable, at {}{files}; .git, .envrc, .vscode and similar are read-only",
                plan.path
            )
        }
        _ if is_resumed => format!("as the agent left it, at {}; it began as a copy of {source}", plan.path),
        _ => format!("a copy of {source} at {}{files}", plan.path),
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// `: a, b, c and 9 more`.
fn some_after(names: &[&str]) -> String {
    if names.is_empty() { String::new() } else { format!(": {}", some(names)) }
}

fn some<T: std::fmt::Display>(names: &[T]) -> String {
    let shown: Vec<String> = names.iter().take(SHOWN).map(ToString::to_string).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Whether the launch gives the agent anything of the user, so that the user must confirm it.
pub(in crate::cli) fn is_worth_asking(plan: &LaunchPlan) -> bool {
    let anything = plan.workspace.is_some()
        || !plan.agent.secret_env.is_empty()
        || !plan.credentials.is_empty()
        || !plan.egress.allow.is_empty()
        || !plan.egress.tcp.is_empty()
        || !plan.egress.host_services.is_empty();
    anything && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}
