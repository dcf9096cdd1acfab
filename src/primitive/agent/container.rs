//! The specification of the agent's container: its name, its command (init), and the environment of every process in
//! it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::sync::Arc;

use crate::engine::labels::Identity;
use crate::engine::{ContainerSpec, ErrorKind, VolumeMount};
use crate::init;
use crate::layout::agent::Far;
use crate::layout::{self, EXECUTABLE};
use crate::plan::AgentPlan;
use crate::policy::HostService;
use crate::primitive::account::Account;
use crate::primitive::bottle::{Bottle, BuildBase};
use crate::primitive::event::Event;
use crate::primitive::handle::{ImageInfo, Sidecar};
use crate::session::{BottleImages, Class, Failure};

/// How many names are tried when one is taken: the bottle's id, then with `-2` to `-99`.
const NAMES: u32 = 99;

/// init's relays: one for every sidecar that serves the agent and that has been created.
pub(in crate::primitive) async fn relays(serving: &[Arc<Sidecar>]) -> Result<BTreeMap<SocketAddrV4, Far>, Failure> {
    let mut relays = BTreeMap::new();
    for sidecar in serving {
        relays.extend(sidecar.relayed().await?);
    }
    Ok(relays)
}

/// Tries the bottle's id as the container's name, then numbered ones; a pinned name is the only one tried.
pub(in crate::primitive) async fn create(bottle: &Bottle, mut spec: ContainerSpec) -> Result<String, Failure> {
    let engine = &bottle.session.engine;
    let first = spec.name.clone();
    for number in 2..=NAMES + 1 {
        match engine.container_create(&spec).await {
            Err(error) if error.kind == ErrorKind::NameTaken && !bottle.plan.pinned => {
                let next = format!("{first}-{number}");
                if number <= NAMES {
                    bottle.events.tell(Event::Log(format!("the name {} is taken; trying {next}", spec.name)));
                }
                spec.name = next;
            }
            Err(error) if spec.disk.is_some() && error.message.contains("storage-opt") => {
                let hint = "this engine's storage cannot bound a container's disk; leave resources.disk out";
                return Err(Failure::from(error).hint(hint));
            }
            answer => return Ok(answer?),
        }
    }
    Err(Failure::new(Class::Name, format!("create agent: {first} and the {} names after it are all taken", NAMES - 1))
        .hint("clean up old containers: `docker ps -a`, `bottler gc`"))
}

pub(in crate::primitive) fn container(
    bottle: &Bottle,
    plan: &AgentPlan,
    image: &ImageInfo,
    account: Account,
    relays: BTreeMap<SocketAddrV4, Far>,
    serving: &[Arc<Sidecar>],
    identity: Identity,
) -> Result<ContainerSpec, Failure> {
    let config = serde_json::to_string(&init::Config { relays })
        .map_err(|error| Failure::new(Class::Internal, format!("write init's configuration: {error}")))?;
    let owner = format!("uid={},gid={}", account.user, account.group);
    let command = vec![EXECUTABLE.into(), init::ROLE.into(), config];
    let name = bottle.session.id.clone();
    Ok(ContainerSpec {
        env: environment(plan, image, serving, &bottle.plan.egress.host_services),
        hostname: bottle.session.id.clone(),
        hosts: hosts(serving),
        mounts: mounts(serving),
        tmpfs: [(layout::agent::RUN_DIR.to_owned(), format!("rw,nosuid,nodev,noexec,size=16m,mode=0755,{owner}"))]
            .into(),
        runtime: bottle.plan.runtime.clone(),
        disk: plan.disk,
        read_only: false,
        // Used to repeat the proof, so no process in the container may change it, not even as root.
        fixed: vec![EXECUTABLE.to_owned()],
        tty: plan.terminal,
        stdin: plan.terminal,
        auto_remove: true,
        ..ContainerSpec::closed(name, image.tag.clone(), command, account.to_string(), plan.resources, identity)
    })
}

/// Notes what a build of another image for this agent begins with, and the image that was made of one that was built.
pub(in crate::primitive) async fn note_build_base(
    bottle: &Bottle,
    plan: &AgentPlan,
    image: Arc<ImageInfo>,
    serving: &[Arc<Sidecar>],
) -> Result<(), Failure> {
    if let Some(directory) = bottle.host.staging.as_deref() {
        let noted = BottleImages::read(directory).and_then(|mut images| match &images.current {
            Some(current) if current.reference == bottle.plan.image.source => images.note(&image.tag, directory),
            _ => Ok(()),
        });
        if let Err(error) = noted {
            bottle.events.tell(Event::Log(format!("note the image of this bottle: {error}")));
        }
    }
    let proxy: Vec<Arc<Sidecar>> = serving.iter().filter(|sidecar| sidecar.is_proxy()).take(1).cloned().collect();
    let Some(egress) = proxy.first().cloned() else { return Ok(()) };
    let relays = relays(&proxy).await?;
    let mut env = environment(&AgentPlan { env: BTreeMap::new(), ..plan.clone() }, &image, &proxy, &[]);
    env.insert("HOME".to_owned(), "/root".to_owned());
    env.insert("DEBIAN_FRONTEND".to_owned(), "noninteractive".to_owned());
    let (hosts, mounts) = (hosts(&proxy), mounts(&proxy));
    let _ = bottle.build_base.set(BuildBase { image, egress, relays, mounts, hosts, env });
    Ok(())
}

