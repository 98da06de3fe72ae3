//! UDP to port 443: refused if asked to, where TCP would be diverted, so that HTTP/3 clients fall back to TCP.

use aya_ebpf::programs::SockAddrContext;
use aya_log_ebpf::debug;
use moxie_common::{Address, Counter};

use crate::connect::{ALLOW, REFUSE};
use crate::{maps, scope};

const QUIC_PORT: u16 = 443;

/// Whether a UDP connect or send to `destination` may go on.
#[inline(always)]
pub fn verdict(ctx: &SockAddrContext, destination: Address) -> i32 {
    if scope::destination_port(ctx) != QUIC_PORT || !maps::control().is_some_and(|control| control.refuse_quic != 0) {
        return ALLOW;
    }
    if scope::listener_for(ctx, &destination, QUIC_PORT).is_err() {
        return ALLOW;
    }
    maps::count(Counter::QuicRefused);
    debug!(ctx, "refused UDP to port {}", QUIC_PORT);
    REFUSE
}
