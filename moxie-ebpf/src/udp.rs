//! UDP to port 443: refused where TCP would be diverted, so that HTTP/3 clients fall back to TCP. Only on scopes that ask for it.

use aya_ebpf::programs::SockAddrContext;
use aya_log_ebpf::debug;
use moxie_common::{Address, Counter};

use crate::connect::{self, ALLOW, REFUSE};
use crate::{maps, scope};

const QUIC_PORT: u16 = 443;

/// Whether a connect may go on; one of TCP may, whatever its port.
#[inline(always)]
pub fn connecting(ctx: &SockAddrContext, destination: Address) -> i32 {
    if connect::protocol(ctx) == connect::UDP { sending(ctx, destination) } else { ALLOW }
}

/// Whether a datagram to `destination` may be sent.
#[inline(always)]
pub fn sending(ctx: &SockAddrContext, destination: Address) -> i32 {
    if scope::destination_port(ctx) != QUIC_PORT || scope::listener_for(ctx, &destination, QUIC_PORT).is_err() {
        return ALLOW;
    }
    maps::count(Counter::QuicRefused);
    maps::count_refused();
    debug!(ctx, "refused UDP to port {}", QUIC_PORT);
    REFUSE
}
