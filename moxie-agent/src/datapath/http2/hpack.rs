//! Header compression (RFC 7541): a decoder that follows what two others say to each other, and an encoder without a memory.
//!
//! The relay reads along with an encoder and a decoder that are not its own. Where it has to say something itself it uses
//! nothing that would change the other decoder's table, so that blocks before and after still mean what they meant.

mod huffman;
mod statics;

use std::collections::VecDeque;

use bytes::{BufMut as _, Bytes, BytesMut};

use statics::Found;

/// Size of the table until it is told otherwise (RFC 9113 section 6.5.2).
pub(super) const DEFAULT_CAPACITY: usize = 4096;
/// Largest table that is kept; what either side offers the other is cut to this.
pub(super) const MAX_CAPACITY: usize = 64 * 1024;
/// What an entry counts beside its octets (RFC 7541 section 4.1).
const OVERHEAD: usize = 32;

/// A header field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name, as it was sent.
    pub name: Bytes,
    /// Its value, as it was sent.
    pub value: Bytes,
    /// Must not be indexed by anybody on its way (RFC 7541 section 7.1.3).
    pub never_indexed: bool,
}

impl Field {
    pub(super) fn new(name: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self { name: name.into(), value: value.into(), never_indexed: false }
    }

    /// The same in memory of its own: slices keep the whole block, and what was read along with it.
    pub(super) fn apart(&self) -> Self {
        let (name, value) = (Bytes::copy_from_slice(&self.name), Bytes::copy_from_slice(&self.value));
        Self { name, value, ..*self }
    }

    fn size(&self) -> usize {
        self.name.len() + self.value.len() + OVERHEAD
    }
}

/// What is wrong with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a header block that cannot be decoded")]
pub struct Undecodable;

/// The fields of a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// In their order.
    pub list: Vec<Field>,
    /// There were more than the reader wanted to have; the list is empty then.
    pub is_oversize: bool,
}

/// Reads along with one encoder.
#[derive(Debug)]
pub struct Decoder {
    /// Newest first.
    table: VecDeque<Field>,
    size: usize,
    capacity: usize,
    /// The largest capacity that the encoder has been offered.
    most: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { table: VecDeque::new(), size: 0, capacity: DEFAULT_CAPACITY, most: DEFAULT_CAPACITY }
    }
}

impl Decoder {
    /// The receiver of what is read along offers `capacity`. A smaller offer may not have reached the encoder yet, so it takes
    /// nothing back.
    pub fn offer(&mut self, capacity: usize) {
        self.most = self.most.max(capacity.min(MAX_CAPACITY));
    }

    /// Reads a whole block. A list larger than `limit` (counted as RFC 9113 section 6.5.2 does) is not kept, but the block is
    /// read to its end.
    ///
    /// # Errors
    /// The block is none, or goes by another table.
    pub fn decode(&mut self, block: &Bytes, limit: usize) -> Result<Fields, Undecodable> {
        let mut rest = block.clone();
        let (mut fields, mut size) = (Fields::default(), 0);
        while let Some(first) = rest.first().copied() {
            let Some(field) = self.next(first, &mut rest)? else {
                // A change of size comes before the first field (RFC 7541 section 4.2).
                if size > 0 {
                    return Err(Undecodable);
                }
                continue;
            };
            size += field.size();
            if size <= limit {
                fields.list.push(field);
            } else if !fields.is_oversize {
                fields = Fields { list: Vec::new(), is_oversize: true };
            }
        }
        Ok(fields)
    }

    /// One representation (RFC 7541 section 6); `None` for a change of size.
    fn next(&mut self, first: u8, rest: &mut Bytes) -> Result<Option<Field>, Undecodable> {
        match first.leading_zeros() {
            0 => self.entry(integer(rest, 7)?).map(Some),
            1 => {
                let field = self.literal(rest, 6)?.apart();
                self.insert(field.clone());
                Ok(Some(field))
            }
            2 => {
                let capacity = integer(rest, 5)?;
                if capacity > self.most {
                    return Err(Undecodable);
                }
                self.capacity = capacity;
                self.evict();
                Ok(None)
            }
            zeros => {
                let field = self.literal(rest, 4)?;
                Ok(Some(Field { never_indexed: zeros == 3, ..field }))
            }
        }
    }

