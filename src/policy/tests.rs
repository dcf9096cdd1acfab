//! Tables of decisions.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::*;
use crate::net::{Host, canonical};
use crate::scan::Action;

fn decide(host: &str, port: u16) -> Decision {
    let policy = Policy {
        allow: ["example.com", "*.pypi.org", "10.0.0.9"]
            .map(|rule| AllowSpec::Host(rule.into()).read().unwrap())
            .into(),
        sidecars: [("counterpart".to_owned(), "10.9.0.3:80".parse::<std::net::SocketAddr>().unwrap().into())].into(),
        ..Policy::default()
    };
    let host = Host::parse(host).unwrap();
    authorize(&policy, &Intent { form: Form::Connect, method: "CONNECT".into(), host, port, path: None })
}

fn code(host: &str, port: u16) -> &'static str {
    match decide(host, port) {
        Decision::Allow(Destination::Canary) => "canary",
        Decision::Allow(Destination::Sidecar(_)) => "sidecar",
        Decision::Allow(Destination::Resolve(..)) => "resolve",
        Decision::Allow(Destination::Inside | Destination::Gate(_)) => "git",
        Decision::Audit(..) => "audit",
        Decision::Refuse(reason) => reason.code(),
    }
}

#[test]
fn promise_05_one_gate_for_every_destination() {
    for (host, port, expected) in [
        (CANARY, 443, "canary"),
        ("example.com", 443, "resolve"),
        ("EXAMPLE.COM.", 443, "resolve"),
        ("files.pypi.org", 443, "resolve"),
        ("pypi.org", 443, "host_not_allowed"),
        ("example.com", 22, "port_not_allowed"),
        ("example.org", 443, "host_not_allowed"),
        ("counterpart", 80, "sidecar"),
        ("counterpart", 22, "port_not_allowed"),
        // A sidecar is exempt by its name, never by its address, and a rule does not open a private range.
        ("10.9.0.3", 80, "address_not_public"),
        ("10.0.0.9", 443, "address_not_public"),
        ("0x7f000001", 443, "address_not_public"),
        ("[::1]", 443, "address_not_public"),
        ("169.254.169.254", 80, "address_not_public"),
        ("1.1.1.1", 443, "host_not_allowed"),
        ("localhost", 443, "address_not_public"),
        ("a.localhost", 443, "address_not_public"),
        ("host.docker.internal", 443, "address_not_public"),
        ("Host.Containers.Internal.", 443, "address_not_public"),
        ("metadata.google.internal", 80, "address_not_public"),
    ] {
        assert_eq!(code(host, port), expected, "{host}:{port}");
    }
}

#[test]
fn promise_05_one_private_address_among_public_ones_refuses_the_name() {
    let host = Host::parse("rebind.example.com").unwrap();
    let public: IpAddr = "1.1.1.1".parse().unwrap();
    let mut policy = Policy::default();
    assert_eq!(check_addresses(&policy, &host, &[public]), Ok(()));
    assert!(check_addresses(&policy, &host, &[public, "127.0.0.1".parse().unwrap()]).is_err());
    // What the user can allow, and what is never allowed.
    policy.ip_allow = vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
    for (address, passes) in [
        ("10.1.2.3", true),
        ("100.64.0.1", true),
        ("fd00::1", true),
        ("127.0.0.1", false),
        ("0.0.0.0", false),
        ("0.1.2.3", false),
        ("::", false),
        ("169.254.169.254", false),
        ("::1", false),
        ("224.0.0.1", false),
        ("64:ff9b::a00:1", false),
    ] {
        assert_eq!(check_addresses(&policy, &host, &[address.parse().unwrap()]).is_ok(), passes, "{address}");
    }
    // The engine's host is in such a range, and is not allowed.
    policy.own_host = vec!["10.1.2.3".parse().unwrap()];
    assert!(check_addresses(&policy, &host, &["10.1.2.3".parse().unwrap()]).is_err());
    assert!(check_addresses(&policy, &host, &["::ffff:10.1.2.3".parse().unwrap()]).is_err());
    // Its public addresses neither.
    policy.own_host.push("1.2.3.4".parse().unwrap());
    let refused = check_addresses(&policy, &host, &["1.2.3.4".parse().unwrap()]).unwrap_err();
    assert!(refused.code() == "address_not_public" && refused.hint().contains("host_services"), "{refused}");
    assert!(check_addresses(&policy, &host, &["10.1.2.4".parse().unwrap()]).is_ok());
    // A proxy may be at a private address.
    for (address, passes) in [("10.1.2.3", true), ("1.1.1.1", true), ("127.0.0.1", false), ("169.254.169.254", false)] {
        assert_eq!(check_proxy(&host, &[address.parse().unwrap()]).is_ok(), passes, "{address}");
    }
}

