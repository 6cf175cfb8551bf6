//! Payloads beside the coordinator: put into S3 and read from it by workers and clients, and what becomes of them when that fails.

mod peer;

use nadgrid_core::ids::Digest;
use nadgrid_core::moments::Moments;
use nadgrid_presigned::PresignedStore;
use nadgrid_proto::status::Reason;
use nadgrid_proto::v1;
use nadgrid_proto::v1::session_request::Message as Request;
use nadgrid_proto::v1::upload_partial_request::Part;
use nadgrid_proto::v1::upload_partial_response::Message;
use nadgrid_tests::s3::S3;
use nadgrid_tests::store_proxy::{ProxyMode, StoreProxy};
use nadgrid_tests::{Cluster, members_done};
use peer::{Peer, UploadOffer, assignment, header, hello, partial};
use std::time::Duration;
use tonic::Status;

const NETWORKS: [&str; 2] = ["nads.networks=96", "nads.block_size=16"];
/// Two shards of one block each, with partials of more than 4 MiB.
const SPEC: &str = "name = 'beside'\narchitectures = ['logreg']\n[nads]\nnetworks = 8\nblock_size = 4";
const BYTES: &str = "nadgrid_transfer_bytes_total";

/// The digest of the same sweep when its artifacts are in a folder.
fn expected() -> String {
    let mut cluster = Cluster::start(&[]);
    cluster.add_worker(&["--slots", "1"]);
    cluster.digest(&cluster.submit("lenet.toml", &NETWORKS))
}

/// Bytes of payloads that went this way.
fn bytes(cluster: &Cluster, way: &str) -> f64 {
    cluster.metric(BYTES, &format!("way=\"{way}\""))
}

/// A coordinator on S3 whose workers see the store at `public`, with shards of one block.
fn cluster_on(s3: &S3, public: &str, flags: &[&str]) -> Cluster {
    let artifacts = s3.url("cluster");
    let mut arguments = vec!["--artifacts", &artifacts, "--most-shard-blocks", "1"];
    if !public.is_empty() {
        arguments.extend(["--artifacts-public-endpoint", public]);
    }
    arguments.extend(flags);
    Cluster::start_with(&arguments, &s3.variables())
}

#[test]
fn partials_and_results_go_past_the_coordinator_and_the_digest_is_the_same() {
    let s3 = S3::start();
    let mut cluster = cluster_on(&s3, "", &[]);
    cluster.add_worker(&["--slots", "1"]);
    cluster.add_worker(&["--slots", "1"]);
    let id = cluster.submit("lenet.toml", &NETWORKS);
    assert_eq!(cluster.digest(&id), expected());
    let folder = tempfile::tempdir().unwrap();
    cluster.nadgrid_ok(&["fetch", &id, "--out", folder.path().join("results").to_str().unwrap()]);
    assert_eq!((bytes(&cluster, "in"), bytes(&cluster, "out")), (0.0, 0.0), "{}", cluster.logs());
    // Six partials of 4 MiB went in, and the NADs of 1,024 x 1,024 numbers came out.
    assert!(bytes(&cluster, "put") > 6.0 * 4e6 && bytes(&cluster, "get") > 3e5, "{}", cluster.logs());
}

#[test]
fn without_presigned_requests_everything_goes_through_the_coordinator() {
    let s3 = S3::start();
    let mut cluster = cluster_on(&s3, "", &["--artifacts-presign", "false"]);
    cluster.add_worker(&["--slots", "1"]);
    let id = cluster.submit("lenet.toml", &NETWORKS);
    assert_eq!(cluster.digest(&id), expected());
    assert_eq!((bytes(&cluster, "put"), bytes(&cluster, "get")), (0.0, 0.0));
    assert!(bytes(&cluster, "in") > 6.0 * 4e6);
}

