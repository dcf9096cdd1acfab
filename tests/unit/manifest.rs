//! The manifest as its authors use it: plans without an engine, mistakes with their locations, a project's limits.
//! The plans of all templates are compared exactly; `BLESS=1 tests/run unit` rewrites them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::documents::Readme;
use crate::support::process::{Done, bottler};
use crate::support::tmux::Tmux;
use bottler::manifest::{AgentTemplate, schema};

/// A separate configuration, state directory and project; the engine's address leads nowhere.
pub(crate) struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let home = Self { folder: tempfile::tempdir().unwrap() };
        for (path, text) in files {
            home.write(path, text);
        }
        std::fs::create_dir_all(home.path("project")).unwrap();
        home
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(bottler());
        command.args(arguments).current_dir(self.path("project")).stdin(Stdio::null()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", self.path("home"));
        command.env("XDG_CONFIG_HOME", self.path("config")).env("XDG_STATE_HOME", self.path("state"));
        command.env("DOCKER_HOST", "unix:///nowhere/docker.sock").env("GIT_CONFIG_GLOBAL", "/dev/null");
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Done {
        self.command(arguments).output().unwrap().into()
    }

    pub(crate) fn plan(&self, arguments: &[&str]) -> serde_json::Value {
        let done = self.run(&[&["run", "--dry-run", "--format", "json", "--name", "planned"], arguments].concat());
        assert_eq!(done.code(), 0, "{}", done.stderr);
        done.json()
    }

    pub(crate) fn fails(&self, arguments: &[&str], words: &[&str]) {
        let done = self.run(arguments);
        assert_eq!(done.code(), 120, "{arguments:?}: {}", done.stderr);
        for word in words {
            assert!(done.stderr.contains(word), "{arguments:?}: {word:?} is not in {}", done.stderr);
        }
        assert!(!self.path("state/bottler/bottles").read_dir().is_ok_and(|mut entries| entries.next().is_some()));
    }
}

#[test]
fn the_schema_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("stdlib/_meta/manifest.schema.json");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, schema()).unwrap();
    }
    assert!(std::fs::read_to_string(&path).unwrap() == schema(), "{} is old: BLESS=1 tests/run unit", path.display());
}

/// Every template, with and without a terminal: exactly what would be launched. For templates that cannot run here,
/// because their programs are in registries that tests do not use, this is the only test.
#[test]
fn every_template_has_its_plan() {
    let home = Home::new(&[("project/README", "hello\n"), ("config/bottler/skills/review/SKILL.md", "Review.\n")]);
    for name in AgentTemplate::names() {
        let template = AgentTemplate::built_in(name).unwrap();
        let rich = !template.headless.is_empty();
        let mcp = template.mcp.is_some();
        let agent = format!(
            "agents: {{it: {{template: {name}{}{}}}}}\n",
            if template.skills.is_some() { ", skills: [review]" } else { "" },
            if mcp { ", mcp: {docs: {url: \"https://mcp.example.com/mcp\"}}" } else { "" }
        );
        home.write("config/bottler/bottler.yaml", &agent);
        let mut plans = vec![("plan", home.plan(&["it"]))];
        if rich {
            let words = ["it", "--headless", "--prompt", "Fix it.", "--model", "small"];
            plans.push(("headless", home.plan(&words)));
        }
        for (kind, plan) in plans {
            let text = serde_json::to_string_pretty(&plan).unwrap() + "\n";
            let text = text.replace(&home.folder.path().display().to_string(), "/HOME");
            let golden =
                Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/plans").join(format!("{name}.{kind}.json"));
            if std::env::var_os("BLESS").is_some() {
                std::fs::write(&golden, &text).unwrap();
            }
            assert_eq!(text, std::fs::read_to_string(&golden).unwrap_or_default(), "{}", golden.display());
        }
    }
}

/// What every template's program reads, where it finds its placeholder, and where the value goes.
#[test]
fn every_template_has_its_credentials() {
    let mut all = serde_json::Map::new();
    for name in AgentTemplate::names() {
        let template = AgentTemplate::built_in(name).unwrap();
        let variables: Vec<&String> = template.credentials.iter().filter_map(|one| one.env.as_ref()).collect();
        let env: Vec<String> = variables.iter().map(|name| format!("{name}: '${{{name}}}'")).collect();
        let env = env.join(", ");
        let home = Home::new(&[(
            "config/bottler/bottler.yaml",
            &format!("{{bottles: {{b: {{env: {{{env}}}}}}}, agents: {{it: {{bottle: b, template: {name}}}}}}}"),
        )]);
        let mut command = home.command(&["run", "it", "--dry-run", "--format", "json"]);
        let done: Done = command.envs(variables.iter().map(|name| (name, "value-of-mine"))).output().unwrap().into();
        assert!(!done.stdout.contains("value-of-mine"), "{name}: {}", done.stdout);
        let plan = done.json()["plan"].clone();
        assert_eq!(plan["agent"]["secret_env"], serde_json::Value::Null, "{name}");
        if !variables.is_empty() {
            all.insert(name.to_owned(), plan["credentials"].clone());
        }
    }
    let text = serde_json::to_string_pretty(&all).unwrap() + "\n";
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/plans/credentials.json");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&golden, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&golden).unwrap_or_default(), "{}", golden.display());
}

