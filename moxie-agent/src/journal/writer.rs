//! From the journal to the store, behind the data path: a bounded queue and the task that empties it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::ring::Kept;
use super::{Connection, Exchange, Journal};
use crate::chain::Chain;
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;

/// Bytes of records that wait at most; beyond them the oldest are dropped and counted.
const WAITING: usize = 8 << 20;
/// Records of one transaction at most.
const BATCH: usize = 5000;
/// How long records are gathered, so that a busy second costs tens of transactions and not thousands.
const GATHER: Duration = Duration::from_millis(50);
/// How long a record may wait to be filed; whoever reads does not wait.
const FILE: Duration = Duration::from_millis(10);
const FIRST_RETRY: Duration = Duration::from_millis(200);
/// A store that works again is written to within this time.
const LAST_RETRY: Duration = Duration::from_secs(3);

/// A record on its way to the store.
#[derive(Clone, Debug)]
pub(super) enum Record {
    Exchange(Arc<Exchange>),
    Connection(Arc<Connection>),
}

impl Record {
    fn size(&self) -> usize {
        match self {
            Self::Exchange(record) => record.size(),
            Self::Connection(record) => record.size(),
        }
    }
}

/// The records that wait. Adding one never waits.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Notify,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Waiting {
    records: VecDeque<Record>,
    bytes: usize,
}

impl Queue {
    pub(super) fn push(&self, record: Record) {
        let mut waiting = self.lock();
        waiting.bytes += record.size();
        waiting.records.push_back(record);
        let dropped = waiting.shrink();
        drop(waiting);
        self.metrics.records_dropped(dropped);
        self.arrived.notify_one();
    }

    /// What waits now.
    pub(super) fn waiting(&self) -> Vec<Record> {
        self.lock().records.iter().cloned().collect()
    }

    fn take(&self) -> Vec<Record> {
        let mut waiting = self.lock();
        let batch: Vec<_> = {
            let end = waiting.records.len().min(BATCH);
            waiting.records.drain(..end).collect()
        };
        waiting.bytes -= batch.iter().map(Record::size).sum::<usize>();
        batch
    }

    /// Puts a batch that was not written back to where it was.
    fn give_back(&self, batch: Vec<Record>) {
        let mut waiting = self.lock();
        for record in batch.into_iter().rev() {
            waiting.bytes += record.size();
            waiting.records.push_front(record);
        }
        let dropped = waiting.shrink();
        drop(waiting);
        self.metrics.records_dropped(dropped);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Drops the oldest beyond the bound. Gives how many.
    fn shrink(&mut self) -> u64 {
        let mut dropped = 0;
        while self.bytes > WAITING
            && let Some(oldest) = self.records.pop_front()
        {
            self.bytes -= oldest.size();
            dropped += 1;
        }
        dropped
    }
}

/// The tasks that file records and write them to the store. They end when this is dropped.
#[derive(Debug)]
pub struct Writer {
    journal: Arc<Journal>,
    sink: Arc<Sink>,
    _tasks: [AbortOnDropHandle<()>; 2],
}

#[derive(Debug)]
struct Sink {
    queue: Arc<Queue>,
    store: Arc<dyn Store>,
    keep_bytes: u64,
    /// Held while a batch is with the store, so that batches keep their order.
    writing: tokio::sync::Mutex<()>,
}

impl Journal {
    /// Starts to write each record that comes from now on to `store`, which keeps about `keep_bytes` of each kind.
    /// A journal has one writer.
    #[must_use]
    pub fn writer(self: &Arc<Self>, store: Arc<dyn Store>, keep_bytes: u64) -> Writer {
        let metrics = Arc::clone(&self.metrics);
        let fresh = || Arc::new(Queue { waiting: Mutex::default(), arrived: Notify::new(), metrics });
        let queue = self.queue.get_or_init(fresh).clone();
        let sink = Arc::new(Sink { queue, store, keep_bytes, writing: tokio::sync::Mutex::new(()) });
        let tasks = [tokio::spawn(run(sink.clone())), tokio::spawn(file(Arc::clone(self)))];
        Writer { journal: Arc::clone(self), sink, _tasks: tasks.map(AbortOnDropHandle::new) }
    }
}

impl Writer {
    /// Writes what waits now. Called when the agent ends; what the store does not take is lost and logged.
    pub async fn flush(&self) {
        self.journal.settle();
        loop {
            match self.sink.write_batch().await {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => return tracing::warn!("the last records are lost: {}", Chain(&error)),
            }
        }
    }
}

/// Files what comes, many at once.
async fn file(journal: Arc<Journal>) {
    loop {
        journal.intake.arrived().await;
        tokio::time::sleep(FILE).await;
        journal.settle();
    }
}

async fn run(sink: Arc<Sink>) {
    let mut retry = FIRST_RETRY;
    loop {
        match sink.write_batch().await {
            Ok(written) => {
                if retry > FIRST_RETRY {
                    tracing::info!("the store takes records again");
                    retry = FIRST_RETRY;
                }
                if written == 0 {
                    sink.queue.arrived.notified().await;
                }
                tokio::time::sleep(GATHER).await;
            }
            Err(error) => {
                if retry == FIRST_RETRY {
                    tracing::warn!("records wait for the store: {}", Chain(&error));
                }
                tokio::time::sleep(retry).await;
                retry = LAST_RETRY.min(retry * 2);
            }
        }
    }
}

impl Sink {
    /// Writes the next records. Gives how many; a batch that the store refuses waits on.
    async fn write_batch(&self) -> Result<usize, StoreError> {
        let _turn = self.writing.lock().await;
        let batch = self.queue.take();
        if batch.is_empty() {
            return Ok(0);
        }
        let (mut exchanges, mut connections) = (Vec::new(), Vec::new());
        for record in &batch {
            match record {
                Record::Exchange(record) => exchanges.push(record.clone()),
                Record::Connection(record) => connections.push(record.clone()),
            }
        }
        match self.store.append(&exchanges, &connections, self.keep_bytes).await {
            Ok(()) => Ok(batch.len()),
            Err(error) => {
                self.queue.give_back(batch);
                Err(error)
            }
        }
    }
}
