//! The application: a process that does what it is told on its standard input, one line at a time.

use std::io::{self, BufRead as _, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use nix::errno::Errno;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

/// Before every answer: the test harness writes to the same standard output.
pub(crate) const ANSWER: &str = "answer: ";
/// For a peer that never answers; far above what any answer takes here.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers until standard input ends.
pub(crate) fn serve() {
    let mut begun = Vec::new();
    for line in io::stdin().lock().lines() {
        let answer = obey(&line.unwrap(), &mut begun).unwrap_or_else(|error| format!("error {:?}", errno(&error)));
        let mut out = io::stdout().lock();
        writeln!(out, "\n{ANSWER}{answer}").unwrap();
        out.flush().unwrap();
    }
}

fn obey(line: &str, begun: &mut Vec<Socket>) -> io::Result<String> {
    let words: Vec<&str> = line.split(' ').collect();
    match words.as_slice() {
        ["tcp", destination, options @ ..] => tcp(destination.parse().unwrap(), options),
        ["mptcp", destination] => {
            let destination: SocketAddr = destination.parse().unwrap();
            let socket = Socket::new(Domain::for_address(destination), Type::STREAM, Some(Protocol::MPTCP))?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.connect(&destination.into())?;
            converse(socket)
        }
        ["again", first, second] => again(first.parse().unwrap(), second.parse().unwrap()),
        ["udp-connect", destination] => udp(destination.parse().unwrap(), |socket, to| {
            socket.connect(&to.into())?;
            socket.send(b"hello")
        }),
        ["udp-send", destination] => {
            udp(destination.parse().unwrap(), |socket, to| socket.send_to(b"hello", &to.into()))
        }
        ["flood", destination, count, end] => {
            flood(destination.parse().unwrap(), count.parse().unwrap(), *end == "rst")
        }
        ["begin", destination] => begin(destination.parse().unwrap(), begun),
        ["end"] => Ok(end(std::mem::take(begun))),
        ["abandon"] => Ok(format!("abandoned {}", std::mem::take(begun).len())),
        _ => panic!("what is {line:?}?"),
    }
}

/// Begins to connect, and goes on to do something else.
fn begin(destination: SocketAddr, begun: &mut Vec<Socket>) -> io::Result<String> {
    let socket = stream(destination)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&destination.into()) {
        Err(error) if errno(&error) != Errno::EINPROGRESS => return Err(error),
        Ok(()) | Err(_) => begun.push(socket),
    }
    Ok("begun".into())
}

/// What each connection that was begun is told, in order and one after the other.
fn end(begun: Vec<Socket>) -> String {
    let told = |socket: Socket| {
        socket.set_nonblocking(false)?;
        let mut said = String::new();
        TcpStream::from(socket).read_to_string(&mut said)?;
        Ok(said)
    };
    let told = begun.into_iter().map(|socket| told(socket).unwrap_or_else(|error: io::Error| format!("{error}")));
    told.collect::<Vec<_>>().join(" ")
}

fn stream(destination: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(destination), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn tcp(destination: SocketAddr, options: &[&str]) -> io::Result<String> {
    let socket = stream(destination)?;
    for option in options {
        match option.split_once('=').unwrap() {
            ("bind", address) => socket.bind(&SocketAddr::new(address.parse::<IpAddr>().unwrap(), 0).into())?,
            ("device", name) => socket.bind_device(Some(name.as_bytes()))?,
            ("tos", tos) if destination.is_ipv4() => socket.set_tos_v4(tos.parse().unwrap())?,
            ("tos", class) => socket.set_tclass_v6(class.parse().unwrap())?,
            ("mark", mark) => socket.set_mark(mark.parse().unwrap())?,
            _ => panic!("what is {option:?}?"),
        }
    }
    socket.connect(&destination.into())?;
    converse(socket)
}

/// Connects, dissolves the association as connect(2) allows, and connects elsewhere.
fn again(first: SocketAddr, second: SocketAddr) -> io::Result<String> {
    let socket = stream(first)?;
    socket.connect(&first.into())?;
    // SAFETY: all zeroes is an address of the family AF_UNSPEC, which has no more than its family.
    let unspecified =
        unsafe { SockAddr::new(SockAddrStorage::zeroed(), size_of::<libc::sockaddr>() as libc::socklen_t) };
    socket.connect(&unspecified)?;
    socket.connect(&second.into())?;
    converse(socket)
}

fn converse(socket: Socket) -> io::Result<String> {
    let mut stream = TcpStream::from(socket);
    let peer = stream.peer_addr()?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(format!("peer {peer} said {said}"))
}

fn udp(to: SocketAddr, send: impl Fn(&Socket, SocketAddr) -> io::Result<usize>) -> io::Result<String> {
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP))?;
    send(&socket, to)?;
    Ok("sent".into())
}

fn flood(destination: SocketAddr, count: usize, with_rst: bool) -> io::Result<String> {
    for _ in 0..count {
        let socket = stream(destination)?;
        socket.connect(&destination.into())?;
        if with_rst {
            socket.set_linger(Some(Duration::ZERO))?;
        }
    }
    Ok(format!("connected {count}"))
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}
