//! Presets as their users meet them: in manifests, templates, files and flags, with mistakes in each; and how they are shown.

use crate::manifest::Home;

/// What every unknown preset is told with.
const MEANT: &str = "there is no preset \"@pipy\" (did you mean \"@pypi\"?); there are @crates, @debian";

#[test]
fn an_unknown_preset_is_an_error_with_its_place_and_what_was_meant() {
    let home = Home::new(&[]);
    let manifest = |allow: &str| {
        format!(
            "bottles:\n  dev:\n    egress:\n      allow:\n        - a.com\n        - {allow}\nagents: {{a: {{bottle: dev, template: shell}}}}\n"
        )
    };
    home.write("config/bottler/bottler.yaml", &manifest("\"@pipy\""));
    home.fails(&["manifest", "check"], &["bottler.yaml:6", "6 | - \"@pipy\"", MEANT]);
    home.fails(&["run", "a", "--dry-run"], &["bottler.yaml:6", MEANT]);
    home.write("config/bottler/bottler.yaml", &manifest("{host: \"@pypi\", methods: [GET]}"));
    home.fails(&["run", "a", "--dry-run"], &["\"@pypi\" is a preset, which stands by itself"]);
    home.write("config/bottler/bottler.yaml", &manifest("{host: pypi.org, preset: {name: \"@pypi\", version: 1}}"));
    home.fails(&["run", "a", "--dry-run"], &["pypi.org: this is no entry of @pypi, version 1"]);
    home.write("config/bottler/bottler.yaml", "bottles: {dev: {egress: {deny: [\"@pypi\"]}}}\n");
    home.fails(&["manifest", "check"], &["bottler.yaml:1", "\"@pypi\" is a preset"]);
    home.write("config/bottler/bottler.yaml", "");
    home.write("config/bottler/templates/mine.yaml", "command: [sh]\nimage: i\nhosts:\n  - \"@pipy\"\n");
    home.fails(&["run", "mine", "--dry-run"], &["mine.yaml:4", MEANT]);
    home.write("project/egress.yaml", "mode: enforce\nallow:\n  - \"@pipy\"\n");
    home.fails(&["run", "shell", "--egress", "egress.yaml", "--dry-run"], &["egress.yaml", MEANT, "line 3"]);
    home.fails(&["run", "shell", "--allow", "@pipy", "--dry-run"], &["--allow", MEANT]);
    home.fails(&["run", "shell", "--deny", "@pypi", "--dry-run"], &["\"@pypi\" is a preset"]);
    home.fails(&["policy", "explain", "@pipy"], &[MEANT]);
    let folder = home.path("project").canonicalize().unwrap().display().to_string();
    home.write("config/bottler/grants/shell.yaml", &format!("- folder: {folder}\n  allow: \"@pipy\"\n"));
    home.fails(&["run", "shell", "--dry-run"], &["grants/shell.yaml", MEANT, "line 2"]);
    home.write("config/bottler/grants/shell.yaml", "");
    let recipe = |name: &str| {
        format!(
            "return recipe(function(plan)\n  local net = network_create {{ name = \"outside\" }}\n  local egress = \
             sidecar_start {{ name = \"egress\", role = \"egress\", network = net, allow = {{ \"{name}\" }} }}\n  local agent = \
             run_agent {{ image = build_image(plan.image), egress = egress, config = plan.agent }}\n  provision(agent, \
             plan.provision)\n  return agent\nend)\n"
        )
    };
    home.write("project/bad.lua", &recipe("@pipy"));
    home.fails(&["lua", "check", "bad.lua"], &["bad.lua:3", MEANT]);
    home.write("project/good.lua", &recipe("@pypi"));
    let done = home.run(&["lua", "check", "good.lua"]);
    assert_eq!(done.code(), 0, "{}", done.stderr);
}

