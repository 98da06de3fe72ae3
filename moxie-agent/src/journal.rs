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
mod record;
mod ring;
mod writer;

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;
use utoipa::ToSchema;

use self::intake::{Intake, Then};
pub use self::record::{Connection, ConnectionVerdict, Exchange, ExchangeError, Outcome, Protocol, Reason, Record};
use self::ring::Ring;
use self::writer::Queue;
pub use self::writer::Writer;
use crate::events::{Events, Kind};
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;

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
