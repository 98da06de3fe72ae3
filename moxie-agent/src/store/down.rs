//! A store that need not be there yet: every call fails with the reason while the database cannot be opened, and goes through once it can.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{RwLock, RwLockWriteGuard};
use tokio::time::Instant;

use super::sqlite::{Place, Sqlite, Standing};
use super::{Counts, Store, StoreError, StoredRule, StoredScope};
use crate::chain::Chain;
use crate::journal::{Connection, Exchange};
use crate::rules::RuleId;

/// Time between two attempts to open, or to write a lost file anew: short enough to be back within seconds, long enough not to
/// hammer a full disk.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A store that is opened by the first call that finds it openable. The callers' own retries are what drives it.
#[derive(Debug)]
pub struct Reopening {
    place: Place,
    state: RwLock<State>,
}

#[derive(Debug)]
enum State {
    /// With the last failure to write its file anew.
    Open {
        store: Arc<Sqlite>,
        failed: Option<Failed>,
    },
    Down(Failed),
}

#[derive(Debug)]
struct Failed {
    reason: String,
    tried: Instant,
}

impl Failed {
    fn now(reason: String) -> Self {
        Self { reason, tried: Instant::now() }
    }

    fn is_recent(&self) -> bool {
        self.tried.elapsed() < AGAIN_AFTER
    }
}

impl Reopening {
    /// Tries to open the store.
    pub async fn open(place: Place) -> Self {
        let state = RwLock::new(attempt(&place).await);
        Self { place, state }
    }

    async fn store(&self) -> Result<Arc<Sqlite>, StoreError> {
        let open = match &*self.state.read().await {
            State::Open { store, .. } => Some(store.clone()),
            State::Down(_) => None,
        };
        if let Some(store) = open
            && store.standing().await == Standing::InPlace
        {
            return Ok(store);
        }
        self.reopen(self.state.write().await).await
    }

    async fn reopen(&self, mut state: RwLockWriteGuard<'_, State>) -> Result<Arc<Sqlite>, StoreError> {
        if let State::Open { store, failed } = &mut *state {
            match store.standing().await {
                Standing::InPlace => return Ok(store.clone()),
                Standing::Replaced => return Err(StoreError::Replaced { place: self.place.to_string() }),
                Standing::Gone => {}
            }
            if let Some(failed) = failed.as_ref().filter(|failed| failed.is_recent()) {
                return Err(self.down(failed));
            }
            if let Err(error) = store.write_anew().await {
                return Err(self.down(failed.insert(Failed::now(Chain(&error).to_string()))));
            }
            tracing::warn!(store = %self.place, "the store's file was gone and has been written anew");
            let old = store.clone();
            // Before anything waits: should this caller go away, the next one opens the new file.
            *state = State::Down(Failed::now("its file was written anew and is not open yet".to_owned()));
            old.close().await;
            *state = attempt(&self.place).await;
        } else if let State::Down(failed) = &*state
            && !failed.is_recent()
        {
            *state = attempt(&self.place).await;
        }
        match &*state {
            State::Open { store, .. } => Ok(store.clone()),
            State::Down(failed) => Err(self.down(failed)),
        }
    }

    fn down(&self, failed: &Failed) -> StoreError {
        StoreError::Down { place: self.place.to_string(), reason: failed.reason.clone() }
    }
}

async fn attempt(place: &Place) -> State {
    match Sqlite::open(place).await {
        Ok(store) => {
            tracing::info!(store = %place, "store open");
            State::Open { store: Arc::new(store), failed: None }
        }
        Err(error) => State::Down(Failed::now(Chain(&error).to_string())),
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
        if let State::Open { store, .. } = &*self.state.read().await {
            store.close().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract::rule;

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

    #[tokio::test]
    async fn a_file_that_is_taken_away_is_written_anew_with_all_there_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("moxie.db");
        let place = Place::File(path.clone());
        let store = Reopening::open(place.clone()).await;
        store.put_rules(&[rule("before", 1)]).await.unwrap();
        for (seq, with_its_log) in [(2, false), (3, true)] {
            std::fs::remove_file(&path).unwrap();
            if with_its_log {
                for log in ["moxie.db-wal", "moxie.db-shm"] {
                    std::fs::remove_file(directory.path().join(log)).unwrap();
                }
            }
            store.put_rules(&[rule(&format!("after-{with_its_log}"), seq)]).await.unwrap();
        }
        store.close().await;
        let again = Reopening::open(place).await;
        let ids: Vec<_> = again.rules().await.unwrap().into_iter().map(|rule| rule.unwrap().id.0).collect();
        assert_eq!(ids, ["before", "after-false", "after-true"]);
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_file_behind_a_link_is_written_anew_where_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let (link, path) = (directory.path().join("moxie.db"), directory.path().join("elsewhere.db"));
        std::fs::write(&path, "").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let store = Reopening::open(Place::File(link.clone())).await;
        store.put_rules(&[rule("a", 1)]).await.unwrap();
        std::fs::remove_file(&path).unwrap();
        store.put_rules(&[rule("b", 2)]).await.unwrap();
        store.close().await;
        assert!(link.is_symlink() && path.is_file());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "no copy is left");
        let again = Reopening::open(Place::File(path)).await;
        assert_eq!(again.rules().await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_written_anew_is_once_it_can() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let store = Reopening::open(Place::File(state.join("moxie.db"))).await;
        store.put_rules(&[rule("a", 1)]).await.unwrap();
        std::fs::remove_dir_all(&state).unwrap();
        std::fs::write(&state, "a file where the directory should be").unwrap();
        for _ in 0..2 {
            let error = store.rules().await.unwrap_err();
            assert!(matches!(&error, StoreError::Down { reason, .. } if reason.contains("cannot make")), "{error}");
        }
        std::fs::remove_file(&state).unwrap();
        tokio::time::timeout(Duration::from_secs(10), async {
            while store.rules().await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await
        .expect("is written in time");
        assert_eq!(store.rules().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_file_of_somebody_elses_is_not_written_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("moxie.db");
        let store = Reopening::open(Place::File(path.clone())).await;
        store.put_rules(&[rule("a", 1)]).await.unwrap();
        std::fs::rename(&path, directory.path().join("away")).unwrap();
        std::fs::write(&path, "another").unwrap();
        assert!(matches!(store.put_rules(&[rule("b", 2)]).await, Err(StoreError::Replaced { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "another");
        std::fs::remove_file(&path).unwrap();
        std::fs::rename(directory.path().join("away"), &path).unwrap();
        store.put_rules(&[rule("b", 2)]).await.unwrap();
    }
}