/// The NADs of a sweep are an input of the next: they are read from the store. Where that has other bytes, the coordinator is asked.
#[test]
fn files_of_shards_are_read_from_the_store() {
    let s3 = S3::start();
    let proxy = StoreProxy::before(&s3.address());
    let mut cluster = cluster_on(&s3, &proxy.url(), &[]);
    cluster.add_worker(&["--slots", "1"]);
    let folder = tempfile::tempdir().unwrap();
    let spec = folder.path().join("runs.toml");
    let input = "architectures = ['logreg']\ninput = { height = 16, width = 16 }\n";
    std::fs::write(&spec, format!("name = 'nads'\n{input}[nads]\nnetworks = 512\nblock_size = 64")).unwrap();
    let nads = cluster.nadgrid_ok(&["submit", spec.to_str().unwrap()]);
    cluster.digest(&nads);
    let runs = format!(
        "name = 'runs'\n{input}[directional]\ndirections = {{ kind = 'nads', sweep = '{nads}', indices = [0] }}\n\
         train_samples = 200\ntest_samples = 100\ntraining = {{ epochs = 1 }}"
    );
    std::fs::write(&spec, runs).unwrap();
    let before = (proxy.requests(), bytes(&cluster, "get"));
    let digest = cluster.digest(&cluster.nadgrid_ok(&["submit", spec.to_str().unwrap()]));
    assert!(proxy.requests() > before.0 && bytes(&cluster, "get") > before.1, "{}", cluster.logs());
    assert_eq!(bytes(&cluster, "out"), 0.0, "{}", cluster.logs());

    // A worker without the file meets a store that gives something else.
    cluster.workers.clear();
    proxy.set(ProxyMode::Refuse(200, "something else"));
    cluster.add_worker(&["--slots", "1"]);
    let again = cluster.nadgrid_ok(&["submit", spec.to_str().unwrap()]);
    assert_eq!(cluster.digest(&again), digest);
    assert!(bytes(&cluster, "out") > 0.0 && cluster.logs().contains("gave other bytes"), "{}", cluster.logs());
}

#[test]
fn a_worker_that_cannot_reach_the_store_goes_through_the_coordinator_and_says_so() {
    let s3 = S3::start();
    // Nobody listens there.
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut cluster = cluster_on(&s3, &format!("http://{nowhere}"), &[]);
    cluster.add_worker(&["--slots", "1"]);
    let id = cluster.submit("lenet.toml", &NETWORKS);
    assert_eq!(cluster.digest(&id), expected());
    let folder = tempfile::tempdir().unwrap();
    cluster.nadgrid_ok(&["fetch", &id, "--out", folder.path().join("results").to_str().unwrap()]);
    let logs = cluster.logs();
    assert!(logs.contains("all payloads go through the coordinator") && logs.contains(&nowhere.to_string()), "{logs}");
    assert!(logs.contains("a worker cannot reach the store"), "{logs}");
    assert!(!logs.contains("X-Amz-Signature"), "{logs}");
    assert_eq!(cluster.status(&id)["jobs"][0]["retries"], 0);
}

/// One payload meets one fault each, and arrives all the same.
#[test]
fn a_store_that_is_full_cuts_has_expired_addresses_or_is_slow_loses_nothing() {
    let s3 = S3::start();
    let proxy = StoreProxy::before(&s3.address());
    let mut cluster = cluster_on(&s3, &proxy.url(), &[]);
    let expired = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>";
    let open = ProxyMode::Open;
    let full = ProxyMode::Refuse(507, "<Error><Code>InsufficientStorage</Code></Error>");
    proxy.queue(&[full, open, ProxyMode::Cut, open, ProxyMode::Refuse(403, expired), open]);
    proxy.set(ProxyMode::Slow(Duration::from_millis(2)));
    cluster.add_worker(&["--slots", "1"]);
    let id = cluster.submit("lenet.toml", &["nads.networks=160", "nads.block_size=16"]);
    let digest = cluster.digest(&id);
    let logs = cluster.logs();
    assert!(logs.contains("InsufficientStorage") && logs.contains("Request has expired"), "{logs}");
    assert_eq!(logs.matches("cannot reach the store").count(), 3, "{logs}");
    assert_eq!(cluster.status(&id)["jobs"][0]["retries"], 0, "{logs}");
    assert!(bytes(&cluster, "in") < 4.0 * 4.3e6 && bytes(&cluster, "put") > 7.0 * 4e6, "{logs}");
    let mut alone = Cluster::start(&[]);
    alone.add_worker(&["--slots", "1"]);
    assert_eq!(alone.digest(&alone.submit("lenet.toml", &["nads.networks=160", "nads.block_size=16"])), digest);
}