/// The names by which the sidecars are found.
fn hosts(serving: &[Arc<Sidecar>]) -> Vec<(String, String)> {
    let relays = serving.iter().flat_map(|sidecar| &sidecar.relays);
    let hosts = relays.map(|relay| (relay.name.clone(), relay.address.ip().to_string()));
    hosts.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The volumes with what the sidecars have for the agent.
fn mounts(serving: &[Arc<Sidecar>]) -> Vec<VolumeMount> {
    let of = |volume: &Option<String>, target: String| {
        Some(VolumeMount { volume: volume.clone()?, target, read_only: true })
    };
    let both = serving.iter().flat_map(|sidecar| {
        let own = format!("{}/{}", layout::agent::SERVICES_DIR, sidecar.name);
        [of(&sidecar.volume, own), of(&sidecar.shown, layout::supervise::POLICY_DIR.to_owned())]
    });
    both.flatten().collect()
}

/// The account that an agent runs as. The image has looked up the plan's user; a recipe's own must be numeric.
pub(in crate::primitive) fn account(config: &AgentPlan, built: &ImageInfo) -> Result<Account, Failure> {
    let known = built.account.filter(|_| Account::numbers(&config.user).is_none());
    known.or_else(|| Account::numbers(&config.user)).ok_or_else(|| {
        Failure::new(Class::Input, format!("run_agent: user {:?} is not a number", config.user))
            .hint("user = \"1000:1000\"")
    })
}

/// Variables with the path of a CA bundle that programs and libraries read.
const BUNDLES: [&str; 9] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "DENO_CERT",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
];
/// Destinations without a proxy. Some clients compare names only, some addresses, some ranges.
const DIRECT: [&str; 4] = ["localhost", "127.0.0.1", "::1", "127.0.0.0/8"];
/// The default search path (environ(7)).
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const JAVA: &str = "JAVA_TOOL_OPTIONS";

/// The environment of every process in the agent's container: the proxy in upper and lower case, exceptions from it,
/// and the CA in every way that clients look for it. The plan overrides the image, and the image overrides the
/// defaults.
fn environment(
    plan: &AgentPlan,
    image: &ImageInfo,
    serving: &[Arc<Sidecar>],
    services: &[HostService],
) -> BTreeMap<String, String> {
    let proxy = serving.iter().find(|sidecar| sidecar.is_proxy());
    // By address, because some resolvers (such as c-ares) do not read /etc/hosts.
    let proxy = proxy.and_then(|egress| Some(egress.relays.first()?.address));
    let url = proxy.map(|address| format!("http://{address}")).unwrap_or_default();
    let names = serving.iter().map(|sidecar| sidecar.name.as_str());
    // A plain TCP destination may also be requested through the proxy, at another port. Services of the user's machine go
    // through the proxy where the client has one: most speak HTTP, which is masked, judged and refused with words there.
    let others = serving.iter().flat_map(|sidecar| sidecar.relays.iter().filter(|relay| relay.name != sidecar.name));
    let others = others.filter(|relay| !services.iter().any(|service| service.name == relay.name));
    let others = others.map(|relay| format!(",{}:{}", relay.name, relay.address.port()));
    let direct =
        format!("{}{}", DIRECT.into_iter().chain(names).collect::<Vec<_>>().join(","), others.collect::<String>());
    let mut env = plan.env.clone();
    for (name, value) in [("HTTP_PROXY", &url), ("HTTPS_PROXY", &url), ("NO_PROXY", &direct)] {
        env.insert(name.to_owned(), value.clone());
        env.insert(name.to_ascii_lowercase(), value.clone());
    }
    // Node's own fetch and http ignore the proxy without it (Node 22.21 and 24.5 on).
    env.insert("NODE_USE_ENV_PROXY".to_owned(), "1".to_owned());
    for name in BUNDLES {
        env.insert(name.to_owned(), layout::agent::BUNDLE_FILE.to_owned());
    }
    env.insert("SSL_CERT_DIR".to_owned(), layout::agent::BUNDLE_DIR.to_owned());
    env.insert("NODE_EXTRA_CA_CERTS".to_owned(), layout::agent::CA_FILE.to_owned());
    // If an option occurs twice, the last one counts: the image's or the plan's.
    let own = env.get(JAVA).or_else(|| image.env.get(JAVA)).map(|own| format!(" {own}")).unwrap_or_default();
    env.insert(JAVA.to_owned(), java(proxy, serving) + &own);
    env.entry("HOME".to_owned()).or_insert_with(|| image.home.clone());
    env.entry("PATH".to_owned()).or_insert_with(|| image.env.get("PATH").map_or(PATH, String::as_str).to_owned());
    // Text is UTF-8, unless another locale is set.
    if !["LANG", "LC_ALL", "LC_CTYPE"].iter().any(|name| env.contains_key(*name) || image.env.contains_key(*name)) {
        env.insert("LANG".to_owned(), "C.UTF-8".to_owned());
    }
    env
}

/// Options for Java, which ignores the proxy variables and reads certificates only from its own kind of store (JDK,
/// "Networking Properties"; JSSE Reference Guide, "Customizing the Default Key Managers and Trust Managers").
fn java(proxy: Option<SocketAddrV4>, serving: &[Arc<Sidecar>]) -> String {
    let mut options = vec![
        format!("-Djavax.net.ssl.trustStore={}", layout::agent::JAVA_STORE),
        "-Djavax.net.ssl.trustStoreType=JKS".to_owned(),
        format!("-Djavax.net.ssl.trustStorePassword={}", layout::agent::JAVA_PASSWORD),
    ];
    if let Some(proxy) = proxy {
        for scheme in ["http", "https"] {
            options.push(format!("-D{scheme}.proxyHost={} -D{scheme}.proxyPort={}", proxy.ip(), proxy.port()));
        }
        let own = ["localhost", "127.*", "[::1]"].into_iter();
        let names: Vec<&str> = own.chain(serving.iter().map(|sidecar| sidecar.name.as_str())).collect();
        options.push(format!("-Dhttp.nonProxyHosts={}", names.join("|")));
    }
    options.join(" ")
}
