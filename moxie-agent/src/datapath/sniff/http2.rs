//! The HTTP/2 connection preface with prior knowledge (RFC 9113 section 3.4), read from peeked bytes.
//!
//! The peeked bytes are played to an in-memory server of the `h2` crate, so that this page needs no frame or HPACK decoder of its
//! own and reads a request exactly as the rest of the data path would.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Progress;

/// What a client with prior knowledge sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Largest header list read; a larger one stays unread, and the caller's bound ends the wait.
const MAX_HEADER_LIST: u32 = 64 * 1024;

/// What the agent wants to know of the first request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// `:authority` of the first request; none if the client waits for the server before it asks.
    pub authority: Option<String>,
}

/// Parses the first bytes of a connection. `Partial` while the preface or the first HEADERS are incomplete.
#[must_use]
pub fn parse(bytes: &[u8]) -> Progress<Head> {
    let known = bytes.len().min(PREFACE.len());
    if bytes.get(..known) != PREFACE.get(..known) {
        return Progress::Other;
    }
    // An empty peek, a cut preface or a preface alone hold no request.
    if bytes.len() <= PREFACE.len() {
        return Progress::Partial;
    }
    match first_request(Peeked(bytes)) {
        Poll::Ready(Some(request)) => Progress::Done(Head { authority: authority(&request) }),
        Poll::Ready(None) => Progress::Other,
        Poll::Pending => Progress::Partial,
    }
}

/// The first request; none if the frames break the protocol.
///
/// One poll is enough: every read is answered at once until the bytes end, and only then does the server wait.
fn first_request(peeked: Peeked<'_>) -> Poll<Option<http::Request<()>>> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut server = h2::server::Builder::new();
    server.max_header_list_size(MAX_HEADER_LIST);
    let mut connection = match pin!(server.handshake::<_, bytes::Bytes>(peeked)).poll(&mut cx) {
        Poll::Ready(Ok(connection)) => connection,
        Poll::Ready(Err(_)) => return Poll::Ready(None),
        Poll::Pending => return Poll::Pending,
    };
    connection.poll_accept(&mut cx).map(|accepted| {
        let (request, _respond) = accepted?.ok()?;
        Some(request.map(drop))
    })
}

/// `:authority`, else Host (RFC 9113 section 8.3.1); user information makes it none, as in HTTP/1.
fn authority(request: &http::Request<()>) -> Option<String> {
    let host = || request.headers().get(http::header::HOST).and_then(|host| host.to_str().ok());
    let authority = request.uri().authority().map(http::uri::Authority::as_str).or_else(host)?;
    (!authority.is_empty() && !authority.contains('@')).then(|| authority.to_owned())
}

/// A connection whose other side has sent some bytes, may send more, and takes whatever it is given.
struct Peeked<'a>(&'a [u8]);

impl AsyncRead for Peeked<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let length = buf.remaining().min(self.0.len());
        let Some((now, later)) = self.0.split_at_checked(length).filter(|(now, _)| !now.is_empty()) else {
            return Poll::Pending;
        };
        buf.put_slice(now);
        self.0 = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Peeked<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
    }

    /// A field without indexing, its name by its index in the static table (RFC 7541 section 6.2.2).
    fn field(index: u8, value: &str) -> Vec<u8> {
        let index: &[u8] = if index < 15 { &[index] } else { &[15, index - 15] };
        [index, &[u8::try_from(value.len()).unwrap()], value.as_bytes()].concat()
    }

    /// Preface, SETTINGS, WINDOW_UPDATE, then HEADERS and CONTINUATION of `GET https:/` with `more` fields.
    fn session(more: &[u8]) -> Vec<u8> {
        let block = [&[0x82, 0x84, 0x87], more].concat();
        let (first, second) = block.split_at(block.len() / 2);
        let window = frame(8, 0, 0, &[0, 1, 0, 0]);
        [PREFACE, &frame(4, 0, 0, &[]), &window, &frame(1, 1, 1, first), &frame(9, 4, 1, second)].concat()
    }

    fn done(authority: Option<&str>) -> Progress<Head> {
        Progress::Done(Head { authority: authority.map(str::to_owned) })
    }

    #[test]
    fn the_authority_of_the_first_request_is_found() {
        let check = |more: &[u8], expected: Option<&str>| assert_eq!(parse(&session(more)), done(expected));
        check(&field(1, "api.customer.io:8443"), Some("api.customer.io:8443"));
        check(&field(38, "b.example"), Some("b.example"));
        check(&[field(1, "a.example"), field(38, "b.example")].concat(), Some("a.example"));
        check(&[], None);
    }

    #[test]
    fn every_prefix_is_partial_and_what_follows_changes_nothing() {
        let session = session(&field(1, "a.example"));
        for end in 0..session.len() {
            assert_eq!(parse(&session[..end]), Progress::Partial, "{end} of {}", session.len());
        }
        let second = frame(1, 5, 3, &[&[0x82, 0x84, 0x87][..], &field(1, "b.example")].concat());
        assert_eq!(parse(&[session, second].concat()), done(Some("a.example")));
    }

    #[test]
    fn many_frames_before_the_request_do_not_hide_it() {
        let pings: Vec<u8> = (0..500).flat_map(|_| frame(6, 0, 0, &[0; 8])).collect();
        let session = session(&field(1, "a.example"));
        let (head, tail) = session.split_at(PREFACE.len() + 9);
        assert_eq!(parse(&[head, &pings, tail].concat()), done(Some("a.example")));
    }

    #[test]
    fn what_is_not_this_protocol_is_refused() {
        let check = |bytes: &[u8]| assert_eq!(parse(bytes), Progress::Other, "{bytes:?}");
        check(b"G");
        check(b"PRI * HTTP/1");
        check(b"PRI * HTTP/2.0\r\n\r\nSX");
        check(&[PREFACE, &frame(4, 0, 0, &[0; 5])].concat()); // SETTINGS come in sixes
        check(&[PREFACE, &frame(4, 0, 0, &[]), &frame(1, 5, 1, &[0xff; 12])].concat()); // HPACK index beyond the tables
    }

    proptest! {
        #[test]
        fn random_bytes_after_the_preface_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&[PREFACE, &bytes].concat());
            let _ = parse(&[PREFACE, &frame(4, 0, 0, &[]), &bytes].concat());
        }
    }
}