/// Away for the coordinator too: results are kept and offered again.
#[test]
fn a_store_that_is_away_in_the_middle_is_waited_for() {
    let s3 = S3::start();
    let proxy = StoreProxy::before(&s3.address());
    let artifacts = s3.url("cluster");
    let arguments = ["--artifacts", &artifacts, "--most-shard-blocks", "1"];
    let mut cluster = Cluster::start_with(&arguments, &s3.variables_by(&proxy.url()));
    cluster.add_worker(&["--slots", "1"]);
    let id = cluster.submit("lenet.toml", &NETWORKS);
    cluster.wait(&id, |status| members_done(status) > 0);
    proxy.set(ProxyMode::Refuse(503, "<Error><Code>SlowDown</Code></Error>"));
    cluster.wait_for_log("the artifact store s3://");
    proxy.set(ProxyMode::Open);
    assert_eq!(cluster.digest(&id), expected());
    assert_eq!(cluster.status(&id)["jobs"][0]["retries"], 0, "{}", cluster.logs());
}

/// A coordinator on S3 and a peer that holds the first of two shards.
struct S3Stage {
    s3: S3,
    cluster: Cluster,
    peer: Peer,
    id: String,
    shard: v1::Shard,
    session: (tokio::sync::mpsc::Sender<v1::SessionRequest>, tonic::Streaming<v1::SessionResponse>),
}

async fn stage() -> S3Stage {
    let s3 = S3::start();
    let cluster = cluster_on(&s3, "", &[]);
    let mut peer = Peer::of(&cluster).await;
    let id = peer.submit(SPEC, "").await.unwrap().sweep.unwrap().id;
    let mut session = peer.session(hello()).await.unwrap();
    let shard = assignment(&mut session.1).await.shard.unwrap();
    S3Stage { s3, cluster, peer, id, shard, session }
}

async fn grant(offer: &mut UploadOffer) -> Option<v1::PresignedRequest> {
    match offer.answer().await.unwrap() {
        Message::Grant(grant) => grant.put,
        other => panic!("{other:?}"),
    }
}

async fn say(offer: &UploadOffer, part: Part) {
    offer.says.send(v1::UploadPartialRequest { part: Some(part) }).await.unwrap();
}

async fn verdict(mut offer: UploadOffer) -> Result<v1::Verdict, Status> {
    match offer.answer().await? {
        Message::Verdict(verdict) => Ok(verdict.try_into().unwrap()),
        other => panic!("{other:?}"),
    }
}

/// Puts a payload where its grant says, and reports it.
async fn put(peer: &mut Peer, header: v1::PartialHeader, payload: &[u8]) -> Result<v1::Verdict, Status> {
    let mut offer = peer.offer(header).await;
    let place = grant(&mut offer).await.expect("a place in the store");
    PresignedStore::new().unwrap().put(&place, payload.to_vec().into()).await.unwrap();
    say(&offer, Part::Stored(v1::Stored {})).await;
    verdict(offer).await
}

#[tokio::test]
async fn a_digest_that_is_not_in_the_store_is_refused_and_can_be_offered_again() {
    let S3Stage { mut peer, shard, cluster: _cluster, s3: _s3, session: _session, .. } = stage().await;
    let bytes = partial(4);
    let own = header(&shard, &bytes);

    // Said to be stored, and is not.
    let mut offer = peer.offer(own.clone()).await;
    let place = grant(&mut offer).await.expect("a place in the store");
    assert_eq!((place.method.as_str(), place.headers["if-none-match"].as_str()), ("PUT", "*"));
    assert!(place.url.contains(&own.digest) && place.url.contains("X-Amz-Expires=900"), "{}", place.url);
    assert!(place.expires_in_ms == 900_000 && !place.url.contains("AWS_SECRET"));
    say(&offer, Part::Stored(v1::Stored {})).await;
    let refused = verdict(offer).await.unwrap_err();
    assert!(Reason::PayloadDamaged.is_of(&refused) && refused.message().contains("does not exist there"), "{refused}");

    // Other bytes than announced: removed, so that the right ones can be put.
    let refused = put(&mut peer, own.clone(), &bytes[..1000]).await.unwrap_err();
    assert!(refused.message().contains("1000 bytes there"), "{refused}");

    // Bytes in a stream that were to be put into the store.
    let mut offer = peer.offer(own.clone()).await;
    grant(&mut offer).await.unwrap();
    offer.data(&bytes[..10]).await;
    let refused = verdict(offer).await.unwrap_err();
    assert!(
        Reason::RequestInvalid.is_of(&refused) && refused.message().contains("with the grant's request"),
        "{refused}"
    );

    // The store cannot be reached: another grant, for the stream.
    let mut offer = peer.offer(own.clone()).await;
    grant(&mut offer).await.unwrap();
    say(&offer, Part::StoreUnreachable(v1::StoreUnreachable { message: "no route".into() })).await;
    assert_eq!(grant(&mut offer).await, None);
    assert_eq!(offer.finish(&bytes).await.unwrap(), v1::Verdict::Committed);
}

