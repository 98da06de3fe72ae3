//! A part of a head, by where it stands: heads are read again and again from one buffer, and nothing of them is copied.

/// Offsets into a head's bytes. Heads are shorter than [`super::MAX_HEAD`], so 32 bits hold them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// From offsets, `start <= end`.
    pub(super) fn new(start: usize, end: usize) -> Self {
        let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self { start: offset(start), end: offset(end) }
    }

    pub(super) fn start(self) -> usize {
        self.start as usize
    }

    pub(super) fn end(self) -> usize {
        self.end as usize
    }

    /// The same part, ending later.
    pub(super) fn until(self, end: usize) -> Self {
        Self::new(self.start(), end)
    }

    /// The bytes; none where they are not there, as in other bytes than the ones that were read.
    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start()..self.end()).unwrap_or_default()
    }
}
