//! What DNS answers tell: anyone who answers a service's resolver writes them.

use moxie_agent::divert::ebpf::hints::Heard;
use moxie_agent::divert::ebpf::hints::answer::{Reading, read};

/// Bytes of an item before the message: place, tag, length, whether it was counted.
const HEAD: [u32; 4] = [1, 0, 0, 1];

/// An answer that is cut tells of no address, whole ones tell of no more than they may, and of the name that was asked for.
pub(crate) fn dns_answer(message: &[u8]) {
    if let Reading::Whole(told) = read(message, false) {
        assert!(told.names.len() <= 16 && told.addresses.len() <= 64, "{told:?}");
        let asked = told.names.first().expect("the name that was asked for");
        assert_eq!(read(message, true), Reading::Partly(asked.clone()));
        for (address, _) in &told.addresses {
            assert_eq!(address.to_canonical(), *address);
        }
        for name in &told.names {
            assert_eq!(*name, name.to_lowercase());
        }
    }
    for end in [message.len() / 2, message.len().saturating_sub(1)] {
        assert!(!matches!(read(&message[..end], true), Reading::Whole(_)));
    }
    let mut item: Vec<u8> = HEAD.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let length = u32::try_from(message.len()).expect("a few bytes");
    item[8..12].copy_from_slice(&length.to_ne_bytes());
    item.extend(message);
    let heard = Heard::of(&item).map(|heard| heard.read());
    let expected = match message.len() {
        0 => Reading::Garbled,
        1..=1024 => read(message, false),
        _ => read(&message[..1024], true),
    };
    assert_eq!(heard, Some(expected));
    // As it comes from the kernel, whatever its head says.
    let _ = Heard::of(message).map(|heard| heard.read());
}
