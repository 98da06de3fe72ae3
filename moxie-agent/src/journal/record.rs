//! What is on record of a connection and of an exchange, and the closed lists of what can be said of them.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::rules::RuleId;
use crate::scope::Caller;

/// Protocol on a connection, as far as it was recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TLS, not looked into or looked into: see the verdict.
    Tls,
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Not recognised.
    Opaque,
}

impl Protocol {
    /// Its name in JSON and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Opaque => "opaque",
        }
    }
}

/// What was decided for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ConnectionVerdict {
    /// Bytes untouched.
    Passthrough,
    /// Ended here, HTTP seen.
    Intercept,
    /// Made to fail, on purpose (a rule) or because no trusted original destination existed.
    Fault,
}

impl ConnectionVerdict {
    /// Its name in JSON and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passthrough => "passthrough",
            Self::Intercept => "intercept",
            Self::Fault => "fault",
        }
    }
}

/// Why a connection went the way it went. Closed: metrics and tests rely on the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// An enabled rule can name the host.
    RuleCanName,
    /// Every rule that names the host has fired its last; this client was answered by one, so its next attempts are recorded too.
    RuleSpent,
    /// Its scope is in mode `inspect`, with the host on its list.
    Inspected,
    /// No enabled rule can name the host.
    NoRule,
    /// The bytes are no TLS and no HTTP.
    NotHttp,
    /// The server spoke first.
    ServerFirst,
    /// No recognisable beginning within the sniffing bounds.
    SniffBound,
    /// What came is not beyond doubt HTTP, so the rest of the connection was passed on as it came; see `doubt`.
    Uninterpreted,
    /// The client offers only application protocols other than HTTP (ALPN).
    OtherAlpn,
    /// The client refused the authority earlier, so it is left alone for a while.
    ClientRefusedAuthority,
    /// The client refused the authority on this connection.
    AuthorityRefused,
    /// The destination's certificate does not verify, so the client must see it itself.
    UpstreamUntrusted,
    /// The authority could not mint a certificate.
    MintFailed,
    /// The destination could not be reached; the client was reset.
    UpstreamFailed,
    /// The kernel had no original destination; the client was reset.
    NoOriginalDst,
    /// The destination is one of Moxie's own sockets; the client was reset.
    OwnSocket,
    /// What came to the explicit proxy is nothing that it serves; the client was told why.
    NotServed,
    /// Requests to an explicit proxy, each for a destination of its own: there is nothing to pass through.
    ProxyRequests,
    /// Moxie is switched off, and the client has no other way than the explicit proxy.
    SwitchedOff,
    /// The address lists leave the destination alone, and the way on path has none of its own.
    ExcludedAddress,
    /// The client closed before it could be decided.
    ClientClosed,
}

impl Reason {
    /// Its name in JSON and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RuleCanName => "rule_can_name",
            Self::RuleSpent => "rule_spent",
            Self::Inspected => "inspected",
            Self::NoRule => "no_rule",
            Self::NotHttp => "not_http",
            Self::ServerFirst => "server_first",
            Self::SniffBound => "sniff_bound",
            Self::Uninterpreted => "uninterpreted",
            Self::OtherAlpn => "other_alpn",
            Self::ClientRefusedAuthority => "client_refused_authority",
            Self::AuthorityRefused => "authority_refused",
            Self::UpstreamUntrusted => "upstream_untrusted",
            Self::MintFailed => "mint_failed",
            Self::UpstreamFailed => "upstream_failed",
            Self::NoOriginalDst => "no_original_dst",
            Self::OwnSocket => "own_socket",
            Self::NotServed => "not_served",
            Self::ProxyRequests => "proxy_requests",
            Self::SwitchedOff => "switched_off",
            Self::ExcludedAddress => "excluded_address",
            Self::ClientClosed => "client_closed",
        }
    }
}

/// What really happened to an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The destination's own answer.
    Forwarded,
    /// A rule's answer; the destination saw nothing.
    Responded,
    /// The destination's answer, where a rule has changed the request or the answer, or delayed it.
    Rewritten,
    /// A rule made the call fail.
    Faulted,
}

impl Outcome {
    /// Its name in JSON and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Responded => "responded",
            Self::Rewritten => "rewritten",
            Self::Faulted => "faulted",
        }
    }
}

/// Why an exchange has no complete answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExchangeError {
    /// The destination could not be dialled.
    UpstreamUnreachable,
    /// The destination's certificate does not verify.
    UpstreamUntrusted,
    /// The destination broke off, before or in the middle of its answer.
    UpstreamBroke,
    /// The client went away first.
    ClientGone,
}

/// One request and its answer.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Exchange {
    /// Sorts by time.
    pub id: String,
    /// The connection it came on.
    pub connection_id: String,
    /// When the request's head was read.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// Who made it.
    #[schema(value_type = Caller)]
    pub caller: Arc<Caller>,
    /// HTTP method.
    pub method: String,
    /// `scheme://authority/path?query`, as the client asked.
    pub url: String,
    /// Protocol the client spoke inside TLS or in the clear: http1 or http2.
    pub protocol: Protocol,
    /// Status the client got; null if it got none.
    pub status: Option<u16>,
    /// What happened.
    pub outcome: Outcome,
    /// The rule that fired, if one did.
    pub rule_id: Option<RuleId>,
    /// Delay that the rule asked for and got, milliseconds.
    pub injected_delay_ms: u64,
    /// From the request's head to the end of the answer, milliseconds.
    pub duration_ms: u64,
    /// Body bytes from the client.
    pub request_bytes: u64,
    /// Body bytes to the client.
    pub response_bytes: u64,
    /// Set when the answer is not complete.
    pub error: Option<ExchangeError>,
}

/// One diverted connection.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Connection {
    /// Sorts by time.
    pub id: String,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// Who opened it.
    #[schema(value_type = Caller)]
    pub caller: Arc<Caller>,
    /// `ip:port` the application wanted; null if the kernel had none.
    pub original_dst: Option<String>,
    /// Name the client asked for: TLS SNI, else the HTTP host.
    pub server_name: Option<String>,
    /// What was recognised.
    pub protocol: Protocol,
    /// What was decided.
    pub verdict: ConnectionVerdict,
    /// Why.
    pub reason: Reason,
    /// What made a connection that was looked into uninterpreted, such as `length_and_coding`; null unless the reason says so.
    #[serde(default)]
    pub doubt: Option<String>,
    /// Bytes read from the application (inside TLS where it was ended here).
    pub bytes_up: u64,
    /// Bytes written to the application (inside TLS where it was ended here).
    pub bytes_down: u64,
    /// From accept to close, milliseconds.
    pub duration_ms: u64,
}

/// A record of either kind.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// Of an exchange.
    Exchange(Box<Exchange>),
    /// Of a connection.
    Connection(Box<Connection>),
}