/// One ends its session with its place granted, and the shard goes to another, who is faster.
#[tokio::test]
async fn two_workers_may_put_the_same_partial() {
    let S3Stage { mut peer, shard, cluster: _cluster, s3: _s3, session, .. } = stage().await;
    let bytes = partial(4);
    let mut early = peer.offer(header(&shard, &bytes)).await;
    let place = grant(&mut early).await.unwrap();
    session.0.send(v1::SessionRequest { message: Some(Request::Goodbye(v1::Goodbye {})) }).await.unwrap();
    // It is given both shards, in whatever order.
    let mut another = peer.open("another", 2, Vec::new()).await;
    while another.shard().await != shard {}
    let faster = another.header(&shard, &bytes);
    assert_eq!(put(&mut peer, faster.clone(), &bytes).await.unwrap(), v1::Verdict::Committed);
    assert_eq!(put(&mut peer, faster, &bytes).await.unwrap(), v1::Verdict::Duplicate);
    // What is there cannot be overwritten, with whatever bytes, and counts as put.
    let _again = peer.open("peer", 1, Vec::new()).await;
    PresignedStore::new().unwrap().put(&place, vec![7; bytes.len()].into()).await.unwrap();
    say(&early, Part::Stored(v1::Stored {})).await;
    assert_eq!(verdict(early).await.unwrap(), v1::Verdict::Duplicate);
}

/// Truncated or swapped behind everybody's back: found out when it is merged, computed again, with the same digest.
#[tokio::test]
async fn an_object_that_is_not_what_was_reported_is_computed_again() {
    let bytes = partial(4);
    let undisturbed = outcome_with(&bytes, None).await;
    for damage in [bytes[..1000].to_vec(), vec![7; bytes.len()]] {
        assert_eq!(outcome_with(&bytes, Some(damage)).await, undisturbed);
    }
}

async fn outcome_with(bytes: &[u8], damage: Option<Vec<u8>>) -> String {
    let S3Stage { s3, cluster, mut peer, id, shard, mut session } = stage().await;
    assert_eq!(put(&mut peer, header(&shard, bytes), bytes).await.unwrap(), v1::Verdict::Committed);
    let second = assignment(&mut session.1).await.shard.unwrap();
    let rows: Vec<f32> = (0..4 * 1024).map(|i| ((i * 53 % 97) as f32 - 40.0) / 1e3).collect();
    let last = Moments::of_rows(&rows, 1024).to_bytes();
    if let Some(damage) = &damage {
        let digest = Digest::of(bytes).to_string();
        s3.overwrite(&format!("cluster/{}/{digest}", &digest[..2]), damage);
    }
    assert_eq!(put(&mut peer, header(&second, &last), &last).await.unwrap(), v1::Verdict::Committed);
    if damage.is_some() {
        let again = assignment(&mut session.1).await.shard.unwrap();
        assert_eq!(again.first_block, shard.first_block);
        assert_eq!(put(&mut peer, header(&again, bytes), bytes).await.unwrap(), v1::Verdict::Committed);
        assert!(cluster.logs().contains("is damaged"), "{}", cluster.logs());
    }
    cluster.digest(&id)
}
