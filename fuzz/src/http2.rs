//! HTTP/2's header compression: each block by the table that those before it have left.

use bytes::Bytes;
use moxie_agent::datapath::http2::hpack::{Decoder, encode};

/// More than any list that fits into an input.
const ALL: usize = usize::MAX;

/// Blocks, each after its length. How much of a list is kept changes nothing about later ones, and what is written anew reads the same.
pub(crate) fn hpack(bytes: &[u8]) {
    let Some((offered, mut rest)) = bytes.split_first() else { return };
    let (mut whole, mut short) = (Decoder::default(), Decoder::default());
    for decoder in [&mut whole, &mut short] {
        decoder.offer(usize::from(*offered) * 64);
    }
    while let Some((length, after)) = rest.split_first() {
        let (block, after) = after.split_at(after.len().min(usize::from(*length)));
        rest = after;
        let block = Bytes::copy_from_slice(block);
        let fields = whole.decode(&block, ALL);
        let some = short.decode(&block, 64);
        let Ok(fields) = fields else {
            assert!(some.is_err(), "{some:?}");
            return;
        };
        let some = some.expect("the other reads it");
        assert!(!fields.is_oversize && (some.is_oversize || some.list == fields.list), "{some:?}, {fields:?}");
        let written = encode(&fields.list).freeze();
        assert_eq!(Decoder::default().decode(&written, ALL).as_ref(), Ok(&fields));
    }
}
