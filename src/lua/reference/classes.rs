//! Handles, results, and which Rust structure is which table of options.

use schemars::{JsonSchema, schema_for};

use super::types::{Class, Field, Function, Param, function};
use super::{functions, schema};
use crate::{plan, primitive};

/// The names of all options of a function or method, if it has a table of them: of alternatives, the one that has these.
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
const READY: Function = function!("ready"() -> "", "Waits until it exists and is ready.");
const WAIT: Function = function!("wait"("options?": "WaitOptions") -> "ExitResult", "Waits until its command ends; a non-zero exit code is a result, not an error. This releases an agent.");

const IMAGE: &[Function] = &[
    function!("ready"() -> "string", "Waits until the engine has it; returns its reference."),
    function!("inspect"() -> "ImageInfo", "What is known about it."),
];
const NETWORK: &[Function] = &[
    function!("ready"() -> "NetworkInfo", "Waits until the engine has it."),
    function!("inspect"() -> "NetworkInfo", "What is known about it."),
    CLOSE,
];
const VOLUME: &[Function] = &[
    function!("ready"() -> "VolumeInfo", "Waits until the engine has it."),
    function!("inspect"() -> "VolumeInfo", "What is known about it."),
    CLOSE,
];
const CONTAINER: &[Function] = &[
    READY,
    function!("exec"("options": "ExecOptions") -> "ExecResult", "Runs a command in it, as its user; a non-zero exit code is a result."),
    function!("logs"("options?": "LogOptions") -> "string", "The last lines that it wrote, to both streams."),
    function!("copy_in"("options": "CopyInOptions") -> "", "Writes a file in it, as its user."),
    function!("copy_out"("options": "CopyOutOptions") -> "string", "Reads a file of it, as its user; at most 16 MiB."),
    function!("stop"("options?": "StopOptions") -> "", "Asks it to end, and kills it when the time is over."),
    function!("pause"() -> "", "Freezes its processes."),
    function!("unpause"() -> "", "Resumes its processes."),
    function!("inspect"() -> "ContainerState", "What it is doing."),
    WAIT,
    CLOSE,
];
const BOTTLE: &[Function] = &[
    function!("wait"("options?": "WaitOptions") -> "ExitResult", "Waits until its agent has ended and nothing of it is left; raises an error if the launch failed."),
    function!("output"() -> "string", "What its agent wrote to standard output, up to 1 MiB, once it has ended."),
    function!("stderr"() -> "string", "What its agent wrote to standard error, up to 1 MiB, once it has ended."),
    function!("patch"() -> "string", "How its agent changed its workspace, as a patch, once it has ended."),
    function!("workspace"() -> "Workspace?", "Its workspace as its agent left it, with its history: to give to another bottle, where `refs/bottler/start` is what it began at."),
    function!("save_patch"("path": "string") -> "string", "Writes the patch below the directory of the launch, never over a file that is there; the path that it got."),
    CLOSE,
];

/// Every class, in the order of the reference.
pub fn classes() -> Vec<Class> {
    let mut found = handles();
    found.extend(creating());
    found.extend(asking());
    found.extend(results());
    // Several structures refer to the same ones.
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
            &[("name", "string", "Its name."), ("prompt_path", "string?", "Where its prompt is.")],
            CONTAINER,
        ),
        handle(
            "Bottle",
            "A bottle that this one launched.",
            &[("id", "string", "Its id."), ("slug", "string", "The beginning of its id.")],
            BOTTLE,
        ),
        handle("Secret", "A value that formats but never prints.", &[], &[]),
        handle("Workspace", "A workspace as an agent left it.", &[], &[]),
        handle(
            "Failure",
            "What `pcall` gives where a primitive failed; raised again it is the same failure.",
            &[
                ("message", "string", "What was attempted, on what, and why it failed."),
                (
                    "kind",
                    "\"input\"|\"engine\"|\"operation\"|\"name\"|\"isolation\"|\"internal\"|\"cancelled\"",
                    "What kind of failure.",
                ),
                ("hint", "string?", "What to do."),
                ("at", "string?", "The script line: `my.lua:3`."),
                ("causes", "string[]", "Further facts, nearest first."),
            ],
            &[],
        ),
    ]
}

