//! Records as rows of SQLite: appended, trimmed from the oldest end, read back from the newest.

use std::sync::Arc;

use futures_util::TryStreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use crate::journal::{Connection, Exchange};

/// Records that one statement adds: several times as fast as one for each.
const AT_ONCE: usize = 64;

/// A kind of record and the statements of its table.
pub(super) trait Kept: Serialize + DeserializeOwned {
    /// Also the name of its table.
    const KIND: &'static str;
    const SUM: &'static str;
    const OLDEST: &'static str;
    const TRIM: &'static str;
    const NEWEST: &'static str;
    fn id(&self) -> &str;
}

impl Kept for Exchange {
    const KIND: &'static str = "exchanges";
    const SUM: &'static str = "SELECT coalesce(sum(size), 0) FROM exchanges";
    const OLDEST: &'static str = "SELECT seq, size FROM exchanges ORDER BY seq";
    const TRIM: &'static str = "DELETE FROM exchanges WHERE seq <= ?";
    const NEWEST: &'static str = "SELECT id, size, record FROM exchanges ORDER BY seq DESC";

    fn id(&self) -> &str {
        &self.id
    }
}

impl Kept for Connection {
    const KIND: &'static str = "connections";
    const SUM: &'static str = "SELECT coalesce(sum(size), 0) FROM connections";
    const OLDEST: &'static str = "SELECT seq, size FROM connections ORDER BY seq";
    const TRIM: &'static str = "DELETE FROM connections WHERE seq <= ?";
    const NEWEST: &'static str = "SELECT id, size, record FROM connections ORDER BY seq DESC";

    fn id(&self) -> &str {
        &self.id
    }
}

pub(super) async fn append<T: Kept>(
    connection: &mut SqliteConnection,
    records: &[Arc<T>],
    keep_bytes: u64,
) -> sqlx::Result<()> {
    if records.is_empty() {
        return Ok(());
    }
    let mut bytes: i64 = sqlx::query_scalar("SELECT bytes FROM record_bytes WHERE kind = ?")
        .bind(T::KIND)
        .fetch_one(&mut *connection)
        .await?;
    let (mut size, mut inserted) = (0_i64, 0);
    // Two lengths, so that there are two statements to keep prepared.
    let (chunks, rest) = records.as_chunks::<AT_ONCE>();
    for chunk in chunks.iter().map(|chunk| &chunk[..]).chain(rest.chunks(1)) {
        let texts = chunk.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>();
        let texts = texts.map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
        size = texts.iter().fold(size, |size, text| size.saturating_add(length(text)));
        inserted += insert(connection, chunk, texts).await?;
    }
    bytes = if usize::try_from(inserted) == Ok(records.len()) {
        bytes.saturating_add(size)
    } else {
        // Some were there already, as after another agent has written them: rare enough to add up the table.
        sqlx::query_scalar(T::SUM).fetch_one(&mut *connection).await?
    };
    let keep = i64::try_from(keep_bytes).unwrap_or(i64::MAX);
    if bytes > keep {
        bytes -= trim::<T>(connection, bytes - keep).await?;
    }
    sqlx::query("UPDATE record_bytes SET bytes = ? WHERE kind = ?")
        .bind(bytes)
        .bind(T::KIND)
        .execute(&mut *connection)
        .await?;
    Ok(())
}

/// Adds records, as texts too, by one statement. Gives how many were not there already.
async fn insert<T: Kept>(
    connection: &mut SqliteConnection,
    records: &[Arc<T>],
    texts: Vec<String>,
) -> sqlx::Result<u64> {
    let rows = vec!["(?, ?, ?)"; texts.len()].join(", ");
    let kind = T::KIND;
    let statement = format!("INSERT INTO {kind} (id, size, record) VALUES {rows} ON CONFLICT (id) DO NOTHING");
    let mut query = sqlx::query(AssertSqlSafe(statement));
    for (record, text) in records.iter().zip(texts) {
        query = query.bind(record.id()).bind(length(&text)).bind(text);
    }
    Ok(query.execute(&mut *connection).await?.rows_affected())
}

fn length(text: &str) -> i64 {
    i64::try_from(text.len()).unwrap_or(i64::MAX)
}

/// Removes the oldest records, at least `excess` bytes of them and not one more than that takes. Gives the bytes removed.
async fn trim<T: Kept>(connection: &mut SqliteConnection, excess: i64) -> sqlx::Result<i64> {
    let (mut last, mut removed) = (None, 0);
    let mut oldest = sqlx::query(T::OLDEST).fetch(&mut *connection);
    while removed < excess
        && let Some(row) = oldest.try_next().await?
    {
        last = Some(row.try_get::<i64, _>("seq")?);
        removed += row.try_get::<i64, _>("size")?;
    }
    drop(oldest);
    if let Some(last) = last {
        sqlx::query(T::TRIM).bind(last).execute(&mut *connection).await?;
    }
    Ok(removed)
}

/// The newest records, newest first, at most `bytes` of them.
pub(super) async fn newest<T: Kept>(pool: &SqlitePool, bytes: u64) -> sqlx::Result<Vec<T>> {
    let mut left = i64::try_from(bytes).unwrap_or(i64::MAX);
    let mut records = Vec::new();
    let mut rows = sqlx::query(T::NEWEST).fetch(pool);
    while let Some(row) = rows.try_next().await? {
        left -= row.try_get::<i64, _>("size")?;
        if left < 0 {
            break;
        }
        records.extend(readable(&row));
    }
    Ok(records)
}

fn readable<T: Kept>(row: &SqliteRow) -> Option<T> {
    let record = serde_json::from_str(row.try_get("record").ok()?).ok();
    if record.is_none() {
        let id: String = row.try_get("id").unwrap_or_default();
        tracing::error!("the store holds a row in {} that does not read back: {id}; it is left out", T::KIND);
    }
    record
}
