//! Network namespaces of a test's own, and a resolver in them.

#![allow(dead_code, unreachable_pub, reason = "every test file uses a part of it")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::Command;

use hickory_resolver::proto::op::{Message as Query, MessageType, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tokio::net::UdpSocket;

/// Set where the test runs in its own namespaces.
const INSIDE: &str = "BOTTLER_TEST_NAMESPACE";

/// What names resolve to.
pub type Names = BTreeMap<&'static str, Vec<&'static str>>;

/// Runs a test of this file again, in namespaces of its own; true when this is that run.
pub fn in_namespace(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let mut unshare = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        unshare.arg("--map-root-user");
    }
    let status = unshare
        .args(["--net", "--mount", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--include-ignored"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare is installed");
    assert!(status.success(), "{test} in its namespaces: {status}");
    false
}

pub fn sh(command: &str) {
    let status = Command::new("sh").args(["-ec", command]).status().unwrap();
    assert!(status.success(), "{command}");
}

/// Serves names at port 53. `asked_for` is called with each name that is asked for. A name that begins with `rebind` has one of its
/// addresses at a time.
pub async fn resolver(names: Names, asked_for: impl Fn(&str) + Send + 'static) {
    let socket = UdpSocket::bind("127.0.0.1:53").await.unwrap();
    tokio::spawn(async move {
        let (mut buffer, mut asked) = (vec![0; 4096], BTreeMap::<String, usize>::new());
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            let Ok(query) = Query::from_vec(&buffer[..length]) else { continue };
            let Some(question) = query.queries.first().cloned() else { continue };
            let name = question.name().to_utf8().to_lowercase();
            let name = name.trim_end_matches('.').to_owned();
            asked_for(&name);
            let mut answer = Query::response(query.metadata.id, query.metadata.op_code);
            answer.metadata.message_type = MessageType::Response;
            answer.metadata.recursion_available = true;
            answer.add_query(question.clone());
            let Some(addresses) = names.get(name.as_str()) else {
                answer.metadata.response_code = ResponseCode::NXDomain;
                let _ = socket.send_to(&answer.to_vec().unwrap(), peer).await;
                continue;
            };
            let of_kind = addresses.iter().map(|address| address.parse::<IpAddr>().unwrap()).filter(|address| {
                question.query_type() == if address.is_ipv4() { RecordType::A } else { RecordType::AAAA }
            });
            let mut found: Vec<IpAddr> = of_kind.collect();
            if name.starts_with("rebind") && !found.is_empty() {
                let turn = asked.entry(name.clone()).or_default();
                found = vec![found[*turn % found.len()]];
                *turn += 1;
            }
            for address in found {
                let data = match address {
                    IpAddr::V4(address) => RData::A(address.into()),
                    IpAddr::V6(address) => RData::AAAA(address.into()),
                };
                answer.add_answer(Record::from_rdata(question.name().clone(), 0, data));
            }
            let _ = socket.send_to(&answer.to_vec().unwrap(), peer).await;
        }
    });
}
