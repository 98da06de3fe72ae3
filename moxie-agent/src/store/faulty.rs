//! A store for tests whose writes can be made to fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::sqlite::{Place, Sqlite};
use super::{Counts, Store, StoreError, StoredRule, StoredScope};
use crate::journal::{Connection, Exchange};
use crate::rules::RuleId;

/// A store in memory behind a switch.
#[derive(Debug)]
pub(crate) struct Faulty {
    store: Sqlite,
    failing: AtomicBool,
    /// Also reads fail.
    unreadable: AtomicBool,
    failures: AtomicU64,
}

impl Faulty {
    pub(crate) async fn new() -> Arc<Self> {
        let store = Sqlite::open(&Place::Memory).await.unwrap();
        let (failing, unreadable) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { store, failing, unreadable, failures: AtomicU64::new(0) })
    }

    /// Makes writes fail, or succeed again.
    pub(crate) fn fail(&self, failing: bool) {
        self.failing.store(failing, Ordering::SeqCst);
    }

    /// Makes reads fail, or succeed again.
    pub(crate) fn fail_reads(&self, failing: bool) {
        self.unreadable.store(failing, Ordering::SeqCst);
    }

    /// Waits until a write that starts from now on has failed.
    pub(crate) async fn failed_once_more(&self) {
        let before = self.failures.load(Ordering::SeqCst);
        let failed = async {
            while self.failures.load(Ordering::SeqCst) == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), failed).await.expect("a write is tried");
    }

    fn check(&self, switch: &AtomicBool, operation: &'static str) -> Result<(), StoreError> {
        if switch.load(Ordering::SeqCst) {
            self.failures.fetch_add(1, Ordering::SeqCst);
            return Err(StoreError::Query { operation, source: sqlx::Error::WorkerCrashed });
        }
        Ok(())
    }
}

#[async_trait]
impl Store for Faulty {
    async fn rules(&self) -> Result<Vec<Result<StoredRule, StoreError>>, StoreError> {
        self.check(&self.unreadable, "read the rules")?;
        self.store.rules().await
    }

    async fn put_rules(&self, rules: &[StoredRule]) -> Result<(), StoreError> {
        self.check(&self.failing, "save the rules")?;
        self.store.put_rules(rules).await
    }

    async fn delete_rule(&self, id: &RuleId) -> Result<bool, StoreError> {
        self.check(&self.failing, "delete a rule")?;
        self.store.delete_rule(id).await
    }

    async fn put_counts(&self, counts: &[(RuleId, Counts)]) -> Result<(), StoreError> {
        self.check(&self.failing, "save the counts")?;
        self.store.put_counts(counts).await
    }

    async fn scopes(&self) -> Result<Vec<StoredScope>, StoreError> {
        self.store.scopes().await
    }

    async fn put_scope(&self, scope: &StoredScope) -> Result<(), StoreError> {
        self.check(&self.failing, "save a scope")?;
        self.store.put_scope(scope).await
    }

    async fn delete_scope(&self, id: &str) -> Result<bool, StoreError> {
        self.check(&self.failing, "delete a scope")?;
        self.store.delete_scope(id).await
    }

    async fn append(
        &self,
        exchanges: &[Arc<Exchange>],
        connections: &[Arc<Connection>],
        keep_bytes: u64,
    ) -> Result<(), StoreError> {
        self.check(&self.failing, "append records")?;
        self.store.append(exchanges, connections, keep_bytes).await
    }

    async fn newest_exchanges(&self, bytes: u64) -> Result<Vec<Exchange>, StoreError> {
        self.store.newest_exchanges(bytes).await
    }

    async fn newest_connections(&self, bytes: u64) -> Result<Vec<Connection>, StoreError> {
        self.store.newest_connections(bytes).await
    }

    async fn close(&self) {
        self.store.close().await;
    }
}
