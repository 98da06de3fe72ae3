//! One direction of a connection: its header blocks, put together from frames and read, and its flow control.

use bytes::{Bytes, BytesMut};
use h2::Reason;

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
    pub(super) receiver_table: usize,
    open: Option<Block>,
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
        let block = match self.open.take() {
            None => begin(frame)?,
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
