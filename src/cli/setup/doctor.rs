//! `bottler doctor`: checks everything that a bottle needs, on this host and on the engine's, and says how to fix problems. Its
//! output names no files, hosts or bottles of the user, so it can be shared.

use std::borrow::Cow;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cli::open::{find_engine, state};
use crate::cli::print::{Format, print_data, print_json};
use crate::engine::choice::{connect, is_local};
use crate::engine::docker::endpoint::Endpoint;
use crate::engine::{Engine, EngineDetails, EngineInfo, Product, native};
use crate::plan::{Isolation, probe as probe_plan, settle};
use crate::primitive::{FreeRanges, free_ranges};
use crate::report::table;
use crate::session::gc::collect;
use crate::session::{Failure, StateDir};

/// Resources of a bottle without its agent, measured with the built-in probe: bytes of memory, processes and threads, file
/// descriptors of this host.
const BOTTLE_MEMORY: u64 = 96 << 20;
const BOTTLE_TASKS: u64 = 60;
const BOTTLE_DESCRIPTORS: u64 = 200;
/// Size of cached images that causes a warning, in bytes.
const CACHE: i64 = 4 << 30;
/// How far the engine's clock may be from this one.
const SKEW: Duration = Duration::from_secs(5);
/// How long the probe's bottle may take.
const PROBE: Duration = Duration::from_mins(3);

/// What `doctor` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Remove what dead bottles left behind
    #[arg(long)]
    fix: bool,
    /// Check that there is room for this many bottles at a time
    #[arg(long, value_name = "N", default_value_t = 10)]
    bottles: u64,
    /// The output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum CheckState {
    Ok,
    Warn,
    Fail,
}

/// A check.
#[derive(Debug, Clone, Serialize)]
struct Check {
    #[serde(rename = "check")]
    what: Cow<'static, str>,
    state: CheckState,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Check {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { what: check.into(), state: CheckState::Ok, found: found.into(), remedy: None }
    }

    fn warn(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: check.into(), state: CheckState::Warn, found: found.into(), remedy: Some(remedy.into()) }
    }

    fn fail(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: check.into(), state: CheckState::Fail, found: found.into(), remedy: Some(remedy.into()) }
    }
}

pub(in crate::cli) async fn main(args: &Args) -> Result<u8, Failure> {
    let mut checks = Vec::new();
    match reach(&mut checks).await {
        Some((endpoint, engine, info)) => {
            let local = is_local(&endpoint);
            match engine.details().await {
                Ok(details) => checks.extend(of_engine(&info, &details, local, args.bottles)),
                Err(error) => checks.push(Check::fail("engine, details", error.message, "see the engine's log")),
            }
            if endpoint.starts_with(native::SCHEME) {
                checks.extend(of_kernel(&endpoint).await);
            }
            checks.push(pools(&engine, local, args.bottles).await);
            if local {
                checks.extend(of_host(args.bottles));
            }
            match state() {
                Ok(state) => checks.push(leftovers(&endpoint, &engine, &state, args.fix).await),
                Err(failure) => {
                    let remedy = failure.hint.unwrap_or_default();
                    checks.push(Check::fail("state directory", failure.message, remedy));
                }
            }
            checks.push(cache(&engine).await);
            checks.push(probe().await);
        }
        None => checks.push(Check::warn("isolation", "not tried: there is no engine", "see above")),
    }
    if args.format == Format::Json {
        print_json(&serde_json::json!({ "version": 1, "bottler": env!("CARGO_PKG_VERSION"), "checks": checks }))?;
    } else {
        print(&checks);
    }
    Ok(u8::from(checks.iter().any(|check| check.state == CheckState::Fail)))
}

fn print(checks: &[Check]) {
    let row = |check: &Check| {
        let state = match check.state {
            CheckState::Ok => "ok",
            CheckState::Warn => "warn",
            CheckState::Fail => "FAIL",
        };
        vec![state.to_owned(), check.what.clone().into_owned(), check.found.clone()]
    };
    let rows: Vec<Vec<String>> = checks.iter().map(row).collect();
    print_data(&table(&["", "what", "found"], &rows));
    for check in checks {
        if let Some(remedy) = &check.remedy {
            print_data(&format!("\n{}: {remedy}", check.what));
        }
    }
    if checks.iter().any(|check| check.remedy.is_some()) {
        print_data("\n");
    }
}

