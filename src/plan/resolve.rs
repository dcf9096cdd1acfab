//! Manifest, flags and facts of the host, put together: a pure function.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::command::{Words, at_home, command};
use super::cred_proxy::{CredProxyPlan, cred_proxy};
use super::credentials::{Credentials, credentials, unset};
use super::git::{git, repositories};
use super::git_settings::in_env;
use super::runtime::AUTO;
use super::{
    AgentPlan, CredentialPlan, DEFAULT_RESOURCES, DEFAULT_WATCH, Facts, FilePlan, Flags, GitPlan, ImagePlan, Isolation,
    Keep, LaunchPlan, ProvisionPlan, SupervisePlan, WorkspaceMode, WorkspacePlan,
};
use crate::engine::Resources;
use crate::layout::agent::{DEFAULT_HOME, DEFAULT_USER, WORKSPACE};
use crate::layout::supervise as layout;
use crate::manifest::{
    BoundsSection, Egress, IsolationSection, Problem, ResolvedAgent, Size, SuperviseSection, SuperviseTable, Value,
    ValuePart,
};
use crate::policy::EgressSpec;

/// The skill that teaches the agent to ask. Short, and only about what to do after a refusal.
const SKILL: &str = include_str!("../../stdlib/skills/ask-the-operator/SKILL.md");

/// A plan, and what is no part of it because recipes see that.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The plan.
    pub plan: LaunchPlan,
    /// Variables whose values only the agent is told. Not shown, not written down.
    pub env: BTreeMap<String, String>,
    /// The values of credentials that are known by now, by name. No more than those.
    pub credentials: BTreeMap<String, String>,
    /// The variables that the agent's program reads a key from, if it is given none.
    pub unset: Vec<String>,
    /// Variables that are still to be asked for, with the question.
    pub ask: BTreeMap<String, String>,
    /// What an upstream proxy is shown.
    pub proxy_credentials: Option<String>,
    /// The recipe that launches it.
    pub recipe: String,
}

/// Plans a launch. `egress` is the whole of what may leave by manifest and flags, less the template's hosts.
///
/// # Errors
/// Something is not there yet, contradicts itself, or names a variable that the host does not have: with the file.
pub fn plan(chosen: &ResolvedAgent, mut egress: Egress, flags: &Flags, facts: &Facts) -> Result<Planned, Problem> {
    egress.spec.add_template(&chosen.template.hosts);
    let file = chosen.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
    let problem =
        |(why, hint): Refusal| Problem { hint, ..Problem::of(&file, format!("agent {}: {why}", chosen.name)) };
    egress.spec.git = repositories(&chosen.bottle.git).map_err(problem)?;
    egress.spec.host_services.extend(chosen.bottle.host_services.iter().cloned());
    egress.spec.check().map_err(|error| problem((error.to_string(), None)))?;
    let credentials = credentials(chosen, &egress.spec, facts)?;
    plan_of(chosen, egress, credentials, flags, facts).map_err(problem)
}

/// Why there is no plan, and what to do.
type Refusal = (String, Option<String>);

fn refused(why: impl Into<String>, hint: &str) -> Refusal {
    (why.into(), Some(hint.to_owned()))
}

