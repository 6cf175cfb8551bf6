//! The data plane: many workers at once, slow lines, and senders that do not keep to their grants. Whatever they do, the next is served.

mod line;
mod peer;

use nadgrid_proto::status::Reason;
use nadgrid_proto::v1;
use nadgrid_proto::v1::upload_partial_request::Part;
use nadgrid_proto::v1::upload_partial_response::Message;
use nadgrid_tests::{Cluster, command};
use peer::{OpenSession, Peer, UploadOffer, header, partial};
use std::time::Duration;
use tonic::{Code, Status};

const PATIENCE: Duration = Duration::from_secs(60);
/// Eight shards of one block each, with partials of more than 4 MiB.
const SPEC: &str = "name = 'plane'\narchitectures = ['logreg']\n[nads]\nnetworks = 32\nblock_size = 4";

/// Twelve workers of two slots with partials of 4 MiB, and default settings. When payloads were sent before there was a place for
/// them, those that waited filled the windows that those with a place needed, and this never ended.
#[test]
fn twelve_workers_of_two_slots_come_to_an_end() {
    let mut cluster = Cluster::start(&["--most-shard-blocks", "1"]);
    (0..12).for_each(|_| cluster.add_worker(&["--slots", "2"]));
    let started = std::time::Instant::now();
    while cluster.logs().matches("worker joined").count() < 12 {
        assert!(started.elapsed() < PATIENCE, "{}", cluster.logs());
        std::thread::sleep(Duration::from_millis(50));
    }
    let overrides = ["nads.networks=480", "nads.block_size=4"];
    let many = cluster.submit("lenet.toml", &overrides);
    let digest = cluster.digest(&many);
    let status = cluster.status(&many);
    assert_eq!(status["jobs"][0]["retries"], 0, "{status:#}\n{}", cluster.logs());
    let mut alone = Cluster::start(&[]);
    alone.add_worker(&["--slots", "1"]);
    assert_eq!(alone.digest(&alone.submit("lenet.toml", &overrides)), digest);
}

