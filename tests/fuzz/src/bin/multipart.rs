//! Bodies of several parts, and gRPC: told apart or refused, and nothing of a part is lost to sight.

#![no_main]

use bottler_fuzz::scan::{BodyFormat, Budget, GrpcMessages, boundary, parts};
use bottler_fuzz::{SCANNER, SECRET};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (head, body) = bytes.split_at(bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len()));
    let kind = format!("multipart/form-data; {}", String::from_utf8_lossy(head));
    if let Ok(Some(boundary)) = boundary(&kind) {
        if let Ok(parts) = parts(&boundary, body, &mut Budget::of(body.len())) {
            let total: usize = parts.iter().map(|part| part.len()).sum();
            assert!(total <= 64 << 20);
        }
        let whole = [b"--", boundary.as_bytes(), b"\r\n\r\n", SECRET.as_bytes(), body].concat();
        if let Ok(format) = BodyFormat::read(&kind, &[], None) {
            assert!(!matches!(format.scan(&SCANNER, &whole, &mut Budget::of(whole.len())), Ok(None)));
        }
    }
    if let Ok(mut messages) = GrpcMessages::new(Some("gzip")) {
        let mut left = 0;
        for piece in body.chunks(7) {
            messages.push(&bytes::Bytes::copy_from_slice(piece));
            while let Ok(Some((frame, _, _))) = messages.take() {
                left += frame.len();
            }
        }
        assert!(left <= body.len());
    }
});