#[test]
fn a_plan_is_put_together_from_agent_bottle_template_host_and_flags() {
    let home = Home::new(&[
        (
            "config/bottler/bottler.yaml",
            "bottles:
  base: {user: \"1234:1235\", env: {A: base, B: base}, egress: {allow: [a.example.com], mode: audit}}
  dev:
    extends: [base]
    image: mine:1
    resources: {cpus: 0.5, memory: 512MiB, pids: 64}
    env: {B: dev, PORT: 8080, ANTHROPIC_API_KEY: \"${MY_KEY}\", ASKED: \"?Paste it\"}
    env_file: [a.env]
    workspace: {path: /work, exclude: ['*.log']}
    egress: {allow: [b.example.com], mode: enforce}
agents:
  researcher: {bottle: dev, template: claude, prompt: Be brief., env: {A: agent}}
",
        ),
        ("config/bottler/a.env", "FROM_FILE=file-secret\n"),
        ("project/a.txt", "a\n"),
        ("project/b.log", "b\n"),
        ("project/.env", "SECRET=1\n"),
    ]);
    let mut command = home.command(&["run", "researcher", "--dry-run", "--format", "json", "--prompt", "Do it."]);
    let done: Done = command.env("MY_KEY", "host-secret").output().unwrap().into();
    assert_eq!(done.code(), 0, "{}", done.stderr);
    assert!(!done.stdout.contains("host-secret") && !done.stdout.contains("file-secret"), "{}", done.stdout);
    let plan = &done.json()["plan"];
    assert_eq!(plan["agent"]["env"]["A"], "agent");
    assert_eq!(plan["agent"]["env"]["B"], "dev");
    assert_eq!(plan["agent"]["env"]["PORT"], "8080");
    assert_eq!(plan["agent"]["secret_env"], serde_json::json!(["FROM_FILE", "ASKED"]));
    assert_eq!(done.json()["ask"]["ASKED"], "Paste it");
    assert_eq!(plan["agent"]["user"], "1234:1235");
    assert_eq!(plan["agent"]["workdir"], "/work");
    assert_eq!(plan["agent"]["resources"]["memory"], 512 << 20);
    assert_eq!(plan["image"], serde_json::json!({"source": "mine:1"}));
    assert_eq!(plan["prompt"], "Be brief.\n\nDo it.");
    let model = serde_json::json!({"host": "api.anthropic.com", "scan": "mask"});
    let hosts = serde_json::json!([model, "platform.claude.com", "a.example.com", "b.example.com"]);
    assert_eq!((&plan["egress"]["allow"], &plan["egress"]["mode"]), (&hosts, &"enforce".into()));
    let places = serde_json::json!([{"host": "api.anthropic.com", "slot": "header:x-api-key"},
        {"host": "api.anthropic.com", "slot": "bearer"}]);
    let credential = serde_json::json!([{"name": "anthropic-api-key", "source": "env:MY_KEY", "shape": "anthropic",
        "env": "ANTHROPIC_API_KEY", "hosts": ["api.anthropic.com"], "places": places}]);
    assert_eq!(plan["credentials"], credential);
    let workspace = &done.json()["workspace"];
    let expected = serde_json::json!({"files": 2, "git_elsewhere": null, "left_out": [], "look_secret": [".env"]});
    assert_eq!(workspace, &expected);
    // The same as text.
    let mut command = home.command(&["run", "researcher", "--dry-run"]);
    let said: Done = command.env("MY_KEY", "host-secret").output().unwrap().into();
    for words in [
        "secrets     only for the agent: FROM_FILE, ASKED (asked for)",
        "egress      4 hosts: api.anthropic.com, platform.claude.com, a.example.com and 1 more",
        "masking     secrets in plain text are masked towards api.anthropic.com\n",
        "credential  anthropic-api-key, from env:MY_KEY; the agent has a placeholder in ANTHROPIC_API_KEY\n",
        "              goes only to api.anthropic.com, as header:x-api-key, bearer\n",
        "may contain secrets: .env",
    ] {
        assert!(said.stdout.contains(words), "{words}: {}", said.stdout);
    }
    assert!(!said.stdout.contains("host-secret"), "{}", said.stdout);
    home.fails(&["run", "researcher"], &["MY_KEY is not set", "bottler.yaml"]);
    assert_eq!(home.run(&["manifest", "check"]).code(), 0);
    let listed = home.run(&["manifest", "list", "--format", "json"]).json();
    assert_eq!(listed[0]["agent"], "researcher");
}

#[test]
fn mistakes_have_their_file_line_and_remedy() {
    let home = Home::new(&[
        ("config/bottler/bottler.yaml", "bottles:\n  dev:\n    imagee: x\n"),
        ("config/bottler/bottles/good.yaml", "image: i\n"),
        ("config/bottler/agents/fine.yaml", "{bottle: good, template: shell}\n"),
    ]);
    let words = ["bottler.yaml:3", "3 | imagee: x", "there is no key imagee", "column 5", "hint: did you mean image?"];
    home.fails(&["manifest", "check"], &words);
    // Agents that do not use it still work.
    assert_eq!(home.plan(&["fine"])["plan"]["image"]["source"], "i");
    home.fails(&["run", "nobody", "--dry-run"], &["did you mean image?"]);
    for (text, words) in [
        ("agents: {a: {bottle: gone}}", "there is no bottle \"gone\""),
        ("agents: {a: {template: cluade}}", "did you mean claude?"),
        ("agents: {a: {template: shell, prompt: x, prompt_file: y}}", "use one of them"),
        ("agents: {a: {template: shell, prompt_file: gone.md}}", "gone.md"),
        ("agents: {a: {template: aider, skills: [s]}}", "skill \"s\""),
        ("agents: {a: {template: shell, model: m}}", "takes no model"),
        ("{bottles: {b: {user: 1, resources: {memory: lots}}}}", "an amount of bytes"),
        (
            "{bottles: {b: {git: [{url: 'git@a.example:x.git'}]}}, agents: {a: {bottle: b, template: shell}}}",
            "identity_file: the gate needs a key",
        ),
        ("{bottles: {b: {env: {A: '${X'}}}, agents: {a: {bottle: b, template: shell}}}", "has no end"),
        ("{bottles: {b: {env: {A: '?x'}}}, agents: {a: {bottle: b, template: shell}}}", "no terminal"),
        ("{bottles: {b: {workspace: {path: /etc}}}, agents: {a: {bottle: b, template: shell}}}", "is not allowed"),
        ("a: [", "bottler.yaml"),
    ] {
        home.write("config/bottler/bottler.yaml", text);
        home.fails(&["run", "a"], &[words]);
    }
    // A home, or the root folder, is not a workspace.
    home.write("config/bottler/bottler.yaml", "");
    std::fs::create_dir_all(home.path("home")).unwrap();
    let mut command = home.command(&["run", "claude", "--dry-run"]);
    let done: Done = command.current_dir(home.path("home")).output().unwrap().into();
    assert!(done.code() == 120 && done.stderr.contains("all your files"), "{}", done.stderr);
}

/// A bottle's own credentials, those that it completes, and those of the bottles that it extends.
#[test]
fn credentials_are_merged_from_bottles_and_the_template() {
    let home = Home::new(&[
        (
            "config/bottler/bottler.yaml",
            "bottles:
  base:
    image: i
    credentials:
      - {name: github, source: 'file:token', shape: github, env: GH_TOKEN, hosts: [{host: api.github.com, slot: token}]}
      - name: anthropic-api-key
        source: op://Private/Anthropic/key
    egress: {allow: [api.github.com, github.com, gw.example.com]}
  dev:
    extends: [base]
    credentials:
      - name: github
        hosts: [{host: github.com, slot: 'basic:x-access-token', methods: [GET], paths: ['/acme/**']}]
  gateway:
    extends: [base]
    env: {ANTHROPIC_BASE_URL: https://gw.example.com}
    credentials: [{name: anthropic-api-key, source: {command: [token, --now]}, hosts: [gw.example.com]}]
agents:
  dev: {bottle: dev, template: claude}
  gateway: {bottle: gateway, template: claude}
  codex: {template: codex}
  none: {template: claude}
",
        ),
        ("config/bottler/token", "ghp_not_a_token"),
    ]);
    let credentials = |agent: &str| home.plan(&[agent])["plan"]["credentials"].clone();
    let found = credentials("dev");
    assert_eq!(found[0]["source"], format!("file:{}", home.path("config/bottler/token").display()));
    let place = serde_json::json!([{"host": "github.com", "slot": "basic:x-access-token", "methods": ["GET"],
        "paths": ["/acme/**"]}]);
    assert_eq!((&found[0]["places"], &found[0]["shape"]), (&place, &"github".into()));
    // What it does not say is the template's.
    assert_eq!((&found[1]["env"], &found[1]["shape"]), (&"ANTHROPIC_API_KEY".into(), &"anthropic".into()));
    assert_eq!(
        (&found[1]["source"], &found[1]["hosts"][0]),
        (&"op://Private/Anthropic/key".into(), &"api.anthropic.com".into())
    );
    let found = credentials("gateway");
    assert_eq!(found[1]["source"], serde_json::json!({"command": ["token", "--now"]}));
    let place = |slot: &str| serde_json::json!({"host": "gw.example.com", "slot": slot});
    assert_eq!(found[1]["places"], serde_json::json!([place("header:x-api-key"), place("bearer")]));
    // Where there is no key, it is said before anything is made, with what would be read, and what to do.
    let said = home.run(&["run", "none", "--dry-run"]).stdout;
    for words in ["NO KEY      claude reads ANTHROPIC_API_KEY, CLAUDE_CODE_OAUTH_TOKEN", "export ANTHROPIC_API_KEY=…"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(home.run(&["run", "claude", "--dry-run"]).stdout.contains("bottler init"));
    assert_eq!(home.plan(&["none"])["unset"][0], "ANTHROPIC_API_KEY");
    // Another program than the template's, or a literal for a server that takes any key, needs none.
    assert_eq!(home.plan(&["none", "--", "sh"])["unset"], serde_json::Value::Null);
    assert!(!home.run(&["run", "dev", "--dry-run"]).stdout.contains("NO KEY"));
}

/// For the agents of all vendors: where no key is given, and where the manifest takes it from a variable that is not set.
#[test]
fn a_missing_key_of_every_agent_is_said_at_plan_time() {
    for (template, variable) in [
        ("claude", "ANTHROPIC_API_KEY"),
        ("codex", "OPENAI_API_KEY"),
        ("gemini", "GEMINI_API_KEY"),
        ("opencode", "ANTHROPIC_API_KEY"),
        ("copilot", "COPILOT_GITHUB_TOKEN"),
        ("qwen", "OPENAI_API_KEY"),
        ("pi", "ANTHROPIC_API_KEY"),
        ("aider", "ANTHROPIC_API_KEY"),
    ] {
        let home = Home::new(&[]);
        let said = home.run(&["run", template, "--dry-run"]).stdout;
        let reads = format!("NO KEY      {template} reads {variable}");
        assert!(said.contains(&reads) && said.contains("bottler init"), "{template}: {said}");
        let mut init = home.command(&["init", "--template", template]);
        assert!(init.env(variable, "a-key-of-some-length").output().unwrap().status.success());
        let expected = format!("{variable} is not set on this host");
        home.fails(&["run", "dev", "--dry-run"], &[&expected, &format!("export {variable}=")]);
        let mut run = home.command(&["run", "dev", "--dry-run"]);
        let done: Done = run.env(variable, "a-key-of-some-length").output().unwrap().into();
        let held = format!("from env:{variable}; the agent has a placeholder in {variable}");
        assert!(done.stdout.contains(&held) && !done.stdout.contains("NO KEY"), "{template}: {}", done.stdout);
    }
}

#[test]
fn a_credential_that_would_not_work_is_a_mistake_at_its_line() {
    let home = Home::new(&[]);
    let bottle = |credentials: &str, more: &str| {
        format!(
            "bottles:\n  b:\n    image: i\n    {more}\n    credentials:\n      - name: good\n        source: env:PATH\n        env: GOOD\n        hosts: [a.example.com]\n{credentials}\nagents:\n  a: {{bottle: b, template: shell}}\n"
        )
    };
    let allow = "egress: {allow: [a.example.com, {host: t.example.com, tls: tunnel}]}";
    let rest = "source: 'env:PATH', env: X, hosts: [a.example.com]";
    for (credentials, words) in [
        (format!("      - {{name: good, {rest}}}"), "there are two of this name"),
        ("      - {name: x, source: 'env:PATH', env: GOOD, hosts: [a.example.com]}".to_owned(), "has the variable GOOD, too"),
        ("      - {name: x, env: X, hosts: [a.example.com]}".to_owned(), "no source"),
        ("      - {name: x, source: 'env:PATH', hosts: [a.example.com]}".to_owned(), "it has no place"),
        ("      - {name: x, source: 'env:PATH', env: X}".to_owned(), "no `hosts`"),
        ("      - {name: x, source: 'env:PATH', env: X, hosts: [b.example.com]}".to_owned(), "not on the allowlist"),
        ("      - {name: x, source: 'env:PATH', env: X, hosts: [t.example.com]}".to_owned(), "is a tunnel"),
        ("      - {name: x, source: 'env:NOT_SET', env: X, hosts: [a.example.com]}".to_owned(), "NOT_SET is not set"),
        ("      - {name: x, source: hunter2hunter2, env: X, hosts: [a.example.com]}".to_owned(), "not a source"),
        ("      - {name: x, source: 'env:PATH', env: X, hosts: ['*.com']}".to_owned(), "hosts: "),
        ("      - {name: x, source: 'env:PATH', env: X, hosts: [{host: a.example.com, slot: cookie}]}".to_owned(), "not a slot"),
        (
            "      - {name: x, source: 'env:PATH', env: X, hosts: [{host: a.example.com, slot: 'header:Referer'}]}".to_owned(),
            "no credential stands there",
        ),
        (format!("      - {{name: x, shape: antropic, {rest}}}"), "there is no antropic"),
        (format!("      - {{name: x, shape: {{length: 3}}, {rest}}}"), "opaque shape"),
        (format!("      - {{name: 'a b', {rest}}}"), "not a credential's name"),
        (format!("      - {{name: x, sauce: y, {rest}}}"), "there is no key sauce"),
        ("      - {name: x, source: 'env:PATH', env: 'A=B', hosts: [a.example.com]}".to_owned(), "variable name"),
        (
            "      - {name: x, source: 'env:PATH', file: {path: x, content: '{placeholder}'}, hosts: [a.example.com]}".to_owned(),
            "not an absolute path",
        ),
        ("      - {name: x, source: 'env:PATH', file: {path: ~/x, content: y}, hosts: [a.example.com]}".to_owned(), "no {placeholder}"),
        (
            "      - {name: x, source: 'env:PATH', file: {path: ~/.gitconfig, content: '{placeholder}'}, hosts: [a.example.com]}".to_owned(),
            "is a file of its template",
        ),
    ] {
        home.write("config/bottler/bottler.yaml", &bottle(&credentials, allow));
        let said = home.run(&["run", "a", "--dry-run", "--workspace", "."]);
        assert_eq!(said.code(), 120, "{credentials}: {}", said.stderr);
        let has_line = words.starts_with("is a file") || said.stderr.contains("bottler.yaml:10");
        assert!(said.stderr.contains(words) && has_line, "{credentials}: {words}: {}", said.stderr);
    }
    home.write("config/bottler/bottler.yaml", &bottle("", allow));
    assert_eq!(home.plan(&["a"])["plan"]["credentials"][0]["name"], "good");
    // The variable is one thing or the other.
    home.write("config/bottler/bottler.yaml", &bottle("", "env: {GOOD: '${PATH}'}"));
    home.fails(&["run", "a", "--dry-run"], &["GOOD is set by `env`", "bottler.yaml:6"]);
    assert_eq!(home.run(&["manifest", "check"]).code(), 120);
}

/// Real programs in the place of password managers: what is found is told by its length alone.
#[test]
fn sources_are_checked_without_a_launch() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new(&[
        (
            "config/bottler/bottler.yaml",
            "bottles:
  b:
    image: i
    egress: {allow: [a.example.com]}
    credentials:
      - {name: one, source: 'op://v/i/f', env: ONE, hosts: [a.example.com]}
      - {name: two, source: 'pass:nothing', env: TWO, hosts: [a.example.com]}
      - {name: three, source: 'prompt:Paste it', env: THREE, hosts: [a.example.com]}
      - {name: four, source: 'env:FOUR', env: FOUR, hosts: [a.example.com]}
agents: {a: {bottle: b, template: shell}, c: {template: gemini}}
",
        ),
        ("bin/op", "#!/bin/sh\necho ran >> \"$HOME/../runs\"\nprintf 'value-of-%s' \"$3\"\n"),
        ("bin/pass", "#!/bin/sh\necho 'nothing is not in the password store' >&2\nexit 1\n"),
        ("home/.keep", ""),
    ]);
    for program in ["op", "pass"] {
        std::fs::set_permissions(home.path("bin").join(program), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", home.path("bin").display(), std::env::var("PATH").unwrap());
    let run = |arguments: &[&str]| -> Done {
        home.command(arguments).env("PATH", &path).env("FOUR", "value-of-four").output().unwrap().into()
    };
    let done = run(&["credentials", "check"]);
    assert_eq!(done.code(), 120, "{}", done.stderr);
    for words in [
        "found, 19 bytes",
        "found, 13 bytes",
        "pass failed with exit code 1: nothing is not in",
        "asked for at the launch",
    ] {
        assert!(done.stdout.contains(words), "{words}: {}", done.stdout);
    }
    for words in
        ["hint: two of a: it must work without asking: try `pass show nothing`", "note: gemini reads GEMINI_API_KEY"]
    {
        assert!(done.stderr.contains(words), "{words}: {}", done.stderr);
    }
    assert!(!done.stdout.contains("value-of") && !done.stderr.contains("value-of"));
    let rows = run(&["credentials", "check", "a", "--format", "json"]).json();
    assert_eq!((&rows[0]["found"], &rows[0]["length"]), (&true.into(), &19.into()));
    assert_eq!((&rows[1]["found"], &rows[2]["found"]), (&false.into(), &serde_json::Value::Null));
    assert!(!rows.to_string().contains("value-of"), "{rows}");
    // A plan alone runs no command.
    let runs = || std::fs::read_to_string(home.path("runs")).unwrap_or_default().lines().count();
    assert_eq!(runs(), 2);
    assert_eq!(run(&["run", "a", "--dry-run"]).code(), 0);
    assert_eq!(runs(), 2);
    assert_eq!(run(&["credentials", "check", "nobody"]).code(), 120);
    assert_eq!(run(&["credentials", "check", "c"]).code(), 0);
}

#[test]
fn a_projects_agents_use_what_they_are_let_and_name_nothing_of_the_host() {
    let home = Home::new(&[
        ("config/bottler/bottler.yaml", "bottles: {dev: {image: i}, other: {image: j}}\n"),
        ("project/.bottler/bottler.yaml", "agents: {theirs: {bottle: dev, template: shell}}\n"),
        ("project/.bottler/agents/md.md", "---\nbottle: dev\ntemplate: claude\nskills: [s]\n---\nDo it.\n"),
        ("project/.bottler/skills/s/SKILL.md", "A skill.\n"),
    ]);
    home.fails(&["run", "theirs", "--dry-run"], &["is not trusted"]);
    assert_eq!(home.run(&["trust"]).code(), 0);
    home.fails(&["run", "theirs", "--dry-run"], &["only the bottles that you allow", "projects"]);
    let allowed = format!(
        "bottles: {{dev: {{image: i}}, other: {{image: j}}}}\nprojects: [{{path: {}, bottles: [dev]}}]\n",
        home.path("project").display()
    );
    home.write("config/bottler/bottler.yaml", &allowed);
    assert_eq!(home.plan(&["theirs"])["plan"]["image"]["source"], "i");
    let plan = home.plan(&["md"]);
    assert_eq!(plan["plan"]["prompt"], "Do it.");
    let files = plan["plan"]["provision"]["files"].as_array().unwrap();
    assert!(files.iter().any(|file| file["path"] == "/home/agent/.claude/skills/s/SKILL.md"), "{files:?}");
    for (agent, words) in [
        ("bottle: other, template: shell", "only the bottles"),
        ("template: shell", "only the bottles"),
        ("bottle: dev, template: shell, env: {A: '${HOME}'}", "variables of the host"),
        ("bottle: dev, template: shell, env: {A: '?x'}", "variables of the host"),
        ("bottle: dev, template: shell, prompt_file: ../../secret", "no such file below"),
        ("bottle: dev, template: shell, prompt_file: /etc/passwd", "no such file below"),
        ("bottle: dev, template: claude, skills: [../../x]", "no such files below"),
        ("bottle: dev, template: shell, recipe: /tmp/evil.lua", "a built-in recipe"),
    ] {
        home.write("project/.bottler/bottler.yaml", &format!("agents: {{theirs: {{{agent}}}}}\n"));
        assert_eq!(home.run(&["trust"]).code(), 0);
        home.fails(&["run", "theirs", "--dry-run"], &[words]);
    }
    home.write("project/.bottler/bottler.yaml", "bottles: {mine: {}}\n");
    assert_eq!(home.run(&["trust"]).code(), 0);
    home.fails(&["run", "theirs", "--dry-run"], &["there is no key bottles"]);
}

#[test]
fn init_writes_a_manifest_that_is_right_and_overwrites_none() {
    let home = Home::new(&[]);
    let mut command = home.command(&["init"]);
    let done: Done = command.env("GEMINI_API_KEY", "x").output().unwrap().into();
    assert_eq!(done.code(), 0, "{}", done.stderr);
    let written = std::fs::read_to_string(home.path("config/bottler/bottler.yaml")).unwrap();
    assert!(written.contains("template: gemini") && written.contains("      GEMINI_API_KEY: ${GEMINI_API_KEY}"));
    assert_eq!(home.run(&["manifest", "check"]).code(), 0);
    home.fails(&["init"], &["already exists"]);
    assert_eq!(std::fs::read_to_string(home.path("config/bottler/bottler.yaml")).unwrap(), written);
}

/// On a real terminal: "no" is not a failure, and nothing was created. A secret is asked for and not shown.
#[test]
fn a_launch_is_asked_about_and_no_is_no_failure() {
    let home = Home::new(&[(
        "config/bottler/bottler.yaml",
        "bottles: {b: {image: i, env: {TOKEN: '?Paste it'}}}\nagents: {a: {bottle: b, template: shell}}\n",
    )]);
    let tmux = Tmux::new(&home.path("project"));
    let set = ["XDG_CONFIG_HOME=config", "XDG_STATE_HOME=state", "HOME=home"].map(|pair| {
        let (name, folder) = pair.split_once('=').unwrap();
        format!("{name}={}", home.path(folder).display())
    });
    let run = format!("env {} DOCKER_HOST=unix:///nowhere {} run a", set.join(" "), bottler().display());
    tmux.line(&format!("{run}; echo code=$?"));
    tmux.wait("launch? [y/N]");
    tmux.line("n");
    tmux.wait("nothing was launched");
    tmux.wait("code=0");
    tmux.clear();
    tmux.line(&format!("{run}; echo code=$?"));
    tmux.wait("launch? [y/N]");
    tmux.line("y");
    tmux.wait("TOKEN: Paste it:");
    tmux.line("hunter2-hunter2");
    // The engine is contacted only after that.
    let screen = tmux.wait("code=121");
    assert!(!screen.contains("hunter2"), "{screen}");
    // Cancelling at a question restores the terminal.
    tmux.clear();
    tmux.line(&format!("{run}; echo code=$?"));
    tmux.wait("launch? [y/N]");
    tmux.keys(&["C-c"]);
    tmux.wait("code=126");
    tmux.clear();
    tmux.line(&format!("{run} --yes; echo code=$?; stty -a | grep -cw -- -echo"));
    tmux.wait("TOKEN: Paste it:");
    tmux.keys(&["C-c"]);
    tmux.wait("code=126\n0\n");
}

#[test]
fn the_manifest_that_its_readme_shows_is_right() {
    let shown = Readme::read("src/manifest/README.md").file("bottler.yaml");
    let home = Home::new(&[("config/bottler/bottler.yaml", &shown)]);
    assert_eq!(home.run(&["manifest", "check"]).code(), 0);
    let mut command = home.command(&["run", "researcher", "--dry-run", "--format", "json"]);
    let done: Done = command.env("ANTHROPIC_API_KEY", "a-key-of-mine").output().unwrap().into();
    assert_eq!(done.json()["plan"]["egress"]["allow"].as_array().unwrap().len(), 5, "{}", done.stderr);
    home.write("config/bottler/bottler.yaml", &Readme::read("src/manifest/README.md").file("credentials.yaml"));
    assert_eq!(home.run(&["manifest", "check"]).code(), 0);
    assert_eq!(home.plan(&["dev"])["plan"]["credentials"][1]["places"][2]["slot"], "basic:x-access-token");
}

/// A recipe launches the manifest's agents, with the settings of their bottles; also without an engine.
#[test]
fn a_recipe_may_launch_the_manifests_agents() {
    let home = Home::new(&[
        (
            "config/bottler/bottler.yaml",
            "bottles: {b: {image: i}, c: {env: {A: '?x'}}}\nagents: {mine: {bottle: b, template: shell}, asks: {bottle: c, template: shell}}\n",
        ),
        (
            "project/two.lua",
            "return function(plan)\n  bottle('mine', { slug = 'one' }):wait()\n  bottle(plan.agent.name):wait()\nend\n",
        ),
        ("project/asks.lua", "return function()\n  bottle('asks'):wait()\nend\n"),
    ]);
    let done = home.run(&["lua", "check", "two.lua", "--agent", "mine"]);
    assert_eq!(done.code(), 0, "{}", done.stderr);
    assert!(done.stdout.contains("bottle") && done.stdout.contains("two.lua:2"), "{}", done.stdout);
    home.fails(&["lua", "check", "asks.lua"], &["A must be asked for", "asks.lua:2"]);
    // An agent's own recipe is a file beside the manifest.
    home.write("config/bottler/bottler.yaml", "agents: {own: {template: shell, recipe: own.lua}}\n");
    home.write("config/bottler/own.lua", "return function() end\n");
    let recipe = home.plan(&["own"])["recipe"].as_str().unwrap().to_owned();
    assert_eq!(PathBuf::from(recipe), home.path("config/bottler/own.lua"));
}

/// A project's scripts can only launch the agent that was launched, and the agents of bottles that the user allows
/// the project to use.
#[test]
fn a_projects_scripts_launch_only_what_the_user_lets_them() {
    let manifest = |projects: &str| {
        format!(
            "bottles:\n  dev: {{image: i}}\n  ops: {{image: j, env: {{TOKEN: secret-of-ops}}, egress: {{allow: [ops.example.com]}}}}\n\
             agents:\n  dev: {{bottle: dev, template: shell}}\n  ops: {{bottle: ops, template: shell}}\n  none: {{template: shell}}\n{projects}"
        )
    };
    // In the launch itself: its hooks also apply to the bottles that it launches.
    let hook = |agent: &str| {
        format!(
            "return {{ before = {{ agent = function(_, here)\n  if here.id == 'rehearsal-00000' then bottle('{agent}', {{ command = {{ 'x' }} }}):wait() end\nend }} }}\n"
        )
    };
    let home = Home::new(&[
        ("config/bottler/bottler.yaml", &manifest("")),
        ("project/.bottler/bottler.yaml", "agents: {theirs: {bottle: ops, template: shell}}\n"),
        ("project/.bottler/hooks.lua", &hook("ops")),
    ]);
    let check = |words: &[&str], arguments: &[&str]| {
        assert_eq!(home.run(&["trust"]).code(), 0);
        let done = home.run(&[&["lua", "check", "--agent"], arguments].concat());
        if words.is_empty() {
            assert_eq!(done.code(), 0, "{arguments:?}: {}", done.stderr);
        } else {
            assert_eq!(done.code(), 120, "{arguments:?}: {}", done.stderr);
        }
        for word in words {
            assert!(done.stderr.contains(word), "{arguments:?}: {word:?} is not in {}", done.stderr);
        }
    };
    let refused = ["agent ops is yours", "{path: …, bottles: [ops]}", ".bottler/hooks.lua:2"];
    check(&refused, &["dev"]);
    home.write(
        "config/bottler/bottler.yaml",
        &manifest(&format!("projects: [{{path: {}, bottles: [dev]}}]\n", home.path("project").display())),
    );
    check(&refused, &["dev"]);
    // Not through an agent that the project defines, nor one without a bottle.
    home.write("project/.bottler/hooks.lua", &hook("theirs"));
    check(&["a project may use only the bottles"], &["dev"]);
    home.write("project/.bottler/hooks.lua", &hook("none"));
    check(&["agent none is yours"], &["dev"]);
    // The launched agent is the user's choice, and so is what the user allows it.
    home.write("project/.bottler/hooks.lua", &hook("dev"));
    check(&[], &["ops"]);
    check(&[], &["dev"]);
    home.write("config/bottler/bottler.yaml", &manifest(""));
    check(&[], &["dev"]);
    check(&["agent dev is yours"], &["ops"]);
}

#[test]
fn bounds_that_bound_nothing_are_refused_in_a_manifest() {
    for bad in ["cpus: 0", "cpus: -1", "cpus: .nan", "cpus: .inf", "memory: 0", "pids: 0", "pids: -5", "disk: 0"] {
        let manifest = format!(
            "bottles: {{b: {{image: i, resources: {{{bad}}}}}}}\nagents: {{a: {{bottle: b, template: shell}}}}\n"
        );
        let home = Home::new(&[("config/bottler/bottler.yaml", &manifest)]);
        home.fails(&["run", "a", "--dry-run"], &["resources: ", bad.split(':').next().unwrap()]);
    }
}

/// Docker and Podman have no containers without bounds: accepting that would change nothing.
#[test]
fn best_effort_bounds_are_a_mistake_at_their_line_where_they_have_no_effect() {
    let bottles = "bottles:\n  loose:\n    image: self\n    bounds: best-effort\n  more: {extends: [loose]}\n  strict: {extends: [loose], bounds: required}\n";
    let agents = "agents:\n  a: {bottle: more, template: probe}\n  b: {bottle: strict, template: probe}\n";
    let home = Home::new(&[("config/bottler/bottler.yaml", &format!("{bottles}{agents}"))]);
    let words =
        ["bounds: best-effort has no effect on Docker", "bottler.yaml:4", "hint: leave it out", "--engine native"];
    for command in
        [&["run", "a", "--dry-run"][..], &["run", "a", "--yes"], &["run", "a", "--engine", "podman", "--yes"]]
    {
        home.fails(command, &words);
    }
    home.plan(&["b"]);
    home.plan(&["a", "--engine", "native"]);
}

#[test]
fn exclude_is_offered_for_a_copy_and_said_to_have_no_effect_on_a_mount() {
    let home = Home::new(&[
        (
            "config/bottler/bottler.yaml",
            "bottles: {b: {image: i, workspace: {exclude: ['*.pem']}}}\nagents: {a: {bottle: b, template: shell}}\n",
        ),
        ("project/x.pem", "s"),
        ("project/.env", "s"),
    ]);
    let shown = |mount: bool| {
        let done = home.run(&[&["run", "a", "--dry-run"][..], if mount { &["--mount"] } else { &[] }].concat());
        assert_eq!(done.code(), 0, "{}", done.stderr);
        done.stdout
    };
    let copy = shown(false);
    assert!(copy.contains("may contain secrets: .env; leave files out with `exclude`"), "{copy}");
    let mount = shown(true);
    assert!(
        mount.contains("may contain secrets: .env, x.pem; the agent can read them; a copy can leave files out"),
        "{mount}"
    );
    assert!(mount.contains("`exclude` HAS NO EFFECT on a mount: *.pem"), "{mount}");
}
