//! The upload of a partial: it is received completely, checked and stored before it is reported to the scheduler.

use super::beside::{self, BesideOutcome};
use super::convert::{named_shard, worker_steps};
use super::invalid;
use super::receive::{Announced, Received, Receiver, UploadKind, UploadPart};
use super::workers::Workers;
use crate::access::Admitted;
use crate::partial;
use crate::transfers::TransferOffer;
use nadgrid_core::ids::{Digest, WorkerId};
use nadgrid_core::numerics::NumericsClass;
use nadgrid_core::scheduler::{Answer, Event, Partial, PartialBytes, Scheduler, ShardRef, Verdict};
use nadgrid_core::shell::INVALID_REPORT;
use nadgrid_core::spec::Payload;
use nadgrid_proto::convert::worker_id;
use nadgrid_proto::status::Reason;
use nadgrid_proto::v1::{self, upload_partial_request::Part, upload_partial_response::Message};
use tonic::Status;
use tracing::debug;

/// The smallest payload that workers put into the store themselves: for smaller ones the request costs more than the bytes.
const MIN_BESIDE: u64 = 64 << 10;

/// The messages of `UploadPartial`.
pub(super) struct PartialUpload;

impl UploadKind for PartialUpload {
    type HeaderMessage = v1::PartialHeader;
    type RequestMessage = v1::UploadPartialRequest;
    type ResponseMessage = v1::UploadPartialResponse;

    fn part(request: v1::UploadPartialRequest) -> Option<UploadPart<v1::PartialHeader>> {
        Some(match request.part? {
            Part::Header(header) => UploadPart::Header(header),
            Part::Data(data) => UploadPart::Data(data),
            Part::Stored(_) => UploadPart::Beside(BesideOutcome::Stored),
            Part::StoreUnreachable(said) => UploadPart::Beside(BesideOutcome::Unreachable(said.message)),
        })
    }

    fn grant(grant: v1::Grant) -> v1::UploadPartialResponse {
        v1::UploadPartialResponse { message: Some(Message::Grant(grant)) }
    }
}

/// The shape that a shard's partial must have.
struct ExpectedPartial {
    shard: ShardRef,
    payload: Payload,
    members: u64,
}

/// A worker's report of a partial.
struct PartialReport {
    worker: WorkerId,
    class: NumericsClass,
    seconds: f64,
    /// The part of `seconds` before the first block.
    begin_seconds: f64,
}

pub(super) async fn receive(
    workers: &Workers,
    admitted: &Admitted,
    mut receiver: Receiver<PartialUpload>,
) -> Result<v1::Verdict, Status> {
    let mut header = receiver.header().await?;
    let worker = worker_id(&header.worker_id).ok_or_else(|| invalid("header.worker_id is not a worker's id"))?;
    workers.bindings.bind(worker.as_str(), &admitted.caller)?;
    let wire = header.shard.clone().ok_or_else(|| invalid("header.shard is missing"))?;
    let class = header.numerics_class.take().ok_or_else(|| invalid("header.numerics_class is missing"))?;
    let Some(expected) = expected(workers, worker.clone(), wire.clone()).await? else {
        return Ok(v1::Verdict::NotNeeded);
    };
    let announced = announced(&header, &expected)?;
    let caller = worker.as_str().into();
    let sweep = expected.shard.job.sweep.clone();
    let offer = TransferOffer { caller, sweep: Some(sweep.clone()), size: announced.size };
    let beside = if travels_beside(&header, &expected) {
        let received = beside::receive(workers, &mut receiver, &announced, offer.clone()).await;
        received.inspect_err(|status| workers.note_refusal(&sweep, status))?
    } else {
        None
    };
    // The lease is kept until the report is in the journal.
    let (stored, content) = match beside {
        Some(stored) => (Ok(stored), announced.digest),
        None => {
            let ticket = receiver.place(&workers.uploads, offer).await?;
            let received = receiver.payload(&announced, ticket).await?;
            let (received, content) = validate(received, expected.payload, expected.members).await?;
            (received.store(&workers.store).await, content)
        }
    };
    let stored = workers.observed(&sweep, stored)?;
    let partial = Partial { bytes: PartialBytes::Stored(stored.digest()), content };
    let steps = worker_steps(std::mem::take(&mut header.steps));
    workers.coordinator.steps(worker.clone(), named_shard(&wire), steps).await;
    let seconds = partial::seconds(header.seconds);
    let begin_seconds = partial::seconds(header.begin_seconds);
    report(workers, PartialReport { worker, class: class.into(), seconds, begin_seconds }, expected.shard, partial)
        .await
}

