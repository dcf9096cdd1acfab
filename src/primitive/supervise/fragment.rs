//! What an agent wants to add to its image, as steps: packages by name, and a fragment of a Dockerfile. Pure.
//!
//! The steps run in a container of bottler's, not in the engine's builder, whose commands and downloads would have another
//! network than the bottle's. So only what a step can be is accepted: `RUN` in its shell form, and `ENV`.
//!
//! Attacks that this stops: instructions that read something else than the image (`FROM`, `COPY`, `ADD`, mounts), that act
//! later (`ONBUILD`, `VOLUME`, `USER`, `LABEL`), or that change how the rest is read (`# syntax`, `# escape`, heredocs); names
//! of packages that are options or patterns; variables by which a loader, a shell or a client obeys somebody else.

use serde::{Deserialize, Serialize};

/// Most steps of one request.
const MAX_STEPS: usize = 50;
/// Maximum length of the name of a package, and of the value of a variable, in bytes.
const MAX_NAME: usize = 100;
const MAX_VALUE: usize = 4096;
/// Longest run of spaces, in bytes: a longer one moves what follows it off the operator's screen.
const MAX_SPACES: usize = 40;

/// A step of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuildStep {
    /// A command of `/bin/sh`, as root.
    Run(String),
    /// A variable of the image.
    Env {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
}

impl std::fmt::Display for BuildStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Run(command) => write!(f, "RUN {command}"),
            Self::Env { name, value } => write!(f, "ENV {name}={value}"),
        }
    }
}

/// What installs packages in an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PackageManager {
    Apt,
    Apk,
    Dnf,
}

impl PackageManager {
    /// All of them, with the programs that an image has with them.
    pub(super) const ALL: [(Self, &'static str); 3] =
        [(Self::Apt, "/usr/bin/apt-get"), (Self::Apk, "/sbin/apk"), (Self::Dnf, "/usr/bin/dnf")];

    /// The one with a program.
    pub(super) fn of(program: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, known)| *known == program).map(|(manager, _)| manager)
    }

    fn command(self, packages: &str) -> String {
        match self {
            Self::Apt => format!(
                "apt-get update && apt-get install -y --no-install-recommends {packages} && rm -rf /var/lib/apt/lists/*"
            ),
            Self::Apk => format!("apk add --no-cache {packages}"),
            Self::Dnf => format!("dnf install -y {packages} && dnf clean all"),
        }
    }
}

/// The steps of a request.
///
/// # Errors
/// Why it cannot be built, for the agent.
pub(super) fn steps(
    packages: &[String],
    dockerfile: &str,
    manager: Option<PackageManager>,
) -> Result<Vec<BuildStep>, String> {
    let mut steps = Vec::new();
    if !packages.is_empty() {
        if let Some(name) = packages.iter().find(|name| !is_package(name)) {
            return Err(format!("packages: {name:?} is not the plain name of a package"));
        }
        let manager = manager
            .ok_or("packages: the image has neither apt-get nor apk nor dnf; give a dockerfile with RUN instead")?;
        steps.push(BuildStep::Run(manager.command(&packages.join(" "))));
    }
    steps.extend(fragment(dockerfile)?);
    match steps.len() {
        0 => Err("the dockerfile has no instruction".to_owned()),
        1..=MAX_STEPS => Ok(steps),
        more => Err(format!("the dockerfile has {more} instructions: at most {MAX_STEPS}")),
    }
}

/// A letter or digit at first, so that it is no option; and nothing at the end by which apt-get would remove it.
fn is_package(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '_' | '-');
    name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && !name.ends_with('-')
        && name.chars().all(plain)
}

/// Reads a fragment of a Dockerfile.
fn fragment(text: &str) -> Result<Vec<BuildStep>, String> {
    if let Some(control) = text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        return Err(format!("dockerfile: it has the control character {}", control.escape_default()));
    }
    let mut steps = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let bad = |why: &str| format!("dockerfile, line {}: {why}", number + 1);
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        if let Some(comment) = line.strip_prefix('#') {
            check_comment(comment).map_err(|why| bad(&why))?;
            continue;
        }
        let mut whole = String::new();
        let mut piece = line;
        // As docker has it: a backslash at the end of a line, and lines that are comments or empty are left out between.
        while let Some(begin) = piece.strip_suffix('\\') {
            whole.push_str(begin);
            loop {
                let Some((_, next)) = lines.next() else { return Err(bad("it ends with a backslash")) };
                piece = next.trim_end();
                if !piece.is_empty() && !piece.trim_start().starts_with('#') {
                    break;
                }
            }
        }
        whole.push_str(piece);
        if whole.split(|c: char| c != ' ' && c != '\t').any(|run| run.len() > MAX_SPACES) {
            return Err(bad(&format!("it has a run of more than {MAX_SPACES} spaces")));
        }
        steps.extend(instruction(&whole).map_err(|why| bad(&why))?);
    }
    Ok(steps)
}

