//! Frames of WebSockets: whatever they are cut into, a secret that arrives whole was found before.

#![no_main]

use std::io::Cursor;

use bottler_fuzz::scan::Overlap;
use bottler_fuzz::{SCANNER, SECRET};
use libfuzzer_sys::fuzz_target;
use tungstenite::WebSocket;
use tungstenite::protocol::{Role, WebSocketConfig};

fuzz_target!(|bytes: &[u8]| {
    let config = WebSocketConfig::default().max_message_size(Some(1 << 20)).max_frame_size(Some(1 << 20));
    let mut stream = WebSocket::from_raw_socket(Cursor::new(bytes.to_vec()), Role::Server, Some(config));
    let (mut overlap, mut sent) = (Overlap::messages(), Vec::new());
    while let Ok(message) = stream.read() {
        if message.is_close() {
            break;
        }
        let data = message.into_data();
        if overlap.scan(&SCANNER, &data).is_some() {
            break;
        }
        sent.extend_from_slice(&data);
        let tail = &sent[sent.len().saturating_sub(4096)..];
        assert!(!tail.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()), "it has left");
    }
    // The same with the secret in two messages, cut where the bytes say.
    let cut = usize::from(bytes.first().copied().unwrap_or_default()) % SECRET.len();
    let mut overlap = Overlap::messages();
    let around = bytes.get(..bytes.len().min(200)).unwrap_or_default();
    let first = [around, SECRET[..cut].as_bytes()].concat();
    let found = overlap.scan(&SCANNER, &first).is_some() || overlap.scan(&SCANNER, SECRET[cut..].as_bytes()).is_some();
    assert!(found, "{cut}");
});
