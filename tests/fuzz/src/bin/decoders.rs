//! Encodings around each other: bounded, and a secret is found through those that are looked through.

#![no_main]

use std::io::Write;

use bottler_fuzz::scan::{BodyFormat, Budget, Encoding, decode};
use bottler_fuzz::{SCANNER, SECRET};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, rest)) = bytes.split_first() else { return };
    let encodings = [Encoding::Gzip, Encoding::Deflate, Encoding::Brotli, Encoding::Zstd];
    let one = encodings[usize::from(choice) % 4];
    let two = encodings[usize::from(choice >> 2) % 4];
    if let Ok(decoded) = decode(rest, &[one, two], &mut Budget::of(rest.len())) {
        assert!(decoded.text.len() <= 32 << 20);
    }
    let _ = SCANNER.scan(rest, &mut Budget::of(rest.len()));
    let format = BodyFormat::read("text/plain", &[&String::from_utf8_lossy(rest)], None);
    assert!(format.is_ok() || !rest.is_empty());
    // Text around a secret, and encodings around both, as the bytes choose them.
    let around: String = rest.iter().take(40).map(|byte| char::from(b'a' + byte % 26)).collect();
    let mut text = format!("{around} {SECRET} {around}").into_bytes();
    for layer in 0..choice >> 4 & 3 {
        text = match choice.rotate_left(u32::from(layer)) % 4 {
            0 => data_encoding::BASE64.encode(&text).into_bytes(),
            1 => data_encoding::HEXLOWER.encode(&text).into_bytes(),
            2 => {
                let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                gzip.write_all(&text).expect("it is memory");
                gzip.finish().expect("it is memory")
            }
            _ => serde_json::to_vec(&String::from_utf8_lossy(&text)).expect("it is text"),
        };
        if std::str::from_utf8(&text).is_err() && layer > 0 {
            // Lossy above: what is inside is no secret any more.
            return;
        }
    }
    assert!(SCANNER.scan_unbounded(&text).is_some(), "{:?}", String::from_utf8_lossy(&text));
});
