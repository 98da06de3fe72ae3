//! What header lines say about the message's end and the connection's: gathered line by line, judged when the head is whole.

use super::span::Span;
use super::{Doubt, Framing, Version};

/// Longer lengths are negative to some readers.
const MAX_LENGTH: u64 = i64::MAX as u64;

/// What the fields that matter have said so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    length: Option<Result<u64, Doubt>>,
    coding: Option<Result<(), Doubt>>,
    /// The Host line's value.
    pub(super) host: Option<Span>,
    hosts: u32,
    close: bool,
    keep_alive: bool,
    /// An Upgrade line, or `upgrade` in Connection.
    pub(super) upgrade: bool,
    /// `Expect: 100-continue`.
    pub(super) expects_continue: bool,
    odd_connection: bool,
}

/// Whether a field says where things end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frames {
    /// Where a message or a connection ends depends on it.
    Yes,
    /// It does not.
    No,
}

impl Facts {
    /// Some readers do not take the coding for what it is.
    pub(super) fn doubt_coding(&mut self) {
        self.coding = self.coding.and(Some(Err(Doubt::OddCoding)));
    }

    /// Takes note of one field.
    pub(super) fn note(&mut self, name: &[u8], value: &[u8], value_span: Span) -> Frames {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        match name.len() {
            4 if is(b"host") => {
                self.host.get_or_insert(value_span);
                self.hosts += 1;
            }
            6 if is(b"expect") => self.expects_continue |= value.eq_ignore_ascii_case(b"100-continue"),
            7 if is(b"upgrade") => self.upgrade = true,
            10 if is(b"connection") => {
                self.connection(value);
                return Frames::Yes;
            }
            14 if is(b"content-length") => {
                self.length = Some(self.joined(value));
                return Frames::Yes;
            }
            17 if is(b"transfer-encoding") => {
                let alone = self.coding.is_none() && value.eq_ignore_ascii_case(b"chunked");
                self.coding = Some(if alone { Ok(()) } else { Err(Doubt::OddCoding) });
                return Frames::Yes;
            }
            _ => {}
        }
        Frames::No
    }

    fn joined(&self, value: &[u8]) -> Result<u64, Doubt> {
        match (self.length, length(value)) {
            (Some(Err(doubt)), _) => Err(doubt),
            (Some(Ok(first)), Ok(second)) if first != second => Err(Doubt::LengthsDiffer),
            (_, second) => second,
        }
    }

    fn connection(&mut self, value: &[u8]) {
        self.odd_connection |= value.iter().any(|byte| !(byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t')));
        for option in value.split(|byte| *byte == b',') {
            let option = option.trim_ascii();
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            self.upgrade |= option.eq_ignore_ascii_case(b"upgrade");
        }
    }

    /// Whether the connection stays for another message (RFC 9112 section 9.3).
    pub(super) fn persists(&self, version: Version) -> bool {
        !self.close && (self.keep_alive || version == Version::Http11)
    }

    /// Whether there is a transfer coding, whatever it says.
    pub(super) fn is_coded(&self) -> bool {
        self.coding.is_some()
    }

    /// What the head says of its body; `Framing::None` where it says nothing.
    ///
    /// # Errors
    /// A length or coding that has more than one reading, or both.
    pub(super) fn framing(&self, version: Version) -> Result<Framing, Doubt> {
        if self.odd_connection {
            return Err(Doubt::OddConnection);
        }
        match (self.coding, self.length) {
            (Some(_), Some(_)) => Err(Doubt::LengthAndCoding),
            (Some(Err(doubt)), None) | (None, Some(Err(doubt))) => Err(doubt),
            (Some(Ok(())), None) if version == Version::Http10 => Err(Doubt::CodingInHttp10),
            (Some(Ok(())), None) => Ok(Framing::Chunked),
            (None, Some(Ok(length))) => Ok(Framing::Length(length)),
            (None, None) => Ok(Framing::None),
        }
    }

    /// # Errors
    /// [`Doubt::SeveralHosts`].
    pub(super) fn one_host(&self) -> Result<Option<Span>, Doubt> {
        if self.hosts > 1 { Err(Doubt::SeveralHosts) } else { Ok(self.host) }
    }
}

/// `1*DIGIT`, without what some read as octal.
fn length(value: &[u8]) -> Result<u64, Doubt> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) || (value.len() > 1 && value.starts_with(b"0")) {
        return Err(Doubt::OddLength);
    }
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    number.filter(|length| *length <= MAX_LENGTH).ok_or(Doubt::OddLength)
}
