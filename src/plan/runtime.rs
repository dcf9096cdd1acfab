//! The container runtime: which one of those that the engine lists, and what that means for the isolation.

use super::{Isolation, LaunchPlan};
use crate::engine::{EngineDetails, Product, Runtime};
use crate::policy::EgressEngine;

/// The word of a manifest for the best that the engine lists.
pub(super) const AUTO: &str = "auto";
/// gVisor's runtime, by the name that its documentation registers it under.
const RUNSC: &str = "runsc";

/// Why a plan cannot be carried out on this engine, and what to do.
type Unsettled = (String, String);

/// Decides what a plan leaves to the engine: gVisor where the engine lists it and nothing else is said. Its containers are
/// sealed where they may use foreign unix sockets, and otherwise on a network of their own. Idempotent.
///
/// # Errors
/// The engine does not list the runtime, or the runtime cannot do what the isolation needs.
pub fn settle(plan: &mut LaunchPlan, engine: &EngineDetails) -> Result<(), Unsettled> {
    if engine.product == Product::Native {
        return check_native(plan);
    }
    check_bounds(plan)?;
    let name = match &plan.runtime {
        Some(name) => name.clone(),
        // Podman lists what it would know how to use, be it there or not.
        None if engine.product == Product::Docker && engine.runtimes.contains_key(RUNSC) => RUNSC.to_owned(),
        None => engine.default_runtime.clone(),
    };
    // Engines that are not Docker may list none.
    let unlisted = Runtime { path: name.clone(), arguments: Vec::new() };
    let runtime = match engine.runtimes.get(&name) {
        Some(runtime) => runtime,
        None if plan.runtime.is_none() => &unlisted,
        None => {
            let listed: Vec<&str> = engine.runtimes.keys().map(String::as_str).collect();
            let why = format!("the engine lists no runtime {name:?}");
            return Err((why, format!("it lists {}; `auto` chooses the best of them", listed.join(", "))));
        }
    };
    plan.gvisor = runtime.path.rsplit('/').next() == Some(RUNSC) || name == RUNSC;
    if plan.gvisor && plan.isolation == Isolation::Sealed && !opens_sockets(runtime) {
        if plan.isolation_said {
            return Err((
                format!(
                    "isolation: sealed needs the sidecars' unix sockets, and the engine's runtime {name} does not open them"
                ),
                "register it with runtimeArgs [\"--host-uds=open\"], or `isolation: bridge`, or `runtime: runc`"
                    .to_owned(),
            ));
        }
        plan.isolation = Isolation::Bridge;
    }
    if plan.isolation == Isolation::Bridge && engine.product == Product::Podman {
        let why =
            "isolation: bridge cannot be proved on Podman, which makes a network's bridge with its first container";
        return Err((why.to_owned(), "isolation: sealed".to_owned()));
    }
    plan.runtime = (name != engine.default_runtime).then_some(name);
    Ok(())
}

/// Refuses `bounds: best-effort` on an engine that always has bounds.
///
/// # Errors
/// The plan asks for it: there, it would have no effect.
pub fn check_bounds(plan: &LaunchPlan) -> Result<(), Unsettled> {
    if !plan.best_effort_bounds {
        return Ok(());
    }
    let why = "bounds: best-effort has no effect on Docker and Podman, which always bound memory and processes";
    Err((why.to_owned(), "leave it out, or launch on the native engine: `--engine native`".to_owned()))
}

/// What the native engine cannot do yet, said before anything is made.
fn check_native(plan: &LaunchPlan) -> Result<(), Unsettled> {
    let hint = || "start Docker or Podman, or name one: `--engine docker`, DOCKER_HOST".to_owned();
    if plan.image.build.is_some() || plan.image.source != "self" {
        let why = "image: the native engine, which is used where neither Docker nor Podman listens, runs bottler's own images only";
        return Err((why.to_owned(), hint()));
    }
    if plan.isolation == Isolation::Bridge {
        return Err((
            "isolation: bridge needs bridges, which the native engine does not make".to_owned(),
            "isolation: sealed".to_owned(),
        ));
    }
    if plan.egress.engine == EgressEngine::Pipelock {
        return Err((
            "egress: engine: pipelock runs from an image, and the native engine runs bottler's own only".to_owned(),
            hint(),
        ));
    }
    if let Some(name) = plan.runtime.as_ref().filter(|name| name.as_str() != AUTO) {
        return Err((format!("runtime: the native engine has no runtime {name:?}"), hint()));
    }
    Ok(())
}

