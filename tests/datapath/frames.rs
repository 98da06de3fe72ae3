//! HTTP/2 as octets: frames written and read by hand, so that nothing is said but what a test wants said.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::agent::{Agent, BOUND};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
/// END_STREAM, or ACK.
pub const END: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const WITH_PRIORITY: u8 = 0x20;

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A block of literal fields that no table keeps.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// A whole request without a body.
pub fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END | END_HEADERS, stream, &head("GET", path))
}

/// The fields of a request to the host of these tests.
pub fn head(method: &str, path: &str) -> Vec<u8> {
    block(&[(":method", method), (":scheme", "http"), (":path", path), (":authority", "h2.example")])
}

/// SETTINGS of these values.
pub fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        values.iter().flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    frame(SETTINGS, 0, 0, &payload)
}

/// A frame that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The number that the payload begins with, after `skip` octets.
    pub fn word(&self, skip: usize) -> u32 {
        u32::from_be_bytes(self.payload[skip..skip + 4].try_into().unwrap())
    }
}

/// One end of a connection.
pub struct Wire(pub TcpStream);

impl Wire {
    /// A client of the agent's, which has sent its preface, SETTINGS of `values`, and `more`.
    pub async fn client(agent: &Agent, values: &[(u16, u32)], more: &[u8]) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the test is the application, not the agent")]
        let mut wire = Self(TcpStream::connect(agent.door).await.unwrap());
        wire.send(&[PREFACE, &settings(values), more].concat()).await;
        wire
    }

    pub async fn send(&mut self, octets: &[u8]) {
        timeout(BOUND, self.0.write_all(octets)).await.expect("it takes what is sent").unwrap();
    }

    /// Reads exactly `expected`.
    pub async fn expect(&mut self, expected: &[u8], what: &str) {
        let mut read = vec![0; expected.len()];
        timeout(BOUND, self.0.read_exact(&mut read)).await.unwrap_or_else(|_| panic!("{what} did not come")).unwrap();
        assert_eq!(read, expected, "{what}");
    }

    /// The next frame; `None` once the connection has ended.
    pub async fn next(&mut self) -> Option<Frame> {
        timeout(BOUND, self.read()).await.expect("a frame, or the end").ok()
    }

    async fn read(&mut self) -> std::io::Result<Frame> {
        Self::read_from(&mut self.0).await
    }

    /// The next frame of one half.
    pub async fn read_from(from: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<Frame> {
        let mut head = [0; 9];
        from.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        from.read_exact(&mut payload).await?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Ok(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame of a kind.
    pub async fn next_of(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.next().await.expect("the connection still stands");
            if frame.kind == kind {
                return frame;
            }
        }
    }
}
