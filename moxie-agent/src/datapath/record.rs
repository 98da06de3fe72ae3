//! Stage 6 of 6: exactly one record per connection and per exchange, also when a task is dropped midway.
//!
//! In: what the stages note. Out: records in the journal. Never: blocks; the record is written when its last holder lets go.

use std::mem::take;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::time::Instant;

use super::Context;
use super::downstream::Bytes;
use crate::divert::Origin;
use crate::http1::Doubt;
use crate::journal::{
    Connection, ConnectionVerdict, Exchange, ExchangeError, Journal, Outcome, Protocol, Reason, record_id,
};
use crate::rules::Rule;
use crate::scope::registry::OpenConnection;
use crate::scope::{Caller, Scopes};

/// The record of one connection while it lives.
#[derive(Debug)]
pub struct ConnectionLog {
    id: String,
    opened: Instant,
    bytes: Arc<Bytes>,
    notes: Mutex<Notes>,
    journal: Arc<Journal>,
}

/// What the stages have found out so far.
#[derive(Debug)]
struct Notes {
    started_at: Timestamp,
    caller: Arc<Caller>,
    original_dst: Option<String>,
    server_name: Option<String>,
    protocol: Protocol,
    verdict: ConnectionVerdict,
    reason: Reason,
    doubt: Option<&'static str>,
    open: Option<OpenConnection>,
}

impl ConnectionLog {
    /// Begins the record of a connection that was just accepted.
    #[must_use]
    pub fn open(cx: &Context) -> Arc<Self> {
        cx.metrics.connection_opened();
        let notes = Notes {
            started_at: cx.clock.now(),
            caller: Arc::default(),
            original_dst: None,
            server_name: None,
            protocol: Protocol::Opaque,
            verdict: ConnectionVerdict::Passthrough,
            reason: Reason::ClientClosed,
            doubt: None,
            open: None,
        };
        Arc::new(Self {
            id: record_id(),
            opened: Instant::now(),
            bytes: Arc::default(),
            notes: Mutex::new(notes),
            journal: Arc::clone(&cx.journal),
        })
    }

    /// The record's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The byte counters of the connection.
    #[must_use]
    pub fn bytes(&self) -> Arc<Bytes> {
        Arc::clone(&self.bytes)
    }

    /// The same, for as long as the record is held.
    #[must_use]
    pub fn bytes_so_far(&self) -> &Bytes {
        &self.bytes
    }

    /// Who made the connection, as far as it is known by now.
    #[must_use]
    pub fn caller(&self) -> Arc<Caller> {
        Arc::clone(&self.notes().caller)
    }

    /// Notes stage 2.
    pub fn located(&self, origin: &Origin, caller: Arc<Caller>, scopes: &Scopes) {
        let mut notes = self.notes();
        notes.open = Some(scopes.connection_opened(caller.scope.as_ref()));
        notes.caller = caller;
        notes.original_dst = origin.is_found().then(|| origin.destination.to_string());
        notes.server_name = origin.asked.as_ref().map(|asked| asked.host.clone());
    }

    /// Notes stage 3.
    pub fn sniffed(&self, protocol: Protocol, server_name: Option<String>) {
        let mut notes = self.notes();
        notes.protocol = protocol;
        notes.server_name = server_name.or_else(|| notes.server_name.take());
    }

    /// Notes stage 4, or that stage 5 thought better of it.
    pub fn decided(&self, verdict: ConnectionVerdict, reason: Reason) {
        let mut notes = self.notes();
        (notes.verdict, notes.reason) = (verdict, reason);
    }

    /// Notes that the rest of the connection is passed on and not looked into, and why.
    pub fn doubted(&self, doubt: Doubt) {
        self.uninterpreted(doubt.code());
    }

    /// As [`Self::doubted`], with the code of what was found.
    pub fn uninterpreted(&self, doubt: &'static str) {
        let mut notes = self.notes();
        if notes.doubt.is_none() {
            (notes.reason, notes.doubt) = (Reason::Uninterpreted, Some(doubt));
        }
    }

