//! Frames of HTTP/2 and their header blocks, written octet by octet, so that nobody's library decides what goes over the wire.

/// How a client begins (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames.
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub mod flag {
    pub const END_STREAM: u8 = 0x1;
    pub const ACK: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// Whether a frame is its stream's last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    Yes,
    No,
}

impl Last {
    fn flag(self) -> u8 {
        if self == Self::Yes { flag::END_STREAM } else { 0 }
    }
}

/// One frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A head, or trailers.
pub fn headers(stream: u32, fields: &[(&str, &str)], last: Last) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_HEADERS | last.flag(), stream, &block(fields))
}

/// A part of a body.
pub fn data(stream: u32, bytes: impl AsRef<[u8]>, last: Last) -> Vec<u8> {
    frame(kind::DATA, last.flag(), stream, bytes.as_ref())
}

/// Settings by their numbers.
pub fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let values = values.iter().flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat());
    frame(kind::SETTINGS, 0, 0, &values.collect::<Vec<u8>>())
}

/// The answer to settings.
pub fn settings_ack() -> Vec<u8> {
    frame(kind::SETTINGS, flag::ACK, 0, &[])
}

/// A stream is given up.
pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(kind::RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// No streams after `last`.
pub fn goaway(last: u32, code: u32, debug: &str) -> Vec<u8> {
    frame(kind::GOAWAY, 0, 0, &[&last.to_be_bytes(), &code.to_be_bytes(), debug.as_bytes()].concat())
}

/// More may be sent.
pub fn window(stream: u32, more: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

/// Fields as literals that no table keeps (RFC 7541 section 6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| literal(0x00, name, value)).collect()
}

/// Fields as one writes them who knows the static table and keeps none (RFC 7541 section 6.2.2 and appendix A).
pub fn block_by_static_table(fields: &[(&str, &str)]) -> Vec<u8> {
    let field = |(name, value): &(&str, &str)| {
        let named = || STATIC.iter().find(|(_, known, _)| known == name).map(|(index, ..)| *index);
        match (STATIC.iter().find(|(_, known, content)| (known, content) == (name, value)), named()) {
            (Some((index, ..)), _) => vec![0x80 | index],
            (None, Some(index @ ..15)) => [&[index][..], &text(value)].concat(),
            (None, Some(index)) => [&[0x0f, index - 15][..], &text(value)].concat(),
            (None, None) => literal(0x00, name, value),
        }
    };
    fields.iter().flat_map(field).collect()
}

/// What of the static table scripts need.
const STATIC: [(u8, &str, &str); 12] = [
    (1, ":authority", ""),
    (2, ":method", "GET"),
    (3, ":method", "POST"),
    (4, ":path", "/"),
    (7, ":scheme", "https"),
    (8, ":status", "200"),
    (9, ":status", "204"),
    (14, ":status", "500"),
    (28, "content-length", ""),
    (31, "content-type", ""),
    (53, "retry-after", ""),
    (54, "server", ""),
];

/// A field as a literal of the kind that its first octet says: 0x00 no table keeps it, 0x10 and none may, 0x40 the table keeps it.
pub fn literal(first: u8, name: &str, value: &str) -> Vec<u8> {
    [&[first][..], &text(name), &text(value)].concat()
}

/// A string without Huffman's code (RFC 7541 section 5.2).
fn text(text: &str) -> Vec<u8> {
    [&integer(text.len())[..], text.as_bytes()].concat()
}

/// An integer with a prefix of seven bits (RFC 7541 section 5.1).
fn integer(value: usize) -> Vec<u8> {
    let Some(mut rest) = value.checked_sub(127) else { return vec![u8::try_from(value).unwrap()] };
    let mut octets = vec![127];
    while rest >= 128 {
        octets.push(u8::try_from(rest % 128).unwrap() | 0x80);
        rest /= 128;
    }
    octets.push(u8::try_from(rest).unwrap());
    octets
}
