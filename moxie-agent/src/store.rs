//! What outlives the agent: rules, their counts, scopes and records, behind one trait with a file per database.

#[cfg(test)]
mod contract;
pub mod down;
#[cfg(test)]
pub(crate) mod faulty;
pub mod sqlite;

use std::fmt;
use std::path::PathBuf;
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
    /// The `--store` URL is none of the known ones. Whatever may hold a password is left out.
    #[error("`{0}` is not a store: write sqlite:///absolute/path/to/file or sqlite::memory:")]
    UnknownUrl(String),
    /// The `--store` URL names PostgreSQL.
    #[error(
        "this version keeps its store in SQLite only: write sqlite:///absolute/path/to/file instead of postgres://"
    )]
    PostgresUrl,
    /// The place of a database file could not be made.
    #[error("cannot make {}", path.display())]
    Make {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database could not be opened a while ago, or its file not be written anew, and it is too early to try again.
    #[error("the store {place} is down: {reason}")]
    Down {
        /// Where.
        place: String,
        /// Why, with all causes.
        reason: String,
    },
    /// Another file is in the place of the database's, which would be lost with the agent.
    #[error(
        "the file of the store {place} was replaced while the agent runs: put it back, or `moxie rule export` what there is and \
         restart the agent"
    )]
    Replaced {
        /// Where.
        place: String,
    },
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

/// A database. The data path never waits for it, and every call ends within a bounded time.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// Every rule, in order of creation; in the place of a row that does not read back, which row that is.
    async fn rules(&self) -> Result<Vec<Result<StoredRule, StoreError>>, StoreError>;
    /// Inserts or replaces rules, all or none.
    async fn put_rules(&self, rules: &[StoredRule]) -> Result<(), StoreError>;
    /// Removes a rule; false if there was none.
    async fn delete_rule(&self, id: &RuleId) -> Result<bool, StoreError>;
    /// Writes counts of rules that still exist, all or none.
    async fn put_counts(&self, counts: &[(RuleId, Counts)]) -> Result<(), StoreError>;
    /// Every scope, oldest first. A row that does not read back is logged and left out.
    async fn scopes(&self) -> Result<Vec<StoredScope>, StoreError>;
    /// Inserts or replaces a scope.
    async fn put_scope(&self, scope: &StoredScope) -> Result<(), StoreError>;
    /// Removes a scope; false if there was none.
    async fn delete_scope(&self, id: &str) -> Result<bool, StoreError>;
    /// Appends records, then drops the oldest of each kind beyond about `keep_bytes`, all or none.
    async fn append(
        &self,
        exchanges: &[Arc<Exchange>],
        connections: &[Arc<Connection>],
        keep_bytes: u64,
    ) -> Result<(), StoreError>;
    /// The newest exchanges, newest first, each once however often it was appended, at most `bytes` of JSON. What does not read back
    /// is logged and left out.
    async fn newest_exchanges(&self, bytes: u64) -> Result<Vec<Exchange>, StoreError>;
    /// The newest connections, as [`Store::newest_exchanges`].
    async fn newest_connections(&self, bytes: u64) -> Result<Vec<Connection>, StoreError>;
    /// Closes the database in good order.
    async fn close(&self);
}

/// Opens the store that `url` names.
///
/// # Errors
/// The URL is not understood, or the database cannot be opened now.
pub async fn open(url: &str) -> Result<Arc<dyn Store>, StoreError> {
    Ok(Arc::new(sqlite::Sqlite::open(&sqlite::Place::parse(url)?).await?))
}

/// Opens the store that `url` names; one that cannot be opened now fails every call, and opens once it can be.
///
/// # Errors
/// Only for a URL that is not understood: waiting would not mend it.
pub async fn open_or_down(url: &str) -> Result<Arc<dyn Store>, StoreError> {
    Ok(Arc::new(down::Reopening::open(sqlite::Place::parse(url)?).await))
}