    fn literal(&self, rest: &mut Bytes, prefix: u32) -> Result<Field, Undecodable> {
        let name = match integer(rest, prefix)? {
            0 => string(rest)?,
            index => self.entry(index)?.name,
        };
        Ok(Field::new(name, string(rest)?))
    }

    fn entry(&self, index: usize) -> Result<Field, Undecodable> {
        if let Some((name, value)) = statics::entry(index) {
            return Ok(Field::new(name, value));
        }
        let place = index.checked_sub(statics::TABLE.len() + 1).ok_or(Undecodable)?;
        self.table.get(place).cloned().ok_or(Undecodable)
    }

    fn insert(&mut self, field: Field) {
        self.size += field.size();
        self.table.push_front(field);
        self.evict();
    }

    fn evict(&mut self) {
        while self.size > self.capacity {
            let Some(oldest) = self.table.pop_back() else { break };
            self.size -= oldest.size();
        }
    }
}

/// An integer after a prefix of so many bits (RFC 7541 section 5.1).
fn integer(rest: &mut Bytes, prefix: u32) -> Result<usize, Undecodable> {
    let mask = (1_usize << prefix) - 1;
    let mut value = usize::from(octet(rest)?) & mask;
    if value < mask {
        return Ok(value);
    }
    // Four more octets are 28 bits; nothing that is meant is larger.
    for shift in [0, 7, 14, 21] {
        let next = octet(rest)?;
        value += usize::from(next & 0x7f) << shift;
        if next & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Undecodable)
}

/// A string (RFC 7541 section 5.2).
fn string(rest: &mut Bytes) -> Result<Bytes, Undecodable> {
    let is_coded = rest.first().is_some_and(|first| first & 0x80 != 0);
    let length = integer(rest, 7)?;
    if length > rest.len() {
        return Err(Undecodable);
    }
    let octets = rest.split_to(length);
    if is_coded { huffman::decode(&octets).map(Bytes::from).ok_or(Undecodable) } else { Ok(octets) }
}

fn octet(rest: &mut Bytes) -> Result<u8, Undecodable> {
    let first = rest.first().copied().ok_or(Undecodable)?;
    let _ = rest.split_to(1);
    Ok(first)
}

/// Writes `fields` so that any decoder understands them, whatever it has in its table, and keeps nothing of them.
#[must_use]
pub fn encode(fields: &[Field]) -> BytesMut {
    let mut out = BytesMut::with_capacity(fields.iter().map(Field::size).sum());
    for field in fields {
        let (pattern, found) = match statics::find(&field.name, &field.value) {
            found if field.never_indexed => (0x10, found),
            Found::Field(index) => {
                put_integer(&mut out, 0x80, 7, index);
                continue;
            }
            found => (0x00, found),
        };
        match found {
            Found::Field(index) | Found::Name(index) => put_integer(&mut out, pattern, 4, index),
            Found::Nothing => {
                put_integer(&mut out, pattern, 4, 0);
                put_string(&mut out, &field.name);
            }
        }
        put_string(&mut out, &field.value);
    }
    out
}

/// Changes the size of the receiver's table (RFC 7541 section 6.3); with 0 it forgets all of it.
pub(super) fn put_capacity(out: &mut BytesMut, capacity: usize) {
    put_integer(out, 0x20, 5, capacity);
}

fn put_string(out: &mut BytesMut, string: &[u8]) {
    put_integer(out, 0, 7, string.len());
    out.put_slice(string);
}

