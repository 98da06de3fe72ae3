//! A store that need not be there yet: every call fails with the reason while the database cannot be opened, and goes through once it can.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{RwLock, RwLockWriteGuard};
use tokio::time::Instant;

use super::sqlite::{Place, Sqlite};
use super::{Counts, Store, StoreError, StoredRule, StoredScope};
use crate::chain::Chain;
use crate::journal::{Connection, Exchange};
use crate::rules::RuleId;

/// Time between two attempts to open: short enough to be back within seconds, long enough not to hammer a full disk.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A store that is opened by the first call that finds it openable. The callers' own retries are what drives it.
#[derive(Debug)]
pub struct Reopening {
    place: Place,
    state: RwLock<State>,
}

#[derive(Debug)]
enum State {
    Open(Arc<Sqlite>),
    Down { reason: String, tried: Instant },
}

impl Reopening {
    /// Tries to open the store.
    pub async fn open(place: Place) -> Self {
        let state = RwLock::new(attempt(&place).await);
        Self { place, state }
    }

    async fn store(&self) -> Result<Arc<Sqlite>, StoreError> {
        if let State::Open(store) = &*self.state.read().await {
            return Ok(store.clone());
        }
        self.reopen(self.state.write().await).await
    }

    async fn reopen(&self, mut state: RwLockWriteGuard<'_, State>) -> Result<Arc<Sqlite>, StoreError> {
        if let State::Down { tried, .. } = &*state
            && tried.elapsed() >= AGAIN_AFTER
        {
            *state = attempt(&self.place).await;
        }
        match &*state {
            State::Open(store) => Ok(store.clone()),
            State::Down { reason, .. } => {
                Err(StoreError::Down { place: self.place.to_string(), reason: reason.clone() })
            }
        }
    }
}

async fn attempt(place: &Place) -> State {
    match Sqlite::open(place).await {
        Ok(store) => {
            tracing::info!(store = %place, "store open");
            State::Open(Arc::new(store))
        }
        Err(error) => State::Down { reason: Chain(&error).to_string(), tried: Instant::now() },
    }
}

#[async_trait]
impl Store for Reopening {
    async fn rules(&self) -> Result<Vec<Result<StoredRule, StoreError>>, StoreError> {
        self.store().await?.rules().await
    }

    async fn put_rules(&self, rules: &[StoredRule]) -> Result<(), StoreError> {
        self.store().await?.put_rules(rules).await
    }

    async fn delete_rule(&self, id: &RuleId) -> Result<bool, StoreError> {
        self.store().await?.delete_rule(id).await
    }

    async fn put_counts(&self, counts: &[(RuleId, Counts)]) -> Result<(), StoreError> {
        self.store().await?.put_counts(counts).await
    }

    async fn scopes(&self) -> Result<Vec<StoredScope>, StoreError> {
        self.store().await?.scopes().await
    }

    async fn put_scope(&self, scope: &StoredScope) -> Result<(), StoreError> {
        self.store().await?.put_scope(scope).await
    }

    async fn delete_scope(&self, id: &str) -> Result<bool, StoreError> {
        self.store().await?.delete_scope(id).await
    }

    async fn append(
        &self,
        exchanges: &[Arc<Exchange>],
        connections: &[Arc<Connection>],
        keep_bytes: u64,
    ) -> Result<(), StoreError> {
        self.store().await?.append(exchanges, connections, keep_bytes).await
    }

    async fn newest_exchanges(&self, bytes: u64) -> Result<Vec<Exchange>, StoreError> {
        self.store().await?.newest_exchanges(bytes).await
    }

    async fn newest_connections(&self, bytes: u64) -> Result<Vec<Connection>, StoreError> {
        self.store().await?.newest_connections(bytes).await
    }

    async fn close(&self) {
        if let State::Open(store) = &*self.state.read().await {
            store.close().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn opens_once_the_obstacle_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let blocked = directory.path().join("state");
        std::fs::write(&blocked, "a file where the directory should be").unwrap();
        let store = Reopening::open(Place::File(blocked.join("moxie.db"))).await;

        let error = store.rules().await.unwrap_err();
        assert!(matches!(&error, StoreError::Down { reason, .. } if reason.contains("cannot make")), "{error}");

        std::fs::remove_file(&blocked).unwrap();
        tokio::time::timeout(Duration::from_secs(10), async {
            while store.rules().await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await
        .expect("opens in time");
    }
}
