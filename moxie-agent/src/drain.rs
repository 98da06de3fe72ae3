//! Orderly end: one signal that stops accepting, and a wait for the connections still open.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;

/// How long a kept connection without a request is left alone by [`Drain::finish`]: a client that is at it sends its next one
/// meanwhile, and is told then that it was the last.
const IDLE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Said {
    stop: AtomicBool,
    hurry: AtomicBool,
}

/// Shared by every task that must end before the agent does. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    stop: CancellationToken,
    /// What the two say, for those that ask with every request.
    said: Arc<Said>,
    hurry: CancellationToken,
    tasks: TaskTracker,
}

impl Drain {
    /// A drain that nobody has started.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `task` under this drain: [`Drain::finish`] waits for it.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Completes once [`Drain::start`] was called.
    pub async fn started(&self) {
        self.stop.cancelled().await;
    }

    /// Whether [`Drain::start`] was called.
    #[must_use]
    pub fn has_started(&self) -> bool {
        self.said.stop.load(Ordering::Acquire)
    }

    /// Completes once even a connection without a request under way has to end.
    pub async fn hurried(&self) {
        self.hurry.cancelled().await;
    }

    /// [`Drain::hurried`] for a connection that asks again and again.
    #[must_use]
    pub fn hurry(&self) -> Hurry {
        Hurry { wait: Box::pin(self.hurry.clone().cancelled_owned()), known: None, said: Arc::clone(&self.said) }
    }

    /// Tells everyone to stop taking new work.
    pub fn start(&self) {
        self.said.stop.store(true, Ordering::Release);
        self.stop.cancel();
    }

    /// Starts the drain and waits until every task has ended, at most `bound`. True if all did.
    pub async fn finish(&self, bound: Duration) -> bool {
        self.start();
        self.tasks.close();
        timeout(bound, async {
            if timeout(IDLE.min(bound / 2), self.tasks.wait()).await.is_err() {
                self.said.hurry.store(true, Ordering::Release);
                self.hurry.cancel();
                self.tasks.wait().await;
            }
        })
        .await
        .is_ok()
    }

    /// As [`Drain::finish`], for an agent that nobody waits for: connections without a request are left to their clients.
    pub async fn finish_at_leisure(&self, bound: Duration) -> bool {
        self.start();
        self.tasks.close();
        timeout(bound, self.tasks.wait()).await.is_ok()
    }

    /// How many tasks are running under this drain.
    #[must_use]
    pub fn running(&self) -> usize {
        self.tasks.len()
    }
}

/// The moment at which even a connection without a request under way has to end. Asking costs no lock, but for the first time.
#[derive(Debug)]
pub struct Hurry {
    wait: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Whom the drain would wake.
    known: Option<Waker>,
    said: Arc<Said>,
}

impl Hurry {
    /// Ready once the moment has come, and from then on.
    pub fn poll(&mut self, task: &mut Context<'_>) -> Poll<()> {
        if self.said.hurry.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        if self.known.as_ref().is_some_and(|known| known.will_wake(task.waker())) {
            return Poll::Pending;
        }
        self.known = Some(task.waker().clone());
        self.wait.as_mut().poll(task)
    }
}
