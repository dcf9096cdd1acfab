//! A value that its host does not accept: its source is asked once more, and the request is sent again with another value.

use std::process::Stdio;

use bottler::credential::Slot;
use bottler::sidecar::Message;
use bottler::sidecar::egress::{Notice, Update};

use crate::credentials::{HELD, HOST, OTHER, SPEC, VALUE, credential, shows};
use crate::lab::{Lab, PUBLIC, in_namespace};

/// What the origin accepts at `/newer`.
const NEWER: &str = "sk-live-newer-4fJ9xqZt7LmPw2Rb";

/// A request of curl's through egress, with the placeholder.
fn curl(lab: &Lab, path: &str, more: &[&str]) -> tokio::process::Child {
    tokio::process::Command::new("curl")
        .args(["-sS", "--max-time", "60", "-w", " %{http_code}", "-x", &format!("http://{}", lab.proxy), "--cacert"])
        .arg(lab.ca_file())
        .args(["-H", &format!("Authorization: Bearer {HELD}")])
        .args(more)
        .arg(format!("https://{HOST}{path}"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn output(child: tokio::process::Child) -> String {
    let output = child.wait_with_output().await.unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Waits for the report that a value was not accepted.
async fn need(lab: &mut Lab) -> String {
    loop {
        if let Message::Notice(Notice::Need { credential }) = lab.message().await {
            return credential;
        }
    }
}

/// All credentials: one. Another name is another one, about which nothing was reported.
fn held(name: &str, value: &str) -> Update {
    Update::Credentials(vec![credential(name, HELD, value, &[(HOST, Slot::Bearer)])])
}

#[test]
fn a_rejected_value_is_renewed_and_the_request_sent_again_once() {
    if in_namespace("credential_renewed::a_rejected_value_is_renewed_and_the_request_sent_again_once") {
        renewed();
    }
}

#[tokio::main]
async fn renewed() {
    let names = [(HOST, vec![PUBLIC]), (OTHER, vec![PUBLIC])].into();
    let mut lab = Lab::new(SPEC, &names, &[]).await;
    // Nobody asks twice for what did not help: a second rejection passes through at once.
    lab.update(held("own", VALUE)).await;
    let client = curl(&lab, "/newer", &[]);
    assert_eq!(need(&mut lab).await, "own");
    lab.update(held("own", VALUE)).await;
    assert_eq!(output(client).await, "rejected 401");
    assert_eq!(output(curl(&lab, "/newer", &[])).await, "rejected 401");
    lab.update(held("own", NEWER)).await;
    assert_eq!(output(curl(&lab, "/newer", &[])).await, "accepted 200");

    for (name, more, body) in [("get", &[][..], ""), ("post", &["-d", "the whole body"][..], "the whole body")] {
        lab.update(held(name, VALUE)).await;
        lab.seen.lock().unwrap().requests.clear();
        let (one, two) = (curl(&lab, "/newer", more), curl(&lab, "/newer", more));
        assert_eq!(need(&mut lab).await, name);
        lab.update(held(name, NEWER)).await;
        assert_eq!((output(one).await, output(two).await), ("accepted 200".into(), "accepted 200".into()));
        let seen = std::mem::take(&mut lab.seen.lock().unwrap().requests);
        assert!((3..=4).contains(&seen.len()), "{seen:?}");
        assert!(seen.iter().all(|request| request.ends_with(&format!("/newer {body}"))), "{seen:?}");
        lab.decisions().await;
        for status in [401, 200] {
            assert!(lab.told.contains(&format!("{name} for /newer: {status}")), "{status}: {}", lab.told);
        }
    }

    // A body that has left in part is not sent again, and a host that refuses the request does not reject the value.
    lab.update(held("large", VALUE)).await;
    lab.told.clear();
    let large = lab.folder.path().join("large");
    std::fs::write(&large, vec![b'a'; 2 << 20]).unwrap();
    let sent = format!("@{}", large.display());
    assert_eq!(output(curl(&lab, "/newer", &["--data-binary", &sent])).await, "rejected 401");
    assert_eq!(output(curl(&lab, "/forbidden", &[])).await, "forbidden 403");
    lab.decisions().await;
    assert!(!lab.told.contains("\"need\""), "{}", lab.told);
    assert!(!lab.told.contains(NEWER) && !shows(lab.told.as_bytes()));
}
