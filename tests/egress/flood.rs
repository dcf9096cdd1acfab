//! An agent that floods egress with refusals to hide a few: these are in the audit log, and its file is complete.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bottler::audit::{Writer, logs, read};
use bottler::sidecar::{Action, Event};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::lab::{Lab, Message, in_namespace};

/// How long one kind of flood lasts.
const LASTS: Duration = Duration::from_secs(4);
/// How many requests a connection has in flight.
const AT_ONCE: u64 = 200;
/// How often the host is requested that the flood should hide.
const RARE: u64 = 10;

/// The request of a flood, by its number: new names, names in one domain, paths, ports, addresses, or each of them
/// three times.
fn request(shape: usize, number: u64) -> String {
    let host = match shape {
        0 => format!("n{number}.example"),
        1 => format!("n{number}.flood.example"),
        2 => "flood.example".to_owned(),
        3 => format!("flood.example:{}", number % 60_000 + 1),
        4 => format!("93.{}.{}.{}", number >> 16 & 0xff, number >> 8 & 0xff, number & 0xff),
        _ => format!("t{}.example", number / 3),
    };
    format!("GET http://{host}/{number} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

/// Sends new requests on one connection until it is told to stop.
async fn flood(lab: &Lab, shape: usize, next: &AtomicU64, stop: &AtomicBool) {
    let mut stream = TcpStream::connect(lab.proxy).await.unwrap();
    let mut buffer = vec![0; 1 << 16];
    while !stop.load(Ordering::Relaxed) {
        let first = next.fetch_add(AT_ONCE, Ordering::Relaxed);
        let requests: String = (first..first + AT_ONCE).map(|number| request(shape, number)).collect();
        let (mut reader, mut writer) = stream.split();
        let answers = async {
            let (mut heads, mut matched) = (0, 0);
            while heads < AT_ONCE {
                let length = reader.read(&mut buffer).await.unwrap();
                assert!(length > 0, "egress ended the connection");
                for byte in &buffer[..length] {
                    matched = if *byte == b"HTTP/1.1 "[matched] { matched + 1 } else { usize::from(*byte == b'H') };
                    if matched == 9 {
                        (heads, matched) = (heads + 1, 0);
                    }
                }
            }
        };
        let (written, ()) = tokio::join!(writer.write_all(requests.as_bytes()), answers);
        written.unwrap();
    }
}

#[test]
fn promise_18_a_flood_of_refusals_hides_none_that_is_rare() {
    if !in_namespace("flood::promise_18_a_flood_of_refusals_hides_none_that_is_rare") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut lab = Lab::new("allow: [api.example.com]", &BTreeMap::new(), &[]).await;
        let state = tempfile::tempdir().unwrap();
        let mut writer = Writer::begin(state.path(), "lab", |_| true).unwrap();
        let mut asked = 0;
        for shape in 0..6 {
            let (next, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
            let rare = format!("GET http://rare{shape}.example/ HTTP/1.1\r\nHost: rare{shape}.example\r\n\r\n");
            let until = Instant::now() + LASTS;
            let one = flood(&lab, shape, &next, &stop);
            let two = flood(&lab, shape, &next, &stop);
            let three = flood(&lab, shape, &next, &stop);
            let hidden = async {
                for number in 0..RARE {
                    // Each after another part of the flood.
                    let part = LASTS * u32::try_from(RARE - 1 - number).unwrap() / u32::try_from(RARE).unwrap();
                    tokio::time::sleep_until(until.checked_sub(part).unwrap().into()).await;
                    let answer = lab.raw(rare.as_bytes()).await;
                    assert!(answer.contains("host_not_allowed"), "{answer}");
                }
                stop.store(true, Ordering::Relaxed);
            };
            tokio::join!(one, two, three, hidden);
            asked += next.load(Ordering::Relaxed) + RARE;
            let events: Vec<Event> = lab.decisions().await;
            let of_rare = |event: &&Event| event.kind.destination == format!("rare{shape}.example:80");
            let lines = events.len();
            assert!(events.iter().any(|event| of_rare(&event)), "{shape}: none of {RARE} in {lines} lines");
            eprintln!("shape {shape}: {} requests, {lines} lines", next.load(Ordering::Relaxed));
            assert!(lines < 4000, "{shape}: {lines} lines");
            for event in events {
                writer.event(event);
            }
        }
        let closed = writer.close();
        assert_eq!((closed.decisions, closed.refused, &closed.incomplete), (asked, asked, &None));
        let path = logs(state.path(), "lab").unwrap().remove(0);
        let chain = read(&path).unwrap();
        assert_eq!((chain.broken_at, chain.torn, chain.ended, &chain.head), (None, 0, true, &closed.head));
        let there: u64 = chain.events().map(|event| event.count).sum();
        assert_eq!(there + closed.left_out, asked, "every refusal is counted");
        for shape in 0..6 {
            assert!(chain.events().any(|event| event.kind.destination == format!("rare{shape}.example:80")), "{shape}");
        }
        let Message::Acknowledged(_) = ping(&mut lab).await else { panic!("egress does not answer") };
    });
}

async fn ping(lab: &mut Lab) -> Message {
    lab.tell(Action::Ping).await;
    lab.message().await
}
