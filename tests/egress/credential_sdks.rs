//! SDKs of models and clouds, each with placeholders in the variables of its documentation. The servers answer with the keys only.

use std::path::PathBuf;

use bottler::credential::{Shape, Slot};

use crate::desk::{Desk, key, node};
use crate::lab::in_namespace;
use crate::support::npm;
use crate::support::pypi::{self, PYTHON};

/// The packages for Python, and for Node with their names.
pub fn sdks() -> (PathBuf, [(PathBuf, &'static str); 2]) {
    let python = pypi::install("sdks-1", &["anthropic==2.14.0", "openai==3.57.0", "boto3==1.44.8"]);
    let node = [("@anthropic-ai/sdk@1.10.0", "@anthropic-ai/sdk"), ("openai@7.55.0", "openai")];
    (python, node.map(|(package, name)| (npm::install(package).join("node_modules").join(name), name)))
}

/// Commands of a Python and a Node that find the packages, in the folder of a desk.
pub fn link_sdks(desk: &Desk) -> (String, String) {
    let (packages, for_node) = sdks();
    let modules = desk.path("node_modules");
    std::fs::create_dir_all(modules.join("@anthropic-ai")).unwrap();
    for (package, name) in for_node {
        std::os::unix::fs::symlink(package, modules.join(name)).unwrap();
    }
    (format!("PYTHONPATH={} {PYTHON}", packages.display()), node())
}

const SDK_PYTHON: &str = "
import anthropic, openai
said = anthropic.Anthropic().messages.create(model='m', max_tokens=9, messages=[{'role': 'user', 'content': 'x'}])
print('anthropic:', said.content[0].text)
with anthropic.Anthropic().messages.stream(model='m', max_tokens=9, messages=[{'role': 'user', 'content': 'x'}]) as stream:
    print('anthropic, streamed:', ''.join(stream.text_stream))
print('openai:', openai.OpenAI().responses.create(model='gpt-5', input='x').output_text)
parts = openai.OpenAI().chat.completions.create(model='m', messages=[{'role': 'user', 'content': 'x'}], stream=True)
print('openai, streamed:', ''.join(part.choices[0].delta.content or '' for part in parts if part.choices))
";

const SDK_NODE: &str = r#"
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
const messages = [{ role: "user", content: "x" }];
const said = await new Anthropic().messages.create({ model: "m", max_tokens: 9, messages });
console.log("anthropic:", said.content[0].text);
const stream = new Anthropic().messages.stream({ model: "m", max_tokens: 9, messages });
console.log("anthropic, streamed:", await stream.finalText());
console.log("openai:", (await new OpenAI().responses.create({ model: "gpt-5", input: "x" })).output_text);
let text = "";
for await (const part of await new OpenAI().chat.completions.create({ model: "m", messages, stream: true }))
  text += part.choices[0]?.delta?.content ?? "";
console.log("openai, streamed:", text);
"#;

#[test]
fn promise_08_sdks_of_models_use_their_keys() {
    node();
    sdks();
    if in_namespace("credential_sdks::promise_08_sdks_of_models_use_their_keys") {
        models();
    }
}

#[tokio::main]
async fn models() {
    let (mut desk, anthropic, openai) = Desk::with_models().await;
    desk.credentials(vec![
        // The usual slots of the shape.
        key(
            "ANTHROPIC_API_KEY",
            &anthropic,
            Shape::Anthropic,
            &[("api.anthropic.com", Slot::Header("x-api-key".into())), ("api.anthropic.com", Slot::Bearer)],
        ),
        key("OPENAI_API_KEY", &openai, Shape::Openai, &[("api.openai.com", Slot::Bearer)]),
    ])
    .await;
    let (python, node) = link_sdks(&desk);
    std::fs::write(desk.path("sdk.py"), SDK_PYTHON).unwrap();
    std::fs::write(desk.path("sdk.mjs"), SDK_NODE).unwrap();
    for (language, command) in [("Python", format!("{python} sdk.py")), ("Node", format!("{node} sdk.mjs"))] {
        let said = desk.run(&command).await;
        for call in ["anthropic:", "anthropic, streamed:", "openai:", "openai, streamed:"] {
            assert!(
                said.contains(&format!("{call} The answer is forty-two.")),
                "{language}, {call} {said}\n{}",
                desk.log()
            );
        }
    }
    assert!(!desk.log().contains("another key"), "{}", desk.log());
    desk.end(&["ANTHROPIC_API_KEY", "OPENAI_API_KEY"]).await;
}
