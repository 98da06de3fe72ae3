//! The HTTP/2 connection preface with prior knowledge (RFC 9113 section 3.4), read from peeked bytes.

use super::Progress;

/// What the agent wants to know of the first request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// `:authority` of the first request; none if the client waits for the server before it asks.
    pub authority: Option<String>,
}

/// Parses the first bytes of a connection. `Partial` while the preface or the first HEADERS are incomplete.
#[must_use]
pub fn parse(bytes: &[u8]) -> Progress<Head> {
    let _ = bytes;
    todo!()
}
