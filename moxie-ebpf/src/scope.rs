//! Which connections are diverted: every condition, in order, cheapest first.

use core::ffi::c_void;
use core::ptr::read_volatile;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{
    bpf_sock, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2,
};
use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_prandom_u32, bpf_ktime_get_ns, bpf_sk_lookup_tcp, bpf_sk_release,
};
use aya_ebpf::programs::SockAddrContext;
use moxie_common::hints::HintKey;
use moxie_common::{Address, Control, Counter, Mark, PORTS_PER_LISTENER_SET, Share, listed, reach, share};

use crate::maps;

/// `BPF_TCP_LISTEN`.
const LISTEN: u32 = 10;
/// `BPF_F_CURRENT_NETNS`: the namespace of the context's socket.
const CURRENT_NETNS: u64 = u64::MAX;
/// `AF_INET`.
pub const AF_INET: u32 = 2;

/// A listener of the agent's in the application's network namespace.
pub struct Listener {
    pub port: u16,
    pub mark: Mark,
}

/// Where the context's socket is to go, if it is an IPv4 socket.
#[inline(always)]
pub fn destination_v4(ctx: &SockAddrContext) -> Address {
    // SAFETY: a field of the context.
    Address::v4(unsafe { read_volatile(&raw const (*ctx.sock_addr).user_ip4) })
}

/// Where the context's socket is to go, if it is an IPv6 socket.
#[inline(always)]
pub fn destination_v6(ctx: &SockAddrContext) -> Address {
    // SAFETY: the address of a field of the context; nothing is read here.
    Address(words(unsafe { &raw const (*ctx.sock_addr).user_ip6 }))
}

/// The port the context's socket is to go to, in host order.
#[inline(always)]
pub fn destination_port(ctx: &SockAddrContext) -> u16 {
    // SAFETY: a field of the context; only the lower half is used.
    u16::from_be(unsafe { read_volatile(&raw const (*ctx.sock_addr).user_port) } as u16)
}

/// The context's socket.
#[inline(always)]
pub fn socket(ctx: &SockAddrContext) -> *mut bpf_sock {
    // SAFETY: a field of the context, always set for these hooks.
    unsafe { read_volatile(&raw const (*ctx.sock_addr).__bindgen_anon_1.sk) }
}

/// Four words of a context, one access each.
#[inline(always)]
pub fn words(field: *const [u32; 4]) -> [u32; 4] {
    let field = field.cast::<u32>();
    // SAFETY: callers pass a field of a context, four words long.
    unsafe {
        [read_volatile(field), read_volatile(field.add(1)), read_volatile(field.add(2)), read_volatile(field.add(3))]
    }
}

/// The listener that a connection from the context's socket to `destination` goes to, or why it goes direct.
#[inline(always)]
pub fn listener_for(ctx: &SockAddrContext, destination: &Address, port: u16) -> Result<Listener, Counter> {
    if !maps::is_wanted(port) {
        return Err(Counter::OtherPort);
    }
    if destination.exclusion(port).is_some() {
        return Err(Counter::ExcludedDestination);
    }
    let share = maps::share();
    if share.of == share::NOTHING {
        return Err(Counter::NoRule);
    }
    let control = maps::control().ok_or(Counter::Disabled)?;
    agent_is_willing(control)?;
    if maps::verdict_on(destination, control) != listed::ALLOWED {
        return Err(Counter::ExcludedAddress);
    }
    caller_is_another(control)?;
    socket_is_free(socket(ctx), destination)?;
    let listener = find_listener(ctx, destination.is_v4(), control)?;
    if share.of == share::NAMED && is_known(share, listener.mark, destination, control) {
        return Err(Counter::KnownName);
    }
    if maps::has_room(control) { Ok(listener) } else { Err(Counter::HandshakesFull) }
}

#[inline(always)]
fn is_known(share: Share, mark: Mark, destination: &Address, control: &Control) -> bool {
    let key = HintKey { place: share.place, tag: mark.tag_index(), address: *destination };
    // SAFETY: takes nothing.
    maps::is_known_address(&key, control, unsafe { bpf_ktime_get_ns() })
}

/// The tag of the agent's listeners in the namespace of the context's socket or packet.
#[inline(always)]
pub fn tag_of(ctx: *mut c_void) -> Option<u32> {
    let control = maps::control()?;
    let mark = listening_mark(ctx, true, control.first_port as u16)?;
    (mark.is_moxie() && maps::reach(mark) != 0).then(|| mark.tag_index())
}

/// The lower half of `CLOCK_MONOTONIC` in milliseconds.
#[inline(always)]
pub fn now_ms() -> u32 {
    // SAFETY: takes nothing.
    (unsafe { bpf_ktime_get_ns() } / 1_000_000) as u32
}

