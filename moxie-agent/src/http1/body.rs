//! A body on its way (RFC 9112 sections 6 and 7): which of the bytes that come are its own, and which of these are data.

mod chunked;

use super::{Doubt, Framing};
use chunked::Chunked;

/// Longest line with a chunk's size, in bytes with what ends it.
pub const MAX_CHUNK_LINE: usize = 4096;
/// Longest trailer section, in bytes with its empty line.
pub const MAX_TRAILERS: usize = 64 * 1024;

/// Where one body stands.
#[derive(Clone, Debug)]
pub struct Body {
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Ended,
    Length(u64),
    Chunked(Chunked),
    UntilClose,
    Doubtful(Doubt),
}

/// What some bytes are to a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// How many of the bytes are the body's, chunk lines and trailers included. The next message begins after them.
    pub len: usize,
    /// How many of these are data.
    pub data: usize,
    /// Whether the body has ended. One that the connection's close ends never says so.
    pub ended: bool,
}

impl Body {
    /// A body of which nothing has come yet.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Ended,
            Framing::Length(left) => State::Length(left),
            Framing::Chunked => State::Chunked(Chunked::default()),
            Framing::UntilClose => State::UntilClose,
        };
        Self { state }
    }

    /// Whether nothing more is to come.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Whether a close of the connection now ends it as its head said.
    #[must_use]
    pub fn may_close(&self) -> bool {
        matches!(self.state, State::Ended | State::UntilClose)
    }

    /// Takes what is its own from the beginning of `bytes`, which follow the ones that were taken before.
    ///
    /// # Errors
    /// Chunks that two readers could read differently; the same again for whatever follows.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Taken, Doubt> {
        self.take_data(bytes, |_| {})
    }

    /// As [`Body::take`], and hands over the data, in order and in as many pieces as it stands in.
    ///
    /// # Errors
    /// As [`Body::take`]; pieces may have been handed over before.
    pub fn take_data(&mut self, bytes: &[u8], mut data: impl FnMut(&[u8])) -> Result<Taken, Doubt> {
        let taken = match &mut self.state {
            State::Ended => Ok(Taken { len: 0, data: 0, ended: true }),
            State::Length(left) => {
                let len = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= len as u64;
                data(bytes.get(..len).unwrap_or_default());
                Ok(Taken { len, data: len, ended: *left == 0 })
            }
            State::UntilClose => {
                data(bytes);
                Ok(Taken { len: bytes.len(), data: bytes.len(), ended: false })
            }
            State::Chunked(chunked) => chunked.take(bytes, data),
            State::Doubtful(doubt) => Err(*doubt),
        };
        match taken {
            Ok(Taken { ended: true, .. }) => self.state = State::Ended,
            Err(doubt) => self.state = State::Doubtful(doubt),
            Ok(_) => {}
        }
        taken
    }
}

#[cfg(test)]
mod tests;