fn plan_of(
    chosen: &ResolvedAgent,
    egress: Egress,
    credentials: Credentials,
    flags: &Flags,
    facts: &Facts,
) -> Result<Planned, Refusal> {
    let (bottle, agent, template) = (&chosen.bottle, &chosen.agent, &chosen.template);
    let supervise = bottle.supervise.as_ref().map(supervise).transpose()?.flatten();
    let workspace = workspace(chosen, flags, facts)?;
    let workdir = workspace.as_ref().map_or(DEFAULT_HOME, |workspace| workspace.path.as_str()).to_owned();
    let prompts = [&chosen.prompt, &flags.prompt].into_iter().flatten().map(String::as_str);
    let prompt = prompts.collect::<Vec<_>>().join("\n\n");
    let prompt = (!prompt.is_empty()).then_some(prompt);
    let model = flags.model.as_deref().or(agent.model.as_deref());
    if model.is_some() && template.model.is_empty() {
        return Err((format!("its template {} takes no model", chosen.template_name), None));
    }
    let words = Words { prompt: prompt.as_deref(), model, workdir: &workdir };
    let own = if flags.command.is_empty() { agent.command.as_deref() } else { Some(flags.command.as_slice()) };
    let command = command(template, own, flags.headless, !agent.mcp.is_empty() || supervise.is_some(), &words)
        .map_err(|why| (why, None))?;
    let Environment { mut plain, secret, ask } = environment(chosen, facts)?;
    for credential in &credentials.plans {
        // What a template sets it to where there is no key.
        plain.retain(|name, _| credential.env.as_ref() != Some(name));
    }
    let routes = bottle.cred_proxy.as_ref();
    let cred_proxy = routes.map(|section| cred_proxy(section, &credentials.plans, &egress.spec)).transpose()?;
    let gate = bottle.git_gate.as_ref().and_then(|section| section.image.clone());
    let git = git(&bottle.git, gate, &credentials.plans)?;
    for (name, value) in sidecar_env(cred_proxy.as_ref(), git.as_ref(), &egress.spec) {
        if plain.contains_key(&name) || secret.contains_key(&name) || ask.contains_key(&name) {
            return Err(refused(
                format!("{name} is set by a route of cred_proxy or a repository of git, and in `env`"),
                "leave one of them out",
            ));
        }
        plain.insert(name, value);
    }
    let terminal = flags.terminal && !flags.headless;
    if terminal {
        for name in ["TERM", "COLORTERM"] {
            if let Some(value) = facts.env.get(name) {
                plain.entry(name.to_owned()).or_insert_with(|| value.clone());
            }
        }
        // Whoever has 256 colours has had all of them for ten years; not every terminal says so.
        if plain.get("TERM").is_some_and(|term| term.ends_with("-256color") || term.ends_with("-direct")) {
            plain.entry("COLORTERM".to_owned()).or_insert_with(|| "truecolor".to_owned());
        }
    }
    let copied = workspace.as_ref().is_some_and(|workspace| workspace.mode == WorkspaceMode::Copy);
    // The agent's work is what all this is for: it does not go unless somebody says so.
    let unsaid = if copied { Keep::Always } else { Keep::Never };
    let secret_env: Vec<String> = secret.keys().chain(ask.keys()).cloned().collect();
    let unset = unset(chosen, own.is_some());
    let mut files = files(chosen, &words, workspace.as_ref(), facts, &credentials.plans, supervise.is_some())?;
    let private = |(path, content)| FilePlan { path, content, mode: "0600".to_owned(), fill: false };
    files.extend(cred_proxy.iter().flat_map(CredProxyPlan::files).map(private));
    let plan = LaunchPlan {
        bottle: flags.bottle.clone(),
        pinned: flags.pinned,
        agent: AgentPlan {
            name: chosen.name.clone(),
            command,
            user: user(chosen, workspace.as_ref(), facts),
            workdir: workdir.clone(),
            env: plain,
            secret_env,
            resources: resources(chosen)?,
            disk: bottle.resources.disk.map(|Size(bytes)| bytes),
            terminal,
        },
        image: image(chosen, flags),
        isolation: match flags.isolation.or(bottle.isolation) {
            Some(IsolationSection::Bridge) => Isolation::Bridge,
            _ => Isolation::Sealed,
        },
        set_rp_filter: flags.set_rp_filter || bottle.bridge.as_ref().is_some_and(|bridge| bridge.set_rp_filter),
        isolation_said: flags.isolation.or(bottle.isolation).is_some(),
        best_effort_bounds: bottle.bounds == Some(BoundsSection::BestEffort),
        runtime: flags.runtime.clone().or_else(|| bottle.runtime.clone()).filter(|runtime| runtime != AUTO),
        gvisor: false,
        watch: bottle.watch.unwrap_or(DEFAULT_WATCH).max(1),
        egress: egress.spec,
        provision: ProvisionPlan { prompt: prompt.clone(), files },
        cred_proxy,
        git,
        supervise,
        credentials: credentials.plans,
        limits: bottle.limits,
        prompt,
        workspace,
        keep: flags.keep.or(bottle.keep).unwrap_or(unsaid),
        params: flags.params.clone(),
    };
    let recipe = agent.recipe.clone().unwrap_or_else(|| template.recipe().to_owned());
    Ok(Planned {
        plan,
        env: secret,
        credentials: credentials.values,
        unset,
        ask,
        proxy_credentials: egress.proxy_credentials,
        recipe,
    })
}

/// The agent's variables that lead its programs to sidecars.
fn sidecar_env(
    cred_proxy: Option<&CredProxyPlan>,
    git: Option<&GitPlan>,
    egress: &EgressSpec,
) -> BTreeMap<String, String> {
    let settings = cred_proxy.iter().flat_map(|plan| plan.settings());
    let settings: Vec<_> = settings.chain(git.iter().flat_map(|plan| plan.settings(egress))).collect();
    cred_proxy.iter().flat_map(|plan| plan.env()).chain(in_env(&settings)).collect()
}

fn image(chosen: &ResolvedAgent, flags: &Flags) -> ImagePlan {
    let (pull, rebuild) = (flags.pull, flags.rebuild);
    let (bottle, template) = (&chosen.bottle, &chosen.template);
    let (source, build) = match (&flags.image, &bottle.image, &bottle.build) {
        (Some(image), _, _) | (None, Some(image), _) => (image.clone(), None),
        (None, None, Some(build)) => (String::new(), Some(build.clone())),
        (None, None, None) => (template.image.clone().unwrap_or_default(), template.build.clone()),
    };
    ImagePlan { source, build, pull, rebuild }
}

