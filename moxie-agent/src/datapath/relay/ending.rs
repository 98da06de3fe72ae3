//! How the end of one side becomes the end of the other.

use std::io;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::datapath::downstream::reset;

/// A client that has ended its direction, and is silent for this long, is asked whether it is still there. Linux forgets a socket
/// whose program has closed it after this time (`net.ipv4.tcp_fin_timeout`).
const SILENCE: Duration = Duration::from_secs(60);

/// `linux/sockios.h`; the libc crate does not have it.
const SIOCOUTQNSD: libc::Ioctl = 0x894B;

/// What a socket that the runtime calls broken broke off with.
pub(super) fn cause(stream: &TcpStream) -> io::Error {
    // Whoever has read or written since has been told already.
    stream.take_error().ok().flatten().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
}

/// Ends the side whose other side broke off: by RST. Only where it has been told of the other's end before (`is_closed`), and has not
/// been sent all that came before that, is it left to the kernel, which sends the rest and answers whatever comes back with RST.
pub(super) fn follow(stream: TcpStream, is_closed: bool) {
    if is_closed && unsent(&stream) > 0 {
        return drop(stream);
    }
    reset(stream);
}

/// Has the kernel find out whether the program of a half-open connection is still there. It says nothing when it closes a socket that
/// it has shut down before; without this, the connection would stay for as long as the destination does.
pub(in crate::datapath) fn ask_whether_there(downstream: &TcpStream) {
    // A socket that takes no option is gone already.
    let _ = SockRef::from(downstream).set_tcp_keepalive(&TcpKeepalive::new().with_time(SILENCE));
}

/// Bytes written that wait to be sent; the end counts as one.
fn unsent(stream: &TcpStream) -> libc::c_int {
    let mut count = 0;
    // SAFETY: SIOCOUTQNSD writes one int, and `count` is one that outlives the call.
    let asked = unsafe { libc::ioctl(stream.as_raw_fd(), SIOCOUTQNSD, &raw mut count) };
    if asked == 0 { count } else { 0 }
}
