//! The first HTTP/1 request head (RFC 9112), read from peeked bytes.

use super::Progress;

/// What the agent wants to know of the first request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Authority the client asked for: of an absolute-form target, else of the Host header; as sent.
    pub authority: Option<String>,
}

/// Parses the first bytes of a connection.
#[must_use]
pub fn parse(bytes: &[u8]) -> Progress<Head> {
    let _ = bytes;
    todo!()
}
