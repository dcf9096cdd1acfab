//! WebSocket frames on the wire (RFC 6455, section 5.2), parsed strictly: a frame that the two ends might read
//! differently is a violation.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// The opcode of a frame (section 11.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    /// Whether the frame may stand between the frames of a message.
    pub(super) fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The header of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) fin: bool,
    pub(super) opcode: Opcode,
    pub(super) length: u64,
    pub(super) mask: Option<[u8; 4]>,
    /// The header's bytes.
    pub(super) wire: Vec<u8>,
}

/// Maximum payload of a control frame, in bytes (section 5.5).
const MAX_CONTROL: u64 = 125;

/// Reads the next frame header; `None` at the end. Frames of a client must be masked, all others must not.
pub(super) async fn head<R: AsyncRead + Unpin>(
    from: &mut R,
    client: bool,
) -> io::Result<Option<Result<FrameHeader, &'static str>>> {
    let mut wire = vec![0; 2];
    if from.read(&mut wire[..1]).await? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut wire[1..]).await?;
    let (first, second) = (wire[0], wire[1]);
    let extended = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let masked = second & 0x80 != 0;
    wire.resize(2 + extended + if masked { 4 } else { 0 }, 0);
    from.read_exact(&mut wire[2..]).await?;
    let mut bytes = [0; 8];
    bytes[8 - extended..].copy_from_slice(&wire[2..2 + extended]);
    let length = if extended == 0 { u64::from(second & 0x7f) } else { u64::from_be_bytes(bytes) };
    let least = match extended {
        0 => 0,
        2 => 126,
        _ => 1 << 16,
    };
    let opcode = match first & 0x0f {
        0 => Opcode::Continuation,
        1 => Opcode::Text,
        2 => Opcode::Binary,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        10 => Opcode::Pong,
        _ => return Ok(Some(Err("a frame of a WebSocket has an unknown opcode"))),
    };
    let fin = first & 0x80 != 0;
    let why = match () {
        () if first & 0x70 != 0 => "a frame of a WebSocket is of an extension that was not offered",
        () if masked != client => "a frame of a WebSocket is masked, or not, as its side may not",
        () if length < least || length >> 63 != 0 => "a frame of a WebSocket has a malformed length",
        () if opcode.is_control() && (!fin || length > MAX_CONTROL) => {
            "a control frame of a WebSocket is too long, or in parts"
        }
        () => {
            let mask = masked.then(|| wire[2 + extended..].first_chunk::<4>().copied()).flatten();
            return Ok(Some(Ok(FrameHeader { fin, opcode, length, mask, wire })));
        }
    };
    Ok(Some(Err(why)))
}

/// Applies or removes a mask (section 5.3).
pub(super) fn mask(bytes: &mut [u8], mask: [u8; 4]) {
    bytes.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
}

/// Encodes a frame that is a whole message.
pub(super) fn frame(opcode: Opcode, content: &[u8], masked: Option<[u8; 4]>) -> Vec<u8> {
    part(opcode, true, content, masked)
}

/// Encodes a frame; `last` says whether its message ends with it.
pub(super) fn part(opcode: Opcode, last: bool, content: &[u8], masked: Option<[u8; 4]>) -> Vec<u8> {
    let mut wire = vec![if last { 0x80 } else { 0 } | opcode as u8];
    let flag = if masked.is_some() { 0x80 } else { 0 };
    match (u8::try_from(content.len()), u16::try_from(content.len())) {
        (Ok(length @ ..=125), _) => wire.push(flag | length),
        (_, Ok(length)) => {
            wire.push(flag | 0x7e);
            wire.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            wire.push(flag | 0x7f);
            wire.extend_from_slice(&(content.len() as u64).to_be_bytes());
        }
    }
    wire.extend_from_slice(masked.as_ref().map_or(&[][..], |mask| mask));
    let from = wire.len();
    wire.extend_from_slice(content);
    if let Some(key) = masked {
        mask(&mut wire[from..], key);
    }
    wire
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(mut bytes: &[u8], client: bool) -> Option<Result<FrameHeader, &'static str>> {
        head(&mut bytes, client).await.unwrap()
    }

    #[tokio::test]
    async fn what_is_written_is_read_and_what_is_no_frame_is_not() {
        for length in [0, 1, 125, 126, 65535, 65536] {
            for key in [None, Some([1, 2, 3, 4])] {
                let wire = frame(Opcode::Binary, &vec![7; length], key);
                let head = read(&wire, key.is_some()).await.unwrap().unwrap();
                assert_eq!((head.fin, head.opcode, head.length), (true, Opcode::Binary, length as u64));
                let mut content = wire[head.wire.len()..].to_vec();
                mask(&mut content, key.unwrap_or_default());
                assert_eq!(content, vec![7; length]);
            }
        }
        assert_eq!(read(&[], true).await, None);
        for (wire, client) in [
            (&[0xc1, 0x80, 0, 0, 0, 0][..], true),
            (&[0x83, 0x80, 0, 0, 0, 0], true),
            (&[0x81, 0x00], true),
            (&[0x81, 0x80, 0, 0, 0, 0], false),
            (&[0x82, 0xfe, 0, 5, 0, 0, 0, 0], true),
            (&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], true),
            (&[0x09, 0x80, 0, 0, 0, 0], true),
            (&[0x89, 0xfe, 0, 126, 0, 0, 0, 0], true),
        ] {
            assert!(matches!(read(wire, client).await, Some(Err(_))), "{wire:?}");
        }
    }
}
