//! What the kernel half and the user-space half share: map keys and values, names, counters, and the one predicate that both run.
//!
//! Every type here is read on one side from memory that the other side wrote, so each is `repr(C)`, has no padding, and has its
//! size asserted where it is declared.
#![no_std]

mod address;
mod counter;
pub mod hints;
mod mark;
pub mod names;
mod values;

pub use address::{Address, Exclusion};
pub use counter::Counter;
pub use mark::{Mark, Tag};
pub use values::{
    ADDRESS_ENTRIES, AddressKey, Control, HandshakeKey, Origin, PORT_WORDS, PORTS_PER_LISTENER_SET, Share, UnderWay,
    listed, port_bit, reach, share,
};
