//! Header lines: a name, a value, and where they stand.

use super::lines::Line;
use super::span::Span;
use super::{Doubt, is_token_byte};

/// One header line of a head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name as sent.
    pub name: &'a str,
    /// The value without the white space around it; with the line breaks of a folded one.
    pub value: &'a [u8],
    /// Where its lines stand in the head's bytes, with what ends them.
    pub lines: std::ops::Range<usize>,
}

/// Where a field stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct FieldSpan {
    pub(super) name: Span,
    pub(super) value: Span,
    pub(super) whole: Span,
}

impl FieldSpan {
    pub(super) fn field(self, bytes: &[u8]) -> Field<'_> {
        Field { name: self.name(bytes), value: self.value.of(bytes), lines: self.whole.start()..self.whole.end() }
    }

    /// Empty for a name that is no text, which only an answer can have.
    pub(super) fn name(self, bytes: &[u8]) -> &str {
        std::str::from_utf8(self.name.of(bytes)).unwrap_or_default()
    }

    /// The same field with a line more (RFC 9112 section 5.2).
    pub(super) fn folded(self, line: Line, bytes: &[u8]) -> Self {
        let value = trimmed(self.value.until(line.text.end()), bytes);
        Self { value, whole: self.whole.until(line.whole.end()), ..self }
    }
}

/// Whether a line continues the one before it.
pub(super) fn is_folded(line: &[u8]) -> bool {
    matches!(line.first(), Some(b' ' | b'\t'))
}

/// Reads a request's header line, or a trailer.
///
/// # Errors
/// Whatever two servers could read differently.
pub(super) fn strict(line: Line, bytes: &[u8]) -> Result<FieldSpan, Doubt> {
    let text = line.text.of(bytes);
    if is_folded(text) {
        return Err(Doubt::Folded);
    }
    let colon = memchr::memchr(b':', text).ok_or(Doubt::NoColon)?;
    let name = text.get(..colon).unwrap_or_default();
    if let Some(odd) = name.iter().position(|byte| !is_token_byte(*byte)) {
        let only_space_follows = name.get(odd..).unwrap_or_default().iter().all(|byte| is_space(*byte));
        return Err(if only_space_follows { Doubt::SpaceBeforeColon } else { Doubt::OddName });
    }
    if name.is_empty() {
        return Err(Doubt::EmptyName);
    }
    let field = at(line, colon, bytes);
    if memchr::memchr(0, field.value.of(bytes)).is_some() { Err(Doubt::Nul) } else { Ok(field) }
}

/// Why some readers (Python's) take what follows an answer's header line for no header any more; the others skip it, or read on.
pub(super) fn last_for_some(line: Line, bytes: &[u8]) -> Option<Doubt> {
    let text = line.text.of(bytes);
    match memchr::memchr(b':', text).and_then(|colon| text.get(..colon)) {
        None => Some(Doubt::NoColon),
        Some(name) => (!name.iter().all(u8::is_ascii_graphic)).then_some(Doubt::OddName),
    }
}

/// Reads an answer's header line; none for a line without a colon: see [`last_for_some`].
///
/// # Errors
/// A name that some clients read as one that frames.
pub(super) fn lenient(line: Line, bytes: &[u8]) -> Result<Option<FieldSpan>, Doubt> {
    let text = line.text.of(bytes);
    if memchr::memchr(0, text).is_some() {
        return Err(Doubt::Nul);
    }
    let Some(colon) = memchr::memchr(b':', text) else { return Ok(None) };
    let name = text.get(..colon).unwrap_or_default();
    if name.iter().all(|byte| is_token_byte(*byte)) {
        return Ok(Some(at(line, colon, bytes)));
    }
    if frames_somehow(name) {
        return Err(Doubt::OddName);
    }
    let field = at(line, colon, bytes);
    Ok(Some(FieldSpan { name: trimmed(field.name, bytes), ..field }))
}

fn at(line: Line, colon: usize, bytes: &[u8]) -> FieldSpan {
    let (start, end) = (line.text.start(), line.text.end());
    let value = trimmed(Span::new(start + colon + 1, end), bytes);
    FieldSpan { name: Span::new(start, start + colon), value, whole: line.whole }
}

/// Whether a name that is no token is one that frames to a reader who skips or trims odd bytes.
fn frames_somehow(name: &[u8]) -> bool {
    let mut plain = [0_u8; 20];
    let mut len = 0;
    for byte in name.iter().filter(|byte| is_token_byte(**byte)) {
        let Some(slot) = plain.get_mut(len) else { return false };
        *slot = byte.to_ascii_lowercase();
        len += 1;
    }
    [b"content-length".as_slice(), b"transfer-encoding", b"connection"].contains(&plain.get(..len).unwrap_or_default())
}

/// Without the optional white space of RFC 9110 section 5.6.3, and the line breaks between folded lines.
fn trimmed(span: Span, bytes: &[u8]) -> Span {
    let text = span.of(bytes);
    let is_around = |byte: &u8| is_space(*byte) || matches!(byte, b'\r' | b'\n');
    let first = text.iter().position(|byte| !is_around(byte)).unwrap_or(text.len());
    let last = text.iter().rposition(|byte| !is_around(byte)).map_or(first, |at| at + 1);
    Span::new(span.start() + first, span.start() + last)
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}
