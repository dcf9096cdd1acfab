//! The classes of the reference: handles, results, and the Rust structure behind each table of options.

use schemars::{JsonSchema, schema_for};

use super::types::{Class, Field, Function, Param, function};
use super::{functions, schema};
use crate::{plan, primitive};

/// The names of all options of a function or method, if it takes a table of options. Of several alternative tables,
/// the first that has all of `among`.
pub fn options_of(name: &str, among: &[&str]) -> Option<Vec<String>> {
    let classes = classes();
    let called = |function: &&Function| function.name == name;
    let method = || classes.iter().flat_map(|class| class.methods).find(called);
    let function = functions().iter().find(called).or_else(method)?;
    let types = function.params.iter().flat_map(|param| param.ty.split('|'));
    let mut tables = types.filter_map(|ty| classes.iter().find(|class| class.written && class.name == ty));
    let names = |class: &Class| class.fields.iter().map(|field| field.name.clone()).collect::<Vec<_>>();
    tables.find_map(|class| {
        let names = names(class);
        among.iter().all(|name| names.iter().any(|known| known == name)).then_some(names)
    })
}

const CLOSE: Function = function!("close"() -> "", "Removes it now and waits until it is gone; a second call does nothing. `local x <close>` does this at the end of the block.");
const READY: Function = function!("ready"() -> "", "Waits until it is running and ready.");
const WAIT: Function = function!("wait"("options?": "WaitOptions") -> "ExitResult", "Waits until its command ends; a non-zero exit code is a result, not an error. This releases an agent.");

const IMAGE: &[Function] = &[
    function!("ready"() -> "string", "Waits until the engine has it; returns its reference."),
    function!("inspect"() -> "ImageInfo", "Returns its properties."),
];
const NETWORK: &[Function] = &[
    function!("ready"() -> "NetworkInfo", "Waits until the engine has it."),
    function!("inspect"() -> "NetworkInfo", "Returns its properties."),
    CLOSE,
];
const VOLUME: &[Function] = &[
    function!("ready"() -> "VolumeInfo", "Waits until the engine has it."),
    function!("inspect"() -> "VolumeInfo", "Returns its properties."),
    CLOSE,
];
const CONTAINER: &[Function] = &[
    READY,
    function!("exec"("options": "ExecOptions") -> "ExecResult", "Runs a command in it, as its user; a non-zero exit code is a result."),
    function!("logs"("options?": "LogOptions") -> "string", "Returns the last lines of its output, both streams together."),
    function!("copy_in"("options": "CopyInOptions") -> "", "Writes a file inside it, as its user."),
    function!("copy_out"("options": "CopyOutOptions") -> "string", "Reads a file inside it, as its user; at most 16 MiB."),
    function!("stop"("options?": "StopOptions") -> "", "Asks it to end, and kills it after the timeout."),
    function!("pause"() -> "", "Freezes its processes."),
    function!("unpause"() -> "", "Resumes its processes."),
    function!("inspect"() -> "ContainerState", "Returns its state."),
    WAIT,
    CLOSE,
];
const BOTTLE: &[Function] = &[
    function!("wait"("options?": "WaitOptions") -> "ExitResult", "Waits until its agent has ended and the bottle is removed; raises an error if the launch failed."),
    function!("output"() -> "string", "Returns what its agent wrote to standard output, up to 1 MiB, once it has ended."),
    function!("stderr"() -> "string", "Returns what its agent wrote to standard error, up to 1 MiB, once it has ended."),
    function!("patch"() -> "string", "Returns its agent's changes to the workspace as a patch, once it has ended."),
    function!("workspace"() -> "Workspace?", "Returns its workspace as its agent left it, with the git history, to give to another bottle; `refs/bottler/start` there is the commit that the agent started from."),
    function!("save_patch"("path": "string") -> "string", "Writes the patch below the directory of the launch and returns its path; an existing file is never overwritten."),
    CLOSE,
];

/// All classes, in the order of the reference.
pub fn classes() -> Vec<Class> {
    let mut found = handles();
    found.extend(creating());
    found.extend(asking());
    found.extend(results());
    // Several structures refer to the same class.
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|class| seen.insert(class.name.clone()));
    found
}

