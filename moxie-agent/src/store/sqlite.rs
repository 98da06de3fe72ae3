//! The store in one SQLite file (write-ahead log), or in memory.

mod place;
mod records;
mod rows;

use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use async_trait::async_trait;
use sqlx::Sqlite as Db;
use sqlx::migrate::Migrator;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use tokio::sync::Mutex;

use place::Opened;
pub use place::Standing;

use super::{Counts, Store, StoreError, StoredRule, StoredScope};
use crate::journal::{Connection, Exchange};
use crate::rules::RuleId;

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/sqlite");

/// How long SQLite waits for another process that holds the file.
const BUSY: Duration = Duration::from_secs(2);
/// How long a caller waits for its turn.
const TURN: Duration = Duration::from_secs(5);
/// How long one call may take in all: a disk that hangs must not hang the API.
const CALL: Duration = Duration::from_secs(15);

/// Where a SQLite store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In memory, gone with the agent.
    Memory,
    /// In a file, by absolute path.
    File(PathBuf),
}

impl Place {
    /// Reads a `--store` URL. The path is taken as it stands: nothing in it is decoded.
    ///
    /// # Errors
    /// [`StoreError::UnknownUrl`] and [`StoreError::PostgresUrl`], with what to write instead.
    pub fn parse(url: &str) -> Result<Self, StoreError> {
        if url == "sqlite::memory:" {
            return Ok(Self::Memory);
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Err(StoreError::PostgresUrl);
        }
        match url.strip_prefix("sqlite://") {
            Some(path) if path.starts_with('/') && !path.ends_with('/') => Ok(Self::File(PathBuf::from(path))),
            _ => Err(StoreError::UnknownUrl(without_password(url))),
        }
    }
}

impl Place {
    /// The file that is there now.
    fn opened(&self) -> Result<Option<Opened>, StoreError> {
        let Self::File(path) = self else { return Ok(None) };
        // Where a link leads to now: the database and its log are there, and are to be there again.
        let found = std::fs::canonicalize(path).and_then(|path| Opened::at(&path));
        found.map(Some).map_err(|source| StoreError::Make { path: path.clone(), source })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("sqlite::memory:"),
            Self::File(path) => write!(f, "sqlite://{}", path.display()),
        }
    }
}

fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        _ => url.to_owned(),
    }
}

/// A SQLite database.
///
/// One connection: SQLite has one writer anyhow, and its calls are the rare ones of the write-behind tasks and of people.
pub struct Sqlite {
    pool: SqlitePool,
    /// None in memory.
    opened: Option<Opened>,
    /// Held while the system is asked for the file: of questions that hang there is one.
    looking: Arc<Mutex<()>>,
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite").field("closed", &self.pool.is_closed()).finish()
    }
}

impl Sqlite {
    /// Opens the database, makes it if there is none, and brings it up to date. A file that is no database is left as it is.
    ///
    /// # Errors
    /// [`StoreError::Make`], [`StoreError::Open`], [`StoreError::Migrate`].
    pub async fn open(place: &Place) -> Result<Self, StoreError> {
        if let Place::File(path) = place {
            make_private(path)?;
        }
        let failed = |source| StoreError::Open { place: place.to_string(), source };
        let connecting = pool_options().connect_with(connect_options(place));
        let pool = bounded(connecting).await.map_err(failed)?;
        match tokio::time::timeout(CALL, MIGRATIONS.run(&pool)).await {
            Ok(Ok(())) => Ok(Self { pool, opened: place.opened()?, looking: Arc::default() }),
            Ok(Err(source)) => Err(StoreError::Migrate { place: place.to_string(), source }),
            Err(_) => Err(failed(too_slow())),
        }
    }

    /// Starts a change on the connection; unless [`commit`] is reached, it is undone.
    async fn begin(&self) -> sqlx::Result<PoolConnection<Db>> {
        let mut connection = self.pool.acquire().await?;
        // IMMEDIATE asks for the write lock first, so that waiting for another process can succeed.
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *connection).await?;
        Ok(connection)
    }
}

async fn commit(mut connection: PoolConnection<Db>) -> sqlx::Result<()> {
    sqlx::raw_sql("COMMIT").execute(&mut *connection).await?;
    Ok(())
}

