//! What outlives the agent: rules, their counts, scopes and records, behind one trait with a file per database.

pub mod sqlite;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;

use crate::journal::{Connection, Exchange};
use crate::rules::RuleId;

/// A rule as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRule {
    /// Its name.
    pub id: RuleId,
    /// Order of creation.
    pub seq: i64,
    /// The canonical JSON of its spec.
    pub spec: Value,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed by a user.
    pub updated_at: Timestamp,
    /// Its counts.
    pub counts: Counts,
}

/// The counts of a rule as they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Firings left; -1 is no limit.
    pub remaining: i64,
    /// Firings so far.
    pub hits: u64,
    /// When it last fired.
    pub last_hit: Option<Timestamp>,
}

/// A scope as it is stored: the JSON the API took, and its id.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredScope {
    /// Its name.
    pub id: String,
    /// `{"cgroup": …, "mode": …}`.
    pub spec: Value,
    /// When it was added.
    pub created_at: Timestamp,
}

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The `--store` URL is none of the known ones.
    #[error("`{0}` is not a store: write sqlite:///path/to/file or sqlite::memory:")]
    UnknownUrl(String),
    /// The database could not be opened.
    #[error("cannot open the store {place}")]
    Open {
        /// Where.
        place: String,
        /// What the database said.
        source: sqlx::Error,
    },
    /// A migration failed; the database is left as it was.
    #[error("cannot bring the store {place} up to date")]
    Migrate {
        /// Where.
        place: String,
        /// What the database said.
        source: sqlx::migrate::MigrateError,
    },
    /// A statement failed.
    #[error("the store could not {operation}")]
    Query {
        /// What was being done: "save the rules", …
        operation: &'static str,
        /// What the database said.
        source: sqlx::Error,
    },
    /// A stored row does not read back.
    #[error("the store holds a row in {table} that does not read back: {id}")]
    Corrupt {
        /// Table.
        table: &'static str,
        /// Row.
        id: String,
    },
}

/// A database. The data path never waits for it.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// Every rule, in order of creation.
    async fn rules(&self) -> Result<Vec<StoredRule>, StoreError>;
    /// Inserts or replaces rules, all or none.
    async fn put_rules(&self, rules: &[StoredRule]) -> Result<(), StoreError>;
    /// Removes a rule; false if there was none.
    async fn delete_rule(&self, id: &RuleId) -> Result<bool, StoreError>;
    /// Writes counts of rules that still exist, all or none.
    async fn put_counts(&self, counts: &[(RuleId, Counts)]) -> Result<(), StoreError>;
    /// Every scope, oldest first.
    async fn scopes(&self) -> Result<Vec<StoredScope>, StoreError>;
    /// Inserts or replaces a scope.
    async fn put_scope(&self, scope: &StoredScope) -> Result<(), StoreError>;
    /// Removes a scope; false if there was none.
    async fn delete_scope(&self, id: &str) -> Result<bool, StoreError>;
    /// Appends records, then drops the oldest of each kind beyond `keep_bytes`.
    async fn append(
        &self,
        exchanges: &[Arc<Exchange>],
        connections: &[Arc<Connection>],
        keep_bytes: u64,
    ) -> Result<(), StoreError>;
    /// The newest exchanges, newest first, about `bytes` of them.
    async fn newest_exchanges(&self, bytes: u64) -> Result<Vec<Exchange>, StoreError>;
    /// The newest connections, newest first, about `bytes` of them.
    async fn newest_connections(&self, bytes: u64) -> Result<Vec<Connection>, StoreError>;
    /// Closes the database in good order.
    async fn close(&self);
}
