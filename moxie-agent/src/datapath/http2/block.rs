//! One direction of a connection: its header blocks, put together from frames and read, and its flow control.

use bytes::{Bytes, BytesMut};
use h2::Reason;
use tokio::time::Instant;

use super::credit::Credit;
use super::frame::{self, Frame, Head, flag, kind};
use super::hpack::{self, Decoder, Field, Fields};

/// Largest header block that is put together, octets; larger lists of fields than this are read and not kept.
const MAX_BLOCK: usize = 256 * 1024;
/// Most frames of one block.
const MAX_FRAMES: usize = 1024;

/// One direction.
#[derive(Debug)]
pub(super) struct Direction {
    decoder: Decoder,
    /// Whether blocks go on as they came: so far the receiver has been sent all of them.
    pub(super) is_verbatim: bool,
    /// Whether the receiver has been told to keep no table.
    has_forgotten: bool,
    /// How large a table the receiver keeps.
    receiver_table: usize,
    open: Option<Block>,
    /// Whether an alarm is set for when it has been open too long.
    pub(super) is_watched: bool,
    /// When it began.
    open_since: Option<Instant>,
    pub(super) credit: Credit,
}

impl Default for Direction {
    fn default() -> Self {
        Self {
            decoder: Decoder::default(),
            is_verbatim: true,
            has_forgotten: false,
            receiver_table: hpack::DEFAULT_CAPACITY,
            open: None,
            is_watched: false,
            open_since: None,
            credit: Credit::default(),
        }
    }
}

/// A header block.
#[derive(Debug)]
pub(super) struct Block {
    /// The head of its first frame; its flags without those that say how it was cut and padded.
    pub(super) first: Head,
    /// A priority, or a promised stream.
    prefix: Bytes,
    fragments: Vec<Bytes>,
    /// The frames as they came.
    raw: Vec<Bytes>,
    size: usize,
}

impl Block {
    pub(super) fn stream(&self) -> u32 {
        self.first.stream
    }

    pub(super) fn ends_stream(&self) -> bool {
        self.first.kind == kind::HEADERS && self.first.flags & flag::END_STREAM != 0
    }

    /// The frames as they came.
    pub(super) fn raw(&self) -> Bytes {
        self.raw.concat().into()
    }

    fn octets(&self) -> Bytes {
        match &self.fragments[..] {
            [only] => only.clone(),
            several => several.concat().into(),
        }
    }
}

impl Direction {
    /// Takes a frame that begins a block or goes on with one; the block once it is whole.
    pub(super) fn take(&mut self, frame: &Frame) -> Result<Option<Block>, Reason> {
        let is_kept = self.open.is_some() || !frame.has(flag::END_HEADERS);
        let own = is_kept.then(|| frame.apart());
        let frame = own.as_ref().unwrap_or(frame);
        let block = match self.open.take() {
            None => {
                self.open_since = is_kept.then(Instant::now);
                begin(frame)?
            }
            Some(mut open) => {
                if frame.head.kind != kind::CONTINUATION || frame.head.stream != open.first.stream {
                    self.open = Some(open);
                    return Err(Reason::PROTOCOL_ERROR);
                }
                open.fragments.push(frame.payload());
                open.raw.push(frame.raw.clone());
                open.size += frame.raw.len();
                open
            }
        };
        if frame.has(flag::END_HEADERS) {
            return Ok(Some(block));
        }
        let is_too_long = block.size > MAX_BLOCK || block.raw.len() >= MAX_FRAMES;
        self.open = Some(block);
        if is_too_long {
            // The frame is part of the open block now.
            return Err(Reason::ENHANCE_YOUR_CALM);
        }
        Ok(None)
    }

    /// Whether `frame` may come now: between the frames of a block there is no other (RFC 9113 section 6.10).
    pub(super) fn admits(&self, frame: &Frame) -> bool {
        self.open.is_none() || frame.head.kind == kind::CONTINUATION
    }

