//! Frames of WebSockets: whatever they are cut into, a secret that arrives whole was found before.

#![no_main]

use std::io::Cursor;

use bottler_fuzz::scan::Seam;
use bottler_fuzz::{SCANNER, SECRET};
use libfuzzer_sys::fuzz_target;
use tungstenite::WebSocket;
use tungstenite::protocol::{Role, WebSocketConfig};

fuzz_target!(|bytes: &[u8]| {
    let config = WebSocketConfig::default().max_message_size(Some(1 << 20)).max_frame_size(Some(1 << 20));
    let mut stream = WebSocket::from_raw_socket(Cursor::new(bytes.to_vec()), Role::Server, Some(config));
    let (mut seam, mut sent) = (Seam::messages(), Vec::new());
    while let Ok(message) = stream.read() {
        if message.is_close() {
            break;
        }
        let data = message.into_data();
        if seam.look(&SCANNER, &data).is_some() {
            break;
        }
        sent.extend_from_slice(&data);
        let tail = &sent[sent.len().saturating_sub(4096)..];
        assert!(!tail.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()), "it has left");
    }
    // The same with the secret in two messages, cut where the bytes say.
    let cut = usize::from(bytes.first().copied().unwrap_or_default()) % SECRET.len();
    let mut seam = Seam::messages();
    let around = bytes.get(..bytes.len().min(200)).unwrap_or_default();
    let first = [around, SECRET[..cut].as_bytes()].concat();
    let found = seam.look(&SCANNER, &first).is_some() || seam.look(&SCANNER, SECRET[cut..].as_bytes()).is_some();
    assert!(found, "{cut}");
});