/// Plain TCP shows no path: what denies a part of a host denies it.
#[test]
fn promise_04_a_denial_of_some_requests_holds_for_plain_tcp() {
    let text = "{tcp: ['db.com:5432'], host_services: [{name: m, port: 80}], deny: [{host: m, paths: [/x]}, {host: db.com, methods: [PUT]}]}";
    let policy = spec(text);
    let decide = |form, host: &str, port, path: Option<&str>| {
        let host = Host::parse(host).unwrap();
        authorize(&policy, &Intent { form, method: "GET".into(), host, port, path: path.map(str::to_owned) })
    };
    for (host, port) in [("m", 80), ("db.com", 5432)] {
        assert!(matches!(decide(Form::Tcp, host, port, None), Decision::Refuse(Reason::Denied(..))), "{host}");
    }
    assert!(matches!(decide(Form::Absolute, "m", 80, Some("/y")), Decision::Allow(Destination::Sidecar(_))));
    assert!(matches!(decide(Form::Absolute, "m", 80, Some("/x")), Decision::Refuse(Reason::Denied(..))));
    let other = decide(Form::Absolute, "m", 81, Some("/y"));
    assert!(
        matches!(&other, Decision::Refuse(reason) if reason.to_string() == "m is at port 80, not at 81"),
        "{other:?}"
    );
}

fn spec(text: &str) -> Policy {
    let spec: EgressSpec = serde_yaml::from_str(text).unwrap();
    spec.policy(BTreeMap::new()).unwrap()
}

fn inside(method: &str, url: &str) -> Intent {
    let (host, path) = url.split_once('/').unwrap();
    let (form, path) = (Form::Inside, Some(canonical(&format!("/{path}")).unwrap()));
    Intent { form, method: method.to_owned(), host: Host::parse(host).unwrap(), port: 443, path }
}

fn judged(policy: &Policy, method: &str, url: &str) -> String {
    match authorize(policy, &inside(method, url)) {
        Decision::Allow(_) => "allowed".to_owned(),
        Decision::Audit(_, reason) => format!("audit: {}", reason.code()),
        Decision::Refuse(reason) => reason.code().to_owned(),
    }
}