/// Partials of 265 kB, on a line that takes seconds for each; nothing is given up on the way.
async fn hands_in_over(bytes_per_second: f64, slots: &str, networks: u32) {
    let mut cluster = Cluster::start(&["--most-shard-blocks", "1"]);
    let url = line::slow(cluster.address(), bytes_per_second);
    let mut worker = command("nadgrid-worker");
    worker.args(["--slots", slots]);
    let behind = std::mem::replace(&mut cluster.url, url);
    cluster.add_worker_by(worker, &[]);
    cluster.url = behind;
    let networks = format!("nads.networks={networks}");
    let overrides = ["input.height=16", "input.width=16", "nads.block_size=4", &networks];
    let id = cluster.submit("lenet.toml", &overrides);
    let status = cluster.wait(&id, |status| status["state"] == "complete");
    let logs = cluster.logs();
    assert_eq!(status["jobs"][0]["retries"], 0, "{status:#}\n{logs}");
    let troubles = ["lost the connection", "retrying", "trying again"];
    assert!(!troubles.iter().any(|trouble| logs.contains(trouble)), "{logs}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_on_fifty_kilobytes_a_second_hands_in() {
    hands_in_over(50e3, "2", 8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_on_twenty_kilobytes_a_second_hands_in() {
    hands_in_over(20e3, "1", 4).await;
}

/// A coordinator with one place, and a peer that holds a shard.
async fn one_place(flags: &[&str]) -> (Cluster, Peer, PeerLease) {
    let cluster = Cluster::start(&[&["--uploads", "1", "--most-shard-blocks", "1"][..], flags].concat());
    let mut peer = Peer::of(&cluster).await;
    peer.submit(SPEC, "").await.unwrap();
    let lease = PeerLease::of(&mut peer, "peer").await;
    (cluster, peer, lease)
}

/// A worker with a session and a shard of its own: what others hold is not taken from it.
struct PeerLease {
    session: OpenSession,
    shard: v1::Shard,
}

impl PeerLease {
    async fn of(peer: &mut Peer, worker: &str) -> Self {
        let mut session = peer.open(worker, 1, Vec::new()).await;
        let shard = session.shard().await;
        Self { session, shard }
    }

    fn header(&self, bytes: &[u8]) -> v1::PartialHeader {
        self.session.header(&self.shard, bytes)
    }
}

/// How an upload ends.
async fn end(mut offer: UploadOffer) -> Status {
    loop {
        if let Err(status) = offer.answer().await {
            return status;
        }
    }
}

#[tokio::test]
async fn who_does_not_keep_to_a_grant_is_refused_and_the_place_is_free_again() {
    let (_cluster, mut peer, lease) = one_place(&[]).await;
    let bytes = partial(4);
    let own = lease.header(&bytes);

    // Bytes that came before there was a place.
    let mut holder = peer.offer(own.clone()).await;
    holder.granted().await;
    let of_early = PeerLease::of(&mut peer, "early").await;
    let early = peer.offer(of_early.header(&bytes)).await;
    early.data(&bytes[..10]).await;
    let refused = end(early).await;
    assert!(Reason::RequestInvalid.is_of(&refused) && refused.message().contains("before their grant"), "{refused}");
    // An end, and a second header, instead of waiting.
    let of_ended = PeerLease::of(&mut peer, "ended").await;
    let mut ended = peer.offer(of_ended.header(&bytes)).await;
    ended.says = tokio::sync::mpsc::channel(1).0;
    assert!(Reason::RequestInvalid.is_of(&end(ended).await));
    let of_twice = PeerLease::of(&mut peer, "twice").await;
    let twice = peer.offer(of_twice.header(&bytes)).await;
    twice.says.send(v1::UploadPartialRequest { part: Some(Part::Header(own.clone())) }).await.unwrap();
    assert!(end(twice).await.message().contains("one header"));

    // A claim that bytes are elsewhere, where no grant said so.
    holder.says.send(v1::UploadPartialRequest { part: Some(Part::Stored(v1::Stored {})) }).await.unwrap();
    let refused = end(holder).await;
    assert!(Reason::RequestInvalid.is_of(&refused) && refused.message().contains("in this stream"), "{refused}");

    // More than was granted.
    let mut long = peer.offer(own.clone()).await;
    long.granted().await;
    let refused = long.finish(&[&bytes[..], b"!"].concat()).await.unwrap_err();
    assert!(Reason::PayloadDamaged.is_of(&refused) && refused.message().contains("longer"), "{refused}");
    assert_eq!(peer.upload(own, &bytes).await.unwrap(), v1::Verdict::Committed);
}

/// One sends all and no end, another takes its grant and says nothing.
#[tokio::test]
async fn silence_after_a_grant_gives_the_place_to_the_next() {
    let (_cluster, mut peer, lease) = one_place(&["--limit", "silence_seconds=1"]).await;
    let bytes = partial(4);
    let own = lease.header(&bytes);
    let mut endless = peer.offer(own.clone()).await;
    endless.granted().await;
    for chunk in bytes.chunks(1 << 20) {
        endless.data(chunk).await;
    }
    let of_silent = PeerLease::of(&mut peer, "silent").await;
    let mut silent = peer.offer(of_silent.header(&bytes)).await;
    assert_eq!(end(endless).await.code(), Code::DeadlineExceeded);
    silent.granted().await;
    let next = peer.upload(own, &bytes);
    assert_eq!(tokio::time::timeout(PATIENCE, next).await.unwrap().unwrap(), v1::Verdict::Committed);
    assert_eq!(end(silent).await.code(), Code::DeadlineExceeded);
}

/// A worker that dies with its grant, and one that dies while it waits for one.
#[tokio::test]
async fn a_place_comes_back_when_its_holder_dies() {
    let (cluster, mut peer, lease) = one_place(&[]).await;
    let bytes = partial(4);
    let mut dying = Peer::of(&cluster).await;
    let of_holder = PeerLease::of(&mut dying, "dying").await;
    let mut holder = dying.offer(of_holder.header(&bytes)).await;
    holder.granted().await;
    holder.data(&bytes[..1 << 20]).await;
    let nameless = v1::PartialHeader { worker_id: "dying too".into(), ..of_holder.header(&bytes) };
    let waits = dying.offer(nameless).await;
    assert_eq!(end(waits).await.code(), Code::InvalidArgument, "no name of a worker");
    let of_waiting = PeerLease::of(&mut dying, "dying-too").await;
    let waits = dying.offer(of_waiting.header(&bytes)).await;
    // With its connection.
    drop((holder, waits, of_holder, of_waiting, dying));
    let next = peer.upload(lease.header(&bytes), &bytes);
    assert_eq!(tokio::time::timeout(PATIENCE, next).await.unwrap().unwrap(), v1::Verdict::Committed);
}

#[tokio::test]
async fn one_worker_with_many_offers_does_not_keep_another_waiting() {
    let (cluster, mut peer, lease) = one_place(&[]).await;
    let bytes = partial(4);
    let mut holder = peer.offer(lease.header(&bytes)).await;
    holder.granted().await;
    let of_many = PeerLease::of(&mut peer, "many").await;
    let mut many = Vec::new();
    for _ in 0..64 {
        many.push(peer.offer(of_many.header(&bytes)).await);
    }
    waiting(&cluster, 64).await;
    let mut another = Peer::of(&cluster).await;
    let of_other = PeerLease::of(&mut another, "other").await;
    let mut other = another.offer(of_other.header(&bytes)).await;
    waiting(&cluster, 65).await;
    drop(holder);
    // The first of the many; then it is the other's turn.
    many.remove(0).granted().await;
    let served = tokio::time::timeout(PATIENCE, other.granted());
    served.await.expect("the other is served while 63 wait");
    assert_eq!(other.finish(&bytes).await.unwrap(), v1::Verdict::Committed);
}

/// Waits until the sweep's notices speak of so many results.
async fn waiting(cluster: &Cluster, results: usize) {
    let mut peer = Peer::of(cluster).await;
    let words = format!("{results} results wait");
    let told = async {
        loop {
            let sweeps = peer.sweeps.list(v1::ListRequest::default()).await.unwrap().into_inner().sweeps;
            if sweeps[0].notices.iter().any(|notice| notice.starts_with(&words)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.unwrap_or_else(|_| panic!("{words} is not told"));
}

/// What waits is told to everybody who asks, whether anything changes or not.
#[tokio::test]
async fn what_waits_is_told() {
    let (cluster, mut peer, lease) = one_place(&[]).await;
    let bytes = partial(4);
    let id = lease.shard.sweep_id.clone();
    let mut other = Peer::of(&cluster).await;
    let of_other = PeerLease::of(&mut other, "other").await;
    let mut holder = other.offer(of_other.header(&bytes)).await;
    holder.granted().await;
    let request = v1::WatchRequest { sweep_id: id.clone() };
    let mut watched = peer.sweeps.watch(request).await.unwrap().into_inner();
    let mut offer = peer.offer(lease.header(&bytes)).await;
    let told = async {
        loop {
            let sweep = watched.message().await.unwrap().unwrap();
            if let Some(notice) = sweep.notices.first() {
                return notice.clone();
            }
        }
    };
    let notice = tokio::time::timeout(PATIENCE, told).await.expect("watch tells it");
    assert!(notice.starts_with("1 result waits") && notice.contains("raise uploads"), "{notice}");
    let workers = peer.sweeps.list_workers(v1::ListWorkersRequest {}).await.unwrap().into_inner().workers;
    let worker = workers.iter().find(|worker| worker.id == "peer").unwrap();
    assert_eq!((worker.transfers_waiting, worker.transfers), (1, 0));
    assert!(worker.transfers_waiting_ms >= 2000, "{worker:?}");
    assert!(cluster.nadgrid_ok(&["workers"]).contains("1 waiting for"));
    assert!(cluster.nadgrid_ok(&["explain", &id]).contains("raise uploads"));
    drop(holder);
    offer.granted().await;
    assert_eq!(offer.finish(&bytes).await.unwrap(), v1::Verdict::Committed);
    let sweep = peer.sweeps.get(v1::GetRequest { sweep_id: id }).await.unwrap().into_inner();
    assert!(sweep.notices.is_empty(), "{:?}", sweep.notices);
}

/// What is not needed, or is there, is answered without a grant.
#[tokio::test]
async fn what_nobody_needs_is_not_granted() {
    let (_cluster, mut peer, lease) = one_place(&[]).await;
    let bytes = partial(4);
    let elsewhere = v1::Shard { sweep_id: "none".into(), ..lease.shard.clone() };
    let mut offer = peer.offer(header(&elsewhere, &bytes)).await;
    let answer = offer.answer().await.unwrap();
    assert_eq!(answer, Message::Verdict(v1::Verdict::NotNeeded.into()));
    let file = vec![7; 100_000];
    let stored = peer.input(&file).await.unwrap();
    let header = v1::UploadInputRequest { part: Some(v1::upload_input_request::Part::Header(stored.clone())) };
    let (says, messages) = tokio::sync::mpsc::channel(1);
    says.send(header).await.unwrap();
    let messages = tokio_stream::wrappers::ReceiverStream::new(messages);
    let mut answers = peer.sweeps.upload_input(messages).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message;
    assert_eq!(answer, Some(v1::upload_input_response::Message::Stored(stored)));
}
