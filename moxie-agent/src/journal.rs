//! What happened: the newest exchanges and connections, in memory, bounded by bytes.
//!
//! The API reads here and never waits for the store; the store's [`Writer`] is told of each record behind the data path. That only
//! lets go of a record: it is filed, counted and told to readers soon afterwards, and before anybody looks.
//!
//! A record is kept when its exchange or connection has ended, and listings go by that order, the last ended first. (Ids sort by
//! the beginning.) The cursor is the id of the last record of a page. New records come in before the first page and old ones
//! leave behind the last, so a reader that follows the cursor meets no record twice and misses none that still exists.

#[cfg(test)]
pub(crate) mod fixture;
mod intake;
mod page;
mod ring;
mod writer;

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;
use utoipa::ToSchema;

use self::intake::{Intake, Then};
use self::ring::Ring;
use self::writer::Queue;
pub use self::writer::Writer;
use crate::events::{Events, Kind};
use crate::rules::RuleId;
use crate::scope::Caller;
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;

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
    /// The destination's answer, changed by a rule.
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

/// Which records a reader wants; every given field must hold.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// Only records of this scope.
    pub scope: Option<String>,
    /// Only records of this container, by its name, its whole id, or at least the first eight digits of that.
    pub container: Option<String>,
    /// Only records of this unit.
    pub unit: Option<String>,
    /// Only exchanges that this rule fired for (no connection is one, here and in every filter of exchanges).
    pub rule_id: Option<String>,
    /// Only exchanges with this outcome.
    pub outcome: Option<Outcome>,
    /// Only exchanges whose method is this.
    pub method: Option<String>,
    /// Only exchanges with this status.
    pub status: Option<u16>,
    /// Only exchanges whose URL, or connections whose server name or destination, contains this text.
    pub contains: Option<String>,
    /// Only exchanges of this connection, or the connection itself.
    pub connection_id: Option<String>,
    /// Only connections with this verdict.
    pub verdict: Option<ConnectionVerdict>,
    /// Page size, 1 to 1000; 100 unless given.
    pub limit: Option<usize>,
    /// Where the last page ended: its `next`.
    pub cursor: Option<String>,
}

/// A page of a listing.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The entries, newest first.
    pub items: Vec<T>,
    /// Give this as `cursor` for the next page; null at the end.
    pub next: Option<String>,
}

/// The newest records, bounded by bytes.
#[derive(Debug)]
pub struct Journal {
    /// What is not filed yet.
    intake: Intake,
    exchanges: Ring<Exchange>,
    connections: Ring<Connection>,
    events: Events,
    metrics: Arc<Metrics>,
    /// What waits for the store; set by the one writer.
    queue: OnceLock<Arc<Queue>>,
    /// Who has the records too, or instead; set when another agent takes over.
    follower: ArcSwapOption<Follower>,
}

#[derive(Debug)]
struct Follower {
    records: UnboundedSender<Told>,
    keeps: Keeps,
}

/// Who writes records to the store that a follower is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keeps {
    /// The journal that tells.
    Teller,
    /// The journal that is told.
    Follower,
}

/// A record that another journal is told of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Told {
    /// The record.
    pub record: Record,
    /// Who writes it to the store.
    pub keeps: Keeps,
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

impl Journal {
    /// An empty journal that keeps about `bytes` of each kind of record, tells `events` of each new one and counts it in `metrics`.
    #[must_use]
    pub fn new(bytes: usize, events: Events, metrics: Arc<Metrics>) -> Self {
        Self {
            intake: Intake::default(),
            exchanges: Ring::new(bytes),
            connections: Ring::new(bytes),
            events,
            metrics,
            queue: OnceLock::new(),
            follower: ArcSwapOption::empty(),
        }
    }

    /// Takes over the records of an earlier run, as older than everything here. Neither events nor the writer are told.
    ///
    /// # Errors
    /// The store could not be read; the journal is as usable as before.
    pub async fn preload(&self, store: &dyn Store) -> Result<(), StoreError> {
        self.settle();
        for exchange in store.newest_exchanges(self.exchanges.bound()).await? {
            self.exchanges.push_oldest(Arc::new(exchange));
        }
        for connection in store.newest_connections(self.connections.bound()).await? {
            self.connections.push_oldest(Arc::new(connection));
        }
        Ok(())
    }