/// Connects to the engine. Reports the kind of connection, not the address.
async fn reach(checks: &mut Vec<Check>) -> Option<(String, Arc<dyn Engine>, EngineInfo)> {
    let remedy = "start Docker Engine, or point DOCKER_HOST or a context at a running one";
    if let Ok(text) = find_engine()
        && text.starts_with(native::SCHEME)
    {
        return reach_at(checks, text, "containers by the kernel alone, without a daemon", remedy).await;
    }
    let (text, way) = match find_engine().map(|text| (text.parse::<Endpoint>(), text)) {
        Ok((Ok(Endpoint::Unix(_)), text)) => (text, "through a local socket"),
        Ok((Ok(Endpoint::Tls { .. }), text)) => (text, "over TLS"),
        Ok((Ok(Endpoint::Ssh(_)), text)) => (text, "over ssh"),
        Ok((Ok(Endpoint::Tcp(_)), text)) => {
            let found = "over TCP without TLS";
            checks.push(Check::warn(
                "engine's address",
                found,
                "whoever can send to that port is root there: use TLS or ssh",
            ));
            (text, found)
        }
        Ok((Err(_), _)) | Err(_) => {
            checks.push(Check::fail("engine", "its address has an unknown form", remedy));
            return None;
        }
    };
    reach_at(checks, text, way, remedy).await
}

async fn reach_at(
    checks: &mut Vec<Check>,
    text: String,
    way: &str,
    remedy: &str,
) -> Option<(String, Arc<dyn Engine>, EngineInfo)> {
    let began = Instant::now();
    let asked = async {
        let engine: Arc<dyn Engine> = connect(&text)?;
        let info = engine.info().await?;
        Ok::<_, crate::engine::EngineError>((engine, info))
    };
    match asked.await {
        Ok((engine, info)) => {
            let (version, api, took) = (&info.version, &info.api, began.elapsed().as_millis());
            checks.push(Check::ok("engine", format!("{version}, API {api}, {way}, answers in {took} ms")));
            Some((text, engine, info))
        }
        Err(error) => {
            checks.push(Check::fail("engine", format!("{way}: it does not answer: {error}"), remedy));
            None
        }
    }
}

/// Checks the engine's details.
fn of_engine(info: &EngineInfo, engine: &EngineDetails, local: bool, bottles: u64) -> Vec<Check> {
    let mut checks = Vec::new();
    let make = match engine.product {
        Product::Docker => "Docker",
        Product::Podman => "Podman",
        Product::Native => "native",
    };
    let arch = std::env::consts::ARCH;
    let own = if arch == "x86_64" {
        "amd64"
    } else if arch == "aarch64" {
        "arm64"
    } else {
        arch
    };
    let system =
        format!("{make} on {}, {}, {}, {} processors", engine.system, engine.kernel, info.arch, engine.processors);
    checks.push(if info.arch == own {
        Check::ok("engine's host", system)
    } else {
        Check::fail("engine's host", system, format!("this executable is for {own}: build bottler for {}", info.arch))
    });
    checks.push(Check::ok("rootless", if engine.rootless { "yes" } else { "no: the engine runs as root on its host" }));
    checks.push(match engine.storage.as_str() {
        "vfs" => Check::warn("storage", "vfs", "it copies every image for every container: use overlay2"),
        storage => Check::ok("storage", storage),
    });
    checks.push(if engine.seccomp || engine.product == Product::Podman {
        Check::ok("seccomp", "available")
    } else {
        Check::fail("seccomp", "the engine cannot filter system calls", "use a kernel and an engine with seccomp")
    });
    checks.push(runtimes(engine));
    let (need, have) = (bottles * BOTTLE_MEMORY, u64::try_from(engine.memory).unwrap_or_default());
    let memory = format!("{} MiB; {bottles} bottles without their agents take {}", have >> 20, need >> 20);
    checks.push(if have > need {
        Check::ok("memory", memory)
    } else {
        Check::warn("memory", memory, "run fewer bottles at a time")
    });
    checks.push(clock(&engine.time, SystemTime::now(), local));
    checks
}

fn runtimes(engine: &EngineDetails) -> Check {
    let names: Vec<&str> =
        engine.runtimes.keys().map(String::as_str).filter(|name| !name.starts_with("io.containerd.")).collect();
    let listed = if names.is_empty() { engine.default_runtime.clone() } else { names.join(", ") };
    let mut plan = probe_plan("doctor-00000");
    if let Err((why, remedy)) = settle(&mut plan, engine) {
        return Check::fail("runtimes", why, remedy);
    }
    let taken = plan.runtime.as_deref().unwrap_or(&engine.default_runtime);
    let found = format!("{listed}; `auto` takes {taken}");
    if plan.gvisor && plan.isolation == Isolation::Bridge {
        let remedy = "its containers cannot be sealed: add --host-uds=open to runsc's runtimeArgs, or `runtime: runc`";
        return Check::warn("runtimes", found, remedy);
    }
    Check::ok("runtimes", found)
}

