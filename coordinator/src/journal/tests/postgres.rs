//! PostgreSQL: servers that restart, lost locks and lost answers.

use super::*;
use nadgrid_tests::postgres::Stop;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicI64, Ordering};

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_restarts_is_waited_for() {
    let mut server = Server::start();
    let url = JournalUrl::from(server.socket_url().as_str());
    let mut journal = open(&url, Path::new(""), PATIENCE).await.unwrap();
    for (number, how) in [(1, Stop::Fast), (2, Stop::Immediate)] {
        server.stop(how);
        let started = tokio::task::spawn_blocking(move || {
            server.start_again();
            server
        });
        journal.append(&records([number])).await.unwrap();
        server = started.await.unwrap();
        assert_eq!(all(&mut journal).await.unwrap(), records(1..=number));
    }
}

#[tokio::test]
async fn a_database_that_stays_away_is_given_up() {
    let mut place = TestJournal::database();
    let mut journal = place.open_with(Duration::from_millis(200)).await.unwrap();
    journal.append(&records([1])).await.unwrap();
    let TestJournal::Database(server) = &mut place else { unreachable!() };
    server.stop(Stop::Immediate);
    let away = journal.append(&records([2])).await;
    assert!(matches!(away, Err(JournalError::Patience { .. })), "{away:?}");
    assert!(said(&place, away).contains("tried for 0.2 s"));
    let TestJournal::Database(server) = &mut place else { unreachable!() };
    server.start_again();
    journal.append(&records([3])).await.unwrap();
    assert_eq!(all(&mut journal).await.unwrap(), records([1, 3]));
}

/// The connection breaks, another coordinator takes over, and the first one wakes up: it must not write anything.
#[tokio::test]
async fn a_coordinator_that_lost_its_lock_writes_nothing() {
    let place = TestJournal::database();
    let TestJournal::Database(server) = &place else { unreachable!() };
    let mut first = place.open().await.unwrap();
    first.append(&records([1])).await.unwrap();
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory'";
    // Broken by itself it comes back, its own still.
    assert_eq!(server.sql(end), "1");
    first.append(&records([2])).await.unwrap();
    assert_eq!(server.sql(end), "1");
    let mut second = place.open().await.unwrap();
    for _ in 0..2 {
        let refused = said(&place, first.append(&records([3])).await);
        assert!(refused.contains("taken over"), "{refused}");
    }
    second.append(&records([4])).await.unwrap();
    drop(second);
    // And not when the other one is gone again either.
    let refused = said(&place, first.append(&records([5])).await);
    assert!(refused.contains("taken over"), "{refused}");
    assert!(said(&place, first.compact(&mut records([6]).into_iter(), unread()).await).contains("taken over"));
    assert_eq!(all(&mut place.open().await.unwrap()).await.unwrap(), records([1, 2, 4]));
}

/// Even if the lock does not exclude others (a pooler shares sessions), the epoch does.
#[tokio::test]
async fn the_epoch_alone_keeps_an_old_coordinator_out() {
    let place = TestJournal::database();
    let TestJournal::Database(server) = &place else { unreachable!() };
    let mut journal = place.open().await.unwrap();
    journal.append(&records([1])).await.unwrap();
    server.sql("UPDATE nadgrid_journal SET epoch = epoch + 1");
    assert!(said(&place, journal.append(&records([2])).await).contains("taken over"));
    assert_eq!(server.sql("SELECT count(*) FROM nadgrid_batches"), "1");
}

/// The server commits and its answer is lost: the batch is there once.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_no_second_batch() {
    let server = Server::start();
    let proxy = Proxy::start(&server);
    let mut journal = open(&proxy.url.as_str().into(), Path::new(""), PATIENCE).await.unwrap();
    journal.append(&records([1])).await.unwrap();
    proxy.lose_answer_after(0);
    journal.append(&records([2])).await.unwrap();
    assert!(proxy.has_lost(), "an answer was lost");
    assert_eq!(all(&mut journal).await.unwrap(), records(1..=2));
    // Whichever answer of a compaction is lost: the old records or the new ones, and a journal that goes on.
    let mut old = records(1..=2);
    let mut outcomes = std::collections::BTreeSet::new();
    for answers in 0..16 {
        let new = records([10 * answers, 10 * answers + 1]);
        proxy.lose_answer_after(answers as i64);
        let compacted = journal.compact(&mut new.clone().into_iter(), unread()).await;
        if !proxy.has_lost() {
            compacted.unwrap();
            break;
        }
        assert!(compacted.is_err());
        let more = records([1_000 + answers]);
        journal.append(&more).await.unwrap();
        let found = all(&mut journal).await.unwrap();
        let was_new = found == [new, more.clone()].concat();
        assert!(was_new || found == [old, more].concat(), "{found:?}");
        outcomes.insert(was_new);
        old = found;
    }
    assert_eq!(outcomes.len(), 2, "both were seen");
}

#[tokio::test]
async fn a_database_that_cannot_be_used_is_refused_without_its_password() {
    let server = Server::start();
    for (from, to) in [(PASSWORD, "battery-staple"), ("/postgres", "/nowhere"), ("nadgrid:", "nobody:")] {
        let url = server.url().replacen(from, to, 1);
        let said = open(&url.as_str().into(), Path::new(""), PATIENCE).await.err().unwrap().to_string();
        assert!(said.contains("cannot be used") && !said.contains(PASSWORD) && !said.contains("staple"), "{said}");
    }
}

/// A proxy between a journal and its server.
struct Proxy {
    url: String,
    /// The number of the server's answers until one is dropped, with its connection; none is if negative.
    answers: Arc<AtomicI64>,
}

impl Proxy {
    fn start(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let direct = url::Url::parse(&server.url()).unwrap();
        let mut url = direct.clone();
        url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        let answers = Arc::new(AtomicI64::new(-1));
        let left = answers.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(("127.0.0.1", direct.port().unwrap())).unwrap();
                let mut from = client.try_clone().unwrap();
                let mut to = server.try_clone().unwrap();
                std::thread::spawn(move || {
                    drop(std::io::copy(&mut from, &mut to));
                    drop(to.shutdown(Shutdown::Both));
                });
                let left = left.clone();
                std::thread::spawn(move || forward(server, client, &left));
            }
        });
        Self { url: url.to_string(), answers }
    }

    fn lose_answer_after(&self, answers: i64) {
        self.answers.store(answers, Ordering::SeqCst);
    }

    /// Whether an answer was dropped. If not, none will be.
    fn has_lost(&self) -> bool {
        self.answers.swap(-1, Ordering::SeqCst) < 0
    }
}

fn forward(mut server: TcpStream, mut client: TcpStream, answers: &AtomicI64) {
    use std::io::{Read, Write};
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = server.read(&mut buffer) {
        let left = answers.load(Ordering::SeqCst);
        if left >= 0 {
            answers.store(left - 1, Ordering::SeqCst);
        }
        if left == 0 || client.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    drop(client.shutdown(Shutdown::Both));
}
