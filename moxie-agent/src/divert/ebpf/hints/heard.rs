//! A DNS answer as the kernel half copied it: what it says of itself, and the message as somebody sent it.

use moxie_common::hints::{ANSWER_BYTES, Answer};

use super::answer::{self, Reading};

/// Bytes of an [`Answer`] before the message.
const HEAD: usize = size_of::<Answer>() - ANSWER_BYTES;

/// An [`Answer`] as it came out of the ring.
#[derive(Debug)]
pub struct Heard<'a> {
    pub(super) place: u32,
    pub(super) tag: u32,
    length: usize,
    pub(super) is_counted: bool,
    pub(super) message: &'a [u8],
}

impl<'a> Heard<'a> {
    /// Reads an item of the ring; `None` where the message is shorter than it says.
    #[must_use]
    pub fn of(item: &'a [u8]) -> Option<Self> {
        let (head, bytes) = item.split_at_checked(HEAD)?;
        let word = |at: usize| Some(u32::from_ne_bytes(*head.get(at * 4..)?.first_chunk()?));
        let length = usize::try_from(word(2)?).ok()?;
        Some(Self {
            place: word(0)?,
            tag: word(1)?,
            length,
            is_counted: word(3)? != 0,
            message: bytes.get(..length.min(ANSWER_BYTES))?,
        })
    }

    /// What can be made of the message.
    #[must_use]
    pub fn read(&self) -> Reading {
        // One that came over TCP was not looked into.
        if self.length == 0 { Reading::Garbled } else { answer::read(self.message, self.length > self.message.len()) }
    }
}
