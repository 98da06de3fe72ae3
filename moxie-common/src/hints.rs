//! DNS hints: addresses that are known to belong only to names that no rule could name, and how they become known.
//!
//! The kernel half copies each DNS answer that a cgroup gets to the agent, and counts it; the agent says what it made of the answers
//! and how many that were. While an answer is under way between the two, nothing that was known counts: it may say that a rule's
//! name is at an address too. An answer to a question that was found to be about no rule's name is not waited for.

use crate::Address;

/// Cgroups that may have hints at one time; their numbers ([`Share::place`](crate::Share::place)) are below this, and not 0.
pub const HINTED_PLACES: usize = 1024;
/// Addresses that may be known at one time.
pub const KNOWN_ADDRESSES: usize = 16_384;
/// Questions that are known at one time to be about no rule's name.
pub const KNOWN_QUESTIONS: usize = 8192;
/// Bytes of an answer that are copied; a power of two, which bounds a length with a mask.
pub const ANSWER_BYTES: usize = 1024;
/// Where the question begins in a DNS message (RFC 1035 section 4.1.1).
pub const QUESTION_AT: usize = 12;
/// Longest name in a message, its closing byte included (RFC 1035 section 2.3.4).
pub const LONGEST_NAME: usize = 255;

/// An address as a cgroup's processes in one network namespace know it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HintKey {
    /// The agent's number of the cgroup.
    pub place: u32,
    /// [`Tag::index`](crate::Tag::index) of the listeners in the namespace.
    pub tag: u32,
    /// The address.
    pub address: Address,
}
const _: () = assert!(size_of::<HintKey>() == 24);

/// That connections to an address are left direct.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    /// What it is about. The kernel gives an entry that was taken out to another key at once, under the eyes of who is reading it;
    /// so this is written first and read last.
    pub key: HintKey,
    /// Until when, by `CLOCK_MONOTONIC`, in nanoseconds.
    pub until_ns: u64,
    /// Under which rules: [`Control::hints`](crate::Control::hints) as it was when that was found.
    pub generation: u64,
}
const _: () = assert!(size_of::<Hint>() == 40);

/// A question of a cgroup's processes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QuestionKey {
    /// [`hash_name`] of its name.
    pub name: u64,
    /// The agent's number of the cgroup.
    pub place: u64,
}
const _: () = assert!(size_of::<QuestionKey>() == 16);

/// A DNS answer on its way to the agent.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// The agent's number of the cgroup.
    pub place: u32,
    /// [`Tag::index`](crate::Tag::index) of the listeners in the namespace that it arrived in.
    pub tag: u32,
    /// How long the message is; 0 where it came over TCP, which is not looked into. More than [`ANSWER_BYTES`]: the rest is missing.
    pub length: u32,
    /// 1 if it was counted, so that it is waited for; else 0.
    pub counted: u32,
    /// The message.
    pub bytes: [u8; ANSWER_BYTES],
}
const _: () = assert!(size_of::<Answer>() == 16 + ANSWER_BYTES);

/// What [`hash_name`] begins with (FNV-1a, 64 bits).
pub const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;

/// One step of [`hash_name`].
#[must_use]
#[inline(always)]
pub const fn hash_byte(hash: u64, byte: u8) -> u64 {
    (hash ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3)
}

/// The name that begins at the first byte, as it is spelt in a message: FNV-1a of its bytes up to the closing 0, which is not a part
/// of it. `None`: it does not end there, or is compressed.
#[must_use]
pub fn hash_name(bytes: &[u8]) -> Option<u64> {
    let (mut hash, mut left) = (HASH_START, 0);
    for byte in bytes.iter().take(LONGEST_NAME) {
        if left == 0 {
            match *byte {
                0 => return Some(hash),
                length if length >= 0xc0 => return None,
                length => left = length,
            }
        } else {
            left -= 1;
        }
        hash = hash_byte(hash, *byte);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_and_end_where_they_end() {
        let shop = hash_name(b"\x04shop\x07example\0");
        assert!(shop.is_some());
        assert_eq!(hash_name(b"\x04shop\x07example\0\0\x01"), shop, "what follows is no part of it");
        assert_ne!(hash_name(b"\x04shop\x07exampl3\0"), shop);
        assert_ne!(hash_name(b"\x0cshop.example\0"), shop);
        assert_eq!(hash_name(b"\x04sh\0p\0"), hash_name(b"\x04sh\0p\0more"), "a 0 inside a label is none at its end");
        assert_eq!(hash_name(b"\x04shop\xc0\x0c"), None, "compressed");
        assert_eq!(hash_name(b"\x04shop"), None, "cut off");
        assert_eq!(hash_name(&[1; 300]), None, "too long");
    }
}
