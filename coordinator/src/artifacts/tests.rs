//! Tests of the store. Most run on a folder and on a bucket alike.

use super::*;
use crate::journal::JournalIdentity;
use nadgrid_tests::s3::S3;
use std::collections::BTreeSet;
use std::time::Duration;
use tempfile::TempDir;

/// The place of a store, where tests can change blobs behind its back.
enum TestStore {
    Folder(TempDir),
    S3(S3),
}

impl TestStore {
    fn folder() -> Self {
        Self::Folder(tempfile::tempdir().unwrap())
    }

    fn s3() -> Self {
        Self::S3(S3::start())
    }

    async fn open(&self) -> Store {
        let (url, data, variables) = match self {
            Self::Folder(folder) => (String::new(), folder.path(), Vec::new()),
            Self::S3(server) => (server.url("a/prefix"), Path::new("/nowhere"), server.variables()),
        };
        Store::open_with(&url.as_str().into(), data, &signing(), variables.into_iter()).await.unwrap()
    }

    /// The collected blobs that still exist.
    async fn collected(&self, blobs: &Store) -> Vec<Digest> {
        let files: Vec<_> = blobs.objects.list(Some(&"collected".into())).try_collect().await.unwrap();
        files.iter().map(|file| file.location.filename().and_then(Digest::from_hex).unwrap()).collect()
    }

    fn overwrite(&self, digest: Digest, bytes: &[u8]) {
        match self {
            Self::Folder(folder) => std::fs::write(file(folder, digest), bytes).unwrap(),
            Self::S3(server) => server.overwrite(&format!("a/prefix/{}", path(digest)), bytes),
        }
    }
}

fn file(folder: &TempDir, digest: Digest) -> PathBuf {
    folder.path().join("artifacts").join(path(digest).to_string())
}

fn signing() -> PresignSettings {
    PresignSettings { is_on: true, public_endpoint: None }
}

async fn store(store: &Store, bytes: &[u8]) -> Digest {
    store.put(bytes.to_vec()).await.unwrap().digest()
}

async fn bytes_come_back_and_damage_does_not(place: TestStore) {
    let blobs = place.open().await;
    let digest = store(&blobs, b"gradient").await;
    assert_eq!(store(&blobs, b"gradient").await, digest);
    assert_eq!(blobs.get(digest).await.unwrap(), b"gradient");
    assert_eq!(place.open().await.get(digest).await.unwrap(), b"gradient");
    for damage in [b"gradienT".as_slice(), b"gra", b""] {
        place.overwrite(digest, damage);
        let error = blobs.get(digest).await.unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }) && error.is_loss());
        let error = blobs.get(digest).await.unwrap_err();
        assert!(matches!(error, StoreError::Missing(_)) && error.is_loss());
        store(&blobs, b"gradient").await;
        assert_eq!(blobs.get(digest).await.unwrap(), b"gradient");
    }
    // Damage that nobody has read yet does not win over a blob that is stored again.
    place.overwrite(digest, b"gradienT");
    store(&blobs, b"gradient").await;
    assert_eq!(blobs.get(digest).await.unwrap(), b"gradient");
}

async fn orphans_are_collected_and_nothing_else(place: TestStore) {
    let blobs = place.open().await;
    let needed = store(&blobs, &[1]).await;
    let orphan = store(&blobs, &[2]).await;
    let held = blobs.put(vec![3]).await.unwrap();
    let removal = blobs.removal();
    let references = BTreeSet::from([needed]);
    let day = Duration::from_secs(86_400);
    assert_eq!(removal.collect(&references, day).await.unwrap(), 0, "all are young");
    // Stored again by another sweep, reported and let go of, after the references were looked at.
    drop(blobs.put(vec![4]).await.unwrap());
    assert_eq!(removal.collect(&references, Duration::ZERO).await.unwrap(), 1);
    assert!(matches!(blobs.get(orphan).await, Err(StoreError::Missing(_))));
    assert_eq!(place.collected(&blobs).await, [orphan], "it can be taken back");
    for kept in [needed, held.digest(), Digest::of(&[4])] {
        blobs.get(kept).await.unwrap();
        assert!(kept == needed || !removal.remove(kept).await.unwrap());
    }
    // The next removal spares what is held now and nothing else.
    drop(removal);
    let removal = blobs.removal();
    assert_eq!(removal.collect(&references, Duration::ZERO).await.unwrap(), 1);
    assert!(blobs.get(held.digest()).await.is_ok() && blobs.get(Digest::of(&[4])).await.is_err());
    drop(held);
    drop(removal);
    assert!(blobs.removal().remove(Digest::of(&[3])).await.unwrap());
}

