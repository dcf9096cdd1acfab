//! Real clients with a placeholder: they send the value without having it, follow redirects without it, and show the reason
//! of a refusal.

use std::process::Stdio;
use std::sync::Arc;

use bottler::credential::Slot;
use bottler::sidecar::egress::Update;

use crate::credentials::{HELD, HOST, OTHER, SPEC, VALUE, credential, shows};
use crate::lab::{Lab, PUBLIC, in_namespace};

const REQUESTS: &str = "
import os, requests
session = requests.Session()
for url in os.environ['URLS'].split():
    answer = session.get(url, headers={'Authorization': 'Bearer ' + os.environ['KEY']})
    print(answer.status_code, answer.headers.get('x-header'), answer.text)
";

const HTTPX: &str = "
import os, httpx
with httpx.Client(http2=True, follow_redirects=True) as client:
    for url in os.environ['URLS'].split():
        answer = client.get(url, headers={'Authorization': 'Bearer ' + os.environ['KEY']})
        print(answer.http_version, answer.status_code, answer.headers.get('x-header'), answer.text)
";

/// Name, command, and what it writes at least: for a host with the credential, and for one without.
const CLIENTS: [(&str, &str, &str); 5] = [
    (
        "curl",
        "curl -sSi --http1.1 --compressed --cacert ca.pem -H \"Authorization: Bearer $KEY\" $URLS",
        "HTTP/1.1 200",
    ),
    (
        "curl, HTTP/2",
        "curl -sSi --http2 --compressed --cacert ca.pem -H \"Authorization: Bearer $KEY\" $URLS",
        "HTTP/2 200",
    ),
    ("requests", "/usr/bin/python3 requests_.py", "200 Bearer"),
    ("httpx", "/usr/bin/python3 httpx_.py", "HTTP/2 200 Bearer"),
    ("wget", "wget -qO- --ca-certificate ca.pem --header \"Authorization: Bearer $KEY\" $URLS", "Bearer"),
];

#[test]
fn promise_08_real_clients_send_a_value_that_they_do_not_have() {
    if in_namespace("credential_clients::promise_08_real_clients_send_a_value_that_they_do_not_have") {
        clients();
    }
}

#[tokio::main]
async fn clients() {
    let names = [(HOST, vec![PUBLIC]), (OTHER, vec![PUBLIC])].into();
    let mut lab = Lab::new(SPEC, &names, &[]).await;
    let places = [(HOST, Slot::Bearer), ("api.example.com:8444", Slot::Bearer)];
    lab.update(Update::Credentials(vec![credential("own", HELD, VALUE, &places)])).await;
    lab.seen.lock().unwrap().script = Some(Arc::new(|_| {
        let to = url::form_urlencoded::byte_serialize(VALUE.as_bytes()).collect::<String>();
        let head = "HTTP/1.1 302 Found\r\nconnection: close\r\ncontent-length: 0\r\n";
        vec![format!("{head}location: https://{OTHER}/?key={to}\r\n\r\n").into_bytes()]
    }));
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("requests_.py", REQUESTS), ("httpx_.py", HTTPX), ("ca.pem", &lab.ca)] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let (proxy, ca) = (format!("http://{}", lab.proxy), folder.path().join("ca.pem"));
    let run = async |command: &str, url: &str| {
        let mut program = tokio::process::Command::new("timeout");
        program.args(["60", "sh", "-c", command]).current_dir(folder.path()).stdin(Stdio::null());
        program.env("URLS", url).env("KEY", HELD).env("HTTPS_PROXY", &proxy).env("https_proxy", &proxy);
        program.env("SSL_CERT_FILE", &ca).env("REQUESTS_CA_BUNDLE", &ca).env_remove("NO_PROXY").env_remove("no_proxy");
        let output = program.output().await.unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    for (name, command, expected) in CLIENTS {
        let said = run(command, &format!("https://{HOST}/reflect")).await;
        assert!(said.contains(expected) && said.contains(HELD) && !shows(said.as_bytes()), "{name}: {said}");
        let sent = lab.seen.lock().unwrap().heads.pop().unwrap();
        assert!(sent.contains(&format!("authorization: Bearer {VALUE}")) && !sent.contains(HELD), "{name}: {sent}");
        // At another host the placeholder is refused, and does not arrive.
        let before = lab.seen.lock().unwrap().heads.len();
        let said = run(command, &format!("https://{OTHER}/reflect")).await;
        assert!(said.contains("placeholder_misplaced") || name == "wget" && said.is_empty(), "{name}: {said}");
        // A redirect that carries the value carries the placeholder, which is refused there.
        let command = command.replace("-sSi", "-sSiL");
        let said = run(&command, &format!("https://{HOST}:8444/")).await;
        assert!(said.contains("placeholder_misplaced") || name == "wget" && said.is_empty(), "{name}: {said}");
        assert!(!shows(said.as_bytes()), "{name}: {said}");
        let heads = lab.seen.lock().unwrap().heads[before..].to_vec();
        assert!(heads.len() == 1 && heads[0].contains(VALUE), "{name}: {heads:?}");
        lab.seen.lock().unwrap().heads.clear();
    }
    assert!(!shows(lab.told.as_bytes()));
}