    /// Notes why the connection ended, where that matters more than why it was decided so.
    pub fn failed(&self, reason: Option<Reason>) {
        let Some(reason) = reason else { return };
        let mut notes = self.notes();
        notes.reason = reason;
        if matches!(reason, Reason::NoOriginalDst | Reason::OwnSocket | Reason::NotServed) {
            notes.verdict = ConnectionVerdict::Fault;
        }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ConnectionLog {
    fn drop(&mut self) {
        let mut notes = self.notes();
        let record = Connection {
            id: self.id.clone(),
            started_at: notes.started_at,
            caller: take(&mut notes.caller),
            original_dst: notes.original_dst.take(),
            server_name: notes.server_name.take(),
            protocol: notes.protocol,
            verdict: notes.verdict,
            reason: notes.reason,
            doubt: notes.doubt.map(str::to_owned),
            bytes_up: self.bytes.up.load(Ordering::Relaxed),
            bytes_down: self.bytes.down.load(Ordering::Relaxed),
            duration_ms: millis(self.opened),
        };
        self.journal.connection(record);
        // The scope counts the connection as open until its record can be read.
        notes.open = None;
    }
}

/// A record that both bodies of an exchange write to.
pub type SharedLog = Arc<Mutex<ExchangeLog>>;

/// Locks a shared record; a panic elsewhere does not make it unusable.
pub fn lock(log: &Mutex<ExchangeLog>) -> MutexGuard<'_, ExchangeLog> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The record of one exchange while it lives.
#[derive(Debug)]
pub struct ExchangeLog {
    began: Instant,
    record: Exchange,
    /// Since when a rule's delay is waited.
    delaying: Option<Instant>,
    finished: bool,
    journal: Arc<Journal>,
}

impl ExchangeLog {
    /// Begins the record of a request whose head was just read on `connection`.
    #[must_use]
    pub fn open(
        connection: &Arc<ConnectionLog>,
        protocol: Protocol,
        method: &str,
        url: String,
        now: Timestamp,
    ) -> Self {
        let record = Exchange {
            id: record_id(),
            connection_id: connection.id.clone(),
            started_at: now,
            caller: connection.caller(),
            method: method.to_owned(),
            url,
            protocol,
            status: None,
            outcome: Outcome::Forwarded,
            rule_id: None,
            injected_delay_ms: 0,
            duration_ms: 0,
            request_bytes: 0,
            response_bytes: 0,
            error: None,
        };
        Self {
            began: Instant::now(),
            record,
            delaying: None,
            finished: false,
            journal: Arc::clone(&connection.journal),
        }
    }

    /// Notes the rule that fired and what it makes of the exchange.
    pub fn fired(&mut self, rule: &Rule, outcome: Outcome) {
        self.record.rule_id = Some(rule.id.clone());
        self.record.outcome = outcome;
    }

    /// The rule that fired has changed the answer, or delayed it.
    pub fn changed(&mut self) {
        self.record.outcome = Outcome::Rewritten;
    }

    /// A rule fired, but its request went to the destination as it came after all: the connection is not interpreted any more.
    pub fn passed(&mut self) {
        self.record.outcome = Outcome::Forwarded;
    }

    /// Notes a delay that a rule asked for and that was really waited.
    pub fn delayed(&mut self, waited: std::time::Duration) {
        self.delaying = None;
        self.record.injected_delay_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        if self.record.outcome == Outcome::Forwarded {
            self.changed();
        }
    }

    /// A rule's delay begins. If it is not over when the record ends, what was waited of it is noted.
    pub fn delay_begins(&mut self) {
        self.delaying = Some(Instant::now());
    }

    /// Notes the status that goes to the client.
    pub fn answered(&mut self, status: http::StatusCode) {
        self.record.status = Some(status.as_u16());
    }

    /// Notes body bytes from the client.
    pub fn received(&mut self, bytes: u64) {
        self.record.request_bytes += bytes;
    }

    /// Notes body bytes to the client.
    pub fn sent(&mut self, bytes: u64) {
        self.record.response_bytes += bytes;
    }

    /// The answer was written to a client that had gone.
    pub fn unheard(&mut self) {
        self.record.status = None;
        self.broke(ExchangeError::ClientGone);
    }

    /// The answer is complete.
    pub fn finished(&mut self) {
        self.finished = true;
    }

    /// The client went in the middle of its request; once it has the whole answer it may.
    pub fn left(&mut self) {
        if !self.finished {
            self.broke(ExchangeError::ClientGone);
        }
    }

    /// The record, with its texts moved out and not copied: one is made for each exchange.
    fn take(&mut self) -> Exchange {
        let record = &mut self.record;
        Exchange {
            id: take(&mut record.id),
            connection_id: take(&mut record.connection_id),
            caller: Arc::clone(&record.caller),
            method: take(&mut record.method),
            url: take(&mut record.url),
            rule_id: record.rule_id.take(),
            ..*record
        }
    }

    /// The answer will not be complete, and why.
    pub fn broke(&mut self, error: ExchangeError) {
        self.record.error = Some(error);
    }
}

impl Drop for ExchangeLog {
    fn drop(&mut self) {
        if !self.finished && self.record.error.is_none() {
            self.record.error = Some(ExchangeError::ClientGone);
        }
        if let Some(since) = self.delaying {
            self.delayed(since.elapsed());
        }
        self.record.duration_ms = millis(self.began);
        let record = self.take();
        self.journal.exchange(record);
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
