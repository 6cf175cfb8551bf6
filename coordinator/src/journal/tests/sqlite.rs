//! SQLite: older versions, and a file that is full.

use super::*;

/// Creates a journal of version 1.
async fn version_1(path: &Path, bodies: &[String]) {
    let tables = "PRAGMA journal_mode = WAL; CREATE TABLE IF NOT EXISTS journal (version INTEGER NOT NULL);
        CREATE TABLE IF NOT EXISTS records (number INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL);
        INSERT INTO journal (version) SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM journal);";
    let insert = |body: &String| format!("INSERT INTO records (body) VALUES ('{}');", body.replace('\'', "''"));
    let rows: String = bodies.iter().map(insert).collect();
    in_file(path, &format!("{tables} BEGIN; {rows} COMMIT;")).await;
}

#[tokio::test]
async fn a_journal_of_version_1_is_migrated() {
    let place = TestJournal::file();
    let TestJournal::File(folder) = &place else { unreachable!() };
    let path = folder.path().join("journal.sqlite");
    // Enough for more than one batch and more than one page of rows.
    let old = records(1..=5_000);
    let bodies: Vec<_> = old.iter().map(|record| serde_json::to_string(record).unwrap()).collect();
    version_1(&path, &bodies).await;
    let before = std::fs::metadata(&path).unwrap().len();
    let mut journal = place.open().await.unwrap();
    assert!(all(&mut journal).await.unwrap() == old);
    journal.append(&records([5_001])).await.unwrap();
    drop(journal);
    let after = std::fs::metadata(&path).unwrap().len();
    assert!(after < before * 3 / 2, "{before} bytes became {after}");
    assert!(all(&mut place.open().await.unwrap()).await.unwrap() == records(1..=5_001));
}

#[tokio::test]
async fn a_journal_of_version_1_that_cannot_be_read_is_left_as_it_is() {
    let place = TestJournal::file();
    let TestJournal::File(folder) = &place else { unreachable!() };
    let body = serde_json::to_string(&ended(1)).unwrap();
    version_1(&folder.path().join("journal.sqlite"), &[body.clone(), "{}".to_owned(), body]).await;
    for _ in 0..2 {
        let unreadable = said(&place, place.open().await);
        assert!(unreadable.contains("record 2"), "{unreadable}");
    }
    place.change("DELETE FROM records WHERE number = 2").await;
    assert_eq!(all(&mut place.open().await.unwrap()).await.unwrap(), records([1, 1]));
}

/// Version 1 could be killed between creating its table and writing its version there.
#[tokio::test]
async fn a_journal_that_was_hardly_begun_is_empty() {
    let place = TestJournal::file();
    place.change("CREATE TABLE journal (version INTEGER NOT NULL)").await;
    let mut journal = place.open().await.unwrap();
    journal.append(&records([1])).await.unwrap();
    assert_eq!(all(&mut journal).await.unwrap(), records([1]));
}

#[tokio::test]
async fn a_file_that_is_full_takes_records_again_once_there_is_room() {
    let place = TestJournal::file();
    let mut journal = place.open_with(Duration::ZERO).await.unwrap();
    journal.append(&records([1])).await.unwrap();
    limit(&mut journal, "PRAGMA max_page_count = 1").await;
    // A fault that may pass: it is the patience that has ended.
    let full = journal.append(&records(1_000..2_000)).await;
    assert!(matches!(full, Err(JournalError::Patience { .. })), "{full:?}");
    assert!(said(&place, full).contains("full"));
    assert_eq!(all(&mut journal).await.unwrap(), records([1]));
    let full = journal.compact(&mut records(1_000..9_000).into_iter(), unread()).await;
    assert!(said(&place, full).contains("full"));
    limit(&mut journal, "PRAGMA max_page_count = 1000000").await;
    journal.append(&records([2])).await.unwrap();
    drop(journal);
    assert_eq!(all(&mut place.open().await.unwrap()).await.unwrap(), records(1..=2));
}

/// SQLite treats its own limit like a full disk.
async fn limit(journal: &mut AnyJournal, pragma: &'static str) {
    let Inner::Sqlite(ledger) = &mut journal.0 else { panic!("a file") };
    sqlx::raw_sql(pragma).execute(&mut ledger.tables().connection).await.unwrap();
}
