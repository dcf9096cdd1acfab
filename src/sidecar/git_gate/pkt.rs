//! pkt-line, the framing of git's protocols (git, `gitprotocol-common(5)`), and its side bands
//! (`gitprotocol-pack(5)`). A line has at most 65,520 bytes; longer ones and other lengths are an error.

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Maximum length of a line with its four digits, in bytes.
const MAX_LINE: usize = 65_520;
/// The length of the digits.
const DIGITS: usize = 4;

/// A flush packet.
pub(super) const FLUSH: &[u8] = b"0000";
/// The band of data.
pub(super) const DATA: u8 = 1;
/// The band of messages for people.
pub(super) const MESSAGES: u8 = 2;
/// The band of a fatal error.
pub(super) const FATAL: u8 = 3;

/// A packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Packet {
    /// Data, as it was framed.
    Line(Bytes),
    /// `0000`.
    Flush,
    /// `0001`, between the sections of a request of protocol v2.
    Delimiter,
    /// `0002`, the end of a response of protocol v2.
    ResponseEnd,
}

/// Why no packet can be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum PktError {
    /// The length is not four hexadecimal digits, or not the length of a packet.
    #[error("{0:?} is not the length of a pkt-line")]
    Length(String),
    /// The other side has gone.
    #[error("read a pkt-line: {0}")]
    Read(#[from] std::io::Error),
}

/// Reads a packet; `None` at the end of the input.
///
/// # Errors
/// The framing is malformed, or the input ends within a packet.
pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> Result<Option<Packet>, PktError> {
    let mut digits = [0; DIGITS];
    if from.read(&mut digits[..1]).await? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut digits[1..]).await?;
    let wrong = || PktError::Length(String::from_utf8_lossy(&digits).into_owned());
    // `from_str_radix` accepts a sign.
    let hex = digits.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(&digits).ok().filter(|_| hex).ok_or_else(wrong)?;
    match usize::from_str_radix(text, 16).map_err(|_| wrong())? {
        0 => Ok(Some(Packet::Flush)),
        1 => Ok(Some(Packet::Delimiter)),
        2 => Ok(Some(Packet::ResponseEnd)),
        length @ DIGITS..=MAX_LINE => {
            let mut line = vec![0; length - DIGITS];
            from.read_exact(&mut line).await?;
            Ok(Some(Packet::Line(line.into())))
        }
        _ => Err(wrong()),
    }
}

/// Frames one line. It must fit into a packet; what is longer is cut.
pub(super) fn line(data: impl AsRef<[u8]>) -> Vec<u8> {
    let data = data.as_ref();
    let data = &data[..data.len().min(MAX_LINE - DIGITS)];
    [format!("{:04x}", data.len() + DIGITS).as_bytes(), data].concat()
}

/// Frames data for a side band, in as many packets as it needs; an empty one for no data.
pub(super) fn band(number: u8, data: &[u8]) -> Vec<u8> {
    if data.is_empty() {
        return line([number]);
    }
    data.chunks(MAX_LINE - DIGITS - 1).flat_map(|piece| line([&[number][..], piece].concat())).collect()
}

/// Frames a packet as it was read.
pub(super) fn frame(packet: &Packet) -> Vec<u8> {
    match packet {
        Packet::Line(data) => line(data),
        Packet::Flush => FLUSH.to_vec(),
        Packet::Delimiter => b"0001".to_vec(),
        Packet::ResponseEnd => b"0002".to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    async fn all(mut bytes: &[u8]) -> Result<Vec<Packet>, PktError> {
        let mut packets = Vec::new();
        while let Some(packet) = read(&mut bytes).await? {
            packets.push(packet);
        }
        Ok(packets)
    }

    #[tokio::test]
    async fn packets_are_read_as_they_were_framed_and_nothing_else_is_one() {
        let packets = [
            Packet::Line("a".into()),
            Packet::Flush,
            Packet::Line("".into()),
            Packet::Delimiter,
            Packet::ResponseEnd,
            Packet::Line(vec![7; MAX_LINE - DIGITS].into()),
        ];
        let bytes: Vec<u8> = packets.iter().flat_map(frame).collect();
        assert_eq!(all(&bytes).await.unwrap(), packets);
        for wrong in ["0003", "fff1", "+004", "000", "0006a", "xyzw", " 004"] {
            assert!(all(wrong.as_bytes()).await.is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_band_is_divided_into_packets_that_each_name_it() {
        let bytes = band(MESSAGES, &vec![b'x'; 2 * MAX_LINE]);
        let mut length = 0;
        for packet in all(&bytes).await.unwrap() {
            let Packet::Line(data) = packet else { panic!("not data") };
            assert_eq!(data[0], MESSAGES);
            length += data.len() - 1;
        }
        assert_eq!(length, 2 * MAX_LINE);
        assert_eq!(band(DATA, b""), b"0005\x01");
    }

    proptest! {
        #[test]
        fn whatever_arrives_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _ = runtime.block_on(all(&bytes));
        }
    }
}
