//! The socket mark by which the kernel half knows the agent's listeners and the sockets that the agent dials with.

/// The upper half of every mark of Moxie's: "MX".
const MAGIC: u32 = 0x4d58;
/// How many bits the flags take; the tag is above them, the magic above that.
const FLAG_BITS: u32 = 4;
/// Flag: connections to IPv6 destinations may be diverted to this listener.
const ROUTED_V6: u32 = 1;

/// Tells one agent's listeners from another's: 12 bits, not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(u16);

impl Tag {
    /// The tag made of the low 12 bits of `bits`, if they are not 0.
    #[must_use]
    pub const fn new(bits: u16) -> Option<Self> {
        match bits & 0x0fff {
            0 => None,
            bits => Some(Self(bits)),
        }
    }
}

/// An `SO_MARK`: `0x4d58 << 16 | tag << 4 | flags` if it is one of Moxie's.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(pub u32);

impl Mark {
    /// The mark of an agent's sockets, no flag set.
    #[must_use]
    pub const fn of(tag: Tag) -> Self {
        Self(MAGIC << 16 | (tag.0 as u32) << FLAG_BITS)
    }

    /// This mark with the flag that lets IPv6 destinations be diverted, or without it.
    #[must_use]
    pub const fn routed_v6(self, routed: bool) -> Self {
        if routed { Self(self.0 | ROUTED_V6) } else { Self(self.0 & !ROUTED_V6) }
    }

    /// Whether a socket with this mark is an agent's.
    #[must_use]
    #[inline(always)]
    pub const fn is_moxie(self) -> bool {
        self.0 >> 16 == MAGIC
    }

    /// Whether connections to IPv6 destinations may be diverted to the listener with this mark.
    #[must_use]
    #[inline(always)]
    pub const fn is_routed_v6(self) -> bool {
        self.0 & ROUTED_V6 != 0
    }

    /// The mark without its flags: they may change while a handshake is under way, so they are no part of a key.
    #[must_use]
    #[inline(always)]
    pub const fn identity(self) -> u32 {
        self.0 >> FLAG_BITS << FLAG_BITS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_laid_out_as_documented() {
        let mark = Mark::of(Tag::new(0xfabc).unwrap());
        assert_eq!(mark.0, 0x4d58_abc0);
        assert_eq!(mark.routed_v6(true).0, 0x4d58_abc1);
        assert_eq!(mark.routed_v6(true).routed_v6(false), mark);
    }

    #[test]
    fn flags_are_no_part_of_the_identity() {
        let mark = Mark::of(Tag::new(7).unwrap());
        assert_eq!(mark.routed_v6(true).identity(), mark.identity());
        assert_ne!(mark.identity(), Mark::of(Tag::new(8).unwrap()).identity());
    }

    #[test]
    fn other_marks_are_not_moxies() {
        assert!(!Mark(0).is_moxie());
        assert!(!Mark(0x4d59_0010).is_moxie());
        assert!(Mark::of(Tag::new(1).unwrap()).is_moxie());
        assert_eq!(Tag::new(0x1000), None);
    }
}
