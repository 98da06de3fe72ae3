//! A request's head (RFC 9112 sections 3 and 5), read strictly.

mod target;

use super::facts::Facts;
use super::fields::{self, Field, FieldSpan};
use super::lines::{Endings, Line, Lines};
use super::span::Span;
use super::{Doubt, Framing, Read, Version, is_token_byte};
use target::Target;

/// Longest method; the longest registered one has 17 bytes.
pub const MAX_METHOD: usize = 64;

/// A request's head: what it says, by where it stands in the bytes that were read. Reused for the next request, it allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    lines: Lines,
    stage: Stage,
    method: Span,
    target: Target,
    version: Version,
    framing: Framing,
    facts: Facts,
    fields: Vec<FieldSpan>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// At the request line, or empty lines before it.
    #[default]
    First,
    Fields,
    Done,
}

impl RequestHead {
    /// Reads on. `bytes` begin with the message's first byte and only ever grow until [`RequestHead::clear`]; what was looked at
    /// is not looked at again.
    ///
    /// # Errors
    /// The first thing that two servers could read differently. It does not depend on how the bytes arrived.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Read, Doubt> {
        while self.stage != Stage::Done {
            if self.stage == Stage::First {
                check_method(bytes.get(self.lines.start()..).unwrap_or_default())?;
            }
            let Some(line) = self.lines.next(bytes, Endings::Crlf)? else { return Ok(Read::Partial) };
            let empty = line.text.of(bytes).is_empty();
            match self.stage {
                // RFC 9112 section 2.2: empty lines before a request line are passed over.
                Stage::First if empty => {}
                Stage::First => self.request_line(line, bytes)?,
                Stage::Fields if empty => self.conclude(bytes)?,
                Stage::Fields => self.field(line, bytes)?,
                Stage::Done => break,
            }
        }
        Ok(Read::Done)
    }

    /// Makes ready for the next request, which begins at another buffer's first byte.
    pub fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self { fields, ..Self::default() };
    }

    /// Bytes of the head that have been read: with [`Read::Done`] all of it, with empty lines before it and the one after it.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a head that was read is never empty")]
    pub fn len(&self) -> usize {
        self.lines.start()
    }

    /// The method, as sent.
    #[must_use]
    pub fn method<'a>(&self, bytes: &'a [u8]) -> &'a str {
        std::str::from_utf8(self.method.of(bytes)).unwrap_or_default()
    }

    /// The whole target, as sent.
    #[must_use]
    pub fn target<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        self.target.whole.of(bytes)
    }

    /// The path of an origin-form or absolute-form target, with any fragment; `/` where an absolute one has none, `*` as it is,
    /// nothing for CONNECT.
    #[must_use]
    pub fn path<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        self.target.path(bytes)
    }

    /// What follows the target's first `?`, with any fragment.
    #[must_use]
    pub fn query<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        self.target.query.map(|query| query.of(bytes))
    }

    /// Who is asked: the target's authority, else the Host's; as sent, with the port if there is one.
    #[must_use]
    pub fn authority<'a>(&self, bytes: &'a [u8]) -> Option<&'a str> {
        let span = self.target.authority.or(self.facts.host)?;
        std::str::from_utf8(span.of(bytes)).ok()
    }

    /// The version of the request line.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// How its body ends: never [`Framing::UntilClose`].
    #[must_use]
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether another request may follow on this connection. What follows one that does not persist is [`Doubt::AfterLast`].
    #[must_use]
    pub fn persists(&self) -> bool {
        self.facts.persists(self.version)
    }

    /// Whether the client waits for `100 Continue` before it sends the body.
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        self.facts.expects_continue && self.version == Version::Http11
    }

    /// Whether what follows the message may be another protocol, as its answer will tell: CONNECT and Upgrade.
    #[must_use]
    pub fn switches(&self) -> bool {
        self.facts.upgrade || self.target.is_tunnel()
    }

    /// The header lines in their order.
    pub fn fields<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = Field<'a>> {
        self.fields.iter().map(|field| field.field(bytes))
    }

    pub(super) fn spans(&self) -> &[FieldSpan] {
        &self.fields
    }

    fn request_line(&mut self, line: Line, bytes: &[u8]) -> Result<(), Doubt> {
        let (start, text) = (line.text.start(), line.text.of(bytes));
        let mut words = text.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Doubt::OddRequestLine);
        };
        if target.is_empty() {
            return Err(Doubt::OddRequestLine);
        }
        self.version = match version {
            b"HTTP/1.1" => Version::Http11,
            b"HTTP/1.0" => Version::Http10,
            _ => return Err(Doubt::OddVersion),
        };
        self.method = Span::new(start, start + method.len());
        let at = start + method.len() + 1;
        self.target = Target::read(Span::new(at, at + target.len()), method, bytes)?;
        self.stage = Stage::Fields;
        Ok(())
    }

    fn field(&mut self, line: Line, bytes: &[u8]) -> Result<(), Doubt> {
        let field = fields::strict(line, bytes)?;
        self.facts.note(field.name.of(bytes), field.value.of(bytes), field.value);
        self.fields.push(field);
        Ok(())
    }

    fn conclude(&mut self, bytes: &[u8]) -> Result<(), Doubt> {
        let host = self.facts.one_host()?;
        if host.is_none() && self.version == Version::Http11 && !self.target.is_tunnel() {
            return Err(Doubt::NoHost);
        }
        self.target.agrees_with(host.map(|host| host.of(bytes)), bytes)?;
        self.framing = self.facts.framing(self.version)?;
        if self.target.is_tunnel() && !matches!(self.framing, Framing::None | Framing::Length(0)) {
            return Err(Doubt::ConnectWithBody);
        }
        self.stage = Stage::Done;
        Ok(())
    }
}

/// Doubts what cannot become a request line with the first byte that shows it, rather than waiting for a line's end.
fn check_method(bytes: &[u8]) -> Result<(), Doubt> {
    let bytes = bytes.get(..=MAX_METHOD).unwrap_or(bytes);
    match bytes.iter().position(|byte| !is_token_byte(*byte)) {
        None if bytes.len() > MAX_METHOD => Err(Doubt::OddMethod),
        None => Ok(()),
        Some(0) => match bytes {
            // An empty line, or the beginning of one.
            [b'\r', b'\n', ..] | [b'\r'] => Ok(()),
            [b'\r', ..] => Err(Doubt::BareCarriageReturn),
            [b'\n', ..] => Err(Doubt::BareLineFeed),
            _ => Err(Doubt::OddMethod),
        },
        Some(end) if matches!(bytes.get(end), Some(b' ')) => Ok(()),
        Some(end) if matches!(bytes.get(end), Some(b'\r' | b'\n')) => Err(Doubt::OddRequestLine),
        Some(_) => Err(Doubt::OddMethod),
    }
}

#[cfg(test)]
pub(in crate::http1) mod tests;
