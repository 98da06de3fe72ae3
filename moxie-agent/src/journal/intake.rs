//! Records that the data path has let go of, until somebody files them: adding one takes no lock and wakes nobody who is awake.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::writer::Record;

/// Records that may wait; whoever adds one more files them.
const MOST: usize = 4096;

/// What is to be done beside adding a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Nothing: they are filed soon.
    Leave,
    /// File what waits, since it is too much.
    File,
}

#[derive(Debug)]
pub(super) struct Intake {
    sender: UnboundedSender<Record>,
    /// Locked while records are filed, so that they keep their order.
    receiver: Mutex<UnboundedReceiver<Record>>,
    waiting: AtomicUsize,
    arrived: Notify,
}

impl Default for Intake {
    fn default() -> Self {
        let (sender, receiver) = unbounded_channel();
        Self { sender, receiver: Mutex::new(receiver), waiting: AtomicUsize::new(0), arrived: Notify::new() }
    }
}

impl Intake {
    /// Adds a record.
    pub(super) fn push(&self, record: Record) -> Then {
        // The receiver is our own, so there is one.
        let _ = self.sender.send(record);
        let before = self.waiting.fetch_add(1, Ordering::AcqRel);
        if before == 0 {
            self.arrived.notify_one();
        }
        if before < MOST { Then::Leave } else { Then::File }
    }

    /// Waits until there is something to file.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Files everything that was added before the call, oldest first.
    pub(super) fn drain(&self, mut file: impl FnMut(Record)) {
        let mut receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner);
        // First, so that what comes meanwhile tells of itself.
        self.waiting.store(0, Ordering::Release);
        while let Ok(record) = receiver.try_recv() {
            file(record);
        }
    }
}