fn handles() -> Vec<Class> {
    vec![
        handle("Image", "An image.", &[], IMAGE),
        handle("Network", "A network.", &[("name", "string", "Its name in the recipe.")], NETWORK),
        handle("Volume", "A volume.", &[("name", "string", "Its name in the recipe.")], VOLUME),
        handle("Sidecar", "A sidecar.", &[("name", "string", "Its name.")], CONTAINER),
        handle(
            "Agent",
            "The agent.",
            &[("name", "string", "Its name."), ("prompt_path", "string?", "The path of its prompt file.")],
            CONTAINER,
        ),
        handle(
            "Bottle",
            "A bottle that this one launched.",
            &[("id", "string", "Its id."), ("slug", "string", "The first part of its id.")],
            BOTTLE,
        ),
        handle("Secret", "A value that can be formatted and passed on, but not read or printed.", &[], &[]),
        handle("Workspace", "A workspace as an agent left it.", &[], &[]),
        handle(
            "Failure",
            "What `pcall` returns if a primitive fails; raising it again raises the same failure.",
            &[
                ("message", "string", "What was attempted, on what, and why it failed."),
                (
                    "kind",
                    "\"input\"|\"engine\"|\"operation\"|\"name\"|\"isolation\"|\"internal\"|\"cancelled\"",
                    "The kind of failure.",
                ),
                ("hint", "string?", "What to do."),
                ("at", "string?", "The script line: `my.lua:3`."),
                ("causes", "string[]", "Further causes, the nearest first."),
            ],
            &[],
        ),
    ]
}

/// The options of creating primitives.
fn creating() -> Vec<Class> {
    let mut found = written::<primitive::ImageOptions>("ImageOptions", &[]);
    found.extend(written::<primitive::NetworkOptions>("NetworkOptions", &[]));
    found.extend(written::<primitive::VolumeOptions>("VolumeOptions", &[]));
    found.extend(written::<primitive::SidecarOptions>(
        "SidecarOptions",
        &[
            ("network?", "Network|Network[]", "The networks that it is attached to."),
            ("sidecars?", "table<string, Sidecar>", "For egress: sidecars that the agent may reach through it, by host name."),
            (
                "egress?",
                "Sidecar",
                "For a role that uses an egress: the egress, started in the same burst, with no waiting call in between.",
            ),
        ],
    ));
    found.extend(written::<primitive::ServiceOptions>(
        "ServiceOptions",
        &[
            ("image", "string|Image", "Its image, which the engine must have."),
            (
                "env?",
                "table<string, string|number|Secret>",
                "Environment variables of its command; they may be secrets.",
            ),
            ("volumes?", "table<string, Volume>", "Volumes, by the path where each is mounted."),
        ],
    ));
    found.push(options(
        "AgentOptions",
        "The options of `run_agent`.",
        &[
            ("image", "Image", "Its image."),
            ("network?", "Network", "The network that it is attached to. Without one it has no network interface, and the probe fails if it finds one."),
            ("egress", "Sidecar", "The egress sidecar, its only way out."),
            ("config", "AgentPlan", "Its configuration; usually `plan.agent`."),
        ],
    ));
    found.extend(written::<primitive::ProvisionOptions>(
        "ProvisionOptions",
        &[
            (
                "env?",
                "table<string, string|number|Secret>",
                "Environment variables of the command only; they may be secrets.",
            ),
            ("probe?", "Sidecar", "The counterpart sidecar, for the agent `probe`."),
        ],
    ));
    found.extend(written::<primitive::ChildOptions>(
        "BottleOptions",
        &[(
            "workspace?",
            "table<string, string>|boolean|Workspace",
            "Files of its workspace, by path; `true` for a copy of this bottle's; or the workspace that another bottle left.",
        )],
    ));
    found
}

/// The options of methods and of small functions.
fn asking() -> Vec<Class> {
    let mut found = written::<primitive::ExecOptions>("ExecOptions", &[]);
    found.extend(written::<primitive::LogOptions>("LogOptions", &[]));
    found.extend(written::<primitive::CopyInOptions>(
        "CopyInOptions",
        &[("content", "string", "Its content: any bytes.")],
    ));
    found.extend(written::<primitive::CopyOutOptions>("CopyOutOptions", &[]));
    found.extend(written::<primitive::StopOptions>("StopOptions", &[]));
    found.extend(written::<primitive::WaitOptions>("WaitOptions", &[]));
    found.extend(written::<primitive::HostOptions>("HostOptions", &[]));
    found.push(options("FailOptions", "The options of `fail`.", &[("hint?", "string", "What to do.")]));
    found.push(options(
        "PromptOptions",
        "The options of `prompt`.",
        &[("secret?", "boolean", "Whether the answer is hidden and returned as a secret.")],
    ));
    found
}

