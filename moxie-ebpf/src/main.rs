//! The kernel half: entry points only, one for each hook; what they do is in the module each one calls.
//!
//! ```text
//! on a scope      connect4|6      connect       in scope? -> remember the original destination, point the socket at the agent
//!                 sock_ops        established   announce the connection before its SYN leaves, and again before its ACK if that has gone
//!                 getpeername4|6  peer          the application still sees the original destination
//! where rules are cgroup_skb      answer        DNS answers are copied to the agent
//! if asked to     connect4|6      udp           refuse QUIC
//!                 sendmsg4|6      udp           refuse QUIC
//! on the agent    sock_ops        established   adopt the announced connection before it can be accepted
//! ```
//! Helpers are those of Linux 5.10. Contexts are read and written through volatile accesses only: LLVM would merge them into
//! accesses of other widths or through other pointers, which the verifier refuses.
#![no_std]
#![no_main]
// Both toolchains that build this take unstable features: one is nightly, the other is told to.
#![feature(asm_experimental_arch)]

mod answer;
mod connect;
mod established;
mod maps;
mod peer;
mod scope;
mod udp;

use aya_ebpf::macros::{cgroup_skb, cgroup_sock_addr, sock_ops};
use aya_ebpf::programs::{SkBuffContext, SockAddrContext, SockOpsContext};

#[cgroup_sock_addr(connect4)]
fn moxie_connect4(ctx: SockAddrContext) -> i32 {
    connect::v4(&ctx)
}

#[cgroup_sock_addr(connect6)]
fn moxie_connect6(ctx: SockAddrContext) -> i32 {
    connect::v6(&ctx)
}

#[cgroup_sock_addr(getpeername4)]
fn moxie_peer4(ctx: SockAddrContext) -> i32 {
    peer::v4(&ctx)
}

#[cgroup_sock_addr(getpeername6)]
fn moxie_peer6(ctx: SockAddrContext) -> i32 {
    peer::v6(&ctx)
}

#[cgroup_sock_addr(connect4)]
fn moxie_quic4(ctx: SockAddrContext) -> i32 {
    udp::connecting(&ctx, scope::destination_v4(&ctx))
}

#[cgroup_sock_addr(connect6)]
fn moxie_quic6(ctx: SockAddrContext) -> i32 {
    udp::connecting(&ctx, scope::destination_v6(&ctx))
}

#[cgroup_sock_addr(sendmsg4)]
fn moxie_sendmsg4(ctx: SockAddrContext) -> i32 {
    udp::sending(&ctx, scope::destination_v4(&ctx))
}

#[cgroup_sock_addr(sendmsg6)]
fn moxie_sendmsg6(ctx: SockAddrContext) -> i32 {
    udp::sending(&ctx, scope::destination_v6(&ctx))
}

#[sock_ops]
fn moxie_announce(ctx: SockOpsContext) -> u32 {
    established::announce(&ctx)
}

#[sock_ops]
fn moxie_adopt(ctx: SockOpsContext) -> u32 {
    established::adopt(&ctx)
}

#[cgroup_skb(ingress)]
fn moxie_answer(ctx: SkBuffContext) -> i32 {
    answer::arrived(&ctx)
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The verifier gives GPL-only helpers to programs that say so.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
