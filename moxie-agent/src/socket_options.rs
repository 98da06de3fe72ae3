//! Options of the sockets that carry a service's bytes, the same on both sides. The service's own cannot be seen from outside.

use std::os::fd::AsFd;

use socket2::SockRef;

/// Prepares a socket to be one half of somebody else's connection, or a listener whose connections are to be: they inherit all of
/// this.
///
/// - `TCP_NODELAY`: whoever sent the bytes has decided already when they go.
/// - `SO_KEEPALIVE`, with the times of the socket's namespace (`net.ipv4.tcp_keepalive_*`, two hours and more unless changed): a peer
///   that is gone for good holds no socket for good. No `TCP_USER_TIMEOUT`: it would also end a connection whose reader pauses for
///   longer, which directly goes on; bytes that nobody acknowledges are given up after `net.ipv4.tcp_retries2` anyway.
/// - `SO_OOBINLINE`: an urgent byte is passed on in its place, as a byte like any other, instead of being lost.
pub fn carry(socket: &impl AsFd) {
    let socket = SockRef::from(socket);
    // Only a socket that is already dead refuses; reading from it will tell.
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_keepalive(true);
    let _ = socket.set_out_of_band_inline(true);
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn what_is_accepted_has_the_options_of_its_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        carry(&listener);
        #[expect(clippy::disallowed_methods, reason = "a client of this test's own, on loopback")]
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let socket = SockRef::from(&accepted);
        let options = [socket.tcp_nodelay(), socket.keepalive(), socket.out_of_band_inline()].map(Result::unwrap);
        assert_eq!(options, [true; 3]);
    }
}
