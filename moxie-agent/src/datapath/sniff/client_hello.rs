//! The TLS ClientHello (RFC 8446 section 4.1.2, RFC 6066 section 3, RFC 7301), read from peeked bytes.
//!
//! `Partial` means exactly that a longer input could complete the hello; `Other` that none could. Nothing is allocated for a
//! length that was only claimed. An encrypted inner hello (ECH) cannot be read: the outer name counts.

use rustls::pki_types::DnsName;

use super::Progress;

/// Record type "handshake" (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;
/// Handshake message type of the ClientHello.
const CLIENT_HELLO: u8 = 1;
/// Longest record accepted: 2^14, and 256 more for stacks that count generously.
const MAX_RECORD: usize = (1 << 14) + 256;
/// Longest hello accepted. The largest seen carry two post-quantum key shares and stay below 4 KiB.
const MAX_HELLO: usize = 1 << 16;
/// Extension numbers (IANA "TLS ExtensionType Values").
const SERVER_NAME: usize = 0;
const ALPN: usize = 16;

/// What the agent wants to know of a ClientHello.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// Server name, lower-cased, without a trailing dot; none if the client sent none or not a valid DNS name.
    pub server_name: Option<String>,
    /// Application protocols in the client's order; empty if it sent none.
    pub alpn: Vec<Vec<u8>>,
}

/// Parses the first bytes of a connection. Handles a hello split over any number of records; GREASE is skipped.
#[must_use]
pub fn parse(bytes: &[u8]) -> Progress<ClientHello> {
    let (message, records) = unframe(bytes);
    match hello(Reader { seen: &message, left: usize::MAX }) {
        Ok(hello) => Progress::Done(hello),
        // The bytes that are there are good; more can only come if the records are good too.
        Err(Stop::Short) if matches!(records, Ok(()) | Err(Stop::Short)) => Progress::Partial,
        Err(_) => Progress::Other,
    }
}

/// Why reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// The bytes seen so far end here.
    Short,
    /// No continuation of these bytes is a ClientHello.
    Malformed,
}

/// A cursor over the bytes seen of a structure that claims `left` bytes: what is missing may still come, what is too long may not.
struct Reader<'a> {
    seen: &'a [u8],
    left: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Stop> {
        self.left = self.left.checked_sub(length).ok_or(Stop::Malformed)?;
        let (taken, rest) = self.seen.split_at_checked(length).ok_or(Stop::Short)?;
        self.seen = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        self.take(1)?.first().copied().ok_or(Stop::Short)
    }

    /// A big-endian number of `width` bytes that is at most `max`; refused as soon as its first bytes exceed that.
    fn number(&mut self, width: usize, max: usize) -> Result<usize, Stop> {
        let known = self.seen.iter().take(width);
        let least = known.clone().fold(0, |sum, byte| sum << 8 | usize::from(*byte)) << (8 * (width - known.len()));
        if least > max {
            return Err(Stop::Malformed);
        }
        self.take(width).map(|_| least)
    }

    /// A vector (RFC 8446 section 3.4) whose length prefix has `width` bytes; its content may not be there yet.
    fn vector(&mut self, width: usize, max: usize) -> Result<Self, Stop> {
        let room = self.left.checked_sub(width).ok_or(Stop::Malformed)?;
        let left = self.number(width, max.min(room))?;
        let (seen, rest) = self.seen.split_at_checked(left).unwrap_or((self.seen, &[]));
        self.left -= left;
        self.seen = rest;
        Ok(Self { seen, left })
    }

    /// The whole content, once it is there.
    fn whole(mut self) -> Result<&'a [u8], Stop> {
        self.take(self.left)
    }
}

