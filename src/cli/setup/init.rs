//! `bottler init`: writes a first manifest for the agent whose API key is set. It overwrites nothing.

use std::io::Write;
use std::path::PathBuf;

use crate::cli::failure::input;
use crate::cli::print::print_message;
use crate::manifest::{AgentTemplate, PlaceSection, user_file};
use crate::session::Failure;

/// What `init` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// The agent's template [default: the one whose API key is set in this shell, else claude]
    #[arg(long)]
    template: Option<String>,
    /// The file to write [default: ~/.config/bottler/bottler.yaml]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(in crate::cli) fn main(args: &Args) -> Result<u8, Failure> {
    let Some(file) = args.file.clone().or_else(user_file) else {
        return Err(input("neither XDG_CONFIG_HOME nor HOME is set").hint("bottler init --file FILE"));
    };
    let name = args.template.clone().unwrap_or_else(found);
    let template = AgentTemplate::built_in(&name).map_err(|error| input(error.to_string()))?;
    let text = starter(&name, &template, |variable| std::env::var_os(variable).is_some());
    let failed = |error: std::io::Error| {
        let failure = input(format!("write {}: {error}", file.display()));
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            failure.hint(
                "it already exists and was not changed; `bottler manifest check` checks it, --file FILE writes another",
            )
        } else {
            failure
        }
    };
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut out = std::fs::File::create_new(&file).map_err(failed)?;
    out.write_all(text.as_bytes()).map_err(failed)?;
    print_message(&format!("wrote {}; next: `bottler run dev --dry-run` in a project's folder", file.display()));
    Ok(0)
}

/// The template whose API key is set in this shell.
fn found() -> String {
    let has = |name: &&str| {
        let template = AgentTemplate::built_in(name);
        template.is_ok_and(|template| {
            template.credentials.iter().filter_map(|one| one.env.as_ref()).any(|env| std::env::var_os(env).is_some())
        })
    };
    ["claude", "codex", "gemini", "copilot"].iter().find(|name| has(name)).copied().unwrap_or("claude").to_owned()
}

/// The manifest's text.
fn starter(name: &str, template: &AgentTemplate, has: impl Fn(&str) -> bool) -> String {
    let mut env = String::new();
    let mut found = false;
    for credential in &template.credentials {
        let Some(variable) = &credential.env else { continue };
        let hosts: Vec<&str> = credential.hosts.iter().map(PlaceSection::host).collect();
        let hosts: Vec<&str> =
            hosts.iter().enumerate().filter(|(at, host)| !hosts[..*at].contains(host)).map(|(_, host)| *host).collect();
        // One key is enough, and of two a program takes one.
        let mark = if has(variable) && !found { "" } else { "# " };
        found |= has(variable);
        env.push_str(&format!(
            "      {mark}{variable}: ${{{variable}}}    # from this host; the agent gets a placeholder, {} the key\n",
            hosts.join(", ")
        ));
    }
    if env.is_empty() {
        env.push_str("      # TOKEN: ${TOKEN}               # from this host; only the agent receives it\n");
    }
    format!(
        r#"# Bottles and agents. `bottler manifest check` finds mistakes, `bottler run dev --dry-run` shows what a launch would do,
# `bottler manifest schema` prints a schema for editors.
bottles:
  dev:
    # The agent's image; without it, one is built for the template the first time.
    # image: my-image:1
    # build: {{context: ~/images/dev}}
    resources: {{cpus: 2, memory: 4GiB, pids: 512}}
    env:
{env}      # API_KEY: "?Paste the API key"   # asked for at every launch
    # The agent works on a copy of the folder that you launch it in; `bottler pull` fetches what it changed.
    workspace: {{mode: copy, exclude: [".env*"]}}
    keep: always
    egress:
      # In addition to what the template needs: hosts, and presets (`bottler policy explain @pypi` prints one).
      # `bottler policy explain URL` says what egress would decide.
      allow: [] # for example ["@pypi", "@npm", {{host: docs.example.com, methods: [GET]}}]
agents:
  dev:
    bottle: dev
    template: {name}
    # prompt_file: dev.md               # beside this file
    # skills: [review]                  # folders in skills/ beside this file
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Catalogue, choose};

    #[test]
    fn what_is_written_for_every_template_can_be_read() {
        for name in AgentTemplate::names() {
            let template = AgentTemplate::built_in(name).unwrap();
            for has in [true, false] {
                let folder = tempfile::tempdir().unwrap();
                let file = folder.path().join("bottler.yaml");
                std::fs::write(&file, starter(name, &template, |_| has)).unwrap();
                let catalogue = Catalogue::read(Some(&file), None);
                assert_eq!(catalogue.problems(), [], "{name}");
                let chosen = choose(&catalogue, "dev", None).unwrap();
                assert_eq!(chosen.credentials.len(), usize::from(has && !template.credentials.is_empty()));
                // The example may be used as it stands.
                let text = starter(name, &template, |_| has);
                assert!(text.contains("allow: [] # for example ["), "{text}");
                std::fs::write(&file, text.replace("[] # for example ", "")).unwrap();
                let chosen = choose(&Catalogue::read(Some(&file), None), "dev", None).unwrap();
                let presets = chosen.egress.spec.allow.iter().filter_map(|entry| entry.preset());
                let presets: std::collections::BTreeSet<&str> = presets.map(|preset| preset.name.as_str()).collect();
                assert_eq!(presets.into_iter().collect::<Vec<_>>(), ["@npm", "@pypi"], "{name}");
            }
        }
    }
}
