//! Requests of all forms, to hosts in all spellings, with names and lengths that disagree.

use std::collections::BTreeMap;

use crate::attempt::{Attempt, HOST, How, inside as in_tls, raw, run};
use crate::lab::{Lab, MEANT, PUBLIC, in_namespace};

const SPEC: &str = "
allow:
  - api.example.com
  - example.com
  - private.example.com
  - mixed.example.com
  - mapped.example.com
  - nat64.example.com
  - sixtofour.example.com
  - metadata.example.com
  - rebind.example.com
  - rebind-late.example.com
  - 'meant.example.com'
  - {host: narrow.example.com, methods: [GET], paths: [/acme/**]}
  - '*.wild.example.com'
deny: [evil.wild.example.com, {host: api.example.com, paths: [/admin/**]}]
ip_allow: [10.77.0.0/24]
";

fn names() -> BTreeMap<&'static str, Vec<&'static str>> {
    [
        ("api.example.com", vec![PUBLIC]),
        ("example.com", vec![PUBLIC]),
        ("narrow.example.com", vec![PUBLIC]),
        ("private.example.com", vec!["10.0.0.1"]),
        ("mixed.example.com", vec![PUBLIC, "127.0.0.1"]),
        ("mapped.example.com", vec!["::ffff:10.0.0.1"]),
        ("nat64.example.com", vec!["64:ff9b::a00:1"]),
        ("sixtofour.example.com", vec!["2002:a00:1::1"]),
        ("metadata.example.com", vec!["169.254.169.254"]),
        ("rebind.example.com", vec!["127.0.0.1", PUBLIC]),
        ("meant.example.com", vec![MEANT]),
        // These names must not be resolved; if they are, there is an answer.
        ("evil.example.org", vec![PUBLIC]),
        ("evil.wild.example.com", vec![PUBLIC]),
        ("localhost", vec![PUBLIC]),
        ("host.docker.internal", vec![PUBLIC]),
    ]
    .into()
}

fn get(uri: &str, host: &str) -> String {
    format!("GET {uri} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

fn connect(name: &'static str, authority: &'static str, expected: &'static str) -> Attempt {
    Attempt { name, how: How::After(authority, b"x".to_vec()), expected }
}

/// A refusal that is told inside TLS.
fn within(name: &'static str, host: &'static str, expected: &'static str) -> Attempt {
    Attempt { name, how: How::At(host), expected }
}

pub fn forms() -> Vec<Attempt> {
    let post = "POST http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n";
    vec![
        raw("forbidden host in absolute form", get("http://evil.example.org/", "evil.example.org"), "host_not_allowed"),
        raw("forbidden host by HTTP/1.0", "GET http://evil.example.org/ HTTP/1.0\r\n\r\n", "host_not_allowed"),
        raw(
            "a method nobody knows",
            "PURGE http://evil.example.org/ HTTP/1.1\r\nHost: evil.example.org\r\n\r\n",
            "host_not_allowed",
        ),
        connect("no TLS after a refused CONNECT", "evil.example.org:443", "closed"),
        connect("a refused CONNECT to another port", "evil.example.org:8443", "host_not_allowed"),
        within("forbidden host by CONNECT", "evil.example.org", "host_not_allowed"),
        within("denied host under an allowed star", "evil.wild.example.com", "denied"),
        within("a name that only ends like an allowed one", "evilexample.com", "host_not_allowed"),
        within("an allowed name in front of another", "api.example.com.evil.example.org", "host_not_allowed"),
        connect("another port of an allowed host", "api.example.com:22", "port_not_allowed"),
        connect("port nought", "api.example.com:0", "bad_request"),
        connect("no port", "api.example.com", "bad_request"),
        raw(
            "CONNECT with a URL",
            "CONNECT http://api.example.com:443/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
            "bad_request",
        ),
        raw("origin form", get("/", "api.example.com"), "bad_request"),
        raw("asterisk form", "OPTIONS * HTTP/1.1\r\nHost: api.example.com\r\n\r\n", "bad_request"),
        raw("https in absolute form", get("https://api.example.com/", "api.example.com"), "bad_request"),
        raw("ftp", get("ftp://api.example.com/", "api.example.com"), "bad_request"),
        raw("user information", get("http://api.example.com@evil.example.org/", "evil.example.org"), "bad_request"),
        raw("another Host", get("http://evil.example.org/", "api.example.com"), "host_mismatch"),
        raw(
            "another Host behind an allowed target",
            get("http://api.example.com/", "evil.example.org"),
            "host_mismatch",
        ),
        raw(
            "two Hosts",
            "GET http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\nHost: evil.example.org\r\n\r\n",
            "bad_request",
        ),
        raw(
            "another Host on CONNECT",
            "CONNECT api.example.com:443 HTTP/1.1\r\nHost: evil.example.org:443\r\n\r\n",
            "host_mismatch",
        ),
        raw("TRACE", "TRACE http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n", "bad_request"),
        raw(
            "upgrade to h2c or another",
            "GET http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c, tls/1.0\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
            "bad_request",
        ),
        raw("h2 by prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "bad_request"),
        raw("TLS to the proxy", b"\x16\x03\x01\x00\xc4\x01\x00\x00\n\x00".to_vec(), "bad_request"),
        raw("SOCKS 4", b"\x04\x01\x01\xbb\x5d\xb8\xd7\x0e\x00\n".to_vec(), "bad_request"),
        raw("SOCKS 5", b"\x05\x01\x00\n".to_vec(), "bad_request"),
        raw("SSH to the proxy", "SSH-2.0-OpenSSH_9.2\n", "bad_request"),
        raw("git's own protocol to the proxy", "0032git-receive-pack /a.git\0host=example.com\0\n", "bad_request"),
        raw("lines that end with LF", "GET http://api.example.com/ HTTP/1.1\nHost: api.example.com\n\n", "bad_request"),
        raw(
            "a folded header",
            "GET http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\nX: a\r\n b\r\n\r\n",
            "bad_request",
        ),
        raw(
            "a space before the colon",
            "GET http://api.example.com/ HTTP/1.1\r\nHost : api.example.com\r\n\r\n",
            "bad_request",
        ),
        raw(
            "both lengths",
            format!("{post}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            "bad_request",
        ),
        raw("two lengths", format!("{post}Content-Length: 5\r\nContent-Length: 6\r\n\r\n12345"), "bad_request"),
        raw(
            "a chunk's extension",
            format!("{post}Transfer-Encoding: chunked\r\n\r\n1;x=y\r\na\r\n0\r\n\r\n"),
            "bad_request",
        ),
        raw("a coding that is none", format!("{post}Transfer-Encoding: xchunked\r\n\r\n"), "bad_request"),
        raw(
            "a second request behind a bad one",
            format!(
                "{post}Content-Length: 0\r\nContent-Length: 0\r\n\r\n{}",
                get("http://api.example.com/b", "api.example.com")
            ),
            "bad_request",
        ),
        raw(
            "a method override",
            "POST http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\nX-HTTP-Method-Override: DELETE\r\nContent-Length: 0\r\n\r\n",
            "bad_request",
        ),
        raw(
            "a git push over plain HTTP",
            get("http://example.com/a.git/info/refs?service=git-receive-pack", "example.com"),
            "push_not_gated",
        ),
    ]
}

pub fn addresses() -> Vec<Attempt> {
    vec![
        connect("loopback", "127.0.0.1:443", "address_not_public"),
        connect("loopback, shortened", "127.1:443", "address_not_public"),
        connect("loopback, decimal", "2130706433:443", "address_not_public"),
        connect("loopback, octal", "0177.0.0.1:443", "address_not_public"),
        connect("loopback, hexadecimal", "0x7f000001:443", "address_not_public"),
        connect("loopback, IPv6", "[::1]:443", "address_not_public"),
        connect("loopback, mapped", "[::ffff:127.0.0.1]:443", "address_not_public"),
        connect("this network", "0.0.0.0:443", "address_not_public"),
        connect("a private address", "192.168.0.1:443", "address_not_public"),
        connect("the metadata service", "169.254.169.254:80", "address_not_public"),
        connect("the metadata service, decimal", "2852039166:80", "address_not_public"),
        connect("the metadata service of IPv6", "[fd00:ec2::254]:80", "address_not_public"),
        connect("a translated address", "[64:ff9b::7f00:1]:443", "address_not_public"),
        connect("a link-local address", "[fe80::1]:443", "address_not_public"),
        connect("a multicast group", "224.0.0.1:443", "address_not_public"),
        connect("everybody", "255.255.255.255:443", "address_not_public"),
        within("a public address that nobody allowed", "93.184.215.14", "host_not_allowed"),
        connect("localhost", "localhost:443", "address_not_public"),
        connect("a name under localhost", "api.localhost:443", "address_not_public"),
        connect("the engine's name of its host", "host.docker.internal:443", "address_not_public"),
        connect("an allowed name that is private", "private.example.com:443", "address_not_public"),
        connect("an allowed name that is also loopback", "mixed.example.com:443", "address_not_public"),
        connect("an allowed name that maps a private address", "mapped.example.com:443", "address_not_public"),
        connect("an allowed name behind NAT64", "nat64.example.com:443", "address_not_public"),
        connect("an allowed name behind 6to4", "sixtofour.example.com:443", "address_not_public"),
        connect("an allowed name of the metadata service", "metadata.example.com:443", "address_not_public"),
        connect("an allowed name that is rebound", "rebind.example.com:443", "address_not_public"),
        connect("an allowed name that is nowhere", "rebind-late.example.com:443", "name_unresolved"),
        connect("an encoded dot", "api%2eexample.com:443", "bad_request"),
        connect("two dots at the end", "api.example.com..:443", "bad_host"),
        connect("a zone", "[fe80::1%25eth0]:443", "bad_host"),
        connect(
            "a host of 300 letters",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example.com:443",
            "bad_host",
        ),
    ]
}

/// A handshake with further header fields.
fn upgrade(more: &str) -> String {
    let key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{key}{more}\r\n")
}

#[expect(clippy::too_many_lines, reason = "a table")]
pub fn inside() -> Vec<Attempt> {
    let head = |line: &str| format!("{line}\r\nHost: {HOST}\r\n");
    let at = |line: &str| head(line) + "\r\n";
    let h2 = |name, method, uri: &str, headers: Vec<(&'static str, String)>, expected| Attempt {
        name,
        how: How::Http2(method, uri.to_owned(), headers, Vec::new()),
        expected,
    };
    vec![
        Attempt { name: "another name in TLS", how: How::Name("evil.example.org"), expected: "closed" },
        Attempt { name: "no name in TLS", how: How::Name("93.184.215.14"), expected: "closed" },
        Attempt {
            name: "no TLS after CONNECT",
            how: How::After("api.example.com:443", get("/", HOST).into()),
            expected: "closed",
        },
        Attempt {
            name: "SSH after CONNECT",
            how: How::After("api.example.com:443", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
            expected: "closed",
        },
        Attempt {
            name: "a torn ClientHello",
            how: How::After("api.example.com:443", b"\x16\x03\x01\x00\x05hello".to_vec()),
            expected: "closed",
        },
        in_tls("another Host inside", get("/", "evil.example.org"), "host_mismatch"),
        in_tls("another port inside", get("/", "api.example.com:8443"), "host_mismatch"),
        in_tls("absolute form of another host inside", at("GET https://evil.example.org/ HTTP/1.1"), "host_mismatch"),
        in_tls("http inside TLS", at("GET http://api.example.com/ HTTP/1.1"), "bad_request"),
        in_tls("CONNECT inside TLS", at("CONNECT evil.example.org:443 HTTP/1.1"), "bad_request"),
        in_tls("TRACE inside", at("TRACE / HTTP/1.1"), "bad_request"),
        in_tls("two Hosts inside", head("GET / HTTP/1.1") + "Host: evil.example.org\r\n\r\n", "bad_request"),
        in_tls(
            "both lengths inside",
            head("POST / HTTP/1.1") + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "bad_request",
        ),
        in_tls("bare LF inside", format!("GET / HTTP/1.1\nHost: {HOST}\n\n"), "bad_request"),
        in_tls(
            "an upgrade that is no WebSocket",
            head("GET / HTTP/1.1") + "Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n\r\n",
            "bad_request",
        ),
        in_tls(
            "two upgrades",
            head("GET / HTTP/1.1")
                + "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            "bad_request",
        ),
        in_tls(
            "a WebSocket by POST",
            head("POST / HTTP/1.1")
                + "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: 0\r\n\r\n",
            "bad_request",
        ),
        in_tls("a path above the root", at("GET /a/../../b HTTP/1.1"), "bad_path"),
        in_tls("a backslash", at("GET /a\\..\\b HTTP/1.1"), "bad_path"),
        in_tls("an encoded NUL", at("GET /a%00b HTTP/1.1"), "bad_path"),
        in_tls("half an escape", at("GET /a%2 HTTP/1.1"), "bad_path"),
        in_tls("a denied path", at("GET /admin/x HTTP/1.1"), "denied"),
        in_tls("a denied path by dots", at("GET /a/../admin/x HTTP/1.1"), "denied"),
        in_tls("a denied path, encoded", at("GET /%61dmin/x HTTP/1.1"), "denied"),
        in_tls("a denied path in capitals", at("GET /ADMIN/x HTTP/1.1"), "denied"),
        in_tls("a denied path behind an encoded slash", at("GET /admin%2Fx HTTP/1.1"), "denied"),
        in_tls("a git push", at("POST /a.git/git-receive-pack HTTP/1.1"), "push_not_gated"),
        in_tls("a git push, encoded", at("POST /a.git/%67it-receive-pack HTTP/1.1"), "push_not_gated"),
        in_tls("a git push behind an encoded slash", at("POST /a.git%2Fgit-receive-pack HTTP/1.1"), "push_not_gated"),
        in_tls("a git push with parameters", at("POST /a.git/git-receive-pack;x=y HTTP/1.1"), "push_not_gated"),
        in_tls("a git push, encoded twice", at("POST /a.git/git%252Dreceive%2Dpack HTTP/1.1"), "push_not_gated"),
        in_tls("a git push in capitals", at("POST /a.git/Git-Receive-Pack HTTP/1.1"), "push_not_gated"),
        in_tls(
            "a git push's discovery behind a semicolon",
            at("GET /a.git/info/refs?a=b;service=git-receive-pack HTTP/1.1"),
            "push_not_gated",
        ),
        in_tls(
            "a WebSocket with a body",
            head("GET / HTTP/1.1")
                + "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: 5\r\n\r\nhello",
            "bad_request",
        ),
        in_tls(
            "a WebSocket with chunks",
            head("GET / HTTP/1.1")
                + "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "bad_request",
        ),
        in_tls("a denied path in full-width letters", at("GET /%EF%BD%81dmin/x HTTP/1.1"), "denied"),
        in_tls("a denied path in letters that are like others", at("GET /adm%C4%B1n/x HTTP/1.1"), "denied"),
        in_tls("a denied path by a dotless way", at("GET /a/%2e%2e;/admin/x HTTP/1.1"), "bad_path"),
        in_tls("a denied path in one segment", at("GET /%61dmin%5cx HTTP/1.1"), "denied"),
        in_tls("a denied path that is spelt for IIS", at("GET /%u0061dmin/x HTTP/1.1"), "bad_path"),
        in_tls(
            "a denied path by a header",
            head("GET /fine HTTP/1.1") + "X-Original-URL: /admin/x\r\n\r\n",
            "bad_request",
        ),
        in_tls(
            "a denied path by another header",
            head("GET /fine HTTP/1.1") + "X-Rewrite-Url: /admin/x\r\n\r\n",
            "bad_request",
        ),
        in_tls("a denied path before a fragment", at("GET /admin/x#/fine HTTP/1.1"), "denied"),
        in_tls("user information inside", at("GET https://a:b@api.example.com/ HTTP/1.1"), "host_mismatch"),
        in_tls("a WebSocket with a length and nothing else", upgrade("Content-Length: 60\r\n"), "bad_request"),
        in_tls("a WebSocket with a length of two noughts", upgrade("Content-Length: 00\r\n"), "bad_request"),
        in_tls("a WebSocket with no length and chunks", upgrade("Transfer-Encoding: chunked\r\n"), "bad_request"),
        in_tls("a WebSocket with both", upgrade("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"), "bad_request"),
        in_tls("a WebSocket with a coding", upgrade("Transfer-Encoding: identity\r\n"), "bad_request"),
        in_tls("a WebSocket of another version", upgrade("Sec-WebSocket-Version: 8\r\n"), "bad_request"),
        in_tls("a denied path behind two slashes", at("GET /a//../admin//x HTTP/1.1"), "bad_path"),
        in_tls("a denied path with parameters", at("GET /admin;a=b/x HTTP/1.1"), "denied"),
        in_tls("a denied path behind dots with parameters", at("GET /a/..;/admin/x HTTP/1.1"), "bad_path"),
        in_tls("a git push with a slash at its end", at("POST /a.git/git-receive-pack/ HTTP/1.1"), "push_not_gated"),
        in_tls(
            "a git push's discovery",
            at("GET /a.git/info/refs?service=git-receive-pack HTTP/1.1"),
            "push_not_gated",
        ),
        in_tls(
            "a git push's discovery, encoded",
            at("GET /a.git/info/refs?a=b&%73ervice=%67it-receive-pack HTTP/1.1"),
            "push_not_gated",
        ),
        h2("another authority in HTTP/2", "GET", "https://evil.example.org/", vec![], "host_mismatch"),
        h2(
            "another Host beside the authority in HTTP/2",
            "GET",
            "https://api.example.com/",
            vec![("host", "evil.example.org".into())],
            "host_mismatch",
        ),
        h2("http as the scheme in HTTP/2", "GET", "http://api.example.com/", vec![], "bad_request"),
        h2("TRACE in HTTP/2", "TRACE", "https://api.example.com/", vec![], "bad_request"),
        h2(
            "a method override in HTTP/2",
            "POST",
            "https://api.example.com/",
            vec![("x-method-override", "PUT".into())],
            "bad_request",
        ),
        h2("a denied path in HTTP/2", "GET", "https://api.example.com/admin/x", vec![], "denied"),
    ]
}

#[test]
fn promise_04_no_form_of_request_finds_another_way() {
    if in_namespace("requests::promise_04_no_form_of_request_finds_another_way") {
        attempts([forms(), inside()].into_iter().flatten().collect());
    }
}

#[test]
fn promise_05_no_spelling_and_no_answer_of_a_resolver_opens_an_address() {
    if in_namespace("requests::promise_05_no_spelling_and_no_answer_of_a_resolver_opens_an_address") {
        attempts(addresses());
    }
}

#[tokio::main]
async fn attempts(attempts: Vec<Attempt>) {
    let mut lab = Lab::new(SPEC, &names(), &[]).await;
    run(&mut lab, attempts).await;
    // No forbidden name was resolved.
    let asked = lab.seen.lock().unwrap().names.clone();
    let forbidden = ["evil", "localhost", "docker"];
    assert!(asked.iter().all(|name| !forbidden.iter().any(|word| name.contains(word))), "{asked:?}");
    // An address that the user allows can be reached.
    let answer = lab.inside("meant.example.com", get("/", "meant.example.com").as_bytes()).await;
    assert!(answer.ends_with("here"), "{answer}");
    assert!(lab.seen.lock().unwrap().connections.iter().any(|at| at.to_string() == format!("{MEANT}:443")));
    narrow(&lab).await;
}

/// A host with a path rule: only the canonical path counts.
async fn narrow(lab: &Lab) {
    for (line, code) in [
        ("GET /acme/repo", "200"),
        ("GET /other/../acme/repo", "200"),
        ("GET /acme/../other", "path_not_allowed"),
        ("GET /acme%2F..%2Fother", "bad_path"),
        ("GET /acme/..;/other", "bad_path"),
        ("GET /acme/x;y/z", "bad_path"),
        ("GET /acme//x", "bad_path"),
        ("GET /acme/group%2Fname", "200"),
        ("GET /ACME/repo", "path_not_allowed"),
        ("GET //acme/repo", "bad_path"),
        ("GET /acme/%2e%2e/other", "path_not_allowed"),
        ("POST /acme/repo", "method_not_allowed"),
        ("get /acme/repo", "method_not_allowed"),
        ("HEAD /acme/repo", "method_not_allowed"),
    ] {
        let request = format!("{line} HTTP/1.1\r\nHost: narrow.example.com\r\nContent-Length: 0\r\n\r\n");
        let answer = lab.inside("narrow.example.com", request.as_bytes()).await;
        let fits = if code == "200" {
            answer.contains("HTTP/1.1 200")
        } else {
            answer.contains(&format!("\"code\":\"{code}\""))
        };
        // A response to HEAD has no body.
        assert!(fits || (line.starts_with("HEAD") && answer.starts_with("HTTP/1.1 400")), "{line}: {answer}");
    }
}