/// The handshake bytes of all records seen, the last one perhaps cut; and whether the records themselves are well formed.
fn unframe(bytes: &[u8]) -> (Vec<u8>, Result<(), Stop>) {
    let mut message = Vec::new();
    let mut input = Reader { seen: bytes, left: usize::MAX };
    loop {
        match record(&mut input) {
            Ok(payload) => message.extend_from_slice(payload.seen),
            Err(stop) => return (message, Err(stop)),
        }
        if input.seen.is_empty() {
            return (message, Ok(()));
        }
    }
}

fn record<'a>(input: &mut Reader<'a>) -> Result<Reader<'a>, Stop> {
    expect(input, HANDSHAKE)?;
    expect(input, 3)?;
    input.byte()?;
    let payload = input.vector(2, MAX_RECORD)?;
    // RFC 8446 section 5.1 forbids handshake fragments of zero length.
    if payload.left == 0 { Err(Stop::Malformed) } else { Ok(payload) }
}

fn expect(input: &mut Reader<'_>, byte: u8) -> Result<(), Stop> {
    if input.byte()? == byte { Ok(()) } else { Err(Stop::Malformed) }
}

fn hello(mut message: Reader<'_>) -> Result<ClientHello, Stop> {
    expect(&mut message, CLIENT_HELLO)?;
    let mut body = message.vector(3, MAX_HELLO)?;
    expect(&mut body, 3)?;
    body.byte()?;
    let _random = body.take(32)?;
    let _session_id = body.vector(1, 32)?.whole()?;
    let suites = body.vector(2, usize::from(u16::MAX))?;
    if suites.left < 2 || suites.left % 2 == 1 {
        return Err(Stop::Malformed);
    }
    suites.whole()?;
    if body.vector(1, usize::from(u8::MAX))?.whole()?.is_empty() {
        return Err(Stop::Malformed);
    }
    if body.left == 0 {
        return Ok(ClientHello::default());
    }
    let extensions = body.vector(2, usize::from(u16::MAX))?;
    if body.left != 0 {
        return Err(Stop::Malformed);
    }
    read_extensions(extensions)
}

fn read_extensions(mut extensions: Reader<'_>) -> Result<ClientHello, Stop> {
    let mut names = Vec::new();
    let mut alpn = None;
    while extensions.left > 0 {
        let kind = extensions.number(2, usize::from(u16::MAX))?;
        let content = extensions.vector(2, usize::from(u16::MAX))?.whole()?;
        match kind {
            // A list that cannot be read names nobody, like a second name: no guess is made.
            SERVER_NAME => names.extend(host_names(content).unwrap_or_else(|_| vec![b"".as_slice(); 2])),
            ALPN if alpn.is_none() => alpn = protocols(content).ok(),
            _ => {}
        }
    }
    let server_name = if let [name] = names.as_slice() { dns_name(name) } else { None };
    Ok(ClientHello { server_name, alpn: alpn.unwrap_or_default() })
}

/// The names of type `host_name` (0), the only type there is (RFC 6066 section 3).
fn host_names(content: &[u8]) -> Result<Vec<&[u8]>, Stop> {
    let mut list = Reader { seen: content, left: content.len() }.vector(2, content.len())?;
    let mut names = Vec::new();
    while list.left > 0 {
        let kind = list.byte()?;
        let name = list.vector(2, usize::from(u16::MAX))?.whole()?;
        if kind == 0 {
            names.push(name);
        }
    }
    Ok(names)
}

fn protocols(content: &[u8]) -> Result<Vec<Vec<u8>>, Stop> {
    let mut list = Reader { seen: content, left: content.len() }.vector(2, content.len())?;
    let mut protocols = Vec::new();
    while list.left > 0 {
        protocols.push(list.vector(1, usize::from(u8::MAX))?.whole()?.to_vec());
    }
    Ok(protocols)
}

/// A name that a certificate can be minted for; an IP literal, a NUL or more than 253 bytes are no such name.
fn dns_name(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    let is_dns = !name.ends_with('.') && DnsName::try_from(name).is_ok();
    is_dns.then(|| name.to_owned())
}

#[cfg(test)]
mod tests;
