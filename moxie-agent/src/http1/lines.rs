//! The lines of a head, found in bytes that arrive in pieces: each byte is looked at once.

use super::{Doubt, MAX_HEAD, span::Span};

/// What ends a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endings {
    /// CRLF alone: what some servers read as two lines, others read as one.
    Crlf,
    /// LF too, as every client accepts it.
    AlsoLf,
}

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Without what ends it.
    pub(super) text: Span,
    /// With what ends it.
    pub(super) whole: Span,
}

/// Where the search for the next line stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lines {
    /// First byte of the line that is being looked for.
    start: usize,
    /// Bytes before this one do not end it.
    searched: usize,
}

impl Lines {
    /// First byte after the last whole line.
    pub(super) fn start(&self) -> usize {
        self.start
    }

    /// The next whole line of `bytes`, which only ever grow between calls; none while its end is not there.
    ///
    /// # Errors
    /// A lone CR, a lone LF (with [`Endings::Crlf`]), or a line that ends beyond [`MAX_HEAD`].
    pub(super) fn next(&mut self, bytes: &[u8], endings: Endings) -> Result<Option<Line>, Doubt> {
        let bytes = bytes.get(..MAX_HEAD).unwrap_or(bytes);
        let rest = bytes.get(self.searched..).unwrap_or_default();
        let Some(found) = memchr::memchr2(b'\r', b'\n', rest) else {
            self.searched = bytes.len();
            return more(bytes);
        };
        let at = self.searched + found;
        self.searched = at;
        match (bytes.get(at), bytes.get(at + 1), endings) {
            (Some(b'\n'), _, Endings::AlsoLf) => Ok(Some(self.line(at, at + 1))),
            (Some(b'\n'), _, Endings::Crlf) => Err(Doubt::BareLineFeed),
            (_, Some(b'\n'), _) => Ok(Some(self.line(at, at + 2))),
            (_, Some(_), _) => Err(Doubt::BareCarriageReturn),
            (_, None, _) => more(bytes),
        }
    }

    fn line(&mut self, end: usize, next: usize) -> Line {
        let line = Line { text: Span::new(self.start, end), whole: Span::new(self.start, next) };
        *self = Self { start: next, searched: next };
        line
    }
}

/// Whether a head that has not ended within these bytes still may.
fn more(bytes: &[u8]) -> Result<Option<Line>, Doubt> {
    if bytes.len() >= MAX_HEAD { Err(Doubt::HeadTooLong) } else { Ok(None) }
}