/// Results of functions and methods, and hooks.
fn results() -> Vec<Class> {
    let mut found = read::<primitive::ExecResult>("ExecResult");
    found.extend(read::<crate::engine::ContainerState>("ContainerState"));
    found.extend(read::<primitive::ImageInfo>("ImageInfo"));
    found.push(result("ExitResult", "How a command ended.", &[("exit_code", "integer", "Its exit code.")]));
    found.push(result(
        "NetworkInfo",
        "The properties of a network.",
        &[("id", "string", "Its id on the engine."), ("subnet", "string", "Its address range, as CIDR.")],
    ));
    found.push(result("VolumeInfo", "The properties of a volume.", &[("id", "string", "Its name on the engine.")]));
    let mut plan = read::<plan::LaunchPlan>("Plan");
    // A recipe may add to these sections of its plan.
    for field in &mut plan[0].fields {
        match field.name.as_str() {
            "provision" => "ProvisionOptions".clone_into(&mut field.ty),
            "image" => "ImageOptions".clone_into(&mut field.ty),
            _ => {}
        }
    }
    plan.retain(|class| !matches!(class.name.as_str(), "ProvisionPlan" | "ImagePlan"));
    found.extend(plan);
    found.push(options(
        "Hooks",
        "What a project's `.bottler/hooks.lua` returns, and what a recipe receives as its second argument.",
        &[
            (
                "before?",
                "table<string, fun(options: table, bottle: HookContext)>",
                "By name: may edit the options of an object before it is created.",
            ),
            (
                "after?",
                "table<string, fun(handle: any, bottle: HookContext)>",
                "By name: receives the handle of a created object.",
            ),
            (
                "replace?",
                "table<string, fun(options: table, bottle: HookContext): any>",
                "By name: creates the object itself, and returns its handle.",
            ),
            (
                "on_failure?",
                "fun(failure: Failure, bottle: HookContext)",
                "In a project's hooks only: runs after the launch has failed, before the teardown.",
            ),
            (
                "on_teardown?",
                "fun(bottle: HookContext)",
                "In a project's hooks only: runs at the beginning of the teardown.",
            ),
        ],
    ));
    found.push(result(
        "HookContext",
        "The second argument of hooks: their bottle.",
        &[
            ("id", "string", "The bottle's id."),
            ("plan", "Plan", "The plan."),
            ("sidecar", "fun(options: SidecarOptions|ServiceOptions): Sidecar", "`sidecar_start`."),
        ],
    ));
    found
}

fn written<T: JsonSchema>(name: &str, extra: &[(&str, &str, &str)]) -> Vec<Class> {
    let mut classes = schema::classes(name, &schema_for!(T).to_value(), true);
    // Fields that are taken out of the table before serde reads the structure.
    let extra: Vec<Field> = extra.iter().map(field).collect();
    let first = &mut classes[0].fields;
    first.retain(|field| extra.iter().all(|other| other.name != field.name));
    first.extend(extra);
    classes
}

fn read<T: JsonSchema>(name: &str) -> Vec<Class> {
    schema::classes(name, &schema_for!(T).to_value(), false)
}

fn field((name, ty, doc): &(&str, &str, &str)) -> Field {
    Field {
        name: name.trim_end_matches('?').to_owned(),
        ty: ty.trim_end_matches('?').to_owned(),
        optional: name.ends_with('?') || ty.ends_with('?'),
        doc: (*doc).to_owned(),
    }
}

fn class(name: &str, doc: &str, fields: &[(&str, &str, &str)], written: bool) -> Class {
    Class {
        name: name.to_owned(),
        doc: doc.to_owned(),
        fields: fields.iter().map(field).collect(),
        methods: &[],
        written,
    }
}

fn options(name: &str, doc: &str, fields: &[(&str, &str, &str)]) -> Class {
    class(name, doc, fields, true)
}

fn result(name: &str, doc: &str, fields: &[(&str, &str, &str)]) -> Class {
    class(name, doc, fields, false)
}

fn handle(name: &str, doc: &str, fields: &[(&str, &str, &str)], methods: &'static [Function]) -> Class {
    Class { methods, ..class(name, doc, fields, false) }
}