/// Whether containers of gVisor may connect to sockets that others have made (`runsc flags`; the older flag is deprecated).
fn opens_sockets(runtime: &Runtime) -> bool {
    runtime.arguments.iter().any(|argument| {
        let argument = argument.trim_start_matches('-');
        match argument.split_once('=') {
            Some(("host-uds", value)) => value == "open" || value == "all",
            Some(("fsgofer-host-uds", value)) => value == "true",
            None => argument == "fsgofer-host-uds",
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(arguments: &[&str]) -> EngineDetails {
        let runtime = |path: &str, arguments: &[&str]| Runtime {
            path: path.to_owned(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
        };
        let runtimes = [("runc", runtime("runc", &[])), ("runsc", runtime("/usr/bin/runsc", arguments))];
        EngineDetails {
            runtimes: runtimes.into_iter().map(|(name, runtime)| (name.to_owned(), runtime)).collect(),
            default_runtime: "runc".into(),
            ..EngineDetails::default()
        }
    }

    #[test]
    fn auto_is_gvisor_where_it_is_listed_and_sealed_where_its_sockets_are_open() {
        for (arguments, isolation) in [
            (&["--platform=ptrace", "--host-uds=open"][..], Isolation::Sealed),
            (&["-fsgofer-host-uds"], Isolation::Sealed),
            (&["--host-uds=create"], Isolation::Bridge),
            (&[], Isolation::Bridge),
        ] {
            let mut plan = super::super::probe("p-1");
            settle(&mut plan, &engine(arguments)).unwrap();
            assert_eq!((plan.runtime.as_deref(), plan.gvisor, plan.isolation), (Some("runsc"), true, isolation));
            let before = plan.clone();
            settle(&mut plan, &engine(arguments)).unwrap();
            assert_eq!(serde_json::to_value(before).unwrap(), serde_json::to_value(plan).unwrap());
        }
    }

    #[test]
    fn what_is_said_is_done_or_refused() {
        let mut plan = super::super::probe("p-1");
        plan.runtime = Some("runc".into());
        settle(&mut plan, &engine(&[])).unwrap();
        assert_eq!((plan.runtime, plan.gvisor, plan.isolation), (None, false, Isolation::Sealed));

        let mut plan = super::super::probe("p-1");
        plan.runtime = Some("kata".into());
        let (why, hint) = settle(&mut plan, &engine(&[])).unwrap_err();
        assert!(why.contains("kata") && hint.contains("it lists runc, runsc"), "{why} {hint}");

        let mut plan = super::super::probe("p-1");
        plan.isolation_said = true;
        assert!(settle(&mut plan, &engine(&[])).unwrap_err().0.contains("sealed"));
    }

    #[test]
    fn best_effort_bounds_are_refused_where_they_have_no_effect() {
        for product in [Product::Docker, Product::Podman] {
            let mut plan = super::super::probe("p-1");
            plan.best_effort_bounds = true;
            let (why, hint) = settle(&mut plan, &EngineDetails { product, ..engine(&[]) }).unwrap_err();
            assert!(why.contains("bounds: best-effort") && hint.contains("--engine native"), "{why} {hint}");
        }
    }

    #[test]
    fn an_engine_without_gvisor_keeps_its_own() {
        let mut plan = super::super::probe("p-1");
        settle(&mut plan, &EngineDetails { default_runtime: "crun".into(), ..EngineDetails::default() }).unwrap();
        assert_eq!((&plan.runtime, plan.gvisor), (&None, false));
        let podman = EngineDetails { product: Product::Podman, ..engine(&[]) };
        settle(&mut plan, &podman).unwrap();
        assert_eq!((&plan.runtime, plan.gvisor), (&None, false));
        plan.isolation = Isolation::Bridge;
        assert!(settle(&mut plan, &podman).unwrap_err().0.contains("Podman"));
    }
}
