//! The Huffman code of RFC 7541 appendix B, read.
//!
//! The code is canonical: of equally long codes the one of the smaller symbol is smaller. So the lengths say everything.

/// Bits of each symbol's code; the last is the end of a string, which must not be there.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28,
    28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15,
    6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22,
    20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23,
    23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22,
    22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26,
    27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27,
    26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];
/// Longest code, bits.
const LONGEST: usize = 30;
/// The symbol that ends a string.
const END: u16 = 256;

/// The code, ready to be read.
static CODE: Code = Code::build();

struct Code {
    /// All symbols, shorter codes first.
    symbols: [u16; 257],
    /// For each length, the first code of that length.
    first: [u32; LONGEST + 1],
    /// For each length, how many codes have it.
    count: [u32; LONGEST + 1],
    /// For each length, where its symbols begin.
    begin: [u32; LONGEST + 1],
}

impl Code {
    #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
    #[expect(clippy::cast_possible_truncation, reason = "257 symbols")]
    const fn build() -> Self {
        let mut code =
            Self { symbols: [0; 257], first: [0; LONGEST + 1], count: [0; LONGEST + 1], begin: [0; LONGEST + 1] };
        let (mut length, mut next, mut placed) = (1, 0_u32, 0_usize);
        while length <= LONGEST {
            next <<= 1;
            code.first[length] = next;
            code.begin[length] = placed as u32;
            let mut symbol = 0;
            while symbol < LENGTHS.len() {
                if LENGTHS[symbol] as usize == length {
                    code.symbols[placed] = symbol as u16;
                    placed += 1;
                    next += 1;
                }
                symbol += 1;
            }
            code.count[length] = placed as u32 - code.begin[length];
            length += 1;
        }
        code
    }

    /// The symbol whose code of `length` bits is `bits`.
    fn symbol(&self, bits: u32, length: usize) -> Option<u16> {
        let nth = bits.checked_sub(*self.first.get(length)?)?;
        if nth >= *self.count.get(length)? {
            return None;
        }
        self.symbols.get((self.begin.get(length)? + nth) as usize).copied()
    }
}

/// The string that `coded` stands for; `None` if it stands for none.
pub(super) fn decode(coded: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(coded.len() * 2);
    let (mut bits, mut length) = (0_u32, 0_usize);
    for byte in coded {
        for place in (0..8).rev() {
            bits = bits << 1 | u32::from(byte >> place & 1);
            length += 1;
            match CODE.symbol(bits, length) {
                Some(END) => return None,
                Some(symbol) => {
                    plain.push(u8::try_from(symbol).ok()?);
                    (bits, length) = (0, 0);
                }
                None if length == LONGEST => return None,
                None => {}
            }
        }
    }
    // What is left is padding: less than an octet, all ones.
    (length < 8 && bits == (1 << length) - 1).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_the_standard_are_read() {
        // RFC 7541 appendix C.4 and C.6.
        let check = |coded: &[u8], plain: &str| assert_eq!(decode(coded).as_deref(), Some(plain.as_bytes()));
        check(&[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff], "www.example.com");
        check(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache");
        check(&[0x64, 0x02], "302");
        check(&[0xae, 0xc3, 0x77, 0x1a, 0x4b], "private");
        check(&[], "");
    }

    #[test]
    fn what_is_no_code_is_refused() {
        assert_eq!(decode(&[0xff]), None, "an octet of padding");
        assert_eq!(decode(&[0xff, 0xff, 0xff, 0xff]), None, "the end symbol");
        assert_eq!(decode(&[0x18]), None, "padding of zeros");
    }
}
