//! A transaction of nftables: changes that the kernel makes all at once, or not at all.
//!
//! Attributes are given by number, each message's in the order of its `enum nft_*_attributes` in `linux/netfilter/nf_tables.h`.

use std::io;

use crate::netlink::{ACK, APPEND, Answer, CREATE, DUMP, Netlink, Request};

use super::expressions::{COUNTER_OBJECT, Expression, write_counter};

/// `NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`.
const BEGIN: u16 = 16;
const END: u16 = 17;
/// `NFNL_SUBSYS_NFTABLES`.
const NFTABLES: u16 = 10;
/// `NFPROTO_INET`: IPv4 and IPv6.
const INET: u8 = 1;

/// `NFT_MSG_*`.
const NEW_TABLE: u16 = 0;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const NEW_SET: u16 = 9;
const NEW_ELEMENTS: u16 = 12;
const GET_ELEMENTS: u16 = 13;
const DELETE_ELEMENTS: u16 = 14;
const NEW_OBJECT: u16 = 18;
const GET_OBJECTS: u16 = 19;

/// `NFT_TABLE_F_OWNER`: the table is the socket's, and goes with it.
const OWNED: u32 = 2;
/// `NFT_SET_TIMEOUT`.
const TIMEOUT: u32 = 0x10;
/// `NF_INET_LOCAL_OUT`.
const LOCAL_OUT: u32 = 3;
/// `NFTA_LIST_ELEM`.
const ELEMENT: u16 = 1;
/// Elements that go into one message: an attribute is no longer than 64 KiB.
const ELEMENTS_AT_ONCE: usize = 1024;

/// What the kernel refused, and why.
#[derive(Debug)]
pub(super) struct Refused {
    /// What was to be done: "make the table".
    pub(super) operation: &'static str,
    /// What the kernel said.
    pub(super) source: io::Error,
}

/// A base chain: what the kernel hands to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hook {
    /// `nat` or `filter`.
    pub(super) kind: &'static str,
    /// Lower is earlier.
    pub(super) priority: i32,
}

