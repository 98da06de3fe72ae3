//! An answer's head (RFC 9112 sections 4 to 6): lenient about what ends nothing, strict about what does.

use super::facts::{Facts, Frames};
use super::fields::{self, Field, FieldSpan};
use super::lines::{Endings, Line, Lines};
use super::span::Span;
use super::{Doubt, Framing, Read, RequestHead, Version};

/// The method of the request that an answer is for, as far as it decides how the answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// HEAD: no body, whatever the answer says.
    Head,
    /// CONNECT: a tunnel, if the answer is 2xx.
    Connect,
    /// Any other.
    Other,
}

/// The request that an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// Its method.
    pub method: Asked,
    /// Its version: an HTTP/1.0 client knows no chunks.
    pub version: Version,
}

impl Awaited {
    /// What an answer to this request will be read by.
    #[must_use]
    pub fn by(request: &RequestHead, bytes: &[u8]) -> Self {
        let method = match request.method(bytes) {
            "HEAD" => Asked::Head,
            "CONNECT" => Asked::Connect,
            _ => Asked::Other,
        };
        Self { method, version: request.version() }
    }
}

/// An answer's head, by where it stands in the bytes that were read. Reused for the next, it allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    lines: Lines,
    stage: Stage,
    status_line: Span,
    line_end: Span,
    version: Version,
    status: u16,
    framing: Framing,
    persists: bool,
    switches: bool,
    facts: Facts,
    last: Last,
    /// Some readers see no fields any more.
    is_over_for_some: Option<Doubt>,
    fields: Vec<FieldSpan>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    StatusLine,
    Fields,
    Done,
}

/// What the line before the present one was, as a folded line may follow it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Last {
    /// None, or one without a colon.
    #[default]
    Nothing,
    /// A field, the last of the list.
    Field(Frames),
}

impl ResponseHead {
    /// Reads on. `bytes` begin with the message's first byte and only ever grow until [`ResponseHead::clear`]; what was looked at
    /// is not looked at again.
    ///
    /// # Errors
    /// What leaves it open where the answer ends.
    pub fn read(&mut self, bytes: &[u8], awaited: &Awaited) -> Result<Read, Doubt> {
        while self.stage != Stage::Done {
            if self.stage == Stage::StatusLine {
                check_begin(bytes)?;
            }
            let Some(line) = self.lines.next(bytes, Endings::AlsoLf)? else { return Ok(Read::Partial) };
            match self.stage {
                Stage::StatusLine => self.read_status_line(line, bytes)?,
                Stage::Fields if line.text.of(bytes).is_empty() => self.conclude(awaited)?,
                Stage::Fields => self.field(line, bytes)?,
                Stage::Done => break,
            }
        }
        Ok(Read::Done)
    }