/// Refuses comments that a builder obeys.
fn check_comment(comment: &str) -> Result<(), String> {
    let word = comment.trim_start().split(['=', ' ', '\t']).next().unwrap_or_default().to_ascii_lowercase();
    if ["syntax", "escape", "check"].contains(&word.as_str()) && comment.contains('=') {
        return Err(format!("the directive {word} is not accepted"));
    }
    Ok(())
}

fn instruction(line: &str) -> Result<Vec<BuildStep>, String> {
    let (word, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let rest = rest.trim();
    match word.to_ascii_uppercase().as_str() {
        "RUN" => run(rest).map(|step| vec![step]),
        "ENV" => env(rest),
        other => Err(format!(
            "{} is not accepted: only RUN, in its shell form, ENV and comments are; the steps begin with the bottle's image",
            other.chars().take(20).collect::<String>()
        )),
    }
}

fn run(command: &str) -> Result<BuildStep, String> {
    if command.is_empty() {
        return Err("RUN has no command".to_owned());
    }
    if command.starts_with("--") {
        return Err("options of RUN (--mount, --network, --security) are not accepted".to_owned());
    }
    if command.starts_with('[') {
        return Err(
            "RUN in the form of a list is not accepted; write a command of the shell (`test` for `[`)".to_owned()
        );
    }
    if command.contains("<<") {
        return Err("heredocs are not accepted; use printf".to_owned());
    }
    Ok(BuildStep::Run(command.to_owned()))
}

/// Reads `NAME=value NAME="a value"`.
fn env(text: &str) -> Result<Vec<BuildStep>, String> {
    if text.is_empty() {
        return Err("ENV has no variable".to_owned());
    }
    let mut steps = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or("ENV is accepted in the form NAME=value alone")?;
        if !is_variable(name) {
            return Err(format!("ENV: {name:?} is not the name of a variable"));
        }
        if is_ours(name) {
            return Err(format!("ENV: {name} is not for an image to set: it says what programs load, trust or obey"));
        }
        let (value, after) = value(after)?;
        if value.len() > MAX_VALUE {
            return Err(format!("ENV: the value of {name} is longer than {MAX_VALUE} bytes"));
        }
        steps.push(BuildStep::Env { name: name.to_owned(), value });
        rest = after.trim_start();
    }
    Ok(steps)
}

/// A value, with or without quotes, and what follows it.
fn value(text: &str) -> Result<(String, &str), String> {
    let (value, rest) = match text.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let (value, rest) = text[1..].split_once(quote).ok_or("ENV: a quote is not closed")?;
            if !rest.is_empty() && !rest.starts_with([' ', '\t']) {
                return Err("ENV: something follows a quote".to_owned());
            }
            (value, rest)
        }
        _ => text.split_at(text.find([' ', '\t']).unwrap_or(text.len())),
    };
    if value.contains(['$', '\\', '`', '"', '\'']) {
        return Err(
            "ENV: values with $, backslashes or quotes inside are not accepted; nothing is replaced in them".to_owned()
        );
    }
    Ok((value.to_owned(), rest))
}