fn resources(chosen: &ResolvedAgent) -> Result<Resources, Refusal> {
    let wanted = &chosen.bottle.resources;
    let resources = Resources {
        cpus: wanted.cpus.unwrap_or(DEFAULT_RESOURCES.cpus),
        memory: wanted.memory.map_or(DEFAULT_RESOURCES.memory, |Size(bytes)| bytes),
        pids: wanted.pids.unwrap_or(DEFAULT_RESOURCES.pids),
    };
    let hint = "leave it out for the default; every container has limits";
    resources.check().map_err(|why| refused(format!("resources: {why}"), hint))?;
    if wanted.disk.is_some_and(|Size(bytes)| bytes <= 0) {
        return Err(refused("resources: disk: 0 is not a limit", hint));
    }
    Ok(resources)
}

/// Whom the agent runs as. A folder that is mounted to be written belongs to the host's user, unless that is root.
fn user(chosen: &ResolvedAgent, workspace: Option<&WorkspacePlan>, facts: &Facts) -> String {
    let mounted = workspace.is_some_and(|workspace| workspace.mode == WorkspaceMode::Mount && !workspace.read_only);
    match &chosen.bottle.user {
        Some(user) => user.0.clone(),
        None if mounted && facts.user.0 != 0 => format!("{}:{}", facts.user.0, facts.user.1),
        None => DEFAULT_USER.to_owned(),
    }
}

fn workspace(chosen: &ResolvedAgent, flags: &Flags, facts: &Facts) -> Result<Option<WorkspacePlan>, Refusal> {
    let said = chosen.bottle.workspace.clone();
    let wanted = said.is_some() || flags.workspace.source.is_some() || chosen.template.workspace;
    let section = said.unwrap_or_default();
    let mode = flags.workspace.mode.unwrap_or(section.mode);
    if !wanted && flags.workspace.mode.is_none() || mode == WorkspaceMode::None {
        return Ok(None);
    }
    let source = flags.workspace.source.as_deref().or(section.source.as_deref());
    let source = source.map_or_else(|| facts.directory.clone(), |source| facts.directory.join(source));
    // Without a dot at its end.
    let source: PathBuf = source.components().collect();
    if chosen.of_project && section.source.is_some() {
        return Err(("a project may not name a folder of the host".to_owned(), None));
    }
    if source == facts.home || source.parent().is_none() {
        let why = format!("its workspace would be {}: all your files", source.display());
        return Err(refused(why, "start it in a project's folder, or name one: --workspace DIR; or --no-workspace"));
    }
    let path = section.path.unwrap_or_else(|| WORKSPACE.to_owned());
    let reserved = ["/", "/run", "/proc", "/sys", "/dev", "/etc", "/home/agent"];
    let plain = path.starts_with('/') && !path.split('/').skip(1).any(|part| matches!(part, "" | "." | ".."));
    if !plain || reserved.contains(&path.as_str()) {
        return Err(refused(format!("workspace.path {path:?} is not allowed"), "an absolute path, as in /workspace"));
    }
    let read_only = flags.workspace.read_only || section.read_only.unwrap_or_default();
    if read_only && mode == WorkspaceMode::Copy {
        return Err(refused("a copy cannot be read-only", "mode: mount, or --mount"));
    }
    Ok(Some(WorkspacePlan { path, mode, source: Some(source), read_only, exclude: section.exclude }))
}

#[derive(Default)]
struct Environment {
    plain: BTreeMap<String, String>,
    secret: BTreeMap<String, String>,
    ask: BTreeMap<String, String>,
}

/// The agent's variables: what is written down is its container's, what comes from the host or a file is told to it alone.
fn environment(chosen: &ResolvedAgent, facts: &Facts) -> Result<Environment, Refusal> {
    let mut environment = Environment { plain: chosen.template.env.clone(), ..Environment::default() };
    environment.secret.extend(chosen.env_files.clone());
    for (name, value) in &chosen.env {
        // The last one said counts, in whichever form.
        environment.plain.remove(name);
        environment.secret.remove(name);
        match value {
            Value::Literal(text) => drop(environment.plain.insert(name.clone(), text.clone())),
            Value::Ask(question) => drop(environment.ask.insert(name.clone(), question.clone())),
            Value::Host(parts) => {
                let mut text = String::new();
                for part in parts {
                    match part {
                        ValuePart::Text(plain) => text.push_str(plain),
                        ValuePart::Variable(variable) => text.push_str(facts.env.get(variable).ok_or_else(|| {
                            refused(
                                format!("env: {name}: {variable} is not set on this host"),
                                "set it, or give the value another way",
                            )
                        })?),
                    }
                }
                environment.secret.insert(name.clone(), text);
            }
        }
    }
    for name in environment.secret.keys() {
        environment.plain.remove(name);
    }
    Ok(environment)
}

