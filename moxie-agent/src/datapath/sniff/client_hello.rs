//! The TLS ClientHello (RFC 8446 section 4.1.2, RFC 6066 section 3, RFC 7301), read from peeked bytes.

use super::Progress;

/// What the agent wants to know of a ClientHello.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// Server name, lower-cased, without a trailing dot; none if the client sent none or not a valid DNS name.
    pub server_name: Option<String>,
    /// Application protocols in the client's order; empty if it sent none.
    pub alpn: Vec<Vec<u8>>,
}

/// Parses the first bytes of a connection. Handles a hello split over any number of records; GREASE is skipped.
#[must_use]
pub fn parse(bytes: &[u8]) -> Progress<ClientHello> {
    let _ = bytes;
    todo!()
}
