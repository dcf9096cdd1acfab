//! Programs in several languages with their own TLS: each accepts egress' certificate for a host with its strictest
//! check, and shows why a request is refused.

use std::process::Stdio;

use crate::lab::{Lab, PUBLIC, in_namespace};

const HOST: &str = "api.example.com";

const JAVA: &str = r"
import java.net.URI;
import java.net.http.*;
public class Fetch {
    public static void main(String[] words) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(words[0])).build();
        System.out.println(HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body());
        System.out.println(new String(URI.create(words[0]).toURL().openStream().readAllBytes()));
    }
}
";

const GO: &str = r#"
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
)

func main() {
	answer, err := http.Get(os.Args[1])
	if err != nil {
		fmt.Println(err)
		return
	}
	body, _ := io.ReadAll(answer.Body)
	fmt.Println(string(body))
}
"#;

const NODE: &str = r#"
const [url, proxy] = [new URL(process.argv[2]), new URL(process.env.HTTPS_PROXY)];
const target = `${url.hostname}:443`;
const connect = { host: proxy.hostname, port: proxy.port, method: "CONNECT", path: target, headers: { host: target } };
require("http").request(connect).on("connect", (answer, socket) => {
  if (answer.statusCode != 200) return console.log(answer.statusMessage);
  const options = { socket, servername: url.hostname, agent: false };
  require("https").get(url, options, (answer) => answer.pipe(process.stdout)).on("error", console.log);
}).end();
"#;

const PYTHON: &str = r"
import ssl, sys, urllib.request
context = ssl.create_default_context()
context.verify_flags |= ssl.VERIFY_X509_STRICT
handlers = [urllib.request.ProxyHandler(), urllib.request.HTTPSHandler(context=context)]
print(urllib.request.build_opener(*handlers).open(sys.argv[1]).read().decode())
";

/// Name, command, and its output if a host is allowed, and if it is not.
const PROGRAMS: [(&str, &str, &str, &str); 5] = [
    (
        "Java",
        "java -Djavax.net.ssl.trustStore=store -Djavax.net.ssl.trustStorePassword=changeit -Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=$PORT Fetch.java $URL",
        "here\nhere",
        "400",
    ),
    ("Go", "go run main.go $URL", "here", "refused by bottler: host_not_allowed"),
    ("Node", "NODE_EXTRA_CA_CERTS=ca.pem node fetch.js $URL", "here", "the operator can allow it"),
    ("Python", "python3 fetch.py $URL", "here", "400: refused by bottler: host_not_allowed"),
    ("curl", "curl -sSv --cacert ca.pem $URL", "here", "the operator can allow it"),
];

#[test]
fn programs_of_several_languages_take_the_certificates_and_show_refusals() {
    if in_namespace("programs::programs_of_several_languages_take_the_certificates_and_show_refusals") {
        programs();
    }
}

#[tokio::main]
async fn programs() {
    let spec = "allow: [api.example.com]";
    let lab = Lab::new(spec, &[(HOST, vec![PUBLIC])].into(), &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let files = [("Fetch.java", JAVA), ("main.go", GO), ("fetch.js", NODE), ("fetch.py", PYTHON), ("ca.pem", &lab.ca)];
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let proxy = format!("http://{}", lab.proxy);
    let run = async |command: &str, url: &str| {
        let mut program = tokio::process::Command::new("timeout");
        program.args(["480", "sh", "-c", command]).current_dir(folder.path()).stdin(Stdio::null());
        program.env("URL", url).env("PORT", lab.proxy.port().to_string()).env("HTTPS_PROXY", &proxy);
        program.env("SSL_CERT_FILE", folder.path().join("ca.pem")).env_remove("NO_PROXY").env_remove("no_proxy");
        let output = program.output().await.unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let import = "keytool -importcert -noprompt -alias a -file ca.pem -keystore store -storepass changeit";
    assert!(run(import, "").await.contains("added to keystore"), "a JDK is installed");
    for (name, command, allowed, refused) in PROGRAMS {
        let said = run(command, &format!("https://{HOST}/")).await;
        assert!(said.contains(allowed), "{name}: {said}");
        let said = run(command, "https://evil.example.org/").await;
        assert!(said.contains(refused), "{name}: {said}");
    }
}
