//! How clients hear of a refusal: in the middle of a large upload, in a WebSocket, and where only a connection was asked for.

use std::process::Stdio;

use bottler::audit::denial_id;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::lab::{Lab, PATIENCE, PUBLIC, in_namespace, leak};

const HOST: &str = "api.example.com";
const FORBIDDEN: &str = "forbidden.example.com";

/// Uploads 10 MB in pieces, without saying how much it is; a token stands in one of them, if any.
const HTTPX: &str = "
import os, sys, httpx
version, method, url, at = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
def pieces():
    for number in range(160):
        yield b'x' * 65536
        if number == at: yield b' ' + os.environ['TOKEN'].encode() + b' '
headers = {'x-token': os.environ['TOKEN']} if at == -2 else {}
with httpx.Client(http2=version == '2', verify=os.environ['SSL_CERT_FILE'], timeout=60) as client:
    answer = client.request(method, url, content=pieces(), headers=headers)
    print(answer.http_version, answer.status_code, answer.text)
";

/// The same with curl.
const CURL: &str = r#"
version=$1 method=$2 url=$3 at=$4
pieces() {
  if [ "$at" -ge 0 ]; then head -c $((at * 65536)) /dev/zero; printf ' %s ' "$TOKEN"; fi
  head -c 10485760 /dev/zero
}
[ "$version" = 2 ] && flag=--http2 || flag=--http1.1
[ "$at" = -2 ] && more="x-token: $TOKEN" || more="x-other: x"
pieces | curl -sS $flag --cacert "$SSL_CERT_FILE" -H "$more" -X "$method" -T - -w '\nHTTP/%{http_version} %{http_code}' "$url" 2>&1
"#;

#[test]
fn curl_and_httpx_read_the_reason_of_a_refusal_during_a_large_upload() {
    if in_namespace("refused::curl_and_httpx_read_the_reason_of_a_refusal_during_a_large_upload") {
        uploads();
    }
}

#[tokio::main]
async fn uploads() {
    let spec = format!("allow: [{{host: {HOST}, methods: [GET, POST]}}]");
    let lab = Lab::new(&spec, &[(HOST, vec![PUBLIC]), (FORBIDDEN, vec![PUBLIC])].into(), &[]).await;
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("httpx_.py", HTTPX), ("curl.sh", CURL), ("ca.pem", &lab.ca)] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let proxy = format!("http://{}", lab.proxy);
    let run = async |client: &str, arguments: &[&str]| {
        let mut program = tokio::process::Command::new("timeout");
        program.args(["100", "sh", "-c", &format!("exec {client} \"$@\""), "-"]).args(arguments);
        program.current_dir(folder.path()).stdin(Stdio::null()).env("TOKEN", leak());
        program
            .env("HTTPS_PROXY", &proxy)
            .env("https_proxy", &proxy)
            .env("SSL_CERT_FILE", folder.path().join("ca.pem"));
        let output = program.env_remove("NO_PROXY").env_remove("no_proxy").output().await.unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let (good, bad) = (format!("https://{HOST}/post"), format!("https://{FORBIDDEN}/post"));
    for client in ["/usr/bin/python3 httpx_.py", "bash curl.sh"] {
        for (version, shown) in [("1", "HTTP/1.1"), ("2", "HTTP/2")] {
            for (name, method, url, at, code) in [
                ("at its beginning", "POST", &bad, "-1", "host_not_allowed"),
                ("by its method", "PUT", &good, "-1", "method_not_allowed"),
                ("by its head", "POST", &good, "-2", "secret_found"),
                ("within the first pieces", "POST", &good, "1", "secret_found"),
                ("in its middle", "POST", &good, "140", "secret_found"),
            ] {
                let said = run(client, &[version, method, url, at]).await;
                let is_told = said.contains(code) && said.contains(shown) && said.contains("400");
                assert!(is_told, "{client}, {shown}, refused {name}: {}", said.chars().take(2000).collect::<String>());
            }
        }
    }
}

#[test]
fn a_web_socket_and_a_plain_connection_that_are_refused_name_the_next_call() {
    if in_namespace("refused::a_web_socket_and_a_plain_connection_that_are_refused_name_the_next_call") {
        others();
    }
}

#[tokio::main]
async fn others() {
    let mut lab = Lab::supervised(&format!("allow: [{HOST}]"), &[(HOST, vec![PUBLIC])].into()).await;
    let upgrade = |host: &str| {
        format!(
            "GET /socket HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
    };
    let named = |text: &str, host: &str| {
        text.contains("call the tool egress_request") && text.contains(&format!("\\\"host\\\":\\\"{host}\\\""))
    };
    // A handshake.
    let mut stream = lab.tls(&format!("{FORBIDDEN}:443"), FORBIDDEN, false).await.unwrap();
    stream.write_all(upgrade(FORBIDDEN).as_bytes()).await.unwrap();
    let mut buffer = vec![0; 8192];
    let length = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await.unwrap().unwrap();
    let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
    assert!(
        answer.starts_with("HTTP/1.1 400 refused by bottler: host_not_allowed") && named(&answer, FORBIDDEN),
        "{answer}"
    );
    // A message: the close frame has the id of the refusal, and the call that explains it.
    let mut stream = lab.tls(&format!("{HOST}:443"), HOST, false).await.unwrap();
    stream.write_all(upgrade(HOST).as_bytes()).await.unwrap();
    let text = leak();
    let frame = [&[0x81, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0], text.as_bytes()].concat();
    stream.write_all(&frame).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it ends").unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let why = answer.split("refused by bottler: ").nth(1).unwrap_or_else(|| panic!("{answer}")).to_owned();
    // A connection to another port, for a protocol that is not HTTP.
    let answer = lab.raw(format!("CONNECT {HOST}:5432 HTTP/1.1\r\nHost: {HOST}:5432\r\n\r\n").as_bytes()).await;
    assert!(answer.contains("port_not_allowed") && named(&answer, &format!("{HOST}:5432")), "{answer}");

    let events = lab.decisions().await;
    let found = events.iter().find(|event| event.kind.code == "secret_found").unwrap();
    assert_eq!(why, format!("secret_found; refusal {}; call explain_denial with it", denial_id(&found.kind)));
}