/// Compares the clocks, because certificates have validity times.
fn clock(engine: &str, now: SystemTime, local: bool) -> Check {
    let Ok(theirs) = OffsetDateTime::parse(engine, &Rfc3339) else {
        return Check::warn("clock", "the engine does not report its time", "set the clocks of both hosts");
    };
    let ours = OffsetDateTime::from(now);
    let apart = (theirs - ours).abs();
    let seconds = apart.whole_seconds();
    if apart <= SKEW || local {
        let year = ours.year();
        return if year < 2025 {
            Check::fail("clock", format!("it is the year {year}"), "set the clock: no certificate will be valid")
        } else {
            Check::ok("clock", format!("the engine's is {seconds} s from this one"))
        };
    }
    let found = format!("the engine's is {seconds} s from this one");
    Check::warn("clock", found, "set both clocks: a bottle's certificates are valid for a limited time")
}

async fn pools(engine: &Arc<dyn Engine>, local: bool, bottles: u64) -> Check {
    match free_ranges(engine.as_ref(), local).await {
        Ok(FreeRanges { free, all }) => {
            let found = format!("{free} of {all} address ranges are clear of networks and routes");
            // Sealed, a bottle has one network; on a network of its own two, and the probe one more.
            if u64::from(free) >= bottles * 3 {
                Check::ok("address pools", found)
            } else {
                Check::fail("address pools", found, "name others in BOTTLER_POOLS, as CIDR separated by commas")
            }
        }
        Err(failure) => Check::fail("address pools", failure.message, failure.hint.unwrap_or_default()),
    }
}

/// What the native engine needs of the kernel, tried.
async fn of_kernel(endpoint: &str) -> Vec<Check> {
    let trials = match native::trial::all(endpoint).await {
        Ok(trials) => trials,
        Err(error) => return vec![Check::fail("kernel", error.message, "`bottler run probe` shows what happens")],
    };
    let check = |trial: native::trial::Trial| {
        let state = match &trial.remedy {
            None => CheckState::Ok,
            Some(_) if trial.needed => CheckState::Fail,
            Some(_) => CheckState::Warn,
        };
        Check { what: trial.what.into(), state, found: trial.found, remedy: trial.remedy }
    };
    trials.into_iter().map(check).collect()
}

/// Compares the kernel's limits with the needs of this many bottles.
fn of_host(bottles: u64) -> Vec<Check> {
    let number = |file: &str| std::fs::read_to_string(file).ok()?.split_whitespace().last()?.parse::<u64>().ok();
    let limit = |check, file: &str, need: u64, remedy: &str| {
        let have = number(file)?;
        let found = format!("{have}; {bottles} bottles take {need}");
        Some(if have >= need { Check::ok(check, found) } else { Check::fail(check, found, remedy) })
    };
    let tasks = bottles * BOTTLE_TASKS;
    let mut checks: Vec<Check> = [
        limit("processes", "/proc/sys/kernel/pid_max", tasks + 1024, "sysctl kernel.pid_max"),
        limit("threads", "/proc/sys/kernel/threads-max", tasks + 1024, "sysctl kernel.threads-max"),
        limit("open files", "/proc/sys/fs/file-max", bottles * BOTTLE_DESCRIPTORS + 4096, "sysctl fs.file-max"),
        limit(
            "neighbours",
            "/proc/sys/net/ipv4/neigh/default/gc_thresh3",
            bottles * 8,
            "sysctl net.ipv4.neigh.default.gc_thresh3",
        ),
        limit(
            "connections tracked",
            "/proc/sys/net/netfilter/nf_conntrack_max",
            bottles * 256,
            "sysctl net.netfilter.nf_conntrack_max",
        ),
    ]
    .into_iter()
    .flatten()
    .collect();
    // A client with its holder and reaper keep about this many for each bottle.
    if let Ok((soft, _)) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE) {
        let found = format!("{soft} for one process");
        checks.push(if soft >= 256 {
            Check::ok("descriptors", found)
        } else {
            Check::fail("descriptors", found, "ulimit -n 1024")
        });
    }
    checks
}

