//! What a proxy answers instead of serving: a status, and in words what to do.

use http::StatusCode;

/// Why a client is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bytes are no HTTP/1.
    #[error("this is an HTTP proxy, and these bytes are no HTTP/1 request; send CONNECT host:port for anything else")]
    NotHttp,
    /// A request as a server gets it.
    #[error("this is an HTTP proxy: ask for http://host/path, or send CONNECT host:port")]
    NotForAProxy,
    /// The target names nobody.
    #[error("{target:?} names no destination: write host:port, or http://host/path")]
    NoDestination {
        /// As it was sent.
        target: String,
    },
    /// A character that the HTTP library does not take in a target, though some servers do.
    #[error("{barred:?} cannot stand in a target that goes through this proxy: write it percent-encoded, %{:02X}", u32::from(*barred))]
    Barred {
        /// The first such character of the path or the query.
        barred: char,
    },
    /// A scheme that the proxy does not speak.
    #[error("{scheme} is not spoken here in the clear: send CONNECT host:port")]
    Scheme {
        /// As it was sent.
        scheme: String,
    },
    /// The head does not fit.
    #[error("the head of the request is too large")]
    TooLarge,
    /// The head did not come.
    #[error("the request did not come in time")]
    Silent,
    /// The client is another user's.
    #[error("this proxy serves the user with id {own} only, not {uid}")]
    Stranger {
        /// The client's user.
        uid: u32,
        /// The agent's.
        own: u32,
    },
    /// The destination is the agent itself.
    #[error("the destination is one of Moxie's own sockets")]
    OwnSocket,
    /// The name stands for no address.
    #[error("{host} was not found")]
    NotFound {
        /// The name.
        host: String,
    },
    /// The destination refused, or is not there.
    #[error("{host} could not be reached: {why}")]
    Unreachable {
        /// The name.
        host: String,
        /// What the kernel said.
        why: String,
    },
    /// The destination broke off without an answer.
    #[error("{host} broke off without an answer")]
    NoAnswer {
        /// The name.
        host: String,
    },
    /// The destination's answer cannot be passed on.
    #[error("the answer of {host} is no HTTP/1 that can be passed on")]
    Unreadable {
        /// The name.
        host: String,
    },
    /// The destination did not answer the dial.
    #[error("{host} did not answer in time")]
    TooSlow {
        /// The name.
        host: String,
    },
}

impl Refusal {
    /// The status that says so.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotHttp
            | Self::NotForAProxy
            | Self::NoDestination { .. }
            | Self::Barred { .. }
            | Self::Scheme { .. } => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Silent => StatusCode::REQUEST_TIMEOUT,
            Self::Stranger { .. } | Self::OwnSocket => StatusCode::FORBIDDEN,
            Self::NotFound { .. } | Self::Unreachable { .. } | Self::NoAnswer { .. } | Self::Unreadable { .. } => {
                StatusCode::BAD_GATEWAY
            }
            Self::TooSlow { .. } => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The whole answer, after which the connection is closed.
    #[must_use]
    pub fn message(&self) -> String {
        let text = format!("moxie: {self}\n");
        format!(
            "HTTP/1.1 {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
            self.status(),
            text.len()
        )
    }
}