    /// The receiver offers to keep a table of so many octets.
    pub(super) fn offer_table(&mut self, octets: usize) {
        self.receiver_table = octets;
        self.decoder.offer(octets);
    }

    /// What a block says. It has to be read in the order in which blocks come.
    pub(super) fn read(&mut self, block: &Block) -> Result<Fields, hpack::Undecodable> {
        self.decoder.decode(&block.octets(), MAX_BLOCK)
    }

    /// Writes a block for the receiver: as it came, or as `fields`.
    pub(super) fn put(&mut self, block: &Block, fields: &[Field], out: &mut BytesMut) {
        if self.is_verbatim {
            block.raw.iter().for_each(|frame| out.extend_from_slice(frame));
        } else {
            self.put_fields(block.first, &block.prefix, fields, out);
        }
    }

    /// Writes `fields` as a block that needs no table.
    pub(super) fn put_fields(&mut self, first: Head, prefix: &[u8], fields: &[Field], out: &mut BytesMut) {
        let mut block = BytesMut::new();
        if !self.is_verbatim && !self.has_forgotten {
            hpack::put_capacity(&mut block, 0);
            self.has_forgotten = true;
        } else if self.is_verbatim && self.receiver_table < hpack::DEFAULT_CAPACITY {
            // A receiver that wants a smaller table waits for a word that it has one (RFC 7541 section 4.2), and the sender may not
            // have had the occasion. It will say so too.
            hpack::put_capacity(&mut block, self.receiver_table);
        }
        block.unsplit(hpack::encode(fields));
        frame::put_block(out, first, prefix, &block);
    }

    /// When the block began that is not whole.
    pub(super) fn open_since(&self) -> Option<Instant> {
        self.open_since.filter(|_| self.open.is_some())
    }

    /// What came of a block that is not whole.
    pub(super) fn take_open(&mut self) -> Bytes {
        self.open.take().map(|block| block.raw()).unwrap_or_default()
    }
}

fn begin(frame: &Frame) -> Result<Block, Reason> {
    let mut payload = frame.unpadded().ok_or(Reason::PROTOCOL_ERROR)?;
    let prefix = match frame.head.kind {
        kind::HEADERS if frame.has(flag::PRIORITY) => 5,
        kind::HEADERS => 0,
        kind::PUSH_PROMISE => 4,
        _ => return Err(Reason::PROTOCOL_ERROR),
    };
    if payload.len() < prefix || frame.head.stream == 0 {
        return Err(Reason::PROTOCOL_ERROR);
    }
    let prefix = payload.split_to(prefix);
    let first = Head { flags: frame.head.flags & !(flag::PADDED | flag::END_HEADERS), ..frame.head };
    Ok(Block { first, prefix, fragments: vec![payload], raw: vec![frame.raw.clone()], size: frame.raw.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_is_not_whole_keeps_nothing_but_its_frames() {
        let mut buffer = BytesMut::new();
        frame::put(&mut buffer, kind::HEADERS, 0, 1, b"\x82");
        frame::put(&mut buffer, kind::CONTINUATION, 0, 1, b"\x86");
        frame::put(&mut buffer, kind::CONTINUATION, flag::END_HEADERS, 1, b"\x84");
        buffer.extend_from_slice(&[0; 64 * 1024]);
        let buffer = Bytes::from(buffer.to_vec());
        let (mut direction, mut rest) = (Direction::default(), buffer.clone());
        let mut next = || {
            let head = Head::read(&rest).unwrap();
            Frame { head, raw: rest.split_to(frame::HEAD + head.length) }
        };
        for _ in 0..2 {
            assert!(direction.take(&next()).unwrap().is_none());
            assert!(direction.open_since().is_some());
        }
        let last = next();
        drop(rest);
        let block = direction.take(&last).unwrap().unwrap();
        assert!(direction.open_since().is_none());
        drop(last);
        assert!(buffer.is_unique(), "it keeps what it was read with");
        assert_eq!(block.raw(), buffer.slice(..30));
        assert_eq!(direction.read(&block).unwrap().list.len(), 3);
    }
}