async fn leftovers(endpoint: &str, engine: &Arc<dyn Engine>, state: &StateDir, fix: bool) -> Check {
    let check = "leftovers";
    match collect(engine, endpoint, state, !fix).await {
        Ok(dead) if !dead.troubles.is_empty() => {
            Check::fail(check, dead.troubles.join("; "), "`bottler gc` collects all that can be")
        }
        Ok(dead) if dead.bottles.is_empty() => Check::ok(check, "none"),
        Ok(dead) if !fix => Check::warn(
            check,
            format!("left by {} dead bottles", dead.bottles.len()),
            "`bottler gc`, or `bottler doctor --fix`, removes them",
        ),
        Ok(dead) if dead.bottles.iter().flat_map(|bottle| &bottle.undo).any(crate::session::UndoRow::is_left) => {
            Check::fail(check, "not all could be removed", "`bottler gc` says which, and why")
        }
        Ok(dead) => Check::ok(check, format!("removed what {} dead bottles left", dead.bottles.len())),
        Err(_) => Check::fail(check, "they could not be listed", "`bottler gc` says why"),
    }
}

async fn cache(engine: &Arc<dyn Engine>) -> Check {
    let mut size = 0;
    let Ok(tags) = engine.image_cache().await else {
        return Check::warn("cached images", "they could not be listed", "see the engine's log");
    };
    for tag in &tags {
        size += engine.image_find(tag).await.ok().flatten().map_or(0, |found| found.size);
    }
    let found = format!("{}, {} MiB", tags.len(), size >> 20);
    if size < CACHE {
        Check::ok("cached images", found)
    } else {
        Check::warn("cached images", found, "`bottler gc --cache` removes them")
    }
}

/// Launches a bottle with the built-in probe.
async fn probe() -> Check {
    let check = "isolation";
    let run = async {
        let own = std::env::current_exe().ok()?;
        let mut command = tokio::process::Command::new(own);
        command.args(["run", "probe", "--no-project", "--format", "json", "--yes"]).stdin(Stdio::null());
        let output = command.stderr(Stdio::null()).kill_on_drop(true).output().await.ok()?;
        serde_json::from_slice::<serde_json::Value>(&output.stdout).ok()
    };
    let remedy = "`bottler run probe` shows what happens";
    let Ok(Some(data)) = tokio::time::timeout(PROBE, run).await else {
        return Check::fail(check, "the probe's bottle could not be launched", remedy);
    };
    let lines = data["lines"].as_array().cloned().unwrap_or_default();
    let red: Vec<&str> =
        lines.iter().filter(|line| line["ok"] != true).filter_map(|line| line["attempt"].as_str()).collect();
    let times = &data["times"];
    match (data["failure"]["message"].as_str(), red.is_empty() && !lines.is_empty()) {
        (None, true) => Check::ok(
            check,
            format!(
                "{} attempts to get out, all failed; launched in {} ms, removed in {}",
                lines.len(),
                times["released"],
                times["gone"]
            ),
        ),
        (_, false) if !red.is_empty() => {
            Check::fail(check, format!("{} attempts did not end as expected", red.len()), remedy)
        }
        _ => Check::fail(check, "the probe's bottle failed", remedy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Runtime;

    #[test]
    fn clocks_are_compared() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
        // 500,000 hours after 1970.
        assert_eq!(clock("2027-01-15T08:00:01.5Z", now, false).state, CheckState::Ok);
        assert_eq!(clock("2027-01-15T09:00:00+01:00", now, false).state, CheckState::Ok);
        assert_eq!(clock("2027-01-15T08:02:00Z", now, false).state, CheckState::Warn);
        assert_eq!(clock("yesterday", now, false).state, CheckState::Warn);
        assert_eq!(clock("1970-01-01T00:00:00Z", SystemTime::UNIX_EPOCH, true).state, CheckState::Fail);
    }

    #[test]
    fn an_engine_that_cannot_keep_a_bottle_tight_is_told() {
        let info = EngineInfo { version: "1".into(), api: "1.41".into(), arch: "mips".into(), os: "linux".into() };
        let runsc = Runtime { path: "/usr/bin/runsc".into(), arguments: Vec::new() };
        let engine = EngineDetails {
            storage: "vfs".into(),
            memory: 1 << 30,
            runtimes: [("runsc".to_owned(), runsc)].into(),
            ..EngineDetails::default()
        };
        let checks = of_engine(&info, &engine, true, 100);
        let state = |name: &str| checks.iter().find(|check| check.what == name).map(|check| check.state);
        for (name, expected) in [
            ("engine's host", CheckState::Fail),
            ("storage", CheckState::Warn),
            ("seccomp", CheckState::Fail),
            ("runtimes", CheckState::Warn),
            ("memory", CheckState::Warn),
        ] {
            assert_eq!(state(name), Some(expected), "{name}");
        }
        assert!(checks.iter().all(|check| check.state == CheckState::Ok || check.remedy.is_some()));
    }
}