#[test]
fn methods_and_paths_are_judged_together() {
    let policy = spec(
        "allow:
        - {host: api.example.com, methods: [GET], paths: [/acme/**]}
        - {host: api.example.com, methods: [POST], paths: [/v1/messages]}
        ",
    );
    for (method, path, expected) in [
        ("GET", "/acme/repo?x=/evil", "allowed"),
        ("POST", "/v1/messages", "allowed"),
        ("POST", "/acme/repo", "path_not_allowed"),
        ("GET", "/v1/messages", "path_not_allowed"),
        ("DELETE", "/acme/repo", "method_not_allowed"),
        ("get", "/acme/repo", "method_not_allowed"),
        ("TRACE", "/acme/repo", "bad_request"),
        ("GET", "/acme/git-receive-pack", "push_not_gated"),
        ("GET", "/acme/git-receive-pack/", "push_not_gated"),
        ("GET", "/acme%2Fgit-receive-pack", "push_not_gated"),
        ("GET", "/acme/git-receive-pack%2f", "push_not_gated"),
        ("GET", "/acme/info/refs?service=git-receive-pack", "push_not_gated"),
        ("GET", "/acme/info/refs?a=b&%73ervice=git%2Dreceive-pack", "push_not_gated"),
        ("GET", "/acme/info/refs?service=git-upload-pack", "allowed"),
    ] {
        assert_eq!(judged(&policy, method, &format!("api.example.com{path}")), expected, "{method} {path}");
    }
}

#[test]
fn what_is_denied_wins_also_where_nothing_is_enforced() {
    let text = "allow: ['*.example.com', tunnel.example.com]
deny: [evil.example.com, {host: api.example.com, methods: [POST], paths: [/admin/**]}, {host: tunnel.example.com, methods: [PUT]}]
";
    for mode in ["enforce", "audit"] {
        let policy = spec(&format!("{text}mode: {mode}"));
        let otherwise = if mode == "audit" { "audit: host_not_allowed" } else { "host_not_allowed" };
        for (method, url, expected) in [
            ("GET", "a.example.com/", "allowed"),
            ("GET", "evil.example.com/", "denied"),
            ("GET", "api.example.com/admin/x", "allowed"),
            ("POST", "api.example.com/admin/x", "denied"),
            // As some servers would read it.
            ("POST", "api.example.com/Admin/x", "denied"),
            ("POST", "api.example.com/admin%2fx", "denied"),
            ("POST", "api.example.com/other", "allowed"),
            ("GET", "elsewhere.example.org/", otherwise),
            ("GET", "10.0.0.1/", "address_not_public"),
            ("TRACE", "elsewhere.example.org/", "bad_request"),
        ] {
            assert_eq!(judged(&policy, method, url), expected, "{mode}: {method} {url}");
        }
        let connect = |host: &str| Intent { form: Form::Connect, path: None, ..inside("CONNECT", &format!("{host}/")) };
        assert!(matches!(authorize(&policy, &connect("evil.example.com")), Decision::Refuse(Reason::Denied(..))));
        // It is judged inside TLS.
        assert!(matches!(authorize(&policy, &connect("api.example.com")), Decision::Allow(_)));
    }
}

#[test]
fn a_tunnel_is_named_and_nothing_at_its_host_is_denied() {
    let policy = spec(
        "allow: [a.example.com, {host: a.example.com, tls: tunnel}, {host: b.example.com, tls: tunnel},
          {host: b.example.com, tls: intercept}, {host: c.example.com, tls: tunnel}]
deny: [{host: c.example.com, methods: [PUT]}]",
    );
    let tls = |host: &str| policy.tls(&Host::parse(host).unwrap(), 443);
    assert_eq!(tls("a.example.com"), Tls::Tunnel, "an entry that says nothing is overruled by one that does");
    assert_eq!(tls("b.example.com"), Tls::Intercept);
    assert_eq!(tls("c.example.com"), Tls::Intercept);
    assert_eq!(tls("d.example.com"), Tls::Intercept);
    let entry: AllowSpec = serde_yaml::from_str("{host: x.example.com, methods: [GET], tls: tunnel}").unwrap();
    assert!(matches!(entry.read(), Err(EntryError::Tunnel(_))));
}

#[test]
fn scanning_is_left_out_only_for_the_requests_that_the_entry_is_for() {
    let policy = spec(
        "allow: [api.example.com, {host: api.example.com, paths: [/login], scan: off}, {host: '*.example.com', scan: warn}]",
    );
    for (url, expected) in [
        ("api.example.com/login", Some(Action::Warn)),
        ("api.example.com/other", Some(Action::Warn)),
        ("api.example.org/", None),
    ] {
        assert_eq!(policy.scan(&inside("GET", url)), expected, "{url}");
    }
    let policy = spec("allow: [api.example.com, {host: api.example.com, paths: [/login], scan: off}]");
    assert_eq!(policy.scan(&inside("GET", "api.example.com/login")), Some(Action::Off));
    assert_eq!(policy.scan(&inside("GET", "api.example.com/other")), None);
}

#[test]
fn plain_tcp_goes_to_what_is_named_and_nowhere_else() {
    for mode in ["enforce", "audit"] {
        let policy =
            spec(&format!("mode: {mode}\ntcp: [db.example.com:5432, evil.example.com:1]\ndeny: [evil.example.com]"));
        let tcp = |host: &str, port| {
            let intent = Intent { form: Form::Tcp, port, path: None, ..inside("TCP", &format!("{host}/")) };
            matches!(authorize(&policy, &intent), Decision::Allow(_))
        };
        assert!(tcp("db.example.com", 5432));
        assert!(!tcp("db.example.com", 5433) && !tcp("other.example.com", 5432) && !tcp("evil.example.com", 1));
        // Not by the other forms.
        assert_ne!(judged(&policy, "GET", "db.example.com/"), "allowed");
    }
}

#[test]
fn promise_05_a_method_in_the_query_must_be_allowed_too() {
    let table = AllowTable { host: "example.com".into(), methods: vec!["POST".into()], ..AllowTable::default() };
    let spec = EgressSpec { allow: vec![AllowSpec::Table(table)], ..EgressSpec::default() };
    let policy = spec.policy(BTreeMap::new()).unwrap();
    let decide = |path: &str| {
        let host = Host::parse("example.com").unwrap();
        let path = Some(canonical(path).unwrap());
        authorize(&policy, &Intent { form: Form::Inside, method: "POST".into(), host, port: 443, path })
    };
    for path in ["/x", "/x?a=_method", "/x?_method=post", "/x?method=DELETE"] {
        assert!(matches!(decide(path), Decision::Allow(_)), "{path}");
    }
    for path in ["/x?_method=DELETE", "/x?a=b&%5Fmethod=delete", "/x?a;_method=PUT", "/x?_method=trace"] {
        assert!(matches!(decide(path), Decision::Refuse(_)), "{path}");
    }
}

#[test]
fn an_entry_for_what_is_never_reached_is_an_error_that_says_what_to_do() {
    let check = |text: &str| serde_yaml::from_str::<EgressSpec>(text).unwrap().check();
    for (entry, hint) in [
        ("localhost:8080", "host_services"),
        ("app.localhost", "host_services"),
        ("host.docker.internal", "host_services"),
        ("127.0.0.1", "host_services"),
        ("10.1.2.3", "--allow-ip"),
        ("'[fd00::1]'", "--allow-ip"),
    ] {
        let error = check(&format!("allow: [{entry}]")).unwrap_err().to_string();
        assert!(error.starts_with("allow: ") && error.contains("has no effect") && error.contains(hint), "{error}");
    }
    for text in [
        "{allow: ['10.1.2.3'], ip_allow: [10.1.0.0/16]}",
        "allow: [example.com, '93.184.215.14', '*.localhost.example']",
    ] {
        assert!(check(text).is_ok(), "{text}");
    }
}
