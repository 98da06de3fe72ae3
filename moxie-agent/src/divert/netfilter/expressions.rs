//! Expressions of nftables: what a rule is made of, and the bytes that the kernel takes them in. Layouts: `linux/netfilter/nf_tables.h`.

use crate::netlink::Request;

/// `NFTA_LIST_ELEM`.
const ELEMENT: u16 = 1;
/// `NFTA_EXPR_NAME`, `NFTA_EXPR_DATA`.
const NAME: u16 = 1;
const DATA: u16 = 2;
/// `NFTA_DATA_VALUE`, `NFTA_DATA_VERDICT`.
const VALUE: u16 = 1;
const VERDICT: u16 = 2;
/// `NFT_REG_VERDICT`, and the two registers of 16 bytes that are used here.
const VERDICT_REGISTER: u32 = 0;
const REGISTER: u32 = 1;
const SECOND_REGISTER: u32 = 2;
/// `NFT_RETURN`, `NFT_GOTO`, `NF_DROP`, as the kernel reads them: in two's complement.
const RETURN: u32 = (-5_i32).cast_unsigned();
const GOTO: u32 = (-4_i32).cast_unsigned();
const DROP: u32 = 0;
/// `NFT_OBJECT_COUNTER`.
pub(super) const COUNTER_OBJECT: u32 = 1;
/// `NFT_SOCKET_CGROUPV2`.
const SOCKET_CGROUP: u32 = 3;
/// `NFT_CT_STATE`.
const CONNECTION_STATE: u32 = 0;

/// Where bytes are read from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Header {
    /// IPv4's or IPv6's.
    Network = 1,
    /// TCP's or UDP's.
    Transport = 2,
}

/// What is known of a packet beside its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Meta {
    /// The mark, which is the socket's; four bytes in the host's order.
    Mark = 3,
    /// `NFPROTO_IPV4` or `NFPROTO_IPV6`; one byte.
    Family = 15,
    /// `IPPROTO_TCP` and others; one byte.
    Protocol = 16,
}

/// Whether what is looked for has to be there.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sense {
    /// It has.
    Is = 0,
    /// It must not be.
    IsNot = 1,
}

/// One step of a rule. Those that compare end the rule where the comparison fails.
#[derive(Clone, Debug)]
pub(super) enum Expression {
    /// Reads what is known of the packet.
    Meta(Meta),
    /// Reads bytes of a header.
    Payload(Header, u32, u32),
    /// Reads the id of the socket's cgroup, or of its ancestor at this depth.
    Cgroup(u32),
    /// Reads the state of the connection that the packet belongs to.
    ConnectionState,
    /// Keeps only these bits of what was read.
    Mask(Vec<u8>),
    /// Compares what was read.
    Compare(Sense, Vec<u8>),
    /// Looks what was read up in a set.
    Lookup(Sense, String),
    /// Adds to a counter that has a name.
    Count(&'static str),
    /// Ends this chain.
    Return,
    /// Goes on in another chain, for good.
    Goto(&'static str),
    /// Refuses the packet; whoever sends it gets EPERM.
    Drop,
    /// Points the connection at loopback, at one of the ports between these.
    Redirect(u16, u16),
}

impl Expression {
    /// Writes it as an element of a rule's list.
    pub(super) fn write(&self, list: &mut Request) {
        match self {
            Self::Meta(key) => element(list, "meta", |data| {
                data.be32(1, REGISTER);
                data.be32(2, *key as u32);
            }),
            Self::Payload(header, offset, length) => element(list, "payload", |data| {
                data.be32(1, REGISTER);
                data.be32(2, *header as u32);
                data.be32(3, *offset);
                data.be32(4, *length);
            }),
            Self::Cgroup(level) => element(list, "socket", |data| {
                data.be32(1, SOCKET_CGROUP);
                data.be32(2, REGISTER);
                data.be32(3, *level);
            }),
            Self::ConnectionState => element(list, "ct", |data| {
                data.be32(1, REGISTER);
                data.be32(2, CONNECTION_STATE);
            }),
            Self::Mask(mask) => write_mask(list, mask),
            Self::Compare(sense, value) => element(list, "cmp", |data| {
                data.be32(1, REGISTER);
                data.be32(2, *sense as u32);
                data.nested(3, |operand| operand.attribute(VALUE, value));
            }),
            Self::Lookup(sense, set) => element(list, "lookup", |data| {
                data.text(1, set);
                data.be32(2, REGISTER);
                data.be32(5, *sense as u32);
            }),
            Self::Count(name) => element(list, "objref", |data| {
                data.be32(1, COUNTER_OBJECT);
                data.text(2, name);
            }),
            Self::Return => write_verdict(list, RETURN, None),
            Self::Goto(chain) => write_verdict(list, GOTO, Some(chain)),
            Self::Drop => write_verdict(list, DROP, None),
            Self::Redirect(first, last) => write_redirect(list, *first, *last),
        }
    }
}

/// A counter for each element of a set, which counts every lookup that finds it.
pub(super) fn write_counter(request: &mut Request, kind: u16) {
    request.nested(kind, |expression| {
        expression.text(NAME, "counter");
        expression.nested(DATA, |_| ());
    });
}

fn element(list: &mut Request, name: &str, data: impl FnOnce(&mut Request)) {
    list.nested(ELEMENT, |expression| {
        expression.text(NAME, name);
        expression.nested(DATA, data);
    });
}

fn write_mask(list: &mut Request, mask: &[u8]) {
    element(list, "bitwise", |data| {
        data.be32(1, REGISTER);
        data.be32(2, REGISTER);
        data.be32(3, u32::try_from(mask.len()).unwrap_or_default());
        data.nested(4, |operand| operand.attribute(VALUE, mask));
        data.nested(5, |operand| operand.attribute(VALUE, &vec![0; mask.len()]));
    });
}

fn write_verdict(list: &mut Request, code: u32, chain: Option<&str>) {
    write_immediate(list, VERDICT_REGISTER, |operand| {
        operand.nested(VERDICT, |verdict| {
            verdict.be32(1, code);
            if let Some(chain) = chain {
                verdict.text(2, chain);
            }
        });
    });
}

fn write_redirect(list: &mut Request, first: u16, last: u16) {
    for (register, port) in [(REGISTER, first), (SECOND_REGISTER, last)] {
        write_immediate(list, register, |operand| operand.attribute(VALUE, &port.to_be_bytes()));
    }
    element(list, "redir", |data| {
        data.be32(1, REGISTER);
        data.be32(2, SECOND_REGISTER);
    });
}

fn write_immediate(list: &mut Request, register: u32, operand: impl FnOnce(&mut Request)) {
    element(list, "immediate", |data| {
        data.be32(1, register);
        data.nested(2, operand);
    });
}
