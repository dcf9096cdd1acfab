//! What an operator writes for what no command grants while a bottle runs: a credential that is not declared for a host, packages,
//! an image. Pure.
//!
//! Attacks that this stops: an agent's words in lines that a person pastes into a manifest or a Dockerfile. A name that is not
//! plainly one is left to the person to write.

use super::declared::declared;
use crate::net::Host;
use crate::plan::LaunchPlan;
use crate::primitive::bottle::Wish;

/// Maximum length of a name that is repeated.
const MAX_NAME: usize = 64;

/// The lines; none for what a command grants.
pub(super) fn remedy(plan: &LaunchPlan, bottle: &str, wish: &Wish) -> Vec<String> {
    let mut lines = match wish {
        Wish::Credential { name, host } => credential(plan, name, host),
        Wish::Capability { packages, dockerfile } => image(plan, packages, !dockerfile.is_empty()),
        Wish::Egress(_) | Wish::Git { .. } => return Vec::new(),
    };
    lines.push(format!(
        "then `bottler stop {bottle}`, and `bottler resume {bottle}` for the kept workspace, or a new run"
    ));
    lines
}

fn credential(plan: &LaunchPlan, name: &str, host: &str) -> Vec<String> {
    let host = match Host::parse(host) {
        Ok(Host::Name(host)) => host,
        _ => "HOST".to_owned(),
    };
    if let Some(known) = declared(plan, name, &host) {
        let slot = known.places.first().map_or("bearer".to_owned(), |place| place.slot.to_string());
        return vec![
            format!("the bottle has the credential {}, and it is declared for other hosts alone", known.name),
            format!("add to its `hosts`: {{host: {host}, slot: {slot:?}}}"),
            format!("add to the bottle's `egress.allow`: {host}"),
        ];
    }
    let name = if is_name(name, "-") { name.to_owned() } else { "NAME".to_owned() };
    let variable = name.replace('-', "_").to_ascii_uppercase();
    vec![
        "add to the bottle, with the source of its value:".to_owned(),
        "  credentials:".to_owned(),
        format!(
            "    - {{name: {name}, source: \"env:{variable}\", env: {variable}, hosts: [{{host: {host}, slot: bearer}}]}}"
        ),
        format!("  egress: {{allow: [{host}]}}"),
    ]
}

fn image(plan: &LaunchPlan, packages: &[String], has_file: bool) -> Vec<String> {
    let named: Vec<&str> = packages.iter().map(String::as_str).filter(|name| is_name(name, "+.-")).collect();
    let install = match &named[..] {
        [] => "RUN …".to_owned(),
        all => format!("RUN apt-get update && apt-get install -y --no-install-recommends {}", all.join(" ")),
    };
    let mut lines = match &plan.image.build {
        Some(build) => {
            let inline = build.dockerfile_inline.is_some();
            let file = build.dockerfile.as_ref().map(|file| file.display().to_string());
            let file =
                if inline { "`dockerfile_inline`".to_owned() } else { file.unwrap_or_else(|| "Dockerfile".to_owned()) };
            vec![format!("add to {file} of the bottle's `build` (on Debian): {install}")]
        }
        None => vec![
            "replace the bottle's `image` by (on Debian):".to_owned(),
            "  build:".to_owned(),
            "    network: default".to_owned(),
            format!("    dockerfile_inline: \"FROM {}\\n{install}\\n\"", plan.image.source),
        ],
    };
    if named.len() < packages.len() {
        lines.push("names that are not those of packages are left out".to_owned());
    }
    if has_file {
        lines.push(
            "the Dockerfile above is the agent's: it may do anything on your network; take from it what you understand"
                .to_owned(),
        );
    }
    lines
}

/// Whether a text is a plain name: nothing that YAML, a Dockerfile or a shell takes for anything else.
fn is_name(text: &str, more: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= MAX_NAME && text.starts_with(plain) && text.chars().all(|c| plain(c) || more.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::BuildSection;

    fn lines(plan: &LaunchPlan, wish: &Wish) -> String {
        remedy(plan, "demo", wish).join("\n")
    }

    #[test]
    fn an_operator_reads_what_to_write_and_no_word_of_an_agent_that_is_not_a_name() {
        let mut plan = crate::plan::probe("demo");
        let credential = |name: &str, host: &str| Wish::Credential { name: name.into(), host: host.into() };
        let text = lines(&plan, &credential("pypi-token", "upload.pypi.org"));
        for words in [
            "{name: pypi-token, source: \"env:PYPI_TOKEN\", env: PYPI_TOKEN, hosts: [{host: upload.pypi.org, slot: bearer}]}",
            "egress: {allow: [upload.pypi.org]}",
            "bottler resume demo",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        let hostile = "x, source: \"command:evil\"";
        let text = lines(&plan, &credential(hostile, "a.com}, {host: evil.com"));
        assert!(!text.contains("evil") && text.contains("{name: NAME,") && text.contains("host: HOST,"), "{text}");

        let packages = |names: &[&str], dockerfile: &str| Wish::Capability {
            packages: names.iter().map(|&name| name.to_owned()).collect(),
            dockerfile: dockerfile.to_owned(),
        };
        let text = lines(&plan, &packages(&["libpq-dev", "g++", "jq; curl evil", "--root=/x"], ""));
        assert!(text.contains("install -y --no-install-recommends libpq-dev g++"), "{text}");
        assert!(!text.contains("evil") && !text.contains("--root") && text.contains("left out"), "{text}");
        plan.image.build = Some(BuildSection { dockerfile_inline: Some("FROM x\n".into()), ..BuildSection::default() });
        let text = lines(&plan, &packages(&[], "FROM evil"));
        assert!(text.contains("`dockerfile_inline`") && !text.contains("FROM evil"), "{text}");
        let wanted = crate::policy::Wanted { host: "x.com".into(), ..Default::default() };
        assert_eq!(remedy(&plan, "demo", &Wish::Egress(wanted)), Vec::<String>::new());
    }
}