/// The files that the agent finds: those of its template, its MCP servers, its skills, git's identity.
fn files(
    chosen: &ResolvedAgent,
    words: &Words<'_>,
    workspace: Option<&WorkspacePlan>,
    facts: &Facts,
    credentials: &[CredentialPlan],
    supervised: bool,
) -> Result<Vec<FilePlan>, Refusal> {
    let (agent, template) = (&chosen.agent, &chosen.template);
    let file = |path: &str, content: String, executable: bool| FilePlan {
        path: at_home(path),
        content,
        mode: if executable { "0755".to_owned() } else { "0644".to_owned() },
        fill: false,
    };
    let mut files: Vec<FilePlan> = template
        .files
        .iter()
        .map(|(path, content)| FilePlan { fill: true, ..file(path, words.fill(content), false) })
        .collect();
    match &template.mcp {
        Some(mcp) if !agent.mcp.is_empty() || supervised => {
            let server_entry = |entry: &str, name: &str, url: &str| entry.replace("{name}", name).replace("{url}", url);
            if let Some(name) = agent.mcp.iter().find_map(|(name, server)| bad_server(name, &server.url)) {
                return Err((format!("mcp: {name}"), None));
            }
            let mut entries: Vec<String> =
                agent.mcp.iter().map(|(name, server)| server_entry(&mcp.entry, name, &server.url)).collect();
            if supervised {
                if agent.mcp.contains_key(layout::NAME) {
                    let why = format!("mcp: {} is the name of the server that `supervise` adds", layout::NAME);
                    return Err(refused(why, "name it otherwise"));
                }
                let entry = mcp.supervise.as_ref().unwrap_or(&mcp.entry);
                entries.push(server_entry(entry, layout::NAME, &super::supervise_url()));
            }
            let content = words.fill(&mcp.content).replace("{entries}", &entries.join(&mcp.between));
            let path = at_home(&mcp.file);
            // A settings file that the template has already is the one with the servers in it.
            files.retain(|file| file.path != path);
            files.push(file(&mcp.file, content, false));
        }
        None if !agent.mcp.is_empty() => {
            return Err((format!("its template {} does not support MCP servers", chosen.template_name), None));
        }
        _ => {}
    }
    if supervised && let (Some(folder), Some(_)) = (&template.skills, &template.mcp) {
        files.push(file(&format!("{folder}/ask-the-operator/SKILL.md"), SKILL.to_owned(), false));
    }
    match &template.skills {
        Some(folder) => files.extend(
            chosen
                .skills
                .iter()
                .map(|(path, skill)| file(&format!("{folder}/{path}"), skill.content.clone(), skill.executable)),
        ),
        None if !chosen.skills.is_empty() => {
            return Err((format!("its template {} does not support skills", chosen.template_name), None));
        }
        None => {}
    }
    if let Some(workspace) = workspace {
        let mut content = format!("[safe]\n\tdirectory = {}\n", quoted(&workspace.path));
        if let Some((name, email)) = &facts.git {
            content.push_str(&format!("[user]\n\tname = {}\n\temail = {}\n", quoted(name), quoted(email)));
        }
        files.push(file("~/.gitconfig", content, false));
    }
    let held = |credential: &&CredentialPlan| {
        credential.file.as_ref().is_some_and(|held| files.iter().any(|file| file.path == held.path))
    };
    if let Some(CredentialPlan { name, file: Some(file), .. }) = credentials.iter().find(held) {
        let why = format!("credential {name}: {} is a file of its template or skills, too", file.path);
        return Err(refused(why, "name another file, or only the variable"));
    }
    Ok(files)
}

/// How the agent asks its operator.
fn supervise(section: &SuperviseSection) -> Result<Option<SupervisePlan>, Refusal> {
    let Some(table) = section.table() else { return Ok(None) };
    let deadline = table.deadline().map_err(|why| (why, None))?.map(|time| time.as_secs());
    let SuperviseTable { on_request, notify, webhook, .. } = table;
    Ok(Some(SupervisePlan { on_request, deadline, notify, webhook }))
}

/// What of an MCP server cannot be put into a settings file as it stands.
fn bad_server(name: &str, url: &str) -> Option<String> {
    let plain = |text: &str| !text.is_empty() && !text.contains(['"', '\\', '\n', '{', '}']);
    let named = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    let http = url.starts_with("http://") || url.starts_with("https://");
    (!named || name.is_empty() || !http || !plain(url))
        .then(|| format!("{name:?} at {url:?} is not a name with an http URL"))
}

/// A value as git-config(1) reads it: in quotation marks, with the characters escaped that mean something there.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted + "\""
}
