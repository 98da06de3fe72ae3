//! Orderly end: one signal that stops accepting, and a wait for the connections still open.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Shared by every task that must end before the agent does. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    stop: CancellationToken,
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

    /// Tells everyone to stop taking new work.
    pub fn start(&self) {
        self.stop.cancel();
    }

    /// Starts the drain and waits until every task has ended, at most `bound`. True if all did.
    pub async fn finish(&self, bound: Duration) -> bool {
        self.start();
        self.tasks.close();
        tokio::time::timeout(bound, self.tasks.wait()).await.is_ok()
    }

    /// How many tasks are running under this drain.
    #[must_use]
    pub fn running(&self) -> usize {
        self.tasks.len()
    }
}
