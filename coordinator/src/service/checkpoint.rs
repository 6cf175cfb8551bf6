//! The upload of a checkpoint: received whole, stored, and only then told to the scheduler.
//!
//! What its bytes mean is the workers' affair: one that cannot read a checkpoint begins its shard again. So only their number
//! and digest are checked here, and that there is a shard that they may be of.

use super::{next_message, store_failed};
use crate::access::{Admitted, Bindings};
use crate::artifacts::Store;
use crate::desk::Desk;
use crate::limits::Pace;
use nadgrid_core::checkpoint::most_bytes;
use nadgrid_core::ids::{JobIndex, SweepId};
use nadgrid_core::scheduler::{Answer, Checkpoint, Event, Scheduler, ShardRef};
use nadgrid_core::spec::{InputRef, Payload};
use nadgrid_proto::chunks::{Assembler, ChunkError};
use nadgrid_proto::convert::worker_id;
use nadgrid_proto::status::Reason;
use nadgrid_proto::v1::{self, upload_checkpoint_request::Part};
use tonic::{Status, Streaming};
use tracing::debug;

/// No checkpoint is larger, whatever the job.
const MOST_BYTES: u64 = 1 << 30;

/// A shard that is computed.
struct Open {
    shard: ShardRef,
    payload: Payload,
    /// Of a block in training.
    state_bytes: u64,
    members: u64,
}

/// Whether the shard is still the sender's to compute.
pub(super) async fn receive(
    desk: &Desk,
    store: &Store,
    bindings: &Bindings,
    admitted: &Admitted,
    mut pace: Pace,
    mut parts: Streaming<v1::UploadCheckpointRequest>,
) -> Result<bool, Status> {
    let Some(Part::Header(header)) = next(&mut parts, &mut pace).await? else {
        return Err(invalid("an upload begins with its header"));
    };
    let worker = worker_id(&header.worker_id).ok_or_else(|| invalid("header.worker_id is no worker's id"))?;
    bindings.bind(worker.as_str(), &admitted.caller)?;
    let wire = header.shard.clone().ok_or_else(|| invalid("header.shard is missing"))?;
    let Some(open) = open(desk, wire).await? else { return Ok(false) };
    if header.members_done > open.members {
        let message = format!("header.members_done = {}: the shard has {}", header.members_done, open.members);
        return Err(invalid(&message));
    }
    let bytes = assemble(&header, limit(&open)?, &mut parts, &mut pace).await?;
    let size = bytes.len() as u64;
    // Held until the scheduler's answer is in the journal.
    let stored = store.put(bytes).await.map_err(|error| store_failed(&error))?;
    let digest = stored.digest();
    let v1::CheckpointHeader { members_done, epochs, .. } = header;
    let checkpoint = Checkpoint { stored: InputRef { size, digest }, members_done, epochs };
    debug!(%worker, sweep = %open.shard.sweep, node = ?open.shard.node, members_done, epochs, size, "checkpoint");
    let shard = open.shard;
    let answer = desk.ask(move |request| Event::Checkpointed { request, worker, shard, checkpoint }).await?;
    Ok(matches!(answer, Answer::Wanted(true)))
}

fn invalid(message: &str) -> Status {
    Reason::RequestInvalid.status(message)
}

async fn next(parts: &mut Streaming<v1::UploadCheckpointRequest>, pace: &mut Pace) -> Result<Option<Part>, Status> {
    Ok(next_message(parts, pace).await?.and_then(|message| message.part))
}

/// The shard; `None` when there is none such or its sweep has ended.
async fn open(desk: &Desk, wire: v1::Shard) -> Result<Option<Open>, Status> {
    let find = move |scheduler: &Scheduler| {
        let (sweep, job) = (SweepId::new(wire.sweep_id.as_str()), JobIndex(wire.job));
        let node = scheduler.node(&sweep, job, wire.range()).filter(|_| scheduler.is_open(&sweep))?;
        let shard = ShardRef { sweep, job, node };
        let (_, job, members) = scheduler.shard(&shard)?;
        let (payload, state_bytes) = (job.payload, job.state_bytes);
        Some(Open { shard, payload, state_bytes, members })
    };
    Ok(desk.query(move |scheduler, _| find(scheduler)).await?)
}

/// Bytes that a checkpoint of the shard can have.
fn limit(open: &Open) -> Result<u64, Status> {
    let Payload::Runs { extra } = open.payload else {
        return Err(invalid("header.shard: only training runs have checkpoints"));
    };
    Ok(most_bytes(open.state_bytes, open.members, extra).min(MOST_BYTES))
}

/// The checkpoint, whole, with the digest that was announced.
async fn assemble(
    header: &v1::CheckpointHeader,
    limit: u64,
    parts: &mut Streaming<v1::UploadCheckpointRequest>,
    pace: &mut Pace,
) -> Result<Vec<u8>, Status> {
    let damaged = |error: ChunkError| match error {
        ChunkError::TooLarge { .. } => Reason::PayloadInvalid.status(format!("header.size: {error}")),
        error => Reason::PayloadDamaged.status(error.to_string()),
    };
    let mut assembler = Assembler::new(header.size, limit, &header.digest).map_err(damaged)?;
    while let Some(part) = next(parts, pace).await? {
        match part {
            Part::Data(data) => assembler.push(&data).map_err(damaged)?,
            Part::Header(_) => return Err(invalid("an upload has one header")),
        }
    }
    assembler.finish().map(|(bytes, _)| bytes).map_err(damaged)
}