fn put_integer(out: &mut BytesMut, pattern: u8, prefix: u32, value: usize) {
    let mask = (1_usize << prefix) - 1;
    let low = |value: usize| value.to_le_bytes()[0];
    if value < mask {
        out.put_u8(pattern | low(value));
        return;
    }
    out.put_u8(pattern | low(mask));
    let mut value = value - mask;
    while value >= 0x80 {
        out.put_u8(low(value) | 0x80);
        value >>= 7;
    }
    out.put_u8(low(value));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(text: &str) -> Bytes {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(octet).collect()
    }

    fn list(decoder: &mut Decoder, block: &str) -> Vec<(String, String)> {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let fields = decoder.decode(&hex(block), 1 << 20).unwrap();
        fields.list.iter().map(|field| (text(&field.name), text(&field.value))).collect()
    }

    fn fields(of: &[(&str, &str)]) -> Vec<(String, String)> {
        of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn requests_of_the_standard_are_read_with_their_table() {
        // RFC 7541 appendix C.4.
        let mut decoder = Decoder::default();
        let mut expected =
            vec![(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];
        assert_eq!(list(&mut decoder, "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff"), fields(&expected));
        expected.push(("cache-control", "no-cache"));
        assert_eq!(list(&mut decoder, "8286 84be 5886 a8eb 1064 9cbf"), fields(&expected));
        let third = [
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/index.html"),
            (":authority", "www.example.com"),
            ("custom-key", "custom-value"),
        ];
        let block = "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf";
        assert_eq!(list(&mut decoder, block), fields(&third));
        assert_eq!((decoder.size, decoder.table.len()), (164, 3));
    }

    #[test]
    fn answers_of_the_standard_are_read_while_the_table_overflows() {
        // RFC 7541 appendix C.6, with a table of 256 octets.
        let mut decoder = Decoder::default();
        let first = "3fe101 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e \
                     919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3";
        assert_eq!(list(&mut decoder, first).len(), 4);
        assert_eq!(list(&mut decoder, "4883 640e ffc1 c0bf")[0], (":status".to_owned(), "307".to_owned()));
        let third = "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 \
                     e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07";
        let read = list(&mut decoder, third);
        assert_eq!(read[5].1, "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1");
        assert_eq!((decoder.size, decoder.table.len()), (215, 3));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let check =
            |block: &str| assert_eq!(Decoder::default().decode(&hex(block), 1 << 20), Err(Undecodable), "{block}");
        check("80"); // index 0
        check("be"); // beyond the tables
        check("ffff ffff ff7f"); // an endless integer
        check("41"); // cut short
        check("4105 61"); // a string longer than the block
        check("3fe2 ff03"); // a table larger than is kept
        check("82 20"); // a change of size after a field
    }

    #[test]
    fn no_table_is_larger_than_was_offered() {
        let (mut decoder, resize) = (Decoder::default(), hex("3fe2 1f82"));
        assert_eq!(decoder.decode(&resize, 1 << 20), Err(Undecodable), "4097 octets");
        decoder.offer(8192);
        decoder.offer(0);
        assert_eq!(decoder.decode(&resize, 1 << 20).unwrap().list.len(), 1, "the encoder may not know of the second");
        decoder.offer(usize::MAX);
        assert_eq!(decoder.decode(&hex("3fe2 ff03"), 1 << 20), Err(Undecodable), "more than is kept");
    }

    #[test]
    fn a_list_that_is_too_long_is_read_and_not_kept() {
        let mut decoder = Decoder::default();
        let bomb = [&[0x40, 1, b'a', 0x7f, 0xa1, 0x1e][..], &vec![b'x'; 4000]].concat();
        let long = decoder.decode(&Bytes::from(bomb), 100).unwrap();
        assert!(long.is_oversize && long.list.is_empty());
        let references = decoder.decode(&Bytes::from(vec![0xbe; 10_000]), 256 * 1024).unwrap();
        assert!(references.is_oversize && references.list.is_empty());
        assert_eq!(list(&mut decoder, "be").len(), 1, "the table has been kept");
    }

    #[test]
    fn what_is_encoded_leaves_the_table_as_it_was() {
        let mut decoder = Decoder::default();
        list(&mut decoder, "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff");
        let before = decoder.table.clone();
        let mut secret = Field::new("authorization", "Bearer x");
        secret.never_indexed = true;
        let long = "v".repeat(70_000);
        let said = [Field::new(":status", "429"), Field::new(":status", "200"), Field::new("x-a", long), secret];
        assert_eq!(decoder.decode(&encode(&said).freeze(), 1 << 20).unwrap().list, said);
        assert_eq!(decoder.table, before);
    }

    proptest! {
        #[test]
        fn random_blocks_never_panic(block in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut decoder = Decoder::default();
            let _ = decoder.decode(&Bytes::from(block), 1000);
            prop_assert!(decoder.size <= MAX_CAPACITY);
        }

        #[test]
        fn what_is_encoded_is_read_back(
            fields in prop::collection::vec(("[a-z:-]{1,20}", prop::collection::vec(any::<u8>(), 0..200), any::<bool>()), 0..20)
        ) {
            let fields: Vec<Field> = fields
                .into_iter()
                .map(|(name, value, never_indexed)| Field { name: name.into(), value: value.into(), never_indexed })
                .collect();
            let read = Decoder::default().decode(&encode(&fields).freeze(), 1 << 20).unwrap();
            prop_assert_eq!(read.list, fields);
        }
    }
}
