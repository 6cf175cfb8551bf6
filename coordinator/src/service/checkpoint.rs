//! The upload of a checkpoint: it is received completely and stored before it is reported to the scheduler.
//!
//! Only workers read the bytes; one that cannot read a checkpoint begins its shard again. So only their number and digest are
//! checked here, and that the worker holds the shard.

use super::invalid;
use super::receive::{Announced, Receiver, UploadKind, UploadPart};
use super::workers::Workers;
use crate::access::Admitted;
use crate::event_loop::CoordinatorHandle;
use crate::transfers::TransferOffer;
use nadgrid_core::checkpoint::{MAX_BYTES, most_bytes};
use nadgrid_core::ids::WorkerId;
use nadgrid_core::scheduler::{Answer, Event, Scheduler, ShardCheckpoint, ShardRef};
use nadgrid_core::spec::{InputRef, Payload};
use nadgrid_proto::chunks::ChunkError;
use nadgrid_proto::convert::worker_id;
use nadgrid_proto::status::Reason;
use nadgrid_proto::v1::{self, upload_checkpoint_request::Part, upload_checkpoint_response::Message};
use tonic::Status;
use tracing::debug;

/// A shard that the worker holds and whose sweep is open.
struct OpenShard {
    shard: ShardRef,
    payload: Payload,
    /// The bytes of the state of one block in training.
    state_bytes: u64,
    members: u64,
}

/// The messages of `UploadCheckpoint`.
pub(super) struct CheckpointUpload;

impl UploadKind for CheckpointUpload {
    type HeaderMessage = v1::CheckpointHeader;
    type RequestMessage = v1::UploadCheckpointRequest;
    type ResponseMessage = v1::UploadCheckpointResponse;

    fn part(request: v1::UploadCheckpointRequest) -> Option<UploadPart<v1::CheckpointHeader>> {
        Some(match request.part? {
            Part::Header(header) => UploadPart::Header(header),
            Part::Data(data) => UploadPart::Data(data),
        })
    }

    fn grant(grant: v1::Grant) -> v1::UploadCheckpointResponse {
        v1::UploadCheckpointResponse { message: Some(Message::Grant(grant)) }
    }
}

/// Receives a checkpoint. Returns whether the sender still holds the shard.
pub(super) async fn receive(
    workers: &Workers,
    admitted: &Admitted,
    mut receiver: Receiver<CheckpointUpload>,
) -> Result<bool, Status> {
    let header = receiver.header().await?;
    let worker = worker_id(&header.worker_id).ok_or_else(|| invalid("header.worker_id is not a worker's id"))?;
    workers.bindings.bind(worker.as_str(), &admitted.caller)?;
    let wire = header.shard.clone().ok_or_else(|| invalid("header.shard is missing"))?;
    let Some(open) = open(&workers.coordinator, worker.clone(), wire).await? else { return Ok(false) };
    if header.members_done > open.members {
        let message = format!("header.members_done = {}: the shard has {}", header.members_done, open.members);
        return Err(invalid(message));
    }
    let announced = announced(&header, limit(&open)?)?;
    let size = announced.size;
    let sweep = open.shard.job.sweep.clone();
    let offer = TransferOffer { caller: worker.as_str().into(), sweep: Some(sweep.clone()), size };
    let ticket = receiver.place(&workers.uploads, offer).await?;
    let received = receiver.payload(&announced, ticket).await?;
    // The lease is kept until the scheduler's answer is in the journal.
    let stored = received.store(&workers.store).await;
    let stored = workers.observed(&sweep, stored)?;
    let digest = stored.digest();
    let v1::CheckpointHeader { members_done, epochs, .. } = header;
    let checkpoint = ShardCheckpoint { stored: InputRef { size, digest }, members_done, epochs };
    debug!(%worker, %sweep, node = ?open.shard.node, members_done, epochs, size, "checkpoint");
    let shard = open.shard;
    let answer =
        workers.coordinator.ask(move |request| Event::Checkpointed { request, worker, shard, checkpoint }).await?;
    Ok(matches!(answer, Answer::Wanted(true)))
}

/// Finds the shard; `None` if it does not exist, its sweep has ended, or the worker does not hold it.
async fn open(coordinator: &CoordinatorHandle, worker: WorkerId, wire: v1::Shard) -> Result<Option<OpenShard>, Status> {
    let find = move |scheduler: &Scheduler| {
        let job = wire.job_ref();
        let node = scheduler.node(&job, wire.range()).filter(|_| scheduler.is_open(&job.sweep))?;
        let shard = job.shard(node);
        let (_, job, members) = scheduler.shard(&shard).filter(|_| scheduler.holds(&worker, &shard))?;
        let payload = job.payload;
        let state_bytes = job.state_bytes;
        Some(OpenShard { shard, payload, state_bytes, members })
    };
    Ok(coordinator.query(move |scheduler, _| find(scheduler)).await?)
}

/// The most bytes that a checkpoint of the shard can have.
fn limit(open: &OpenShard) -> Result<u64, Status> {
    let Payload::Runs { extra, .. } = open.payload else {
        return Err(invalid("header.shard: only training runs have checkpoints"));
    };
    Ok(most_bytes(open.state_bytes, open.members, extra).min(MAX_BYTES))
}

/// Checks the announced size against the limit.
fn announced(header: &v1::CheckpointHeader, limit: u64) -> Result<Announced, Status> {
    let size = header.size;
    if size > limit {
        let error = ChunkError::TooLarge { size, limit };
        return Err(Reason::PayloadInvalid.status(format!("header.size: {error}")));
    }
    Announced::new(size, &header.digest)
}
