//! Damage to the files of a SQLite journal: nothing that was acknowledged is lost silently.

use super::*;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The files of a journal: the database, its log and its mark.
const FILES: [&str; 3] = ["journal.sqlite", "journal.sqlite-wal", "journal.sqlite-mark"];

type Files = [Option<Vec<u8>>; 3];

/// Reads a journal's files, the mark first: it must not promise more than was copied.
fn files_of(folder: &Path) -> Files {
    let mark = std::fs::read(folder.join(FILES[2])).ok();
    let [database, log] = [FILES[0], FILES[1]].map(|name| std::fs::read(folder.join(name)).ok());
    [database, log, mark]
}

/// The records of a journal with these files.
async fn found_in(files: &Files) -> Result<Vec<Record>, JournalError> {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in FILES.iter().zip(files) {
        bytes.iter().for_each(|bytes| std::fs::write(folder.path().join(name), bytes).unwrap());
    }
    all(&mut open(&JournalUrl::default(), folder.path(), Duration::ZERO).await?).await
}

fn flipped(files: &Files, file: usize, bit: usize) -> Files {
    let mut files = files.clone();
    files[file].as_mut().unwrap()[bit / 8] ^= 1 << (bit % 8);
    files
}

/// Bits from all over a file: from its beginning, its end, and others at odd distances.
fn bits_of(file: &[u8]) -> impl Iterator<Item = usize> + use<> {
    let bits = 8 * file.len();
    let ends = (0..256).step_by(11).chain((bits - 32_000..bits).step_by(4_001));
    ends.chain((0..120).map(move |turn| turn * 7_000_021 % bits))
}

async fn settled(folder: &Path, last: i64) {
    while mark::read(&folder.join(FILES[2])).unwrap() != Some(last) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn no_flipped_bit_of_a_log_loses_anything_in_silence() {
    let place = TestJournal::file();
    let TestJournal::File(folder) = &place else { unreachable!() };
    let mut journal = place.open().await.unwrap();
    for number in 1..=12 {
        journal.append(&records([number, 100 + number])).await.unwrap();
    }
    settled(folder.path(), 12).await;
    let files = files_of(folder.path());
    let expected = all(&mut journal).await.unwrap();
    assert_eq!(found_in(&files).await.unwrap(), expected, "the copy is whole");
    let unmarked = [files[0].clone(), files[1].clone(), None];
    let mut by_the_mark = 0;
    let mut in_the_log = 0;
    for bit in bits_of(files[1].as_ref().unwrap()) {
        match found_in(&flipped(&files, 1, bit)).await {
            Ok(found) => assert_eq!(found, expected, "bit {bit}"),
            Err(JournalError::Log { .. }) => in_the_log += 1,
            Err(_) => {
                by_the_mark += 1;
                // Without the mark this would go unnoticed, and so could no batch but the last.
                let found = found_in(&flipped(&unmarked, 1, bit)).await.unwrap();
                assert!(found == expected[..22], "bit {bit}: {} records", found.len());
            }
        }
    }
    assert!(in_the_log > 80 && by_the_mark > 0, "{in_the_log} were noticed in the log, {by_the_mark} by the mark");
    // A log that is cut off or gone is noticed by the mark.
    for length in [0, 1_000, files[1].as_ref().unwrap().len() - 1] {
        let mut cut = files.clone();
        cut[1].as_mut().unwrap().truncate(length);
        let shorter = found_in(&cut).await.unwrap_err();
        assert!(matches!(shorter, JournalError::Shorter { marked: 12, .. }), "{length}: {shorter}");
    }
}

#[tokio::test]
async fn no_flipped_bit_of_a_file_loses_anything_in_silence() {
    let place = TestJournal::file();
    let TestJournal::File(folder) = &place else { unreachable!() };
    let mut journal = place.open().await.unwrap();
    for number in 1..=12 {
        journal.append(&records([number, 100 + number])).await.unwrap();
    }
    let expected = all(&mut journal).await.unwrap();
    settled(folder.path(), 12).await;
    drop(journal);
    // Its log goes into the file when it is closed.
    while folder.path().join(FILES[1]).exists() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let [database, _, mark] = files_of(folder.path());
    let files = [database, None, mark];
    assert_eq!(found_in(&files).await.unwrap(), expected);
    let mut noticed = 0;
    for bit in bits_of(files[0].as_ref().unwrap()) {
        match found_in(&flipped(&files, 0, bit)).await {
            Ok(found) => assert_eq!(found, expected, "bit {bit}"),
            Err(_) => noticed += 1,
        }
    }
    assert!(noticed > 10, "{noticed} were noticed");
}

/// A journal's files are copied while it is written: what was acknowledged before is in the copy, or the copy is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_made_at_any_instant_has_what_was_acknowledged() {
    let place = TestJournal::file();
    let TestJournal::File(folder) = &place else { unreachable!() };
    let path = folder.path().to_owned();
    let mut journal = place.open().await.unwrap();
    // Between two appends a copy is whole, and nothing of it is refused.
    for number in 1..=5 {
        journal.append(&[ended(number)]).await.unwrap();
        assert_eq!(found_in(&files_of(&path)).await.unwrap(), records(1..=number));
    }
    let acknowledged = Arc::new(AtomicU64::new(5));
    let over = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let acknowledged = acknowledged.clone();
        let over = over.clone();
        async move {
            for number in 6.. {
                if over.load(Ordering::SeqCst) {
                    break;
                }
                // Every few batches are a checkpoint, and now and then a compaction replaces them all.
                let batch: &[Record] = if number % 3 == 0 { &[large(number)] } else { &[ended(number)] };
                journal.append(batch).await.unwrap();
                acknowledged.store(number, Ordering::SeqCst);
                if number % 64 == 0 {
                    journal.compact(&mut records(1..=number).into_iter(), unread()).await.unwrap();
                }
            }
        }
    });
    let mut whole = 0;
    for turn in 0..60_u64 {
        tokio::time::sleep(Duration::from_millis(turn * 7 % 11)).await;
        let before = acknowledged.load(Ordering::SeqCst);
        let files = tokio::task::spawn_blocking({
            let path = path.clone();
            move || files_of(&path)
        });
        if let Ok(found) = found_in(&files.await.unwrap()).await {
            assert!(found.len() as u64 >= before, "{} records of {before}", found.len());
            assert!(found.iter().zip(1..).all(|(record, number)| record.sweep().as_str() == number.to_string()));
            whole += 1;
        }
    }
    over.store(true, Ordering::SeqCst);
    writer.await.unwrap();
    assert!(whole > 0, "no copy was whole");
}

#[tokio::test]
async fn a_file_in_the_place_of_a_longer_one_is_refused() {
    let place = TestJournal::file();
    let TestJournal::File(folder) = &place else { unreachable!() };
    let mut journal = place.open().await.unwrap();
    journal.append(&records([1])).await.unwrap();
    let old = files_of(folder.path());
    journal.append(&records([2])).await.unwrap();
    settled(folder.path(), 2).await;
    let [.., mark] = files_of(folder.path());
    for [database, log] in [[old[0].clone(), old[1].clone()], [None, None]] {
        let refused = found_in(&[database.clone(), log.clone(), mark.clone()]).await.unwrap_err().to_string();
        assert!(refused.contains("batch 2 was acknowledged") && refused.contains("remove"), "{refused}");
        let had = if database.is_some() { records([1]) } else { Vec::new() };
        assert_eq!(found_in(&[database, log, None]).await.unwrap(), had);
    }
}
