//! Real clients with `"`, `<` and `>` in a query, over HTTP/2: curl sends them as they are and is told to ask again over
//! HTTP/1.1, httpx encodes them itself. The destination gets the same request in both versions.

use std::process::Stdio;

use crate::lab::{Lab, PUBLIC, in_namespace};

const HOST: &str = "api.example.com";
const HTTPX: &str = "
import httpx, sys
with httpx.Client(http2=True) as client:
    answer = client.get(sys.argv[1])
    print(answer.text, answer.http_version)
";

#[test]
fn promise_04_queries_of_real_clients_arrive_whatever_is_not_encoded_in_them() {
    if in_namespace("raw_query::promise_04_queries_of_real_clients_arrive_whatever_is_not_encoded_in_them") {
        queries();
    }
}

#[tokio::main]
async fn queries() {
    let lab = Lab::new(&format!("allow: [{HOST}]"), &[(HOST, vec![PUBLIC])].into(), &[]).await;
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("ca.pem", &lab.ca[..]), ("httpx_.py", HTTPX)] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let url = format!("https://{HOST}/x?q={{\"a\":[<b>]}}");
    let curl = "curl --globoff -sS --cacert ca.pem -w ' HTTP/%{http_version}'";
    for (command, expected, targets) in [
        (format!("{curl} --http1.1 '{url}'"), "here HTTP/1.1", "/x?q={%22a%22:[%3Cb%3E]}"),
        (format!("{curl} --http2 '{url}'"), "here HTTP/1.1", "/x?q={%22a%22:[%3Cb%3E]}"),
        (format!("/usr/bin/python3 httpx_.py '{url}'"), "here HTTP/2", "/x?q=%7B%22a%22:[%3Cb%3E]%7D"),
    ] {
        let mut program = tokio::process::Command::new("timeout");
        program.args(["60", "sh", "-c", &command]).current_dir(folder.path()).stdin(Stdio::null());
        program.env("HTTPS_PROXY", format!("http://{}", lab.proxy)).env("SSL_CERT_FILE", folder.path().join("ca.pem"));
        let output = program.env_remove("NO_PROXY").env_remove("no_proxy").output().await.unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(said.trim(), expected, "{command}");
        let arrived = lab.seen.lock().unwrap().arrived.pop().map(|arrived| arrived.target);
        assert_eq!(arrived.as_deref(), Some(targets), "{command}");
    }
}
