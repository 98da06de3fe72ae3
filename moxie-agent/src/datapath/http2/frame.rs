//! HTTP/2 frames (RFC 9113 sections 4 and 6): their heads read, and the few kinds written that the agent says for itself.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use h2::Reason;

/// What a client says first (RFC 9113 section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Octets of a frame's head.
pub(super) const HEAD: usize = 9;
/// Largest payload that every endpoint takes.
pub(super) const COMMON_PAYLOAD: usize = 16 * 1024;

/// Kinds of frames.
pub(super) mod kind {
    pub(in crate::datapath::http2) const DATA: u8 = 0;
    pub(in crate::datapath::http2) const HEADERS: u8 = 1;
    pub(in crate::datapath::http2) const RST_STREAM: u8 = 3;
    pub(in crate::datapath::http2) const SETTINGS: u8 = 4;
    pub(in crate::datapath::http2) const PUSH_PROMISE: u8 = 5;
    pub(in crate::datapath::http2) const PING: u8 = 6;
    pub(in crate::datapath::http2) const GOAWAY: u8 = 7;
    pub(in crate::datapath::http2) const WINDOW_UPDATE: u8 = 8;
    pub(in crate::datapath::http2) const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub(super) mod flag {
    /// Of SETTINGS and PING.
    pub(in crate::datapath::http2) const ACK: u8 = 0x1;
    pub(in crate::datapath::http2) const END_STREAM: u8 = 0x1;
    pub(in crate::datapath::http2) const END_HEADERS: u8 = 0x4;
    pub(in crate::datapath::http2) const PADDED: u8 = 0x8;
    pub(in crate::datapath::http2) const PRIORITY: u8 = 0x20;
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Octets of the payload.
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    /// 0: the connection's own.
    pub(super) stream: u32,
}

impl Head {
    /// Reads the head at the beginning of `bytes`, if it is there whole.
    pub(super) fn read(mut bytes: &[u8]) -> Option<Self> {
        if bytes.len() < HEAD {
            return None;
        }
        let length = usize::try_from(bytes.get_uint(3)).unwrap_or(usize::MAX);
        let (kind, flags) = (bytes.get_u8(), bytes.get_u8());
        Some(Self { length, kind, flags, stream: bytes.get_u32() & 0x7fff_ffff })
    }
}

/// A whole frame, as it came.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) head: Head,
    /// Head and payload.
    pub(super) raw: Bytes,
}

impl Frame {
    /// The same in memory of its own: as it came it keeps all that was read along with it.
    pub(super) fn apart(&self) -> Self {
        Self { raw: Bytes::copy_from_slice(&self.raw), ..*self }
    }

    /// The payload.
    pub(super) fn payload(&self) -> Bytes {
        self.raw.slice(HEAD.min(self.raw.len())..)
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.head.flags & flag != 0
    }

    /// The payload without its padding; `None` where the padding is longer than the payload (RFC 9113 section 6.1).
    pub(super) fn unpadded(&self) -> Option<Bytes> {
        let mut payload = self.payload();
        if !self.has(flag::PADDED) {
            return Some(payload);
        }
        let padding = usize::from(payload.try_get_u8().ok()?);
        let length = payload.len().checked_sub(padding)?;
        payload.truncate(length);
        Some(payload)
    }

    /// What it takes of the windows, padding included (RFC 9113 section 6.9.1).
    pub(super) fn flow(&self) -> i64 {
        i64::try_from(self.head.length).unwrap_or(i64::MAX)
    }

    /// The 32 bits of a payload that is nothing else, as RST_STREAM's and WINDOW_UPDATE's are.
    pub(super) fn word(&self) -> Option<u32> {
        self.payload().as_ref().try_into().ok().map(u32::from_be_bytes)
    }
}

/// Writes a frame.
pub(super) fn put(out: &mut BytesMut, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.reserve(HEAD + payload.len());
    out.put_uint(payload.len() as u64, 3);
    out.put_u8(kind);
    out.put_u8(flags);
    out.put_u32(stream);
    out.put_slice(payload);
}

/// Ends a stream.
pub(super) fn put_reset(out: &mut BytesMut, stream: u32, reason: Reason) {
    put(out, kind::RST_STREAM, 0, stream, &u32::from(reason).to_be_bytes());
}

/// Lets the other side send `more` octets; nothing is written for none.
pub(super) fn put_window(out: &mut BytesMut, stream: u32, more: i64) {
    if let Ok(more @ 1..=0x7fff_ffff) = u32::try_from(more) {
        put(out, kind::WINDOW_UPDATE, 0, stream, &more.to_be_bytes());
    }
}

/// Says that no stream above `last` is served.
pub(super) fn put_goaway(out: &mut BytesMut, last: u32, reason: Reason, debug: &[u8]) {
    let payload = [&last.to_be_bytes(), &u32::from(reason).to_be_bytes(), debug].concat();
    put(out, kind::GOAWAY, 0, 0, &payload);
}

/// Writes a header block as HEADERS or PUSH_PROMISE (`first`), with as many CONTINUATIONs as it takes. `prefix` is what
/// stands before the block in the first: a priority, or a promised stream.
pub(super) fn put_block(out: &mut BytesMut, first: Head, prefix: &[u8], block: &[u8]) {
    let split = block.len().min(COMMON_PAYLOAD - prefix.len().min(COMMON_PAYLOAD));
    let (mut now, mut later) = block.split_at(split);
    let ends = |later: &[u8]| if later.is_empty() { flag::END_HEADERS } else { 0 };
    put(out, first.kind, first.flags | ends(later), first.stream, &[prefix, now].concat());
    while !later.is_empty() {
        (now, later) = later.split_at(later.len().min(COMMON_PAYLOAD));
        put(out, kind::CONTINUATION, ends(later), first.stream, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut bytes: Bytes) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(head) = Head::read(&bytes) {
            frames.push(Frame { head, raw: bytes.split_to(HEAD + head.length) });
        }
        assert!(bytes.is_empty());
        frames
    }

    #[test]
    fn a_long_block_is_continued() {
        let mut out = BytesMut::new();
        let first = Head { length: 0, kind: kind::HEADERS, flags: flag::END_STREAM | flag::PRIORITY, stream: 5 };
        let block: Vec<u8> = (0..40_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        put_block(&mut out, first, &[1, 2, 3, 4, 5], &block);
        let frames = read(out.freeze());
        let kinds: Vec<_> = frames.iter().map(|frame| (frame.head.kind, frame.head.flags, frame.head.stream)).collect();
        assert_eq!(kinds, [(1, 0x21, 5), (9, 0, 5), (9, 4, 5)]);
        assert!(frames.iter().all(|frame| frame.head.length <= COMMON_PAYLOAD));
        let joined: Vec<u8> = frames.iter().flat_map(|frame| frame.payload().to_vec()).collect();
        assert_eq!(joined, [&[1, 2, 3, 4, 5], &block[..]].concat());
    }

    #[test]
    fn padding_is_no_part_of_the_payload() {
        let unpadded = |payload: &[u8]| {
            let mut out = BytesMut::new();
            put(&mut out, kind::DATA, flag::PADDED, 1, payload);
            read(out.freeze())[0].unpadded()
        };
        assert_eq!(unpadded(b"\x02ab\0\0").as_deref(), Some(&b"ab"[..]));
        assert_eq!(unpadded(b"\x02\0\0").as_deref(), Some(&b""[..]));
        assert_eq!(unpadded(b"\x03\0\0"), None);
        assert_eq!(unpadded(b""), None);
    }
}