/// Whether the worker may put its payload into a shared store itself. The content digest of moments is that of their bytes,
/// which are checked when they are merged; small payloads are cheaper in the stream.
fn travels_beside(header: &v1::PartialHeader, expected: &ExpectedPartial) -> bool {
    matches!(expected.payload, Payload::Moments { .. }) && header.size >= MIN_BESIDE && !header.through_coordinator
}

/// The shape of this shard's partial, before a byte of it is sent; `None` if it is not needed: its sweep is unknown or has
/// ended, or the worker does not hold the shard.
async fn expected(workers: &Workers, worker: WorkerId, wire: v1::Shard) -> Result<Option<ExpectedPartial>, Status> {
    let find = move |scheduler: &Scheduler| -> Result<Option<ExpectedPartial>, Status> {
        let job = wire.job_ref();
        let open = scheduler.is_open(&job.sweep);
        let shard = scheduler.node(&job, wire.range()).map(|node| job.shard(node));
        if !open && !shard.as_ref().is_some_and(|shard| scheduler.expects(shard)) {
            return Ok(None);
        }
        let found = shard.and_then(|shard| scheduler.shard(&shard).map(|(_, job, n)| (shard.clone(), job.payload, n)));
        match found {
            Some((shard, payload, members)) => match scheduler.takes_report(&worker, &shard) {
                Some(true) => Ok(Some(ExpectedPartial { shard, payload, members })),
                Some(false) => Ok(None),
                None => Err(no_session(&worker)),
            },
            None => {
                let message = format!(
                    "header.shard: sweep {} has no shard {:?} in job {}",
                    wire.sweep_id,
                    wire.range(),
                    wire.job
                );
                Err(invalid(message))
            }
        }
    };
    workers.coordinator.query(move |scheduler, _| find(scheduler)).await?
}

/// The status of a report by a worker without a session.
pub(super) fn no_session(worker: &WorkerId) -> Status {
    let message = format!("worker {worker} has no session here; it names the shards that it holds when it opens one");
    Reason::SessionMissing.status(message)
}

/// Checks the announced size, which must be that of the shard's partial.
fn announced(header: &v1::PartialHeader, expected: &ExpectedPartial) -> Result<Announced, Status> {
    let size = expected.payload.bytes(expected.members);
    if header.size != size {
        let message = format!("header.size = {}: this partial has {size} bytes", header.size);
        return Err(Reason::PayloadInvalid.status(message));
    }
    Announced::new(size, &header.digest)
}

/// Checks whether the numbers are possible results of the shard, off the async threads, since it reads all of them.
async fn validate(received: Received, payload: Payload, members: u64) -> Result<(Received, Digest), Status> {
    let checked = tokio::task::spawn_blocking(move || {
        let content = partial::check(&received.bytes, received.digest(), payload, members);
        content.map(|content| (received, content))
    });
    let checked = checked.await.map_err(|e| Reason::Internal.status(e.to_string()))?;
    checked.map_err(|message| Reason::PayloadInvalid.status(message))
}

async fn report(
    workers: &Workers,
    report: PartialReport,
    shard: ShardRef,
    partial: Partial,
) -> Result<v1::Verdict, Status> {
    let PartialReport { worker, class, seconds, begin_seconds } = report;
    let reporter = worker.clone();
    let reported = shard.clone();
    let event = move |request| Event::Report { request, worker, shard, class, partial, seconds, begin_seconds };
    let answer = workers.coordinator.ask(event).await?;
    debug!(worker = %reporter, sweep = %reported.job.sweep, node = ?reported.node, ?answer, seconds, "reported");
    let verdict = if let Answer::Reported(verdict) = answer { verdict } else { Verdict::Invalid };
    if verdict == Verdict::NoSession {
        return Err(no_session(&reporter));
    }
    v1::Verdict::of(verdict).ok_or_else(|| invalid(INVALID_REPORT))
}