    /// Tells each record that comes from now on to the channel too, until it closes; before that, those that are not with the store
    /// yet.
    pub fn follow(&self, records: UnboundedSender<Told>, keeps: Keeps) {
        self.settle();
        let waiting = self.queue.get().filter(|_| keeps == Keeps::Teller).map(|queue| queue.waiting());
        for record in waiting.into_iter().flatten() {
            let record = match record {
                writer::Record::Exchange(record) => Record::Exchange(Box::new((*record).clone())),
                writer::Record::Connection(record) => Record::Connection(Box::new((*record).clone())),
            };
            // Whoever is to hear of it is waiting for the rest.
            let _ = records.send(Told { record, keeps });
        }
        self.follower.store(Some(Arc::new(Follower { records, keeps })));
    }

    /// The follower's channel ends.
    pub fn leave_follower(&self) {
        self.settle();
        self.follower.store(None);
    }

    /// Lists a record that another agent has made. One that is here already stays what it is.
    pub fn receive(&self, Told { record, keeps }: Told) {
        match (record, keeps) {
            (Record::Exchange(record), Keeps::Follower) => self.exchange(*record),
            (Record::Connection(record), Keeps::Follower) => self.connection(*record),
            (Record::Exchange(record), Keeps::Teller) => {
                self.events.send(Kind::Exchange, &*record);
                self.exchanges.push(Arc::new(*record));
            }
            (Record::Connection(record), Keeps::Teller) => {
                self.events.send(Kind::Connection, &*record);
                self.connections.push(Arc::new(*record));
            }
        }
    }

    /// Whether a follower has the record and writes it to the store.
    fn is_told(&self, record: impl FnOnce() -> Record) -> bool {
        let follower = self.follower.load();
        let Some(follower) = &*follower else { return false };
        let told = follower.records.send(Told { record: record(), keeps: follower.keeps });
        told.is_ok() && follower.keeps == Keeps::Follower
    }

    /// Keeps an exchange.
    pub fn exchange(&self, record: Exchange) {
        self.take_in(writer::Record::Exchange(Arc::new(record)));
    }

    /// Keeps a connection.
    pub fn connection(&self, record: Connection) {
        self.take_in(writer::Record::Connection(Arc::new(record)));
    }

    fn take_in(&self, record: writer::Record) {
        if self.intake.push(record) == Then::File {
            self.settle();
        }
    }

    /// Files what the data path has let go of until now. Whoever reads here need not call it; it is for what depends on records and
    /// is read elsewhere.
    pub fn settle(&self) {
        self.intake.drain(|record| self.file(record));
    }

    fn file(&self, record: writer::Record) {
        let is_kept = match &record {
            writer::Record::Exchange(exchange) => {
                self.metrics.exchange(exchange);
                self.events.send(Kind::Exchange, &**exchange);
                self.is_told(|| Record::Exchange(Box::new(Exchange::clone(exchange))))
            }
            writer::Record::Connection(connection) => {
                self.metrics.connection(connection);
                self.events.send(Kind::Connection, &**connection);
                self.is_told(|| Record::Connection(Box::new(Connection::clone(connection))))
            }
        };
        if let (false, Some(queue)) = (is_kept, self.queue.get()) {
            queue.push(record.clone());
        }
        match record {
            writer::Record::Exchange(exchange) => self.exchanges.push(exchange),
            writer::Record::Connection(connection) => self.connections.push(connection),
        }
    }

    /// Exchanges, newest first.
    #[must_use]
    pub fn exchanges(&self, filter: &Filter) -> Page<Exchange> {
        self.settle();
        page::read(&self.exchanges, filter)
    }

    /// Connections, newest first.
    #[must_use]
    pub fn connections(&self, filter: &Filter) -> Page<Connection> {
        self.settle();
        page::read(&self.connections, filter)
    }

    /// One exchange.
    #[must_use]
    pub fn find_exchange(&self, id: &str) -> Option<Exchange> {
        self.settle();
        self.exchanges.find(id).as_deref().cloned()
    }
}

/// A new record id: a UUID of version 7, so that ids sort by time.
#[must_use]
pub fn record_id() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

#[cfg(test)]
mod tests;