/// Changes to one table.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    table: &'a str,
    request: Request,
    /// What each message after the first does.
    operations: Vec<&'static str>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(table: &'a str) -> Self {
        let mut request = Request::default();
        request.message(BEGIN, 0, 0, &header(0, NFTABLES), |_| ());
        Self { table, request, operations: Vec::new() }
    }

    /// The table itself, owned by the socket that this is sent from.
    pub(super) fn table(mut self) -> Self {
        let table = self.table;
        self.add("make the table", NEW_TABLE, CREATE, |message| {
            message.text(1, table);
            message.be32(2, OWNED);
        });
        self
    }

    /// A chain that every packet goes through that leaves the host's own sockets.
    pub(super) fn base_chain(mut self, name: &str, hook: Hook) -> Self {
        let table = self.table;
        self.add("make a base chain", NEW_CHAIN, CREATE, |message| {
            message.text(1, table);
            message.text(3, name);
            message.nested(4, |place| {
                place.be32(1, LOCAL_OUT);
                place.be32(2, hook.priority.cast_unsigned());
            });
            message.text(7, hook.kind);
        });
        self
    }

    /// A chain that rules go to.
    pub(super) fn chain(mut self, name: &str) -> Self {
        let table = self.table;
        self.add("make a chain", NEW_CHAIN, CREATE, |message| {
            message.text(1, table);
            message.text(3, name);
        });
        self
    }

    /// A rule, after those that the chain has.
    pub(super) fn rule(mut self, chain: &str, expressions: &[Expression]) -> Self {
        let table = self.table;
        self.add("make a rule (nft_socket, nft_redir, nft_ct)", NEW_RULE, CREATE | APPEND, |message| {
            message.text(1, table);
            message.text(2, chain);
            message.nested(4, |list| expressions.iter().for_each(|expression| expression.write(list)));
        });
        self
    }

    /// Several rules.
    pub(super) fn rules(self, chain: &str, rules: &[Vec<Expression>]) -> Self {
        rules.iter().fold(self, |batch, rule| batch.rule(chain, rule))
    }

    /// A set of keys of this length.
    pub(super) fn set(self, name: &str, key_length: u32) -> Self {
        self.set_with(name, key_length, |_| ())
    }

    /// A set whose elements count the lookups that find them.
    pub(super) fn counting_set(self, name: &str, key_length: u32) -> Self {
        self.set_with(name, key_length, |message| write_counter(message, 17))
    }

    /// A set whose elements end by themselves.
    pub(super) fn passing_set(self, name: &str, key_length: u32) -> Self {
        self.set_with(name, key_length, |message| message.be32(3, TIMEOUT))
    }

    fn set_with(mut self, name: &str, key_length: u32, fill: impl FnOnce(&mut Request)) -> Self {
        let table = self.table;
        // Needed only where a rule of the same batch names a set by its number.
        let id = u32::try_from(self.operations.len()).unwrap_or(u32::MAX);
        self.add("make a set", NEW_SET, CREATE, |message| {
            message.text(1, table);
            message.text(2, name);
            message.be32(5, key_length);
            message.be32(10, id);
            fill(message);
        });
        self
    }

    /// Keys into a set; with `milliseconds` each ends by itself after so long.
    pub(super) fn add_elements(mut self, set: &str, keys: &[Vec<u8>], milliseconds: Option<u64>) -> Self {
        let table = self.table;
        for keys in keys.chunks(ELEMENTS_AT_ONCE) {
            self.add("add to a set", NEW_ELEMENTS, CREATE, |message| {
                write_elements(message, table, set, keys, milliseconds);
            });
        }
        self
    }

    /// One key out of a set.
    pub(super) fn remove_element(mut self, set: &str, key: Vec<u8>) -> Self {
        let table = self.table;
        self.add("remove from a set", DELETE_ELEMENTS, 0, |message| {
            write_elements(message, table, set, &[key], None);
        });
        self
    }

    /// Every key out of a set; there need be none.
    pub(super) fn empty_set(mut self, set: &str) -> Self {
        let table = self.table;
        self.add("empty a set", DELETE_ELEMENTS, 0, |message| {
            message.text(1, table);
            message.text(2, set);
        });
        self
    }

    /// A counter with a name.
    pub(super) fn counter(mut self, name: &str) -> Self {
        let table = self.table;
        self.add("make a counter (nft_objref)", NEW_OBJECT, CREATE, |message| {
            message.text(1, table);
            message.text(2, name);
            message.be32(3, COUNTER_OBJECT);
            message.nested(4, |_| ());
        });
        self
    }

    fn add(&mut self, operation: &'static str, kind: u16, flags: u16, fill: impl FnOnce(&mut Request)) {
        self.operations.push(operation);
        let sequence = u32::try_from(self.operations.len()).unwrap_or(u32::MAX);
        self.request.message(message_type(kind), flags, sequence, &header(INET, 0), fill);
    }

    /// Has the kernel do all of it.
    pub(super) fn commit(mut self, netlink: &Netlink) -> Result<(), Refused> {
        // Only this one is acknowledged: a long batch would have more acknowledgements than there is room for.
        self.acknowledge_last();
        let sequence = u32::try_from(self.operations.len()).unwrap_or(u32::MAX);
        self.request.message(END, 0, sequence.saturating_add(1), &header(0, NFTABLES), |_| ());
        let (mut is_done, mut refused) = (false, None);
        let sent = netlink.exchange(self.request.bytes(), |number, answer| match answer {
            Answer::Refused(source) => {
                let index = usize::try_from(number).unwrap_or(usize::MAX).checked_sub(1);
                let operation = index.and_then(|index| self.operations.get(index)).copied();
                refused.get_or_insert(Refused { operation: operation.unwrap_or("begin a change"), source });
            }
            Answer::Acknowledged if number == sequence => is_done = true,
            Answer::Acknowledged | Answer::Done | Answer::Content(_) => {}
        });
        match (sent, refused) {
            (Err(source), _) => Err(Refused { operation: "send a change", source }),
            (Ok(()), Some(refused)) => Err(refused),
            (Ok(()), None) if is_done => Ok(()),
            (Ok(()), None) => {
                let source = io::Error::new(io::ErrorKind::UnexpectedEof, "the kernel did not answer");
                Err(Refused { operation: "make a change", source })
            }
        }
    }

    fn acknowledge_last(&mut self) {
        self.request.flag_last(ACK);
    }
}

/// Asks for every counter of a table that has a name.
pub(super) fn counters(table: &str) -> Request {
    dump(GET_OBJECTS, |message| {
        message.text(1, table);
        message.be32(3, COUNTER_OBJECT);
    })
}

/// Asks for every element of a set.
pub(super) fn elements(table: &str, set: &str) -> Request {
    dump(GET_ELEMENTS, |message| {
        message.text(1, table);
        message.text(2, set);
    })
}

fn dump(kind: u16, fill: impl FnOnce(&mut Request)) -> Request {
    let mut request = Request::default();
    request.message(message_type(kind), DUMP, 1, &header(INET, 0), fill);
    request
}

fn write_elements(message: &mut Request, table: &str, set: &str, keys: &[Vec<u8>], milliseconds: Option<u64>) {
    message.text(1, table);
    message.text(2, set);
    message.nested(3, |elements| {
        for key in keys {
            elements.nested(ELEMENT, |element| {
                element.nested(1, |data| data.attribute(1, key));
                if let Some(milliseconds) = milliseconds {
                    element.be64(4, milliseconds);
                }
            });
        }
    });
}

const fn message_type(kind: u16) -> u16 {
    NFTABLES << 8 | kind
}

/// `struct nfgenmsg`: family, version 0, resource.
fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}
