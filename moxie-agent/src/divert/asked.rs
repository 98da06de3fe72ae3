//! What a client asks of an explicit proxy, which is told a name where other ways on path find an address.

use std::net::{Ipv4Addr, SocketAddr};

/// How a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// CONNECT: a tunnel to one destination. It waits for a 200 before it says more.
    Tunnel,
    /// Requests in absolute-form (RFC 9112 section 3.2.2), each naming its destination; the first of them is still unread.
    Requests,
}

/// What the client of an explicit proxy asked for first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// How it asked.
    pub form: Form,
    /// The name or address, as it was spelt, without brackets.
    pub host: String,
    /// The port that was named, or the scheme's own.
    pub port: u16,
    /// Where the proxy found the name, best first; empty where nothing is known of it.
    pub addresses: Vec<SocketAddr>,
}

impl Asked {
    /// The address to show for it: the first, or none at all (`0.0.0.0`).
    #[must_use]
    pub fn destination(&self) -> SocketAddr {
        self.addresses.first().copied().unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, self.port)))
    }

    /// The host as a URL spells it: IPv6 addresses in brackets.
    #[must_use]
    pub fn url_host(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }
}