async fn what_was_collected_is_kept_for_a_while(place: TestStore) {
    let blobs = place.open().await;
    let orphan = store(&blobs, &[1]).await;
    let collect = async |age: u64| blobs.removal().collect(&BTreeSet::new(), Duration::from_secs(age)).await.unwrap();
    assert_eq!(collect(0).await, 1);
    assert_eq!((collect(3600).await, place.collected(&blobs).await), (0, vec![orphan]));
    // Their time is in seconds.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!((collect(1).await, place.collected(&blobs).await), (0, vec![]));
}

#[tokio::test]
async fn a_folder_keeps_what_was_collected() {
    what_was_collected_is_kept_for_a_while(TestStore::folder()).await;
}

#[tokio::test]
async fn a_bucket_keeps_what_was_collected() {
    what_was_collected_is_kept_for_a_while(TestStore::s3()).await;
}

async fn a_store_is_one_journals(place: TestStore) {
    let blobs = place.open().await;
    let journal = |id: &str, batches| JournalIdentity { id: id.into(), batches };
    let claim = async |id: &str, batches, is_new, adopts| {
        blobs.claim(&journal(id, batches), "j.sqlite", is_new, adopts).await.map_err(|error| error.to_string())
    };
    // Files that nobody has claimed are a journal's that knows them, and not a new one's.
    store(&blobs, b"gradient").await;
    let said = claim("new", 0, true, false).await.unwrap_err();
    assert!(said.contains("j.sqlite is new") && said.contains("--adopt-artifacts"), "{said}");
    claim("first", 5, false, false).await.unwrap();
    claim("first", 7, false, false).await.unwrap();
    let said = claim("other", 9, false, false).await.unwrap_err();
    assert!(said.contains("another journal than j.sqlite"), "{said}");
    let said = claim("first", 6, false, false).await.unwrap_err();
    assert!(said.contains("has 6 batches but had 7"), "{said}");
    claim("other", 1, true, true).await.unwrap();
    claim("other", 1, true, false).await.unwrap();
    assert!(claim("first", 7, false, false).await.is_err());
    // What says whose it is must say it.
    blobs.objects.put(&"owner.json".into(), PutPayload::from_static(b"{")).await.unwrap();
    let said = claim("other", 1, false, false).await.unwrap_err();
    assert!(said.contains("the file owner.json, which names its owner, cannot be read"), "{said}");
    assert_eq!(blobs.get(Digest::of(b"gradient")).await.unwrap(), b"gradient");
}

#[tokio::test]
async fn a_folder_is_one_journals() {
    a_store_is_one_journals(TestStore::folder()).await;
}

#[tokio::test]
async fn a_bucket_is_one_journals() {
    a_store_is_one_journals(TestStore::s3()).await;
}

#[tokio::test]
async fn an_empty_store_is_anybodys() {
    let place = TestStore::folder();
    let blobs = place.open().await;
    blobs.claim(&JournalIdentity { id: "new".into(), batches: 0 }, "j", true, false).await.unwrap();
}

#[tokio::test]
async fn a_folder_gives_back_bytes_and_no_damage() {
    bytes_come_back_and_damage_does_not(TestStore::folder()).await;
}

#[tokio::test]
async fn a_bucket_gives_back_bytes_and_no_damage() {
    bytes_come_back_and_damage_does_not(TestStore::s3()).await;
}

#[tokio::test]
async fn a_folder_is_rid_of_orphans_alone() {
    orphans_are_collected_and_nothing_else(TestStore::folder()).await;
}

#[tokio::test]
async fn a_bucket_is_rid_of_orphans_alone() {
    orphans_are_collected_and_nothing_else(TestStore::s3()).await;
}

/// One removes a blob over and over while another stores it: whoever has stored it and holds it can read it, and once it is
/// let go of it is gone.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_is_there_whatever_is_removed_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Store::local(folder.path()).unwrap();
    let digest = Digest::of(b"shared");
    let (attempts, mut removed) = tokio::sync::mpsc::channel(1);
    let remover = blobs.clone();
    tokio::spawn(async move { while attempts.send(remover.removal().remove(digest).await.unwrap()).await.is_ok() {} });
    for _ in 0..100 {
        let held = blobs.put(b"shared".to_vec()).await.unwrap();
        removed.recv().await.unwrap();
        assert_eq!(blobs.get(held.digest()).await.unwrap(), b"shared");
        let found = blobs.lease([digest]).await;
        drop(held);
        removed.recv().await.unwrap();
        assert_eq!(blobs.get(digest).await.unwrap(), b"shared");
        drop(found);
        while !removed.recv().await.unwrap() {}
    }
}

