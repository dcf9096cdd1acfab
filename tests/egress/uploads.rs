//! Uploads that are longer than what is inspected as a whole, by real clients: an honest one arrives byte for byte, and one with a
//! secret near its end does not arrive whole, whether findings are blocked or masked.

use std::path::Path;
use std::process::Command;

use crate::credential_sdks::sdks;
use crate::lab::{Lab, PUBLIC, in_namespace, leak};
use crate::support::pypi::PYTHON;

const BUCKET: &str = "bucket.s3.eu-west-1.amazonaws.com";
const HOST: &str = "api.example.com";
const SECRET: &str = "correct-horse-battery-staple";
/// The length of an upload, and where a secret is in it, in bytes.
const LENGTH: usize = 20 << 20;
const AT: usize = LENGTH - (300 << 10);

/// A presigned POST: somebody signs the fields of a form, with a key whose id is among them, and the agent sends a file with them.
const FIELDS: &str = r#"
import boto3, sys
from botocore.config import Config
s3 = boto3.client("s3", region_name="eu-west-1", aws_access_key_id=sys.argv[1], aws_secret_access_key="x" * 40,
                  config=Config(signature_version=sys.argv[2], s3={"addressing_style": "virtual"}))
form = s3.generate_presigned_post("bucket", "a key", ExpiresIn=60)
print(form["url"])
for name, value in form["fields"].items():
    print(name + "=" + value)
"#;

#[test]
fn promise_09_a_long_upload_arrives_whole_or_does_not_arrive() {
    sdks();
    if in_namespace("uploads::promise_09_a_long_upload_arrives_whole_or_does_not_arrive") {
        uploads("block");
    }
}

#[test]
fn promise_09_a_long_upload_is_not_masked() {
    sdks();
    if in_namespace("uploads::promise_09_a_long_upload_is_not_masked") {
        uploads("mask");
    }
}

/// A file of that length, with this text in a line of it.
fn file(path: &Path, text: &str) -> Vec<u8> {
    let mut content: Vec<u8> = (0..LENGTH).map(|at| b"0123456789 abcdef, of no meaning\n"[at % 33]).collect();
    let line = format!("\n{text}\n");
    content[AT..AT + line.len()].copy_from_slice(line.as_bytes());
    std::fs::write(path, &content).unwrap();
    content
}

#[tokio::main]
async fn uploads(action: &str) {
    let id = ["AKIA", "QYLPMN5HHHFPZAM2"].concat();
    let spec = format!("{{allow: [{BUCKET}, {HOST}], dlp: {{action: {action}}}}}");
    let names = [(BUCKET, vec![PUBLIC]), (HOST, vec![PUBLIC])].into();
    let mut lab = Lab::new(&spec, &names, &[SECRET]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("fields.py"), FIELDS).unwrap();
    let honest = file(&path("honest"), "");
    let token = leak();
    let dishonest = [("secret", SECRET), ("token", &token)];
    for (name, text) in dishonest {
        file(&path(name), text);
    }
    // As one body, of a length that is said, and in chunks.
    for framing in [&[][..], &["-H", "Transfer-Encoding: chunked"], &["--http1.1", "-H", "Transfer-Encoding: chunked"]]
    {
        let put = |name: &str| {
            let file = path(name).display().to_string();
            let words = ["-T", &file, &format!("https://{HOST}/{name}")].map(str::to_owned);
            [framing.iter().map(|word| (*word).to_owned()).collect(), words.to_vec()].concat()
        };
        let said = lab.curl(&put("honest")).await;
        assert!(said.ends_with("here 200"), "{framing:?}: {said}");
        assert!(lab.seen.lock().unwrap().arrived.pop().unwrap().body == honest, "{framing:?}");
        for (name, _) in dishonest {
            lab.curl_is_refused(&put(name), name).await;
        }
    }
    // Of both versions of the signature.
    for version in ["s3v4", "s3"] {
        let mut python = Command::new(PYTHON);
        python.env("PYTHONPATH", sdks().0).arg(path("fields.py")).args([&id, version]);
        let output = python.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
        assert!(lines[0] == format!("https://{BUCKET}/") && lines.iter().any(|line| line.contains(&id)), "{lines:?}");
        let post = |name: &str, url: &str| {
            let fields = lines[1..].iter().flat_map(|line| ["--form-string".to_owned(), line.clone()]);
            let file = ["-F".to_owned(), format!("file=@{}", path(name).display()), url.to_owned()];
            fields.chain(file).collect::<Vec<_>>()
        };
        let said = lab.curl(&post("honest", &lines[0])).await;
        assert!(said.ends_with("here 200"), "{version}: {said}");
        let arrived = lab.seen.lock().unwrap().arrived.pop().unwrap().body;
        assert!(memchr::memmem::find(&arrived, &honest).is_some(), "{version}");
        for (name, _) in dishonest {
            lab.curl_is_refused(&post(name, &lines[0]), name).await;
        }
        // The id of a key is one to S3 alone.
        lab.curl_is_refused(&post("honest", &format!("https://{HOST}/")), "elsewhere").await;
    }
}
