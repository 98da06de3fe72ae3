//! An agent in this process: every connection to its front door wants to go where the test says.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use moxie_agent::app::App;
use moxie_agent::journal::{Connection, Exchange, Filter};
use moxie_tests::InProcess;
use serde_json::json;

/// How long a test waits for what must come.
pub const BOUND: Duration = Duration::from_secs(10);

/// An agent and its front door.
pub struct Agent {
    inner: InProcess,
    /// Where its diverted connections arrive, or its proxy's clients.
    pub door: SocketAddr,
}

impl Agent {
    /// An agent whose connections want `destination` (none: the kernel has lost it), which trusts `roots` upstream.
    pub async fn start(destination: Option<SocketAddr>, roots: Option<&Path>) -> Self {
        let inner = InProcess::start(move |_| destination, "", roots.as_slice()).await.unwrap();
        Self { door: inner.door, inner }
    }

    /// An agent that is an explicit proxy.
    pub async fn proxy() -> Self {
        let inner = InProcess::proxy().await.unwrap();
        Self { door: inner.door, inner }
    }

    /// Ends in good order.
    pub async fn stop(self) {
        self.inner.app.stop().await;
    }

    /// Adds a rule.
    pub async fn rule(&self, url: &str, more: serde_json::Value) -> String {
        let mut rule = json!({ "url": url });
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.inner.app.rules.create(&rule).await.unwrap().rule.id.0.clone()
    }

    /// The authority's certificate, PEM.
    pub fn authority(&self) -> &str {
        &self.inner.app.authority_pem
    }

    /// How often it has begun to dial a destination.
    pub fn dials(&self) -> usize {
        self.inner.dials()
    }

    /// Waits until it begins to dial its destination.
    pub async fn await_dial(&self) {
        let begun = async {
            while self.dials() == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(BOUND, begun).await.unwrap();
    }

    /// Waits until a rule has fired for a request.
    pub async fn await_hit(&self) {
        let hit = async {
            while self
                .inner
                .app
                .rules
                .list()
                .iter()
                .all(|rule| rule.tally.hits.load(std::sync::atomic::Ordering::Relaxed) == 0)
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(BOUND, hit).await.unwrap();
    }

    /// Waits for exactly `count` exchanges, oldest first.
    pub async fn exchanges(&self, count: usize) -> Vec<Exchange> {
        self.settle(count, |app| app.journal.exchanges(&Filter::default()).items).await
    }

    /// Waits for exactly `count` connections, oldest first.
    pub async fn connections(&self, count: usize) -> Vec<Connection> {
        self.settle(count, |app| app.journal.connections(&Filter::default()).items).await
    }

    async fn settle<T>(&self, count: usize, read: impl Fn(&App) -> Vec<T>) -> Vec<T> {
        let deadline = tokio::time::Instant::now() + BOUND;
        loop {
            let mut items = read(&self.inner.app);
            if items.len() >= count || tokio::time::Instant::now() > deadline {
                assert_eq!(items.len(), count, "records");
                items.reverse();
                return items;
            }
            tokio::task::yield_now().await;
        }
    }
}
