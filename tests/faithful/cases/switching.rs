//! Other protocols after, or instead of, HTTP/1.

use super::ends::{CLIENT, FINISH, ORIGIN};
use super::{Case, GET, OK, case, pattern};
use crate::script::Close;

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: api.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("websocket", |s| {
            s.asks(UPGRADE).answers(SWITCHED);
            for _ in 0..5 {
                s.asks(b"\x81\x84\x01\x02\x03\x04sdpp").answers(b"\x81\x04text");
            }
            s.asks(b"\x88\x82\x01\x02\x03\x04\x02\xea").answers(b"\x88\x02\x03\xe8").closes(ORIGIN, FINISH);
        }),
        case("websocket-data-with-the-switch", |s| {
            s.asks(UPGRADE).answers([SWITCHED.as_bytes(), b"\x81\x05hello"].concat()).asks(b"\x81\x80\0\0\0\0");
        }),
        case("websocket-large-messages", |s| {
            s.asks(UPGRADE).answers(SWITCHED).asks(pattern(500_000)).answers(pattern(700_000));
        }),
        case("websocket-reset", |s| {
            s.asks(UPGRADE).answers(SWITCHED).answers(b"\x81\x04text").closes(ORIGIN, Close::Reset);
        }),
        case("websocket-half-close", |s| {
            s.asks(UPGRADE).answers(SWITCHED).closes(ORIGIN, FINISH).asks(b"\x88\x80\0\0\0\0").closes(CLIENT, FINISH);
        }),
        case("data-before-the-switch", |s| {
            s.asks([UPGRADE.as_bytes(), b"\x81\x80\0\0\0\0"].concat())
                .answers(SWITCHED)
                .answers(b"\x81\x02ok")
                .asks("more");
        }),
        case("upgrade-refused", |s| {
            s.asks(UPGRADE).answers("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").asks(GET).answers(OK);
        }),
        case("upgrade-ignored", |s| {
            s.asks(UPGRADE).answers(OK).asks(GET).answers(OK);
        }),
        case("upgrade-to-something-unknown", |s| {
            s.asks("POST /x HTTP/1.1\r\nHost: api.example\r\nConnection: upgrade\r\nUpgrade: TCP\r\n\r\n")
                .answers("HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
                .answers("\x01\0\0\0\0\0\0\x03out")
                .asks("in")
                .closes(CLIENT, FINISH)
                .answers("\x01\0\0\0\0\0\0\x03end");
        }),
        case("upgrade-after-interim", |s| {
            s.asks(UPGRADE)
                .answers("HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n")
                .answers(SWITCHED)
                .asks("a")
                .answers("b");
        }),
        case("h2c-upgrade", |s| {
            s.asks("GET / HTTP/1.1\r\nHost: api.example\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n")
                .answers(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n\0\0\0\x04\0\0\0\0\0")
                .asks(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
                .answers(b"\0\0\0\x04\x01\0\0\0\0");
        }),
        case("h2c-upgrade-ignored", |s| {
            s.asks("GET / HTTP/1.1\r\nHost: api.example\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n")
                .answers(OK);
        }),
        case("a-switch-nobody-asked-for", |s| {
            s.asks(GET)
                .answers("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
                .answers("hi")
                .asks("ho");
        }),
        case("connect-to-an-origin", |s| {
            s.asks("CONNECT other.example:443 HTTP/1.1\r\nHost: api.example\r\n\r\n")
                .answers("HTTP/1.1 200 OK\r\n\r\n")
                .asks("\x16\x03\x01 anything")
                .answers("anything back")
                .closes(CLIENT, FINISH);
        })
        .opaque(),
        case("connect-refused-by-an-origin", |s| {
            s.asks("CONNECT api.example:443 HTTP/1.1\r\nHost: api.example:443\r\n\r\n")
                .answers("HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 2\r\n\r\nno")
                .asks(GET)
                .answers(OK);
        }),
    ]
}