/// What creating primitives take.
fn creating() -> Vec<Class> {
    let mut found = written::<primitive::ImageOptions>("ImageOptions", &[]);
    found.extend(written::<primitive::NetworkOptions>("NetworkOptions", &[]));
    found.extend(written::<primitive::VolumeOptions>("VolumeOptions", &[]));
    found.extend(written::<primitive::SidecarOptions>(
        "SidecarOptions",
        &[
            ("network?", "Network|Network[]", "The networks that it is on."),
            ("sidecars?", "table<string, Sidecar>", "For egress: sidecars that it lets through, by host name."),
            (
                "egress?",
                "Sidecar",
                "For a role that goes out through it: an egress, which was started since the script last waited for something.",
            ),
        ],
    ));
    found.extend(written::<primitive::ServiceOptions>(
        "ServiceOptions",
        &[
            ("image", "string|Image", "Its image, which the engine has."),
            ("env?", "table<string, string|number|Secret>", "Variables of its command; the way for secrets."),
            ("volumes?", "table<string, Volume>", "Volumes by the paths where it sees them."),
        ],
    ));
    found.push(options(
        "AgentOptions",
        "What `run_agent` takes.",
        &[
            ("image", "Image", "Its image."),
            ("network?", "Network", "The network it is on; none at all when absent, and the probe refuses any."),
            ("egress", "Sidecar", "Its only way out."),
            ("config", "AgentPlan", "What it is; `plan.agent`."),
        ],
    ));
    found.extend(written::<primitive::ProvisionOptions>(
        "ProvisionOptions",
        &[
            ("env?", "table<string, string|number|Secret>", "Variables of the command alone; the way for secrets."),
            ("probe?", "Sidecar", "Where the agent `probe` is to be received."),
        ],
    ));
    found.extend(written::<primitive::ChildOptions>(
        "BottleOptions",
        &[(
            "workspace?",
            "table<string, string>|boolean|Workspace",
            "Files of its workspace by path; `true` for this bottle's own; or as another bottle left it.",
        )],
    ));
    found
}

/// What methods and the small functions take.
fn asking() -> Vec<Class> {
    let mut found = written::<primitive::ExecOptions>("ExecOptions", &[]);
    found.extend(written::<primitive::LogOptions>("LogOptions", &[]));
    found.extend(written::<primitive::CopyInOptions>(
        "CopyInOptions",
        &[("content", "string", "What is in it: any bytes.")],
    ));
    found.extend(written::<primitive::CopyOutOptions>("CopyOutOptions", &[]));
    found.extend(written::<primitive::StopOptions>("StopOptions", &[]));
    found.extend(written::<primitive::WaitOptions>("WaitOptions", &[]));
    found.extend(written::<primitive::HostOptions>("HostOptions", &[]));
    found.push(options("FailOptions", "What `fail` takes.", &[("hint?", "string", "What to do.")]));
    found.push(options(
        "PromptOptions",
        "What `prompt` takes.",
        &[("secret?", "boolean", "Whether the answer is a secret.")],
    ));
    found
}

/// What functions and methods give, and what hooks are.
fn results() -> Vec<Class> {
    let mut found = read::<primitive::ExecResult>("ExecResult");
    found.extend(read::<crate::engine::ContainerState>("ContainerState"));
    found.extend(read::<primitive::ImageInfo>("ImageInfo"));
    found.push(result("ExitResult", "How a command ended.", &[("exit_code", "integer", "Its exit code.")]));
    found.push(result(
        "NetworkInfo",
        "What is known about a network.",
        &[("id", "string", "Its id on the engine."), ("subnet", "string", "Its address range, as CIDR.")],
    ));
    found.push(result("VolumeInfo", "What is known about a volume.", &[("id", "string", "Its name on the engine.")]));
    let mut plan = read::<plan::LaunchPlan>("Plan");
    // A recipe may put more into these sections than a plan has by itself.
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
                "By name: may edit the options of a thing before it is created.",
            ),
            ("after?", "table<string, fun(handle: any, bottle: HookContext)>", "By name: gets the handle of a thing."),
            (
                "replace?",
                "table<string, fun(options: table, bottle: HookContext): any>",
                "By name: creates the thing itself, and returns its handle.",
            ),
            (
                "on_failure?",
                "fun(failure: Failure, bottle: HookContext)",
                "The project's only: runs when the launch has failed, before the teardown.",
            ),
            ("on_teardown?", "fun(bottle: HookContext)", "The project's only: runs first of the teardown."),
        ],
    ));
    found.push(result(
        "HookContext",
        "What hooks know about their bottle.",
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
    // What is taken out of the table before the structure is read.
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