#[inline(always)]
fn agent_is_willing(control: &Control) -> Result<(), Counter> {
    if control.enabled == 0 {
        return Err(Counter::Disabled);
    }
    // SAFETY: takes nothing.
    let now = unsafe { bpf_ktime_get_ns() };
    if now.saturating_sub(control.last_beat_ns) > control.max_age_ns {
        return Err(Counter::NotBeating);
    }
    Ok(())
}

/// What the agent dials is not to come back to it, whatever its cgroup was put under and whatever mark the socket carries.
#[inline(always)]
fn caller_is_another(control: &Control) -> Result<(), Counter> {
    // SAFETY: takes nothing. Never 0.
    if unsafe { bpf_get_current_cgroup_id() } == control.agent_cgroup { Err(Counter::AgentsOwn) } else { Ok(()) }
}

/// Family of a socket, from which the context's programs may read it on every supported kernel.
#[inline(always)]
pub fn family(socket: *const bpf_sock) -> u32 {
    // SAFETY: the context's socket.
    unsafe { read_volatile(&raw const (*socket).family) }
}

/// The address that a socket is bound to; unspecified if it is not.
#[inline(always)]
pub fn source(socket: *const bpf_sock) -> Address {
    // SAFETY: the context's socket. Both addresses are read in any case: LLVM merges the reads of two branches into one through a
    // computed pointer, which the verifier refuses.
    let (v4, v6) = unsafe {
        (Address::v4(read_volatile(&raw const (*socket).src_ip4)), Address(words(&raw const (*socket).src_ip6)))
    };
    if family(socket) == AF_INET { v4 } else { v6 }
}

/// Loopback must be reachable from the socket as it is bound, and the socket must not be the agent's own.
#[inline(always)]
fn socket_is_free(socket: *const bpf_sock, destination: &Address) -> Result<(), Counter> {
    // SAFETY: the context's socket; these fields may be read on every supported kernel.
    let (mark, device) =
        unsafe { (read_volatile(&raw const (*socket).mark), read_volatile(&raw const (*socket).bound_dev_if)) };
    if Mark(mark).is_moxie() {
        return Err(Counter::Exempt);
    }
    if device != 0 {
        return Err(Counter::BoundDevice);
    }
    let source = source(socket);
    let is_of_other_family = source.is_v4() != destination.is_v4() && !source.is_unspecified();
    if source.is_loopback() || is_of_other_family { Err(Counter::LoopbackSource) } else { Ok(()) }
}

/// Chooses one of the listeners and checks that it is there: an agent that is dead, or an application that squats on the port,
/// must never cost a connection.
#[inline(always)]
fn find_listener(ctx: &SockAddrContext, v4: bool, control: &Control) -> Result<Listener, Counter> {
    // SAFETY: takes nothing.
    let choice = unsafe { bpf_get_prandom_u32() } & u32::from(PORTS_PER_LISTENER_SET - 1);
    let port = (control.first_port + choice) as u16;
    let mark = listening_mark(ctx.as_ptr(), v4, port).ok_or(Counter::NoListener)?;
    let reached = if mark.is_moxie() { maps::reach(mark) } else { 0 };
    let (wanted, lack) = if v4 { (reach::V4, Counter::NoListener) } else { (reach::V6, Counter::NoRouteV6) };
    if reached == 0 {
        // A stranger's, or another agent's.
        return Err(Counter::NoListener);
    }
    if reached & wanted == 0 {
        return Err(lack);
    }
    Ok(Listener { port, mark })
}

/// The mark of the socket that listens on loopback at `port`, in the namespace of the context's socket.
#[inline(always)]
fn listening_mark(ctx: *mut c_void, v4: bool, port: u16) -> Option<Mark> {
    let found = if v4 {
        let ipv4 = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 {
            saddr: 0,
            daddr: Address::LOCALHOST_V4.0[3],
            sport: 0,
            dport: port.to_be(),
        };
        lookup(ctx, &raw const ipv4)
    } else {
        let ipv6 = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 {
            saddr: [0; 4],
            daddr: Address::LOCALHOST_V6.0,
            sport: 0,
            dport: port.to_be(),
        };
        lookup(ctx, &raw const ipv6)
    };
    if found.is_null() {
        return None;
    }
    // SAFETY: not null; read before the reference is given back, which the verifier wants done exactly once.
    let (mark, state) = unsafe {
        let seen = (read_volatile(&raw const (*found).mark), read_volatile(&raw const (*found).state));
        bpf_sk_release(found.cast());
        seen
    };
    (state == LISTEN).then_some(Mark(mark))
}

/// `T` is one of the two forms of `bpf_sock_tuple`; the helper tells them apart by their sizes.
#[inline(always)]
fn lookup<T>(ctx: *mut c_void, tuple: *const T) -> *mut bpf_sock {
    // SAFETY: a whole tuple, only read; the helper's prototype has no const.
    unsafe { bpf_sk_lookup_tcp(ctx, tuple.cast_mut().cast(), size_of::<T>() as u32, CURRENT_NETNS, 0) }
}
