//! Records as rows of SQLite, each row a page of them: appended, trimmed from the oldest end, read back from the newest.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::TryStreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Row, SqliteConnection};

use crate::journal::{Connection, Exchange};

/// Bytes of a page at most: a row for each record costs ten times as much.
const PAGE: usize = 64 * 1024;
/// Pages that what is kept has at least, since the oldest go by whole pages.
const PAGES: usize = 16;

/// A kind of record and the statements of its table.
pub(super) trait Kept: Serialize + DeserializeOwned {
    /// Its name in the table of sums.
    const KIND: &'static str;
    const TABLE: &'static str;
    const INSERT: &'static str;
    const OLDEST: &'static str;
    const TRIM: &'static str;
    const NEWEST: &'static str;
    fn id(&self) -> &str;
}

impl Kept for Exchange {
    const KIND: &'static str = "exchanges";
    const TABLE: &'static str = "exchange_pages";
    const INSERT: &'static str = "INSERT INTO exchange_pages (size, records) VALUES (?, ?)";
    const OLDEST: &'static str = "SELECT seq, size FROM exchange_pages ORDER BY seq";
    const TRIM: &'static str = "DELETE FROM exchange_pages WHERE seq <= ?";
    const NEWEST: &'static str = "SELECT seq, records FROM exchange_pages ORDER BY seq DESC";

    fn id(&self) -> &str {
        &self.id
    }
}

impl Kept for Connection {
    const KIND: &'static str = "connections";
    const TABLE: &'static str = "connection_pages";
    const INSERT: &'static str = "INSERT INTO connection_pages (size, records) VALUES (?, ?)";
    const OLDEST: &'static str = "SELECT seq, size FROM connection_pages ORDER BY seq";
    const TRIM: &'static str = "DELETE FROM connection_pages WHERE seq <= ?";
    const NEWEST: &'static str = "SELECT seq, records FROM connection_pages ORDER BY seq DESC";

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
    let keep = i64::try_from(keep_bytes).unwrap_or(i64::MAX);
    let most = usize::try_from(keep).unwrap_or(usize::MAX) / PAGES;
    let mut bytes: i64 = sqlx::query_scalar("SELECT bytes FROM record_bytes WHERE kind = ?")
        .bind(T::KIND)
        .fetch_one(&mut *connection)
        .await?;
    for page in pages(records, most.min(PAGE)).map_err(|error| sqlx::Error::Encode(Box::new(error)))? {
        let size = i64::try_from(page.len()).unwrap_or(i64::MAX);
        bytes = bytes.saturating_add(size);
        sqlx::query(T::INSERT).bind(size).bind(page).execute(&mut *connection).await?;
    }
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

/// The records as JSON arrays of at most so many bytes, unless a single one has more.
fn pages<T: Serialize>(records: &[Arc<T>], most: usize) -> serde_json::Result<Vec<String>> {
    let mut pages = Vec::new();
    let mut page = String::new();
    for record in records {
        let text = serde_json::to_string(record)?;
        // With the comma before it, and the bracket after the last.
        if !page.is_empty() && page.len() + text.len() + 2 > most {
            pages.push(std::mem::take(&mut page) + "]");
        }
        page.push(if page.is_empty() { '[' } else { ',' });
        page.push_str(&text);
    }
    if !page.is_empty() {
        pages.push(page + "]");
    }
    Ok(pages)
}

/// Removes the oldest pages, at least `excess` bytes of them and not one more than that takes. Gives the bytes removed.
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

/// The newest records, newest first, each once, at most `bytes` of them.
pub(super) async fn newest<T: Kept>(pool: &SqlitePool, bytes: u64) -> sqlx::Result<Vec<T>> {
    let mut left = bytes;
    let (mut records, mut ids) = (Vec::<T>::new(), HashSet::new());
    let mut rows = sqlx::query(T::NEWEST).fetch(pool);
    while let Some(row) = rows.try_next().await? {
        let text: String = row.try_get("records")?;
        for text in texts::<T>(&text, &row).into_iter().rev() {
            match left.checked_sub(text.get().len() as u64) {
                Some(rest) => left = rest,
                None => return Ok(records),
            }
            // One that two agents have written, as one took over from the other, is one.
            let record = readable::<T>(text, &row).filter(|record| ids.insert(record.id().to_owned()));
            records.extend(record);
        }
    }
    Ok(records)
}

fn texts<'a, T: Kept>(page: &'a str, row: &SqliteRow) -> Vec<&'a RawValue> {
    serde_json::from_str(page).unwrap_or_else(|_| {
        unreadable::<T>(row);
        Vec::new()
    })
}

fn readable<T: Kept>(text: &RawValue, row: &SqliteRow) -> Option<T> {
    let record = serde_json::from_str(text.get()).ok();
    if record.is_none() {
        unreadable::<T>(row);
    }
    record
}

fn unreadable<T: Kept>(row: &SqliteRow) {
    let seq: i64 = row.try_get("seq").unwrap_or_default();
    tracing::error!("the store holds a row in {} that does not read back: {seq}; it is left out", T::TABLE);
}
