//! Many workers with partials of real size at once: all of them are taken, and the coordinator's memory stays what it is.
//!
//! The workers are peers with connections of their own. `cargo xtask bench cluster` measures the same with a thousand of them.

mod peer;

use nadgrid_core::moments::{Moments, packed_len};
use nadgrid_proto::v1;
use nadgrid_tests::Cluster;
use peer::{Peer, assignment, header, hello};
use std::sync::Arc;
use tokio::task::JoinSet;

/// Networks of a block.
const BLOCK: u64 = 4;
/// What a coordinator may have resident at most, however many payloads wait for it.
const MOST_MEMORY: u64 = 512 << 20;

/// Moments that nobody measured.
fn made_up(dimension: usize) -> Vec<u8> {
    let mut scatter = Vec::with_capacity(packed_len(dimension));
    for row in 0..dimension {
        scatter.push(1.0 + row as f64);
        scatter.extend(std::iter::repeat_n(1e-3, dimension - row - 1));
    }
    Moments { count: BLOCK, mean: vec![0.5; dimension], scatter }.to_bytes()
}

/// The same partial for another shard.
fn partial_of(bytes: &[u8], shard: &v1::Shard) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    // The first number of the mean, after magic, dimension and count.
    bytes[24..32].copy_from_slice(&(shard.first_block as f64).to_le_bytes());
    bytes
}

/// Each worker has a shard and offers it; when all offers are there, each sends as it is granted. Returns the coordinator's peak.
async fn all_at_once(workers: usize, channels: u32, dimension: usize) -> u64 {
    let mut cluster = Cluster::start(&["--most-shard-blocks", "1"]);
    let networks = workers as u64 * BLOCK;
    let input = format!("{{ channels = {channels}, height = 32, width = 32 }}");
    let spec = format!(
        "name = 'size'\narchitectures = ['logreg']\ninput = {input}\n[nads]\nnetworks = {networks}\nblock_size = {BLOCK}"
    );
    let mut peer = Peer::of(&cluster).await;
    let id = peer.submit(&spec, "").await.unwrap().sweep.unwrap().id;
    let bytes = Arc::new(made_up(dimension));
    let (mut offers, mut sessions) = (Vec::new(), Vec::new());
    for number in 0..workers {
        let mut worker = Peer::of(&cluster).await;
        let name = format!("w{number}");
        let session = worker.session(v1::Hello { worker_id: name.clone(), ..hello() }).await.unwrap();
        sessions.push(session);
        let (_, responses) = sessions.last_mut().unwrap();
        let shard = assignment(responses).await.shard.unwrap();
        let own = partial_of(&bytes, &shard);
        let offer = worker.offer(v1::PartialHeader { worker_id: name, ..header(&shard, &own) }).await;
        offers.push((worker, offer, shard));
    }
    let mut sending = JoinSet::new();
    for (worker, mut offer, shard) in offers {
        let bytes = bytes.clone();
        sending.spawn(async move {
            offer.granted().await;
            let verdict = offer.finish(&partial_of(&bytes, &shard)).await.unwrap();
            drop(worker);
            verdict
        });
    }
    let verdicts = sending.join_all().await;
    assert_eq!(verdicts, vec![v1::Verdict::Committed; workers]);
    let peak = cluster.coordinator().peak_memory();
    let sweep = peer.sweeps.get(v1::GetRequest { sweep_id: id }).await.unwrap().into_inner();
    assert_eq!((sweep.jobs[0].members_done, sweep.jobs[0].retries), (networks, 0), "{}", cluster.logs());
    peak
}

#[tokio::test]
async fn a_hundred_workers_with_four_megabytes_each_are_all_taken() {
    let peak = all_at_once(100, 1, 1024).await;
    assert!(peak < MOST_MEMORY, "{} MiB", peak >> 20);
}

/// 38 MB each, 456 MB in all, of which 128 MiB may be on their way.
#[tokio::test]
async fn twelve_workers_with_large_partials_are_all_taken() {
    let peak = all_at_once(12, 3, 3072).await;
    assert!(peak < MOST_MEMORY, "{} MiB", peak >> 20);
}
