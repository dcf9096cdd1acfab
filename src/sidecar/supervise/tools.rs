//! The tools: their descriptions and schemas, and their arguments as questions. Pure.

use std::time::Duration;

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::protocol::Ask;
use crate::policy::Wanted;

/// Maximum length of an agent's reason, and of a name, in bytes.
const MAX_REASON: usize = 1000;
const MAX_NAME: usize = 300;
/// Most packages of one request, and the longest Dockerfile, in bytes.
const MAX_PACKAGES: usize = 50;
const MAX_DOCKERFILE: usize = 32 << 10;
/// The longest wait of `request_status`.
const MAX_WAIT: u64 = 240;

/// What a call wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// The bottle's configuration.
    Policy,
    /// An answer of the holder; and how long to wait for a decision, if that is not the usual time.
    Ask(Ask, Option<Duration>),
}

/// Why a call is no question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    /// There is no such tool.
    Unknown,
    /// Its arguments cannot be read.
    Arguments(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Egress {
    host: String,
    #[serde(default)]
    methods: Vec<String>,
    #[serde(default)]
    paths: Vec<String>,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Credential {
    name: String,
    host: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Git {
    repository: String,
    #[serde(default, rename = "ref")]
    reference: String,
    operation: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Capability {
    #[serde(default)]
    packages: Vec<String>,
    #[serde(default)]
    dockerfile: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    id: String,
    #[serde(default)]
    wait_s: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Denial {
    #[serde(default)]
    id: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Reads a call.
///
/// # Errors
/// There is no such tool, or its arguments are malformed or too long.
pub(super) fn read(tool: &str, arguments: JsonObject) -> Result<Question, Mistake> {
    let ask = match tool {
        "list_policy" => {
            let Nothing {} = arguments_of(arguments)?;
            return Ok(Question::Policy);
        }
        "egress_request" => {
            let Egress { host, methods, paths, reason } = arguments_of(arguments)?;
            let wanted = Wanted { host, methods, paths }.normal().map_err(Mistake::Arguments)?;
            Ask::Egress { wanted, reason: short("reason", reason, MAX_REASON)? }
        }
        "credential_request" => {
            let Credential { name, host, reason } = arguments_of(arguments)?;
            Ask::Credential {
                name: short("name", name, MAX_NAME)?,
                host: short("host", host, MAX_NAME)?,
                reason: short("reason", reason, MAX_REASON)?,
            }
        }
        "git_request" => {
            let Git { repository, reference, operation, reason } = arguments_of(arguments)?;
            Ask::Git {
                repository: short("repository", repository, MAX_NAME)?,
                reference: short("ref", reference, MAX_NAME)?,
                operation: short("operation", operation, MAX_NAME)?,
                reason: short("reason", reason, MAX_REASON)?,
            }
        }
        "capability_request" => {
            let Capability { packages, dockerfile, reason } = arguments_of(arguments)?;
            if packages.is_empty() && dockerfile.is_empty() {
                return Err(Mistake::Arguments("name packages, or give a dockerfile".to_owned()));
            }
            if packages.len() > MAX_PACKAGES {
                return Err(Mistake::Arguments(format!("packages: at most {MAX_PACKAGES}")));
            }
            let packages =
                packages.into_iter().map(|name| short("packages", name, MAX_NAME)).collect::<Result<_, _>>()?;
            Ask::Capability {
                packages,
                dockerfile: short("dockerfile", dockerfile, MAX_DOCKERFILE)?,
                reason: short("reason", reason, MAX_REASON)?,
            }
        }
        "explain_denial" => {
            let Denial { id } = arguments_of(arguments)?;
            Ask::Denials { id: id.map(|id| short("id", id, MAX_NAME)).transpose()? }
        }
        "request_status" => {
            let Request { id, wait_s } = arguments_of(arguments)?;
            if wait_s > MAX_WAIT {
                return Err(Mistake::Arguments(format!("wait_s: at most {MAX_WAIT}")));
            }
            return Ok(Question::Ask(
                Ask::Request { id: short("id", id, MAX_NAME)? },
                Some(Duration::from_secs(wait_s)),
            ));
        }
        _ => return Err(Mistake::Unknown),
    };
    Ok(Question::Ask(ask, None))
}

fn arguments_of<T: DeserializeOwned>(arguments: JsonObject) -> Result<T, Mistake> {
    serde_json::from_value(Value::Object(arguments)).map_err(|error| Mistake::Arguments(error.to_string()))
}

fn short(what: &str, text: String, most: usize) -> Result<String, Mistake> {
    if text.len() <= most {
        Ok(text)
    } else {
        Err(Mistake::Arguments(format!("{what}: it is longer than {most} bytes")))
    }
}

/// The descriptions of all tools.
pub(super) fn all() -> Vec<Tool> {
    let text = |description: &str| json!({ "type": "string", "description": description });
    let texts =
        |description: &str| json!({ "type": "array", "items": { "type": "string" }, "description": description });
    let reason = text("Why you need it, in one or two sentences for the operator. At most 1000 bytes.");
    vec![
        tool(
            "egress_request",
            "Ask the operator to allow this bottle to reach a host. Use it after a request was refused, and ask for exactly what you \
             need. Waits up to 45 seconds for the decision, then returns status `pending` and an id.",
            json!({
                "host": text("The host, as in crates.io; with a port other than 443 and 80, as in example.com:8443; *.example.com for its subdomains."),
                "methods": texts("The only methods, as in GET. All if absent."),
                "paths": texts("The only paths, as in /api/v1/crates; * stands for anything within a segment, ** for anything. All if absent."),
                "reason": reason,
            }),
            &["host", "reason"],
        ),
        tool(
            "credential_request",
            "Ask the operator for a credential of a host. You will never see its value: if it is there, you are told where its placeholder is.",
            json!({ "name": text("Its name, or what it is for."), "host": text("The host that it is for."), "reason": reason }),
            &["name", "host", "reason"],
        ),
        tool(
            "git_request",
            "Ask the operator to release a push that the git gate has refused. Use it after the push, with the arguments that its refusal \
             names. Waits up to 45 seconds for the decision, then returns status `pending` and an id.",
            json!({
                "repository": text("The repository, by the name in the refusal or as in github.com/owner/name."),
                "ref": text("The ref, as in refs/heads/main, if several pushes were refused."),
                "operation": text("The id in the refusal, or `push` for the last one."),
                "reason": reason,
            }),
            &["repository", "operation", "reason"],
        ),
        tool(
            "capability_request",
            "Ask the operator for packages or tools that the bottle's image lacks. If they agree, another image is built on it; it takes \
             effect when the operator resumes the bottle, with your workspace and home. Prefer names of packages to a Dockerfile. \
             Where nothing can be built, the answer says so, and the operator reads what to add for the next launch.",
            json!({
                "packages": texts("Packages by name, as in postgresql-client."),
                "dockerfile": text("Instructions for an image that begins with the bottle's: RUN in its shell form, run as root and through the bottle's proxy, and ENV. No FROM and nothing else."),
                "reason": reason,
            }),
            &["reason"],
        ),
        reading(tool(
            "list_policy",
            "The bottle's configuration now: what may be reached, routes with credentials, git entries, the image's Dockerfile. The \
             same is in /run/bottler-policy.",
            json!({}),
            &[],
        )),
        reading(tool(
            "explain_denial",
            "Why requests were refused, and the exact next call for each: one refusal by the id in its message, or the last ten.",
            json!({ "id": text("The id in the message of the refusal. The last ten refusals if absent.") }),
            &[],
        )),
        reading(tool(
            "request_status",
            "What became of a request. Waits for the decision if wait_s is given.",
            json!({
                "id": text("The id that a request returned."),
                "wait_s": { "type": "integer", "minimum": 0, "maximum": MAX_WAIT, "description": "How many seconds to wait for the decision." },
            }),
            &["id"],
        )),
    ]
}

#[expect(clippy::needless_pass_by_value, reason = "a schema is written where it is passed")]
fn tool(name: &'static str, description: &'static str, properties: Value, required: &[&str]) -> Tool {
    let schema =
        json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false });
    let Value::Object(schema) = schema else { unreachable!("an object is written above") };
    let annotations = ToolAnnotations::new().read_only(false).destructive(false).idempotent(true).open_world(false);
    Tool::new(name, description, schema).with_annotations(annotations)
}

fn reading(tool: Tool) -> Tool {
    let annotations = ToolAnnotations::new().read_only(true).idempotent(true).open_world(false);
    tool.with_annotations(annotations)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(tool: &str, arguments: Value) -> Result<Question, Mistake> {
        let Value::Object(arguments) = arguments else { panic!() };
        read(tool, arguments)
    }

    #[test]
    fn every_tool_takes_what_its_schema_requires_and_nothing_else() {
        for tool in all() {
            let mut arguments = JsonObject::new();
            for name in tool.input_schema["required"].as_array().unwrap() {
                arguments.insert(name.as_str().unwrap().to_owned(), "x.com".into());
            }
            if tool.name == "capability_request" {
                arguments.insert("packages".into(), json!(["jq"]));
            }
            let question = read(&tool.name, arguments.clone());
            assert!(question.is_ok(), "{}: {question:?}", tool.name);
            arguments.insert("surprise".into(), 1.into());
            assert!(matches!(read(&tool.name, arguments), Err(Mistake::Arguments(_))), "{}", tool.name);
        }
        assert_eq!(call("shell", json!({})), Err(Mistake::Unknown));
    }

    #[test]
    fn arguments_are_bounded_and_in_one_spelling() {
        let asked =
            call("egress_request", json!({"host": "X.com", "methods": ["get"], "paths": ["/a?b=1"], "reason": "r"}));
        let wanted = Wanted { host: "x.com".into(), methods: vec!["GET".into()], paths: vec!["/a".into()] };
        assert_eq!(asked, Ok(Question::Ask(Ask::Egress { wanted, reason: "r".into() }, None)));
        for (tool, arguments) in [
            ("egress_request", json!({"host": "x".repeat(300), "reason": "r"})),
            ("egress_request", json!({"host": "x.com", "reason": "r".repeat(1001)})),
            ("egress_request", json!({"host": "x.com", "paths": ["x"], "reason": "r"})),
            ("egress_request", json!({"host": "x.com"})),
            ("egress_request", json!({"host": "x.com", "reason": "r", "tls": "tunnel"})),
            ("capability_request", json!({"reason": "r"})),
            ("request_status", json!({"id": "r1", "wait_s": 241})),
            ("request_status", json!({"id": "r1", "wait_s": -1})),
        ] {
            assert!(matches!(call(tool, arguments.clone()), Err(Mistake::Arguments(_))), "{tool} {arguments}");
        }
    }
}