fn is_variable(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Whether bottler sets a variable, or programs load, run, trust or reach something because of it.
fn is_ours(name: &str) -> bool {
    const NAMES: [&str; 27] = [
        "PATH",
        "HOME",
        "USER",
        "SHELL",
        "IFS",
        "ENV",
        "BASH_ENV",
        "PS4",
        "PROMPT_COMMAND",
        "SHELLOPTS",
        "BASHOPTS",
        "NODE_OPTIONS",
        "NODE_USE_ENV_PROXY",
        "NODE_EXTRA_CA_CERTS",
        "NODE_TLS_REJECT_UNAUTHORIZED",
        "JAVA_TOOL_OPTIONS",
        "_JAVA_OPTIONS",
        "JDK_JAVA_OPTIONS",
        "PERL5OPT",
        "PERL5LIB",
        "RUBYOPT",
        "PYTHONSTARTUP",
        "PYTHONHOME",
        "PYTHONPATH",
        "GCONV_PATH",
        "TMPDIR",
        "RES_OPTIONS",
    ];
    const BEGINS: [&str; 9] =
        ["LD_", "GIT_", "SSL_", "BOTTLER", "DOCKER", "MALLOC_", "GLIBC_", "OPENSSL_", "GRPC_DEFAULT_SSL"];
    const ENDS: [&str; 6] = ["_PROXY", "_CA_BUNDLE", "_CERT", "_CAINFO", "_CA_FILE", "_BASE_URL"];
    let name = name.to_ascii_uppercase();
    NAMES.contains(&name.as_str())
        || BEGINS.iter().any(|begin| name.starts_with(begin))
        || ENDS.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dockerfile: &str) -> Result<Vec<String>, String> {
        Ok(steps(&[], dockerfile, None)?.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn packages_are_installed_by_what_the_image_has() {
        let jq = ["jq".to_owned(), "g++".to_owned(), "python3.11-venv".to_owned()];
        let command = |manager| steps(&jq, "", manager).map(|steps| steps[0].to_string());
        let apt = command(Some(PackageManager::Apt)).unwrap();
        assert!(apt.contains("install -y --no-install-recommends jq g++ python3.11-venv &&"), "{apt}");
        assert_eq!(command(Some(PackageManager::Apk)).unwrap(), "RUN apk add --no-cache jq g++ python3.11-venv");
        assert!(command(Some(PackageManager::Dnf)).unwrap().starts_with("RUN dnf install -y jq"));
        assert!(command(None).unwrap_err().contains("neither"));
        for name in
            ["", "-y", "jq;id", "jq id", "jq-", "a/b", "*", "../x", "a=1", "$x", "`id`", "jq\n", "é", &"a".repeat(101)]
        {
            assert!(steps(&[name.to_owned()], "", Some(PackageManager::Apt)).is_err(), "{name:?}");
        }
        let both = steps(&jq, "RUN true", Some(PackageManager::Apk)).unwrap();
        assert_eq!(both.len(), 2);
    }

    #[test]
    fn a_fragment_is_read_as_docker_reads_it() {
        let text = "# a comment\n\nRUN apt-get update && \\\n  # between\n\n  apt-get install -y jq\nrun echo 'a  b' > /x\n\
                    ENV A=1 B=\"two words\"\nENV C='x'\n  RUN\ttrue  \n";
        assert_eq!(
            read(text).unwrap(),
            [
                "RUN apt-get update &&   apt-get install -y jq",
                "RUN echo 'a  b' > /x",
                "ENV A=1",
                "ENV B=two words",
                "ENV C=x",
                "RUN true"
            ]
        );
    }

    #[test]
    fn everything_else_is_refused_with_its_line() {
        for (text, why) in [
            ("", "no instruction"),
            ("# only\n", "no instruction"),
            ("FROM debian", "FROM is not accepted"),
            ("RUN true\nCOPY a b", "line 2: COPY is not accepted"),
            ("COPY --from=x a b", "COPY is not"),
            ("add http://x /y", "ADD is not"),
            ("ONBUILD RUN id", "ONBUILD is not"),
            ("USER root", "USER is not"),
            ("VOLUME /x", "VOLUME is not"),
            ("LABEL dev.bottler.session=x", "LABEL is not"),
            ("ARG x", "ARG is not"),
            ("ENTRYPOINT x", "ENTRYPOINT is not"),
            ("SHELL [\"/bin/evil\"]", "SHELL is not"),
            ("WORKDIR /x", "WORKDIR is not"),
            ("HEALTHCHECK CMD id", "HEALTHCHECK is not"),
            ("# syntax=evil/frontend", "directive syntax"),
            ("#escape=`", "directive escape"),
            ("# Syntax = x", "directive syntax"),
            ("RUN", "no command"),
            ("RUN --mount=type=secret id", "options of RUN"),
            ("RUN --network=host id", "options of RUN"),
            ("RUN --security=insecure id", "options of RUN"),
            ("RUN \\\n --mount=type=bind id", "options of RUN"),
            ("RUN [\"id\"]", "form of a list"),
            ("RUN cat <<EOF\nid\nEOF", "heredocs"),
            ("RUN id \\", "ends with a backslash"),
            ("RUN printf 'a\rb'", "control character"),
            ("RUN \u{1b}[2J", "control character"),
            (&format!("RUN true {}; evil", " ".repeat(MAX_SPACES)), "more than 40 spaces"),
            (&format!("RUN true \\\n{}\t; evil", " \t".repeat(MAX_SPACES / 2)), "more than 40 spaces"),
            ("ENV", "no variable"),
            ("ENV A b", "form NAME=value"),
            ("ENV A=$B", "nothing is replaced"),
            ("ENV A=\"x", "not closed"),
            ("ENV A=\"x\"y", "follows a quote"),
            ("ENV 1A=x", "not the name"),
            ("ENV PATH=/evil", "PATH is not for"),
            ("ENV LD_PRELOAD=/evil.so", "LD_PRELOAD is not for"),
            ("ENV https_proxy=http://evil", "https_proxy is not for"),
            ("ENV NO_PROXY=*", "NO_PROXY is not for"),
            ("ENV SSL_CERT_FILE=/evil", "SSL_CERT_FILE is not for"),
            ("ENV REQUESTS_CA_BUNDLE=/evil", "REQUESTS_CA_BUNDLE is not for"),
            ("ENV PIP_CERT=/evil", "PIP_CERT is not for"),
            ("ENV NODE_OPTIONS=--require=/evil", "NODE_OPTIONS is not for"),
            ("ENV GIT_SSH_COMMAND=evil", "GIT_SSH_COMMAND is not for"),
            ("ENV ANTHROPIC_BASE_URL=http://evil", "ANTHROPIC_BASE_URL is not for"),
        ] {
            let refused = read(text).unwrap_err();
            assert!(refused.contains(why), "{text:?}: {refused}");
        }
        assert!(read(&"RUN true\n".repeat(51)).unwrap_err().contains("at most 50"));
    }
}
