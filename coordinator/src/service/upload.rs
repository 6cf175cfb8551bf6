//! The upload of a partial: received whole, checked, stored, and only then reported to the scheduler.

use super::{next_message, store_failed};
use crate::access::{Admitted, Bindings};
use crate::artifacts::Store;
use crate::desk::Desk;
use crate::limits::Pace;
use crate::partial;
use nadgrid_core::ids::{Digest, JobIndex, SweepId, WorkerId};
use nadgrid_core::scheduler::{Answer, Event, Partial, PartialBytes, Scheduler, ShardRef, Verdict};
use nadgrid_core::spec::Payload;
use nadgrid_proto::chunks::{Assembler, ChunkError};
use nadgrid_proto::convert::worker_id;
use nadgrid_proto::status::Reason;
use nadgrid_proto::v1::{self, upload_partial_request::Part};
use tonic::{Status, Streaming};
use tracing::debug;

/// What a shard's partial must look like.
struct Expected {
    shard: ShardRef,
    payload: Payload,
    members: u64,
}

pub(super) async fn receive(
    desk: &Desk,
    store: &Store,
    bindings: &Bindings,
    admitted: &Admitted,
    mut pace: Pace,
    mut parts: Streaming<v1::UploadPartialRequest>,
) -> Result<v1::Verdict, Status> {
    let Some(Part::Header(mut header)) = next(&mut parts, &mut pace).await? else {
        return Err(Reason::RequestInvalid.status("an upload begins with its header"));
    };
    let worker = worker_id(&header.worker_id);
    let worker = worker.ok_or_else(|| Reason::RequestInvalid.status("header.worker_id is no worker's id"))?;
    bindings.bind(worker.as_str(), &admitted.caller)?;
    let wire = header.shard.clone().ok_or_else(|| Reason::RequestInvalid.status("header.shard is missing"))?;
    let Some(expected) = expected(desk, wire.clone()).await? else { return Ok(v1::Verdict::NotNeeded) };
    let bytes = assemble(&header, expected.payload.bytes(expected.members), &mut parts, &mut pace).await?;
    let (bytes, content) = validate(bytes, expected.payload, expected.members).await?;
    // Held until the report is in the journal.
    let stored = store.put(bytes).await.map_err(|error| store_failed(&error))?;
    let partial = Partial { bytes: PartialBytes::Stored(stored.digest()), content };
    desk.told(worker.clone(), wire, std::mem::take(&mut header.steps)).await;
    report(desk, worker, header, expected.shard, partial).await
}

async fn next(parts: &mut Streaming<v1::UploadPartialRequest>, pace: &mut Pace) -> Result<Option<Part>, Status> {
    Ok(next_message(parts, pace).await?.and_then(|message| message.part))
}

/// What to expect of this shard; `None` when its sweep is unknown or has ended.
async fn expected(desk: &Desk, wire: v1::Shard) -> Result<Option<Expected>, Status> {
    let find = move |scheduler: &Scheduler| -> Result<Option<Expected>, Status> {
        let (sweep, job) = (SweepId::new(wire.sweep_id.as_str()), JobIndex(wire.job));
        let open = scheduler.is_open(&sweep);
        let node = scheduler.node(&sweep, job, wire.range());
        let shard = node.map(|node| ShardRef { sweep, job, node });
        if !open && !shard.as_ref().is_some_and(|shard| scheduler.expects(shard)) {
            return Ok(None);
        }
        let found = shard.and_then(|shard| scheduler.shard(&shard).map(|(_, job, n)| (shard.clone(), job.payload, n)));
        match found {
            Some((shard, payload, members)) => Ok(Some(Expected { shard, payload, members })),
            None => {
                let message = format!(
                    "header.shard: sweep {} has no shard {:?} in job {}",
                    wire.sweep_id,
                    wire.range(),
                    wire.job
                );
                Err(Reason::RequestInvalid.status(message))
            }
        }
    };
    desk.query(move |scheduler, _| find(scheduler)).await?
}

/// The payload, whole: exactly as many bytes as such a partial has, and the digest that was announced.
async fn assemble(
    header: &v1::PartialHeader,
    size: u64,
    parts: &mut Streaming<v1::UploadPartialRequest>,
    pace: &mut Pace,
) -> Result<Vec<u8>, Status> {
    if header.size != size {
        let message = format!("header.size = {}: this partial has {size} bytes", header.size);
        return Err(Reason::PayloadInvalid.status(message));
    }
    let damaged = |error: ChunkError| Reason::PayloadDamaged.status(error.to_string());
    let mut assembler = Assembler::new(header.size, size, &header.digest).map_err(damaged)?;
    while let Some(part) = next(parts, pace).await? {
        match part {
            Part::Data(data) => assembler.push(&data).map_err(damaged)?,
            Part::Header(_) => return Err(Reason::RequestInvalid.status("an upload has one header")),
        }
    }
    assembler.finish().map(|(bytes, _)| bytes).map_err(damaged)
}

/// Whether the numbers could be what the shard yields; off the event threads, since it reads all of them.
async fn validate(bytes: Vec<u8>, payload: Payload, members: u64) -> Result<(Vec<u8>, Digest), Status> {
    let checked =
        tokio::task::spawn_blocking(move || partial::check(&bytes, payload, members).map(|content| (bytes, content)));
    let checked = checked.await.map_err(|e| Reason::Internal.status(e.to_string()))?;
    checked.map_err(|message| Reason::PayloadInvalid.status(message))
}

async fn report(
    desk: &Desk,
    worker: WorkerId,
    header: v1::PartialHeader,
    shard: ShardRef,
    partial: Partial,
) -> Result<v1::Verdict, Status> {
    let class =
        header.numerics_class.ok_or_else(|| Reason::RequestInvalid.status("header.numerics_class is missing"))?;
    let (seconds, begin_seconds) = (partial::seconds(header.seconds), partial::seconds(header.begin_seconds));
    let (reporter, reported, class) = (worker.clone(), shard.clone(), class.into());
    let report = move |request| Event::Report { request, worker, shard, class, partial, seconds, begin_seconds };
    let answer = desk.ask(report).await?;
    debug!(worker = %reporter, sweep = %reported.sweep, node = ?reported.node, ?answer, seconds, "reported");
    let verdict = if let Answer::Reported(verdict) = answer { verdict } else { Verdict::Invalid };
    v1::Verdict::of(verdict).ok_or_else(|| {
        Reason::RequestInvalid.status("the report is of another numerics class than its sweep, or of no shard of it")
    })
}
