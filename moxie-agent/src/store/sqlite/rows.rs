//! Rules and scopes as rows of SQLite.

use jiff::Timestamp;
use serde_json::Value;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Row, SqliteConnection};

use crate::rules::RuleId;
use crate::store::{Counts, StoreError, StoredRule, StoredScope};

pub(super) async fn rules(pool: &SqlitePool) -> sqlx::Result<Vec<Result<StoredRule, StoreError>>> {
    let all = sqlx::query(
        "SELECT id, seq, spec, created_ms, updated_ms, remaining, hits, last_hit_ms FROM rules ORDER BY seq, id",
    );
    Ok(all.fetch_all(pool).await?.iter().map(|row| rule(row).map_err(|_| corrupt("rules", row))).collect())
}

fn rule(row: &SqliteRow) -> sqlx::Result<StoredRule> {
    let last_hit_ms: Option<i64> = row.try_get("last_hit_ms")?;
    Ok(StoredRule {
        id: RuleId(row.try_get("id")?),
        seq: row.try_get("seq")?,
        spec: json(row)?,
        created_at: instant(row.try_get("created_ms")?)?,
        updated_at: instant(row.try_get("updated_ms")?)?,
        counts: Counts {
            remaining: row.try_get("remaining")?,
            hits: row.try_get::<i64, _>("hits")?.try_into().map_err(undecodable)?,
            last_hit: last_hit_ms.map(instant).transpose()?,
        },
    })
}

fn json(row: &SqliteRow) -> sqlx::Result<Value> {
    serde_json::from_str(row.try_get("spec")?).map_err(undecodable)
}

fn instant(milliseconds: i64) -> sqlx::Result<Timestamp> {
    Timestamp::from_millisecond(milliseconds).map_err(undecodable)
}

fn undecodable(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}

fn corrupt(table: &'static str, row: &SqliteRow) -> StoreError {
    StoreError::Corrupt { table, id: row.try_get("id").unwrap_or_default() }
}

/// SQLite's integers are signed; a count above their range stays at its end.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(super) async fn put_rules(connection: &mut SqliteConnection, rules: &[StoredRule]) -> sqlx::Result<()> {
    for rule in rules {
        let put = sqlx::query(
            "INSERT INTO rules (id, seq, spec, created_ms, updated_ms, remaining, hits, last_hit_ms) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET \
             seq = excluded.seq, spec = excluded.spec, created_ms = excluded.created_ms, \
             updated_ms = excluded.updated_ms, remaining = excluded.remaining, hits = excluded.hits, \
             last_hit_ms = excluded.last_hit_ms",
        );
        put.bind(&rule.id.0)
            .bind(rule.seq)
            .bind(rule.spec.to_string())
            .bind(rule.created_at.as_millisecond())
            .bind(rule.updated_at.as_millisecond())
            .bind(rule.counts.remaining)
            .bind(signed(rule.counts.hits))
            .bind(rule.counts.last_hit.map(Timestamp::as_millisecond))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

pub(super) async fn put_counts(
    connection: &mut SqliteConnection,
    counts: &[(RuleId, Counts)],
) -> sqlx::Result<()> {
    for (id, counts) in counts {
        sqlx::query("UPDATE rules SET remaining = ?, hits = ?, last_hit_ms = ? WHERE id = ?")
            .bind(counts.remaining)
            .bind(signed(counts.hits))
            .bind(counts.last_hit.map(Timestamp::as_millisecond))
            .bind(&id.0)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

pub(super) async fn delete_rule(pool: &SqlitePool, id: &RuleId) -> sqlx::Result<bool> {
    let deleted = sqlx::query("DELETE FROM rules WHERE id = ?").bind(&id.0).execute(pool).await?;
    Ok(deleted.rows_affected() > 0)
}

pub(super) async fn scopes(pool: &SqlitePool) -> sqlx::Result<Vec<StoredScope>> {
    let all = sqlx::query("SELECT id, spec, created_ms FROM scopes ORDER BY seq");
    Ok(all.fetch_all(pool).await?.iter().filter_map(readable_scope).collect())
}

fn readable_scope(row: &SqliteRow) -> Option<StoredScope> {
    let scope = scope(row);
    if scope.is_err() {
        tracing::error!("{}; it is left out", corrupt("scopes", row));
    }
    scope.ok()
}

fn scope(row: &SqliteRow) -> sqlx::Result<StoredScope> {
    Ok(StoredScope { id: row.try_get("id")?, spec: json(row)?, created_at: instant(row.try_get("created_ms")?)? })
}

pub(super) async fn put_scope(pool: &SqlitePool, scope: &StoredScope) -> sqlx::Result<()> {
    let put = sqlx::query(
        "INSERT INTO scopes (id, spec, created_ms) VALUES (?, ?, ?) \
         ON CONFLICT (id) DO UPDATE SET spec = excluded.spec, created_ms = excluded.created_ms",
    );
    put.bind(&scope.id)
        .bind(scope.spec.to_string())
        .bind(scope.created_at.as_millisecond())
        .execute(pool)
        .await?;
    Ok(())
}

pub(super) async fn delete_scope(pool: &SqlitePool, id: &str) -> sqlx::Result<bool> {
    let deleted = sqlx::query("DELETE FROM scopes WHERE id = ?").bind(id).execute(pool).await?;
    Ok(deleted.rows_affected() > 0)
}