/// A coordinator that dies while it writes leaves a file under another name: it is no blob, and it is swept up once it is old.
#[tokio::test]
async fn a_half_written_blob_is_not_there_and_foreign_files_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Store::local(folder.path()).unwrap();
    let digest = Digest::of(b"gradient");
    let place = folder.path().join(path(digest).to_string());
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    let unfinished = place.with_file_name(format!("{digest}#1"));
    let foreign = [place.with_file_name("notes#1"), place.with_file_name("notes"), folder.path().join("letter.txt")];
    for path in foreign.iter().chain([&unfinished]) {
        std::fs::write(path, b"grad").unwrap();
    }
    assert!(matches!(blobs.get(digest).await, Err(StoreError::Missing(_))));
    let removal = blobs.removal();
    assert_eq!(removal.collect(&BTreeSet::new(), Duration::from_secs(60)).await.unwrap(), 0);
    assert!(unfinished.exists());
    assert_eq!(removal.collect(&BTreeSet::new(), Duration::ZERO).await.unwrap(), 0, "it was no blob");
    assert!(!unfinished.exists() && foreign.iter().all(|path| path.exists()));
}

#[tokio::test]
async fn a_store_that_does_not_work_is_refused_by_its_name() {
    let server = S3::start();
    let open = |url: &str| {
        let url = ArtifactsUrl::from(url);
        let variables = server.variables();
        async move {
            Store::open_with(&url, Path::new(""), &signing(), variables.into_iter()).await.err().unwrap().to_string()
        }
    };
    let said = open("s3://another-bucket/x").await;
    assert!(said.contains("s3://another-bucket/x failed"), "{said}");
    let file = tempfile::NamedTempFile::new().unwrap();
    let said = open(&format!("file://{}/x", file.path().display())).await;
    assert!(said.contains("cannot be created"), "{said}");
}

/// Others need no keys, and are given none.
#[tokio::test]
async fn a_bucket_signs_requests_for_single_blobs_and_a_folder_none() {
    let server = S3::start();
    let valid = Duration::from_secs(60);
    let digest = Digest::of(b"gradient");
    let open = async |is_on: bool, endpoint: Option<&str>, more: Option<(&str, &str)>| {
        let public_endpoint = endpoint.map(|url| url.parse().unwrap());
        let more = more.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let variables = server.variables().into_iter().chain(more);
        let presign = PresignSettings { is_on, public_endpoint };
        let url = server.url("a/prefix");
        let data = Path::new("/nowhere");
        Store::open_with(&url.as_str().into(), data, &presign, variables).await.unwrap()
    };
    let blobs = open(true, None, None).await;
    let put = blobs.presign_put(digest, valid).await.unwrap().unwrap();
    assert_eq!((put.method.as_str(), put.valid), ("PUT", valid));
    assert!(put.url.path().ends_with(&format!("a/prefix/{}", path(digest))), "{}", put.url);
    assert_eq!(put.headers, [("if-none-match".to_owned(), "*".to_owned())]);
    let query = put.url.query().unwrap();
    assert!(query.contains("X-Amz-Expires=60") && query.contains("if-none-match"), "{query}");
    let shown = format!("{put:?}");
    assert!(shown.contains(put.url.path()) && !shown.contains("X-Amz"), "the signature is in no log: {shown}");
    let get = blobs.presign_get(digest, valid).await.unwrap().unwrap();
    assert_eq!((get.method.as_str(), get.headers.len()), ("GET", 0));
    assert_eq!(blobs.head(digest).await.unwrap(), None);
    store(&blobs, b"gradient").await;
    assert_eq!(blobs.head(digest).await.unwrap(), Some(8));

    let elsewhere = open(true, Some("https://s3.example:9000"), None).await;
    let get = elsewhere.presign_get(digest, valid).await.unwrap().unwrap();
    assert!(get.url.as_str().starts_with("https://s3.example:9000/nadgrid-tests/a/prefix/"), "{}", get.url);
    let plain = open(true, None, Some(("AWS_CONDITIONAL_PUT", "disabled"))).await;
    assert_eq!(plain.presign_put(digest, valid).await.unwrap().unwrap().headers, []);

    let encrypted = open(true, None, Some(("AWS_SERVER_SIDE_ENCRYPTION", "AES256"))).await;
    let off = open(false, None, None).await;
    let folder = tempfile::tempdir().unwrap();
    for store in [encrypted, off, Store::local(folder.path()).unwrap()] {
        assert!(!store.presigns() && store.presign_get(digest, valid).await.unwrap().is_none());
    }
}
