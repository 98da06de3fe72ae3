//! What is SQLite's own: files, their modes, and disks that fail.

use std::os::unix::fs::PermissionsExt;

use sqlx::Row;
use tempfile::TempDir;

use super::*;
use crate::chain::Chain;
use crate::journal::fixture::{connection, exchange};
use crate::store::contract::{self, rule};
use crate::store::{open, open_or_down};

fn in_directory() -> (TempDir, Place) {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::File(directory.path().join("state/moxie.db"));
    (directory, place)
}

fn path(place: &Place) -> &Path {
    let Place::File(path) = place else { panic!("in memory") };
    path
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_file_holds_the_contract() {
    let (_directory, place) = in_directory();
    contract::holds(&Sqlite::open(&place).await.unwrap()).await;
}

#[tokio::test]
async fn memory_holds_the_contract() {
    contract::holds(&Sqlite::open(&Place::Memory).await.unwrap()).await;
}

#[tokio::test]
async fn a_reopening_store_holds_the_contract() {
    contract::holds(open_or_down("sqlite::memory:").await.unwrap().as_ref()).await;
}

#[test]
fn urls() {
    let said = |url: &str| Place::parse(url).map(|place| place.to_string()).map_err(|error| error.to_string());
    assert_eq!(said("sqlite:///a b/%20?x.db").unwrap(), "sqlite:///a b/%20?x.db");
    assert_eq!(said("sqlite::memory:").unwrap(), "sqlite::memory:");
    for wrong in ["", "moxie.db", "/var/moxie.db", "sqlite://moxie.db", "sqlite:///dir/", "mysql://u:secret@h/db"] {
        let message = said(wrong).unwrap_err();
        assert!(message.contains("write sqlite:///") && !message.contains("secret"), "{message}");
    }
    let message = said("postgres://u:secret@h/db").unwrap_err();
    assert!(message.contains("SQLite only") && !message.contains("secret"), "{message}");
}

#[tokio::test]
async fn only_the_owner_can_read_what_is_made() {
    let (_directory, place) = in_directory();
    let store = Sqlite::open(&place).await.unwrap();
    store.put_rules(&[rule("a", 1)]).await.unwrap();
    assert_eq!(mode(path(&place).parent().unwrap()), 0o700);
    assert_eq!(mode(path(&place)), 0o600);
    assert_eq!(mode(&path(&place).with_extension("db-wal")), 0o600);
}

#[tokio::test]
async fn survives_being_killed_and_opened_again() {
    let (directory, place) = in_directory();
    let store = Sqlite::open(&place).await.unwrap();
    store.put_rules(&[rule("a", 1)]).await.unwrap();
    store.append(&[Arc::new(exchange("e"))], &[Arc::new(connection("c"))], u64::MAX).await.unwrap();

    // The files as a killed agent leaves them: the log is not copied back.
    let copy = Place::File(directory.path().join("copy.db"));
    for (from, to) in [("db", "db"), ("db-wal", "db-wal")] {
        std::fs::copy(path(&place).with_extension(from), path(&copy).with_extension(to)).unwrap();
    }
    let killed = Sqlite::open(&copy).await.unwrap();
    assert_eq!(contract::rules(&killed).await, [rule("a", 1)]);
    assert_eq!(killed.newest_exchanges(u64::MAX).await.unwrap().len(), 1);

    store.close().await;
    let closed = Sqlite::open(&place).await.unwrap();
    assert_eq!(contract::rules(&closed).await, [rule("a", 1)]);
    assert_eq!(closed.newest_connections(u64::MAX).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_row_that_does_not_read_back_is_named_and_kept() {
    let store = Sqlite::open(&Place::Memory).await.unwrap();
    store.put_rules(&[rule("good", 1), rule("bad", 2), rule("late", 3)]).await.unwrap();
    store.append(&[Arc::new(exchange("e1")), Arc::new(exchange("e2"))], &[], u64::MAX).await.unwrap();
    for spoil in [
        "UPDATE rules SET spec = '{' WHERE id = 'bad'",
        "UPDATE rules SET created_ms = 9223372036854775807 WHERE id = 'late'",
        "UPDATE exchange_pages SET records = replace(records, '\"id\":\"e1\"', '\"id\":1')",
        "INSERT INTO exchange_pages (size, records) VALUES (1, '[{')",
        "INSERT INTO scopes (id, spec, created_ms) VALUES ('bad', '{', 0)",
    ] {
        sqlx::query(spoil).execute(&store.pool).await.unwrap();
    }
    let read: Vec<_> = store.rules().await.unwrap();
    assert_eq!(read[0].as_ref().unwrap(), &rule("good", 1));
    let named = |row: &Result<StoredRule, StoreError>| row.as_ref().unwrap_err().to_string();
    assert_eq!(named(&read[1]), "the store holds a row in rules that does not read back: bad");
    assert_eq!(named(&read[2]), "the store holds a row in rules that does not read back: late");
    assert_eq!(store.newest_exchanges(u64::MAX).await.unwrap()[0].id, "e2");
    assert_eq!(store.newest_exchanges(u64::MAX).await.unwrap().len(), 1);
    assert_eq!(store.scopes().await.unwrap(), []);
    let kept = sqlx::query("SELECT count(*) FROM rules").fetch_one(&store.pool).await.unwrap();
    assert_eq!(kept.get::<i64, _>(0), 3);
}

#[tokio::test]
async fn records_of_before_there_were_pages_are_kept() {
    let (_directory, place) = in_directory();
    make_private(path(&place)).unwrap();
    let pool = pool_options().connect_with(connect_options(&place)).await.unwrap();
    MIGRATIONS.run_to(3, &pool).await.unwrap();
    for id in ["e1", "e2"] {
        let text = serde_json::to_string(&exchange(id)).unwrap();
        let insert = sqlx::query("INSERT INTO exchanges (id, size, record) VALUES (?, ?, ?)");
        insert.bind(id).bind(text.len() as i64).bind(text).execute(&pool).await.unwrap();
    }
    pool.close().await;

    let store = Sqlite::open(&place).await.unwrap();
    let ids = async || store.newest_exchanges(u64::MAX).await.unwrap().into_iter().map(|record| record.id);
    assert!(ids().await.eq(["e2", "e1"]));
    store.append(&[Arc::new(exchange("e3")), Arc::new(exchange("e4"))], &[], u64::MAX).await.unwrap();
    assert!(ids().await.eq(["e4", "e3", "e2", "e1"]));
    let listed = sqlx::query("SELECT id FROM exchanges ORDER BY id").fetch_all(&store.pool).await.unwrap();
    assert!(listed.iter().map(|row| row.get::<String, _>(0)).eq(["e1", "e2", "e3", "e4"]), "one by one, as a view");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_left_as_it_is() {
    let (_directory, place) = in_directory();
    let store = Sqlite::open(&place).await.unwrap();
    store.put_rules(&[rule("a", 1)]).await.unwrap();
    store.close().await;
    let mut bytes = std::fs::read(path(&place)).unwrap();
    bytes[..64].fill(b'x');
    std::fs::write(path(&place), &bytes).unwrap();

    let error = open(&place.to_string()).await.unwrap_err();
    assert!(Chain(&error).to_string().contains("file is not a database"), "{}", Chain(&error));
    assert_eq!(std::fs::read(path(&place)).unwrap(), bytes);
}

#[tokio::test]
async fn a_truncated_file_is_an_error_or_a_store_but_never_worse() {
    let (_directory, place) = in_directory();
    let store = Sqlite::open(&place).await.unwrap();
    store.put_rules(&(0..50).map(|n| rule(&format!("{n}"), n)).collect::<Vec<_>>()).await.unwrap();
    store.close().await;
    let whole = std::fs::read(path(&place)).unwrap();
    let mut failed = 0;
    for pages in 1..whole.len() / 4096 {
        std::fs::write(path(&place), &whole[..pages * 4096]).unwrap();
        let read = async { open(&place.to_string()).await?.rules().await };
        failed += usize::from(read.await.is_err());
        assert!(path(&place).exists());
        let _ = std::fs::remove_file(path(&place).with_extension("db-wal"));
        let _ = std::fs::remove_file(path(&place).with_extension("db-shm"));
    }
    assert!(failed > 0, "no cut was noticed");
}

#[tokio::test]
async fn a_full_disk_fails_the_call_and_not_the_store() {
    let (_directory, place) = in_directory();
    let store = Sqlite::open(&place).await.unwrap();
    store.put_rules(&[rule("kept", 1)]).await.unwrap();
    // SQLite reports a database at its page limit as it reports a full disk: SQLITE_FULL.
    let limit = |statement: &'static str| sqlx::raw_sql(statement).execute(&store.pool);
    limit("PRAGMA max_page_count = 1").await.unwrap();

    let many: Vec<_> = (0..1000).map(|n| rule(&format!("{n}"), n)).collect();
    let error = store.put_rules(&many).await.unwrap_err();
    assert!(Chain(&error).to_string().contains("full"), "{}", Chain(&error));
    let records: Vec<_> = (0..1000).map(|n| Arc::new(exchange(&format!("{n}")))).collect();
    assert!(store.append(&records, &[], u64::MAX).await.is_err());
    assert_eq!(contract::rules(&store).await, [rule("kept", 1)], "all or none");
    assert_eq!(store.newest_exchanges(u64::MAX).await.unwrap().len(), 0);

    limit("PRAGMA max_page_count = 1000000").await.unwrap();
    store.put_rules(&many).await.unwrap();
    assert_eq!(contract::rules(&store).await.len(), 1001);
}

#[tokio::test]
async fn a_database_that_cannot_be_written_can_be_read() {
    let (_directory, place) = in_directory();
    let store = Sqlite::open(&place).await.unwrap();
    store.put_rules(&[rule("kept", 1)]).await.unwrap();
    // What a file system remounted read-only answers, also to root, whom modes do not stop.
    sqlx::raw_sql("PRAGMA query_only = on").execute(&store.pool).await.unwrap();
    let error = store.put_rules(&[rule("refused", 2)]).await.unwrap_err();
    assert!(Chain(&error).to_string().contains("readonly"), "{}", Chain(&error));
    assert_eq!(contract::rules(&store).await, [rule("kept", 1)]);
}

#[tokio::test]
async fn a_place_that_cannot_be_made_is_named() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("file"), "").unwrap();
    let url = format!("sqlite://{}/file/moxie.db", directory.path().display());
    let error = open(&url).await.unwrap_err();
    assert!(matches!(error, StoreError::Make { .. }), "{error}");
    // The agent starts all the same, and every call says why it fails.
    let down = open_or_down(&url).await.unwrap();
    let error = down.put_rules(&[rule("a", 1)]).await.unwrap_err();
    assert!(Chain(&error).to_string().contains("is down: cannot make"), "{}", Chain(&error));
    assert!(open_or_down("nonsense").await.is_err(), "a wrong URL does not mend itself");
}

#[tokio::test]
async fn another_process_that_holds_the_file_is_waited_for_a_while() {
    let (_directory, place) = in_directory();
    let (store, other) = (Sqlite::open(&place).await.unwrap(), Sqlite::open(&place).await.unwrap());
    let held = other.begin().await.unwrap();
    let error = store.put_rules(&[rule("a", 1)]).await.unwrap_err();
    assert!(Chain(&error).to_string().contains("locked"), "{}", Chain(&error));
    drop(held);
    store.put_rules(&[rule("a", 1)]).await.unwrap();
}