fn pool_options() -> SqlitePoolOptions {
    // The one connection is kept: with it a database in memory would go.
    let options = SqlitePoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
    // Undoes what was begun and not committed. sqlx's own transactions are not used: on a full disk SQLite rolls back by
    // itself, sqlx's rollback then fails, and the connection would count itself inside a transaction for good.
    options.acquire_timeout(TURN).after_release(|connection, _| {
        Box::pin(async move {
            // An error says that there was nothing to undo.
            let _ = sqlx::raw_sql("ROLLBACK").execute(connection).await;
            Ok(true)
        })
    })
}

fn connect_options(place: &Place) -> SqliteConnectOptions {
    let options = SqliteConnectOptions::new().busy_timeout(BUSY).synchronous(SqliteSynchronous::Normal);
    match place {
        Place::Memory => options.in_memory(true).journal_mode(SqliteJournalMode::Memory),
        Place::File(path) => options.filename(path).journal_mode(SqliteJournalMode::Wal),
    }
}

/// Makes the directory (0700) and the file (0600) where they are missing; SQLite gives its side files the mode of the file.
fn make_private(path: &Path) -> Result<(), StoreError> {
    make_directory_of(path)?;
    match make_new(path) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(StoreError::Make { path: path.to_path_buf(), source })
        }
        _ => Ok(()),
    }
}

fn make_directory_of(path: &Path) -> Result<(), StoreError> {
    let Some(directory) = path.parent() else { return Ok(()) };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|source| StoreError::Make { path: directory.to_path_buf(), source })
}

/// Makes an empty file (0600) where there is none.
fn make_new(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map(drop)
}

async fn bounded<T>(work: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    tokio::time::timeout(CALL, work).await.unwrap_or_else(|_| Err(too_slow()))
}

/// One bounded call, whose failure says what was being done.
async fn call<T>(operation: &'static str, work: impl Future<Output = sqlx::Result<T>>) -> Result<T, StoreError> {
    bounded(work).await.map_err(|source| StoreError::Query { operation, source })
}

fn too_slow() -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {CALL:?}")))
}

#[async_trait]
impl Store for Sqlite {
    async fn rules(&self) -> Result<Vec<Result<StoredRule, StoreError>>, StoreError> {
        call("read the rules", rows::rules(&self.pool)).await
    }

    async fn put_rules(&self, rules: &[StoredRule]) -> Result<(), StoreError> {
        let change = async {
            let mut connection = self.begin().await?;
            rows::put_rules(&mut connection, rules).await?;
            commit(connection).await
        };
        call("save the rules", change).await
    }

    async fn delete_rule(&self, id: &RuleId) -> Result<bool, StoreError> {
        call("delete a rule", rows::delete_rule(&self.pool, id)).await
    }

    async fn put_counts(&self, counts: &[(RuleId, Counts)]) -> Result<(), StoreError> {
        let change = async {
            let mut connection = self.begin().await?;
            rows::put_counts(&mut connection, counts).await?;
            commit(connection).await
        };
        call("save the counts", change).await
    }

    async fn scopes(&self) -> Result<Vec<StoredScope>, StoreError> {
        call("read the scopes", rows::scopes(&self.pool)).await
    }

    async fn put_scope(&self, scope: &StoredScope) -> Result<(), StoreError> {
        call("save a scope", rows::put_scope(&self.pool, scope)).await
    }

    async fn delete_scope(&self, id: &str) -> Result<bool, StoreError> {
        call("delete a scope", rows::delete_scope(&self.pool, id)).await
    }

    async fn append(
        &self,
        exchanges: &[Arc<Exchange>],
        connections: &[Arc<Connection>],
        keep_bytes: u64,
    ) -> Result<(), StoreError> {
        let change = async {
            let mut connection = self.begin().await?;
            records::append(&mut connection, exchanges, keep_bytes).await?;
            records::append(&mut connection, connections, keep_bytes).await?;
            commit(connection).await
        };
        call("append records", change).await
    }

    async fn newest_exchanges(&self, bytes: u64) -> Result<Vec<Exchange>, StoreError> {
        call("read the exchanges", records::newest(&self.pool, bytes)).await
    }

    async fn newest_connections(&self, bytes: u64) -> Result<Vec<Connection>, StoreError> {
        call("read the connections", records::newest(&self.pool, bytes)).await
    }

    async fn close(&self) {
        // Bounded as every call: the last connection copies the log back into the file here.
        let _ = tokio::time::timeout(CALL, self.pool.close()).await;
    }
}

#[cfg(test)]
mod tests;