    /// Makes ready for the next answer, which begins at another buffer's first byte.
    pub fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self { fields, ..Self::default() };
    }

    /// Bytes of the head that have been read: with [`Read::Done`] all of it, with the empty line after it.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a head that was read is never empty")]
    pub fn len(&self) -> usize {
        self.lines.start()
    }

    /// The status, 100 to 999.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The version of the status line.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether the request's final answer is still to come: 1xx, but 101.
    #[must_use]
    pub fn interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }

    /// Whether HTTP ends here: 101, and 2xx to CONNECT.
    #[must_use]
    pub fn switches(&self) -> bool {
        self.switches
    }

    /// How its body ends.
    #[must_use]
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether another answer may follow on this connection. What follows one that does not persist is [`Doubt::AfterLast`].
    #[must_use]
    pub fn persists(&self) -> bool {
        self.persists
    }

    /// The header lines in their order, those without a colon left out.
    pub fn fields<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = Field<'a>> {
        self.fields.iter().map(|field| field.field(bytes))
    }

    pub(super) fn spans(&self) -> &[FieldSpan] {
        &self.fields
    }

    /// The status line, without what ends it.
    pub(super) fn status_line(&self) -> Span {
        self.status_line
    }

    /// What ends the status line.
    pub(super) fn line_end(&self) -> Span {
        self.line_end
    }

    fn read_status_line(&mut self, line: Line, bytes: &[u8]) -> Result<(), Doubt> {
        let text = line.text.of(bytes);
        if memchr::memchr(0, text).is_some() {
            return Err(Doubt::Nul);
        }
        let (version, rest) = text.split_at_checked(8).ok_or(Doubt::OddStatusLine)?;
        self.version = match version {
            b"HTTP/1.1" => Version::Http11,
            b"HTTP/1.0" => Version::Http10,
            _ => return Err(Doubt::OddStatusLine),
        };
        let ([b' ', hundreds @ b'1'..=b'9', tens @ b'0'..=b'9', ones @ b'0'..=b'9']
        | [b' ', hundreds @ b'1'..=b'9', tens @ b'0'..=b'9', ones @ b'0'..=b'9', b' ', ..]) = rest
        else {
            return Err(Doubt::OddStatusLine);
        };
        self.status = [hundreds, tens, ones].into_iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
        self.status_line = line.text;
        self.line_end = Span::new(line.text.end(), line.whole.end());
        self.stage = Stage::Fields;
        Ok(())
    }

    fn field(&mut self, line: Line, bytes: &[u8]) -> Result<(), Doubt> {
        if fields::is_folded(line.text.of(bytes)) {
            return self.folded(line, bytes);
        }
        self.last = match fields::lenient(line, bytes)? {
            Some(field) => {
                let frames = self.facts.note(field.name.of(bytes), field.value.of(bytes), field.value);
                if let (Frames::Yes, Some(doubt)) = (frames, self.is_over_for_some) {
                    return Err(doubt);
                }
                // Node and Python's http.client do not know `chunked` with white space behind it.
                let is_coding = field.name.of(bytes).eq_ignore_ascii_case(b"transfer-encoding");
                if is_coding && field.value.end() < line.text.end() {
                    self.facts.doubt_coding();
                }
                self.fields.push(field);
                Last::Field(frames)
            }
            None => Last::Nothing,
        };
        self.is_over_for_some = self.is_over_for_some.or(fields::last_for_some(line, bytes));
        Ok(())
    }

    fn folded(&mut self, line: Line, bytes: &[u8]) -> Result<(), Doubt> {
        let (Last::Field(Frames::No), Some(field)) = (self.last, self.fields.last_mut()) else {
            return Err(Doubt::Folded);
        };
        if memchr::memchr(0, line.text.of(bytes)).is_some() {
            return Err(Doubt::Nul);
        }
        *field = field.folded(line, bytes);
        Ok(())
    }

    fn conclude(&mut self, awaited: &Awaited) -> Result<(), Doubt> {
        self.switches = self.status == 101 || (awaited.method == Asked::Connect && (200..300).contains(&self.status));
        let bodyless = awaited.method == Asked::Head || matches!(self.status, 100..200 | 204 | 304) || self.switches;
        // Python's http.client reads a body behind these all the same.
        if matches!(self.status, 204 | 304) && awaited.method != Asked::Head && self.facts.is_coded() {
            return Err(Doubt::CodingWithoutBody);
        }
        self.framing = match bodyless {
            true => Framing::None,
            false => self.content(awaited)?,
        };
        let version = if awaited.version == Version::Http10 { Version::Http10 } else { self.version };
        self.persists = self.facts.persists(version) && self.framing != Framing::UntilClose && !self.switches;
        self.stage = Stage::Done;
        Ok(())
    }

    fn content(&self, awaited: &Awaited) -> Result<Framing, Doubt> {
        match self.facts.framing(self.version)? {
            Framing::None => Ok(Framing::UntilClose),
            Framing::Chunked if awaited.version == Version::Http10 => Err(Doubt::CodingInHttp10),
            framing => Ok(framing),
        }
    }
}

/// Doubts what cannot become a status line with the first byte that shows it, rather than waiting for a line's end.
fn check_begin(bytes: &[u8]) -> Result<(), Doubt> {
    const BEGIN: &[u8] = b"HTTP/1.";
    let known = bytes.len().min(BEGIN.len());
    if bytes.get(..known) == BEGIN.get(..known) { Ok(()) } else { Err(Doubt::OddStatusLine) }
}

#[cfg(test)]
mod tests;
