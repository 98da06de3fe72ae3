//! DNS answers that a cgroup gets: copied to the agent, and counted where it has to look at them before what is known counts again.

use core::arch::asm;
use core::ptr::{addr_of_mut, read_volatile, write_volatile};

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use aya_ebpf::programs::SkBuffContext;
use moxie_common::hints::{ANSWER_BYTES, Answer, HASH_START, LONGEST_NAME, QUESTION_AT, QuestionKey, hash_byte};
use moxie_common::{Counter, Share, share};

use crate::{maps, scope};

/// The hook's answer that lets the packet go on.
const PASS: i32 = 1;
/// `ETH_P_IP` and `ETH_P_IPV6`.
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// `IPPROTO_TCP` and `IPPROTO_UDP`.
const TCP: u8 = 6;
const UDP: u8 = 17;
const DNS_PORT: u16 = 53;
const UDP_HEADER: u32 = 8;
/// Bytes of an IPv4 header without options, and of an IPv6 header.
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
/// The longest name's closing byte is not hashed.
const HASHED: usize = LONGEST_NAME - 1;

/// What came from port 53.
struct Message {
    is_tcp: bool,
    /// Where in the packet it begins.
    at: u32,
}

/// A packet for a socket of a cgroup.
#[inline(always)]
pub fn arrived(ctx: &SkBuffContext) -> i32 {
    if let Some(message) = dns(ctx) {
        copy(ctx, &message);
    }
    PASS
}

/// Every packet comes here, so what is none is told by one look, or two.
#[inline(always)]
fn dns(ctx: &SkBuffContext) -> Option<Message> {
    // SAFETY: a field of the context.
    let family = u16::from_be(unsafe { read_volatile(&raw const (*ctx.skb.skb).protocol) } as u16);
    let (protocol, header, port) = if family == IPV4 {
        let head: [u8; IPV4_HEADER + 2] = ctx.load(0).ok()?;
        let header = u32::from(head[0] & 0xf) * 4;
        let port = u16::from_be_bytes([head[IPV4_HEADER], head[IPV4_HEADER + 1]]);
        (head[9], header, if header == IPV4_HEADER as u32 { port } else { load_port(ctx, header)? })
    } else if family == IPV6 {
        let head: [u8; IPV6_HEADER + 2] = ctx.load(0).ok()?;
        (head[6], IPV6_HEADER as u32, u16::from_be_bytes([head[IPV6_HEADER], head[IPV6_HEADER + 1]]))
    } else {
        return None;
    };
    let is_tcp = protocol == TCP;
    ((is_tcp || protocol == UDP) && port == DNS_PORT).then_some(Message { is_tcp, at: header + UDP_HEADER })
}

#[inline(always)]
fn load_port(ctx: &SkBuffContext, at: u32) -> Option<u16> {
    ctx.load::<[u8; 2]>(at as usize).ok().map(u16::from_be_bytes)
}

#[inline(always)]
fn copy(ctx: &SkBuffContext, message: &Message) {
    let Share { of, place } = maps::share();
    if of != share::NAMED || place == 0 {
        return;
    }
    // Where there is no listener nothing is diverted, so nothing has to be known.
    let Some(tag) = scope::tag_of(ctx.as_ptr()) else { return };
    let Some(mut entry) = maps::ANSWERS.reserve(0) else {
        maps::count(Counter::AnswerLost);
        maps::ask(place);
        return;
    };
    let answer: *mut Answer = entry.as_mut_ptr();
    // SAFETY: the whole entry is this program's until it is submitted; it is written through its fields only, never read before.
    let loaded = unsafe {
        write_volatile(addr_of_mut!((*answer).place), place);
        write_volatile(addr_of_mut!((*answer).tag), tag);
        let length = if message.is_tcp { Some(0) } else { load(ctx, message.at, addr_of_mut!((*answer).bytes).cast()) };
        write_volatile(addr_of_mut!((*answer).length), length.unwrap_or(0));
        length
    };
    // SAFETY: written by `load` as far as `length` says, and read no further.
    let is_known = loaded.is_some_and(|length| length > 0 && unsafe { is_known(answer, length, place) });
    // SAFETY: as above.
    unsafe { write_volatile(addr_of_mut!((*answer).counted), u32::from(!is_known)) };
    entry.submit(0);
    // After it is there: the agent may be late to look, never early. Before the application can see it.
    if !is_known {
        maps::ask(place);
    }
}

/// Copies the message; how long it is.
///
/// # Safety
/// `to` has room for [`ANSWER_BYTES`].
#[inline(always)]
unsafe fn load(ctx: &SkBuffContext, at: u32, to: *mut u8) -> Option<u32> {
    // SAFETY: a field of the context.
    let whole = unsafe { read_volatile(&raw const (*ctx.skb.skb).len) };
    let length = whole.checked_sub(at)?;
    if length <= QUESTION_AT as u32 {
        return None;
    }
    let mut copied = if length > ANSWER_BYTES as u32 { ANSWER_BYTES as u64 } else { u64::from(length) };
    // SAFETY: arithmetic on a register: the verifier of every kernel then knows that it is from 1 to ANSWER_BYTES, which LLVM
    // would otherwise prove and leave out.
    unsafe { asm!("{0} += -1", "{0} &= 1023", "{0} += 1", inout(reg) copied) };
    // SAFETY: by the caller's promise there is room for as much.
    let loaded = unsafe { bpf_skb_load_bytes(ctx.as_ptr().cast(), at, to.cast(), copied as u32) };
    (loaded == 0).then_some(length)
}

/// Whether the question was found to be about no rule's name under the present rules.
///
/// # Safety
/// `answer` has been loaded.
#[inline(always)]
unsafe fn is_known(answer: *mut Answer, length: u32, place: u32) -> bool {
    let (mut hash, mut left) = (HASH_START, 0_u32);
    let end = length as usize;
    let mut at = QUESTION_AT;
    while at < QUESTION_AT + HASHED {
        if at >= end {
            return false;
        }
        // SAFETY: inside the bytes, which have more room than the longest name takes.
        let byte = unsafe { read_volatile(addr_of_mut!((*answer).bytes).cast::<u8>().add(at)) };
        if left == 0 {
            if byte == 0 {
                return maps::is_known_question(&QuestionKey { name: hash, place: u64::from(place) });
            }
            if byte >= 0xc0 {
                return false;
            }
            left = u32::from(byte);
        } else {
            left -= 1;
        }
        hash = hash_byte(hash, byte);
        at += 1;
    }
    false
}