/// A plan has the entries, whoever named the preset, and everybody who shows it shows the preset's name and version.
#[test]
fn a_preset_is_shown_expanded_with_its_name_and_version() {
    let home = Home::new(&[
        (
            "config/bottler/bottler.yaml",
            "bottles:\n  base: {egress: {allow: [\"@pypi\"]}}\n  dev: {extends: [base], egress: {allow: [a.com, \"@pypi\", \
             \"@github\"]}}\nagents: {a: {bottle: dev, template: mine}}\n",
        ),
        ("config/bottler/templates/mine.yaml", "command: [sh]\nimage: i\nhosts: [\"@npm\"]\n"),
    ]);
    let folder = home.path("project").canonicalize().unwrap().display().to_string();
    home.write("config/bottler/grants/dev.yaml", &format!("- folder: {folder}\n  allow: \"@go\"\n"));
    let allow = home.plan(&["a", "--allow", "@maven"])["plan"]["egress"]["allow"].clone();
    let allow = allow.as_array().unwrap();
    let of = |name: &str| allow.iter().filter(|entry| entry["preset"]["name"] == name).collect::<Vec<_>>();
    assert_eq!(of("@pypi").len(), 2, "once, although it is named twice: {allow:?}");
    assert_eq!((of("@maven").len(), of("@go").len(), of("@npm").len()), (2, 2, 2));
    let upload_pack = of("@github").into_iter().find(|entry| entry["methods"] == serde_json::json!(["POST"])).unwrap();
    let expected = serde_json::json!({"host": "github.com:443", "methods": ["POST"],
        "paths": ["/*/*/git-upload-pack", "/*/*/info/lfs/objects/batch"], "preset": {"name": "@github", "version": 1}});
    assert_eq!(*upload_pack, expected);
    let said = home.run(&["run", "a", "--dry-run", "--allow", "@maven"]).stdout;
    for words in [
        "egress      1 host: a.com; 5 presets\n",
        "preset      @pypi, version 1: GET, HEAD at pypi.org, files.pythonhosted.org\n",
        "preset      @maven, version 1: GET, HEAD at repo.maven.apache.org, repo1.maven.org\n",
        "; POST at github.com, gist.github.com\n",
        "saved grants: @go, from `grants/dev.yaml`",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn a_preset_is_printed_and_explains_what_it_allows() {
    let home = Home::new(&[]);
    let text = home.run(&["policy", "explain", "@pypi"]).stdout;
    assert!(text.starts_with("# Sources: https://") && text.contains("\nversion: 1\n"), "{text}");
    let json = home.run(&["policy", "explain", "@pypi", "--format", "json"]).json();
    assert_eq!((&json["version"], &json["allow"][0]["host"]), (&1.into(), &"pypi.org:443".into()));
    let explain = |words: &[&str]| home.run(&[&["policy", "explain"], words].concat()).stdout;
    let url = "https://pypi.org/simple/six/";
    assert_eq!(explain(&[url, "--allow", "@pypi"]), "allowed\nby @pypi, version 1\n");
    // An entry of the user's own allows it anyway.
    assert_eq!(explain(&[url, "--allow", "@pypi", "--allow", "pypi.org"]), "allowed\n");
    assert!(explain(&[url, "--allow", "@pypi", "--deny", "pypi.org"]).starts_with("refused: denied\n"));
    assert!(explain(&[url, "--allow", "@pypi", "--method", "POST"]).starts_with("refused: method_not_allowed\n"));
    assert!(
        explain(&["https://upload.pypi.org/legacy/", "--allow", "@pypi"]).starts_with("refused: host_not_allowed\n")
    );
    let refused = explain(&[url, "--allow", "*.pypi.org"]);
    let hint = "hint: \"*.pypi.org\" does not include pypi.org itself; add \"@pypi\" (for reading), or the host,";
    assert!(refused.contains(hint), "{refused}");
    let json = home.run(&["policy", "explain", url, "--allow", "@pypi", "--format", "json"]).json();
    assert_eq!(json["preset"], serde_json::json!({"name": "@pypi", "version": 1}));
}
