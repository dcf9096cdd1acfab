//! What the native engine makes of the containers of a launch, word for word: mounts, identities, bounds. The containers are those
//! that a recipe asks an engine in memory for. `BLESS=1 tests/run unit native_plans` writes the files anew.

use std::path::Path;

use bottler::engine::fake::FakeEngine;
use bottler::engine::native::preview;
use bottler::engine::{ContainerSpec, VolumeMount};

use crate::support::fake::{ID, Launch, built_in, plan};

/// The ordinary user of these files.
const USER: u32 = 64_123;

/// The containers of the probe's launch, and the one that repeats its proof beside the agent.
async fn containers() -> (Launch, Vec<(&'static str, ContainerSpec)>) {
    let launch = Launch::on(FakeEngine::keeping_layers());
    let outcome = launch.run(&built_in("probe"), plan()).await;
    assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
    let created = launch.engine.created();
    let named = |name: &str| created.iter().find(|spec| spec.name == name).cloned();
    let agent = named(ID).expect("there is an agent");
    let beside = ContainerSpec {
        name: format!("{ID}-prover"),
        command: vec!["/bottler".into(), "prove-beside".into()],
        hostname: String::new(),
        beside: Some(ID.to_owned()),
        mounts: agent.mounts.iter().map(|mount| VolumeMount { read_only: true, ..mount.clone() }).collect(),
        user: "65532:65532".into(),
        ..ContainerSpec::closed(
            String::new(),
            agent.image.clone(),
            Vec::new(),
            String::new(),
            agent.resources,
            agent.identity.clone(),
        )
    };
    let egress = named(&format!("{ID}-egress")).expect("there is an egress");
    let counterpart = named(&format!("{ID}-counterpart")).expect("there is a counterpart");
    (launch, vec![("agent", agent), ("beside", beside), ("egress", egress), ("counterpart", counterpart)])
}

#[tokio::test(start_paused = true)]
async fn the_native_engines_plans_are_as_reviewed() {
    let (launch, containers) = containers().await;
    let agent = containers[0].1.clone();
    let mut wrong = Vec::new();
    for (name, spec) in &containers {
        let layer = launch.engine.layer(&spec.image).expect("the image was made");
        let beside = spec.beside.as_ref().map(|_| &agent);
        for (who, user) in [("root", None), ("user", Some(USER))] {
            let plan = preview(spec, &layer, user, beside).unwrap();
            let text = serde_json::to_string_pretty(&plan).unwrap() + "\n";
            let file = format!("{name}.{who}.json");
            let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/native").join(&file);
            if std::env::var_os("BLESS").is_some() {
                std::fs::create_dir_all(golden.parent().unwrap()).unwrap();
                std::fs::write(&golden, &text).unwrap();
            }
            if text != std::fs::read_to_string(&golden).unwrap_or_default() {
                wrong.push(format!("{file}:\n{text}"));
            }
        }
    }
    assert!(wrong.is_empty(), "BLESS=1 tests/run unit native_plans, and read the difference: {}", wrong.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn what_the_native_engine_cannot_do_is_refused_with_what_can() {
    let (launch, containers) = containers().await;
    let agent = &containers[0].1;
    let layer = launch.engine.layer(&agent.image).unwrap();
    let spec = |change: fn(&mut ContainerSpec)| {
        let mut spec = agent.clone();
        change(&mut spec);
        spec
    };
    for (spec, word) in [
        (spec(|it| it.runtime = Some("runsc".into())), "runsc"),
        (spec(|it| it.disk = Some(1)), "resources.disk"),
        (spec(|it| it.user = "agent".into()), "not a number"),
    ] {
        let why = preview(&spec, &layer, None, None).unwrap_err();
        assert!(why.contains(word), "{word}: {why}");
    }
}
