//! connect(): remembers where the application wanted to go, and points the socket at the agent.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::{bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_getsockopt};
use aya_ebpf::programs::SockAddrContext;
use aya_log_ebpf::debug;
use moxie_common::{Address, Counter, Origin};

use crate::{maps, scope};

/// The hook's answer that lets the call go on.
pub const ALLOW: i32 = 1;
/// The hook's answer that fails the call with EPERM.
pub const REFUSE: i32 = 0;

/// `IPPROTO_TCP`.
const TCP: u32 = 6;
/// `IPPROTO_UDP`.
pub const UDP: u32 = 17;

/// Socket options, as `level` and `name`: `SOL_IP`/`IP_TOS` and `SOL_IPV6`/`IPV6_TCLASS`.
const TOS_V4: (i32, i32) = (0, 1);
const TOS_V6: (i32, i32) = (41, 67);

/// connect() of an IPv4 socket.
#[inline(always)]
pub fn v4(ctx: &SockAddrContext) -> i32 {
    let destination = scope::destination_v4(ctx);
    if protocol(ctx) == TCP
        && let Some(port) = divert(ctx, &destination)
    {
        // SAFETY: fields of the context that this hook may write, one word each.
        unsafe {
            write_volatile(&raw mut (*ctx.sock_addr).user_ip4, Address::LOCALHOST_V4.0[3]);
            write_volatile(&raw mut (*ctx.sock_addr).user_port, u32::from(port.to_be()));
        }
    }
    ALLOW
}

/// connect() of an IPv6 socket; a v4-mapped destination goes to the IPv4 listener, in its v4-mapped form.
#[inline(always)]
pub fn v6(ctx: &SockAddrContext) -> i32 {
    let destination = scope::destination_v6(ctx);
    if protocol(ctx) == TCP
        && let Some(port) = divert(ctx, &destination)
    {
        let localhost = if destination.is_v4() { Address::LOCALHOST_V4 } else { Address::LOCALHOST_V6 };
        // SAFETY: fields of the context that this hook may write, one word each.
        unsafe {
            let words = (&raw mut (*ctx.sock_addr).user_ip6).cast::<u32>();
            write_volatile(words, localhost.0[0]);
            write_volatile(words.add(1), localhost.0[1]);
            write_volatile(words.add(2), localhost.0[2]);
            write_volatile(words.add(3), localhost.0[3]);
            write_volatile(&raw mut (*ctx.sock_addr).user_port, u32::from(port.to_be()));
        }
    }
    ALLOW
}

/// Of the context's socket: `IPPROTO_TCP` and the like.
#[inline(always)]
pub fn protocol(ctx: &SockAddrContext) -> u32 {
    // SAFETY: a field of the context.
    unsafe { read_volatile(&raw const (*ctx.sock_addr).protocol) }
}

/// The listener port to connect to instead (host order), once the original destination is remembered.
#[inline(always)]
fn divert(ctx: &SockAddrContext, destination: &Address) -> Option<u16> {
    let port = scope::destination_port(ctx);
    let socket = scope::socket(ctx);
    let listener = match scope::listener_for(ctx, destination, port) {
        Ok(listener) => listener,
        Err(reason) => {
            maps::count(reason);
            if !is_diverted_already(destination, port) {
                maps::forget(socket.cast());
            }
            return None;
        }
    };
    // SAFETY: helpers without arguments, and a field of the context's socket.
    let origin = unsafe {
        Origin {
            address: *destination,
            port: u32::from(port.to_be()),
            mark: read_volatile(&raw const (*socket).mark),
            cgroup_id: bpf_get_current_cgroup_id(),
            pid: (bpf_get_current_pid_tgid() >> 32) as u32,
            listener: listener.mark.identity(),
            source: scope::source(socket),
            tos: type_of_service(ctx, destination),
            began_ms: scope::now_ms(),
        }
    };
    if !maps::remember(socket.cast(), &origin) {
        maps::count(Counter::NoStorage);
        return None;
    }
    maps::count(Counter::Diverted);
    debug!(ctx, "diverted port {} of pid {} to listener {}", port, origin.pid, listener.port);
    Some(listener.port)
}

/// What the application had set of it. The kernel tells an IPv6 socket's traffic class only, which says nothing of IPv4 packets: 0 for
/// v4-mapped destinations.
#[inline(always)]
fn type_of_service(ctx: &SockAddrContext, destination: &Address) -> u32 {
    let is_inet = scope::family(scope::socket(ctx)) == scope::AF_INET;
    if !is_inet && destination.is_v4() {
        return 0;
    }
    let (level, name) = if is_inet { TOS_V4 } else { TOS_V6 };
    let mut value = 0_i32;
    // SAFETY: writes four bytes, zeroes where it refuses.
    unsafe { bpf_getsockopt(ctx.as_ptr(), level, name, (&raw mut value).cast(), size_of::<i32>() as i32) };
    value as u32 & 0xff
}

/// Of two nested scopes, the inner one's hook runs first; the outer one's then sees the listener as destination, and must not
/// forget what the inner one remembered.
#[inline(always)]
fn is_diverted_already(destination: &Address, port: u16) -> bool {
    destination.is_loopback() && maps::control().is_some_and(|control| control.is_listener_port(port))
}
