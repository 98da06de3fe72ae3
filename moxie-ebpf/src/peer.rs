//! getpeername(): the application still sees where it wanted to go.

use core::ptr::write_volatile;

use aya_ebpf::programs::SockAddrContext;
use moxie_common::{Address, Counter, Origin};

use crate::connect::ALLOW;
use crate::{maps, scope};

/// getpeername() of an IPv4 socket.
#[inline(always)]
pub fn v4(ctx: &SockAddrContext) -> i32 {
    if let Some(origin) = original(ctx, scope::destination_v4(ctx)) {
        // SAFETY: fields of the context that this hook may write, one word each.
        unsafe {
            write_volatile(&raw mut (*ctx.sock_addr).user_ip4, origin.address.0[3]);
            write_volatile(&raw mut (*ctx.sock_addr).user_port, origin.port);
        }
    }
    ALLOW
}

/// getpeername() of an IPv6 socket; a v4-mapped destination was remembered as one.
#[inline(always)]
pub fn v6(ctx: &SockAddrContext) -> i32 {
    if let Some(origin) = original(ctx, scope::destination_v6(ctx)) {
        // SAFETY: fields of the context that this hook may write, one word each.
        unsafe {
            let words = (&raw mut (*ctx.sock_addr).user_ip6).cast::<u32>();
            write_volatile(words, origin.address.0[0]);
            write_volatile(words.add(1), origin.address.0[1]);
            write_volatile(words.add(2), origin.address.0[2]);
            write_volatile(words.add(3), origin.address.0[3]);
            write_volatile(&raw mut (*ctx.sock_addr).user_port, origin.port);
        }
    }
    ALLOW
}

/// What is remembered of the socket, if its peer is a listener of the agent's.
#[inline(always)]
fn original<'a>(ctx: &SockAddrContext, peer: Address) -> Option<&'a Origin> {
    let control = maps::control()?;
    if !peer.is_loopback() || !control.is_listener_port(scope::destination_port(ctx)) {
        return None;
    }
    let origin = maps::origin(scope::socket(ctx).cast())?;
    maps::count(Counter::PeerShown);
    Some(origin)
}
