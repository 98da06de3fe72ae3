//! The chunked coding (RFC 9112 section 7.1), a byte at a time except for data.

use super::{Doubt, MAX_CHUNK_LINE, MAX_TRAILERS, Taken};
use crate::http1::is_token_byte;

/// More digits are too large to some readers, whatever their value.
const MAX_DIGITS: u32 = 16;
/// Trailers that some readers would let change what the head said.
const OF_HEADS: [&[u8]; 5] = [b"content-length", b"transfer-encoding", b"host", b"connection", b"upgrade"];

/// Where a chunked body stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Chunked {
    place: Place,
    /// Size of the chunk that is being read, then what is left of it.
    size: u64,
    /// Digits of the size.
    digits: u32,
    /// Bytes of the present chunk line, or of the trailers.
    line: usize,
    /// The present trailer's name, in lower case, as far as it matters.
    name: Name,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Size,
    Extension,
    /// After the CR of a chunk line.
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the beginning of a trailer line.
    Trailer,
    TrailerName,
    TrailerValue,
    /// After the CR of a trailer line.
    TrailerLf,
    /// After the CR of the empty line.
    LastLf,
    Ended,
}

/// The first bytes of a name and its length.
#[derive(Clone, Copy, Debug, Default)]
struct Name {
    bytes: [u8; 20],
    len: usize,
}

impl Chunked {
    pub(super) fn take(&mut self, bytes: &[u8], mut data: impl FnMut(&[u8])) -> Result<Taken, Doubt> {
        let mut taken = Taken::default();
        while self.place != Place::Ended {
            let rest = bytes.get(taken.len..).unwrap_or_default();
            let Some(byte) = rest.first() else { return Ok(taken) };
            if self.place == Place::Data {
                let len = usize::try_from(self.size).map_or(rest.len(), |left| left.min(rest.len()));
                data(rest.get(..len).unwrap_or_default());
                self.size -= len as u64;
                taken.len += len;
                taken.data += len;
                if self.size == 0 {
                    self.place = Place::DataCr;
                }
            } else {
                self.place = self.step(*byte)?;
                taken.len += 1;
            }
        }
        Ok(Taken { ended: true, ..taken })
    }

    fn step(&mut self, byte: u8) -> Result<Place, Doubt> {
        match self.place {
            Place::Size | Place::Extension | Place::SizeLf => self.size_line(byte),
            Place::DataCr if byte == b'\r' => Ok(Place::DataLf),
            Place::DataLf if byte == b'\n' => {
                (self.size, self.digits, self.line) = (0, 0, 0);
                Ok(Place::Size)
            }
            Place::DataCr | Place::DataLf => Err(Doubt::OddChunkEnd),
            Place::Trailer | Place::TrailerName | Place::TrailerValue | Place::TrailerLf | Place::LastLf => {
                self.line += 1;
                if self.line > MAX_TRAILERS { Err(Doubt::TrailersTooLong) } else { self.trailer(byte) }
            }
            // Neither gets here: data is not taken a byte at a time, and nothing is after the end.
            Place::Data | Place::Ended => Ok(self.place),
        }
    }

    fn size_line(&mut self, byte: u8) -> Result<Place, Doubt> {
        self.line += 1;
        if self.line > MAX_CHUNK_LINE {
            return Err(Doubt::ChunkLineTooLong);
        }
        match (self.place, byte) {
            (Place::SizeLf, b'\n') => Ok(self.after_size_line()),
            (Place::SizeLf, _) => Err(Doubt::BareCarriageReturn),
            (Place::Size, _) if byte.is_ascii_hexdigit() => self.digit(byte),
            (_, b'\r') if self.digits > 0 => Ok(Place::SizeLf),
            (_, b'\n') => Err(Doubt::BareLineFeed),
            (Place::Size, b';') if self.digits > 0 => Ok(Place::Extension),
            (Place::Extension, _) if byte == b'\t' || !byte.is_ascii_control() => Ok(Place::Extension),
            (Place::Extension, 0) => Err(Doubt::Nul),
            (Place::Extension, _) => Err(Doubt::OddChunkExtension),
            _ => Err(Doubt::OddChunkSize),
        }
    }

    fn digit(&mut self, byte: u8) -> Result<Place, Doubt> {
        let value = char::from(byte).to_digit(16).ok_or(Doubt::OddChunkSize)?;
        self.digits += 1;
        if self.digits > MAX_DIGITS {
            return Err(Doubt::OddChunkSize);
        }
        // 16 digits fit; only the sign bit of other readers' counters is left to mind.
        self.size = self.size << 4 | u64::from(value);
        if self.size > i64::MAX as u64 { Err(Doubt::ChunkTooLarge) } else { Ok(Place::Size) }
    }

    fn after_size_line(&mut self) -> Place {
        self.line = 0;
        if self.size == 0 { Place::Trailer } else { Place::Data }
    }

    fn trailer(&mut self, byte: u8) -> Result<Place, Doubt> {
        match (self.place, byte) {
            (Place::TrailerLf, b'\n') => Ok(Place::Trailer),
            (Place::LastLf, b'\n') => Ok(Place::Ended),
            (Place::TrailerLf | Place::LastLf, _) => Err(Doubt::BareCarriageReturn),
            (_, b'\n') => Err(Doubt::BareLineFeed),
            (_, 0) => Err(Doubt::Nul),
            (Place::TrailerValue, b'\r') => Ok(Place::TrailerLf),
            (Place::TrailerValue, _) => Ok(Place::TrailerValue),
            (Place::Trailer, b'\r') => Ok(Place::LastLf),
            (Place::Trailer, b' ' | b'\t') => Err(Doubt::Folded),
            (Place::Trailer, b':') => Err(Doubt::EmptyName),
            (_, b'\r') => Err(Doubt::NoColon),
            (_, b':') => self.named(),
            (_, b' ' | b'\t') => Err(Doubt::SpaceBeforeColon),
            _ if is_token_byte(byte) => Ok(self.name_byte(byte)),
            _ => Err(Doubt::OddName),
        }
    }

    fn name_byte(&mut self, byte: u8) -> Place {
        if self.place == Place::Trailer {
            self.name = Name::default();
        }
        if let Some(slot) = self.name.bytes.get_mut(self.name.len) {
            *slot = byte.to_ascii_lowercase();
        }
        // Saturating: what matters is which short names it is.
        self.name.len = self.name.len.saturating_add(1);
        Place::TrailerName
    }

    fn named(&self) -> Result<Place, Doubt> {
        let name = self.name.bytes.get(..self.name.len).unwrap_or_default();
        if OF_HEADS.contains(&name) { Err(Doubt::OddTrailer) } else { Ok(Place::TrailerValue) }
    }
}
