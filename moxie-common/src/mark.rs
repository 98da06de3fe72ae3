//! The socket mark by which the kernel half knows the agent's listeners and the sockets that the agent dials with.

/// The upper half of every mark of Moxie's: "MX".
const MAGIC: u32 = 0x4d58;
/// Bits below the tag, all 0; the magic is above it.
const BELOW_TAG: u32 = 4;

/// Tells one listener set (of one agent, in one network namespace) from another: 12 bits, not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag(u16);

impl Tag {
    /// How many numbers a tag is one of.
    pub const COUNT: usize = 0x1000;

    /// Its number: below [`Self::COUNT`], not 0.
    #[must_use]
    #[inline(always)]
    pub const fn index(self) -> u32 {
        self.0 as u32
    }

    /// The tag made of the low 12 bits of `bits`, if they are not 0.
    #[must_use]
    pub const fn new(bits: u16) -> Option<Self> {
        match bits & 0x0fff {
            0 => None,
            bits => Some(Self(bits)),
        }
    }
}

/// An `SO_MARK`: `0x4d58 << 16 | tag << 4` if it is one of Moxie's.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(pub u32);

impl Mark {
    /// The mark of the sockets of a listener set.
    #[must_use]
    pub const fn of(tag: Tag) -> Self {
        Self(MAGIC << 16 | (tag.0 as u32) << BELOW_TAG)
    }

    /// Whether a socket with this mark is an agent's.
    #[must_use]
    #[inline(always)]
    pub const fn is_moxie(self) -> bool {
        self.0 >> 16 == MAGIC
    }

    /// The number of its tag, 0 if it has none; of a mark of Moxie's.
    #[must_use]
    #[inline(always)]
    pub const fn tag_index(self) -> u32 {
        (self.0 & 0xffff) >> BELOW_TAG
    }

    /// What of it is part of a handshake's name.
    #[must_use]
    #[inline(always)]
    pub const fn identity(self) -> u32 {
        self.0 >> BELOW_TAG << BELOW_TAG
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_laid_out_as_documented() {
        let tag = Tag::new(0xfabc).unwrap();
        assert_eq!(Mark::of(tag).0, 0x4d58_abc0);
        assert_eq!(Mark::of(tag).tag_index(), tag.index());
        assert!((tag.index() as usize) < Tag::COUNT);
    }

    #[test]
    fn the_tag_is_part_of_the_identity_and_the_bits_below_it_are_not() {
        let mark = Mark::of(Tag::new(7).unwrap());
        assert_eq!(Mark(mark.0 | 5).identity(), mark.identity());
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
