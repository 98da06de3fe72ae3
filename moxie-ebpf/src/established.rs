//! The handover: what connect() remembered of the application's socket becomes known of the socket that the agent accepts.
//!
//! The announcement is made before the SYN leaves, and adopted before accept() can return, so the agent never waits for it and
//! never finds another connection's: each connect writes its own key anew. It may be gone when the handshake goes on: adopted by an
//! earlier connection from that port, whose last ACK came late, or taken out for its age. So it is made good before the ACK leaves.

use core::ffi::c_void;
use core::ptr::read_volatile;

use aya_ebpf::bindings::{
    BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_TCP_CONNECT_CB, bpf_sock,
};
use aya_ebpf::programs::SockOpsContext;
use aya_log_ebpf::debug;
use moxie_common::{Address, Counter, HandshakeKey, Mark};

use crate::{maps, scope};

/// The hooks' answer; these operations ignore it.
const DONE: u32 = 0;
const AF_INET: u32 = 2;

/// A scope's socket is about to send its SYN (its source port is known now), or the ACK that ends its handshake.
#[inline(always)]
pub fn announce(ctx: &SockOpsContext) -> u32 {
    let begins = match operation(ctx) {
        BPF_SOCK_OPS_TCP_CONNECT_CB => true,
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => false,
        _ => return DONE,
    };
    let socket = socket(ctx);
    if socket.is_null() {
        return DONE;
    }
    let Some(origin) = maps::origin(socket.cast::<c_void>()) else { return DONE };
    // Both are read in any case, here and below: LLVM merges the reads of two branches into one through a computed pointer, which
    // the verifier refuses.
    let (v4, v6) = (local_v4(ctx), local_v6(ctx));
    let source = if origin.address.is_v4() { v4 } else { v6 };
    let key = HandshakeKey::new(origin.listener, source, local_port(ctx), remote_port(ctx));
    if begins {
        maps::count(if maps::begin(&key, origin) { Counter::Announced } else { Counter::NotAnnounced });
    } else if maps::go_on(&key, origin, scope::now_ms()) {
        maps::count(Counter::AnnouncedAgain);
    }
    DONE
}

/// A connection to the agent is complete, and not yet accepted. The socket has inherited its listener's mark.
#[inline(always)]
pub fn adopt(ctx: &SockOpsContext) -> u32 {
    if operation(ctx) != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB {
        return DONE;
    }
    let socket = socket(ctx);
    if socket.is_null() {
        return DONE;
    }
    // SAFETY: not null; a field that may be read on every supported kernel.
    let mark = Mark(unsafe { read_volatile(&raw const (*socket).mark) });
    if !mark.is_moxie() {
        return DONE;
    }
    let (v4, v6) = (remote_v4(ctx), remote_v6(ctx));
    let source = if family(ctx) == AF_INET { v4 } else { v6 };
    let key = HandshakeKey::new(mark.identity(), source, remote_port(ctx), local_port(ctx));
    maps::count(hand_over(&key, socket.cast()));
    debug!(ctx, "listener {} accepted from port {}", local_port(ctx), remote_port(ctx));
    DONE
}

#[inline(always)]
fn hand_over(key: &HandshakeKey, accepted: *mut c_void) -> Counter {
    // SAFETY: the entry is rewritten only by a connect from the same source port, which this handshake holds.
    let Some(origin) = (unsafe { maps::HANDSHAKES.get(key) }) else { return Counter::NoHandshake };
    let remembered = maps::remember(accepted, origin);
    maps::end(key);
    if remembered { Counter::HandedOver } else { Counter::NotHandedOver }
}

#[inline(always)]
fn operation(ctx: &SockOpsContext) -> u32 {
    // SAFETY: a field of the context, as in all that follow.
    unsafe { read_volatile(&raw const (*ctx.ops).op) }
}

#[inline(always)]
fn family(ctx: &SockOpsContext) -> u32 {
    // SAFETY: see above.
    unsafe { read_volatile(&raw const (*ctx.ops).family) }
}

#[inline(always)]
fn socket(ctx: &SockOpsContext) -> *mut bpf_sock {
    // SAFETY: see above.
    unsafe { read_volatile(&raw const (*ctx.ops).__bindgen_anon_2.sk) }
}

/// In host order, as the kernel gives it.
#[inline(always)]
fn local_port(ctx: &SockOpsContext) -> u16 {
    // SAFETY: see above.
    unsafe { read_volatile(&raw const (*ctx.ops).local_port) as u16 }
}

/// The kernel gives this one in network order, in the half of the word that comes first in memory on big-endian machines.
#[inline(always)]
fn remote_port(ctx: &SockOpsContext) -> u16 {
    // SAFETY: see above.
    u32::from_be(unsafe { read_volatile(&raw const (*ctx.ops).remote_port) }) as u16
}

#[inline(always)]
fn local_v4(ctx: &SockOpsContext) -> Address {
    // SAFETY: see above.
    Address::v4(unsafe { read_volatile(&raw const (*ctx.ops).local_ip4) })
}

#[inline(always)]
fn remote_v4(ctx: &SockOpsContext) -> Address {
    // SAFETY: see above.
    Address::v4(unsafe { read_volatile(&raw const (*ctx.ops).remote_ip4) })
}

#[inline(always)]
fn local_v6(ctx: &SockOpsContext) -> Address {
    // SAFETY: see above.
    Address(scope::words(unsafe { &raw const (*ctx.ops).local_ip6 }))
}

#[inline(always)]
fn remote_v6(ctx: &SockOpsContext) -> Address {
    // SAFETY: see above.
    Address(scope::words(unsafe { &raw const (*ctx.ops).remote_ip6 }))
}
