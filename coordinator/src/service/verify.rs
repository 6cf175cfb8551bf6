//! Verification: blocks of a complete sweep are drawn at random, and the shards that contain them are recomputed.

use super::{invalid, unexpected, unknown_sweep, unreadable};
use crate::artifacts::Store;
use crate::event_loop::CoordinatorHandle;
use crate::reducer::manifest::{self, ManifestEntry};
use futures::stream::{self, Stream};
use nadgrid_core::ids::{JobIndex, SweepId};
use nadgrid_core::random::Stream as Random;
use nadgrid_core::scheduler::{Answer, Check, Claim, JobRef, Scheduler};
use nadgrid_proto::status::Reason;
use nadgrid_proto::v1;
use std::collections::BTreeMap;
use tonic::Status;

/// The most blocks of one verification.
const MAX_SAMPLE: u32 = 10_000;

/// A job that is verified.
struct VerifiedJob {
    index: JobIndex,
    name: String,
    total: u64,
    entries: Vec<ManifestEntry>,
}

/// Begins a verification. The first response has the number of shards; one response for each follows.
pub(super) async fn start(
    coordinator: &CoordinatorHandle,
    store: &Store,
    request: v1::VerifyRequest,
) -> Result<impl Stream<Item = v1::VerifyResponse> + Send + use<>, Status> {
    let v1::VerifyRequest { sweep_id, sample, seed } = request;
    if !(1..=MAX_SAMPLE).contains(&sample) {
        return Err(invalid(format!("sample = {sample}: from 1 to {MAX_SAMPLE}")));
    }
    let sweep = SweepId::new(sweep_id.as_str());
    let jobs = jobs(coordinator, store, &sweep).await?;
    let claims = draw(&sweep, &jobs, sample, seed);
    let total = claims.len() as u32;
    let names: BTreeMap<JobIndex, (String, u64)> =
        jobs.into_iter().map(|job| (job.index, (job.name, job.total))).collect();
    let (answer, checks) = coordinator.verify(claims).await?;
    match answer {
        Answer::Verifying => {}
        Answer::TooManyVerifications { limit } => {
            return Err(Reason::Full.status(format!("{limit} verifications are open; no more are accepted for now")));
        }
        other => return Err(unexpected(&other)),
    }
    let first = v1::VerifyResponse { total, ..v1::VerifyResponse::default() };
    let rest = stream::unfold((checks, 0), move |(mut checks, done)| {
        let names = names.clone();
        async move {
            let done = done + 1;
            let check = if done <= total { checks.recv().await? } else { return None };
            Some((response(check, &names, done, total), (checks, done)))
        }
    });
    Ok(futures::StreamExt::chain(stream::iter([first]), rest))
}

/// The jobs of a complete sweep, with the manifest of each.
async fn jobs(coordinator: &CoordinatorHandle, store: &Store, sweep: &SweepId) -> Result<Vec<VerifiedJob>, Status> {
    let id = sweep.clone();
    let found =
        coordinator.query(move |scheduler: &Scheduler, _| (scheduler.is_known(&id), scheduler.manifests(&id))).await?;
    let (known, manifests) = found;
    let manifests = match manifests {
        Some(manifests) if !manifests.is_empty() => manifests,
        _ if !known => return Err(unknown_sweep(sweep.as_str())),
        Some(_) => {
            return Err(Status::failed_precondition("the sweep was computed by an older release, without a manifest"));
        }
        None => {
            return Err(Status::failed_precondition("the sweep is not complete; only complete sweeps can be verified"));
        }
    };
    let mut jobs = Vec::new();
    for (index, shape, stored) in manifests {
        let bytes = store.get(stored.digest).await;
        let bytes = bytes.map_err(|error| unreadable(&error, Reason::PayloadDamaged))?;
        let total = shape.grid.blocks();
        let entries = manifest::parse(&bytes, total);
        let entries = entries.ok_or_else(|| Reason::Internal.status("a manifest cannot be read"))?;
        jobs.push(VerifiedJob { index, name: shape.name(), total, entries });
    }
    Ok(jobs)
}

/// Draws blocks at random, each with the same probability. Returns the claims of the shards that contain them.
fn draw(sweep: &SweepId, jobs: &[VerifiedJob], sample: u32, seed: u64) -> Vec<Claim> {
    let blocks: u64 = jobs.iter().map(|job| job.total).sum();
    let mut random = Random::new(seed, &["verify"], 0);
    let mut words = vec![0u32; 2 * sample as usize];
    random.fill_words(&mut words);
    let drawn = words.as_chunks::<2>().0.iter().map(|[low, high]| {
        let wide = u128::from(u64::from(*high) << 32 | u64::from(*low));
        // The bias of this reduction is below blocks / 2^64.
        ((wide * u128::from(blocks)) >> 64) as u64
    });
    let mut claims = BTreeMap::new();
    for mut block in drawn {
        for job in jobs {
            if block >= job.total {
                block -= job.total;
                continue;
            }
            let next = job.entries.partition_point(|entry| entry.node.blocks(job.total).start <= block);
            if let Some(entry) = next.checked_sub(1).and_then(|index| job.entries.get(index)) {
                let shard = JobRef::new(sweep, job.index).shard(entry.node);
                claims.insert(shard.clone(), Claim { shard, content: entry.content, worker: entry.worker.clone() });
            }
            break;
        }
    }
    claims.into_values().collect()
}

fn response(check: Check, jobs: &BTreeMap<JobIndex, (String, u64)>, done: u32, total: u32) -> v1::VerifyResponse {
    let Check { shard, committed, committed_by, again } = check;
    let (job, blocks) = jobs.get(&shard.job.index).cloned().unwrap_or_default();
    let wire = v1::Shard::of(&shard.job, &shard.node.blocks(blocks));
    let agrees = again.as_ref().is_ok_and(|(content, _)| *content == committed);
    let message = again.as_ref().err().cloned().unwrap_or_default();
    let (recomputed, recomputed_by) =
        again.map(|(content, worker)| (content.to_string(), worker.to_string())).unwrap_or_default();
    v1::VerifyResponse {
        total,
        done,
        shard: Some(wire),
        job,
        agrees,
        committed: committed.to_string(),
        recomputed,
        committed_by: committed_by.to_string(),
        recomputed_by,
        message,
    }
}
