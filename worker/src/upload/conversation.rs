//! One attempt to upload a payload: its header, a grant, its bytes, the answer. Where the grant names a place in a shared store,
//! the bytes are put there, and only that is reported in the stream; if they cannot be, the attempt waits for another grant.
//!
//! An attempt is given up when the connection breaks, the coordinator refuses, or no byte moves for a while after the grant. It
//! waits for the grant, and for the answer once all bytes are sent; pings detect a peer that is gone. Deliberately absent: retries.

use super::waits::{UploadWait, WaitPhase};
use crate::endpoint::{reportable, warn_unreachable};
use bytes::Bytes;
use nadgrid_presigned::DirectStore;
use nadgrid_proto::upload::{UploadGate, UploadMessages, gated};
use nadgrid_proto::v1;
use nadgrid_proto::v1::{
    upload_checkpoint_request as checkpoint_request, upload_checkpoint_response as checkpoint_response,
    upload_partial_request as partial_request, upload_partial_response as partial_response,
};
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tonic::{Response, Status, Streaming};

/// The time for which the connection may take no byte after the grant. The coordinator's own deadline is shorter as a
/// rule.
const STALLED: Duration = Duration::from_secs(90);
/// The time between two checks of how many bytes the connection has taken.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// The time that the coordinator may take to accept the call.
const ACCEPTED: Duration = Duration::from_secs(60);

/// The messages of one kind of upload.
pub(super) trait OutgoingUpload {
    type UploadHeader;
    type UploadRequest: Unpin;
    type UploadResponse;
    type UploadAnswer;

    fn header(header: Self::UploadHeader) -> Self::UploadRequest;
    fn data(data: Vec<u8>) -> Self::UploadRequest;
    fn reply(response: Self::UploadResponse) -> UploadReply<Self::UploadAnswer>;
    /// Returns the message about a payload that was to be put into the store; `None` where no grant asks for that.
    fn beside(outcome: Result<(), String>) -> Option<Self::UploadRequest>;
}

/// A message from the coordinator.
pub(super) enum UploadReply<A> {
    /// There is a place for the payload.
    Grant(v1::Grant),
    /// The upload is over.
    Answer(A),
    /// A message that this worker does not know.
    Nothing,
}

pub(super) struct OutgoingPartial;

impl OutgoingUpload for OutgoingPartial {
    type UploadHeader = v1::PartialHeader;
    type UploadRequest = v1::UploadPartialRequest;
    type UploadResponse = v1::UploadPartialResponse;
    type UploadAnswer = v1::Verdict;

    fn header(header: v1::PartialHeader) -> v1::UploadPartialRequest {
        v1::UploadPartialRequest { part: Some(partial_request::Part::Header(header)) }
    }

    fn data(data: Vec<u8>) -> v1::UploadPartialRequest {
        v1::UploadPartialRequest { part: Some(partial_request::Part::Data(data)) }
    }

    fn reply(response: v1::UploadPartialResponse) -> UploadReply<v1::Verdict> {
        match response.message {
            Some(partial_response::Message::Grant(grant)) => UploadReply::Grant(grant),
            Some(partial_response::Message::Verdict(verdict)) => {
                UploadReply::Answer(verdict.try_into().unwrap_or_default())
            }
            None => UploadReply::Nothing,
        }
    }

    fn beside(outcome: Result<(), String>) -> Option<v1::UploadPartialRequest> {
        let part = match outcome {
            Ok(()) => partial_request::Part::Stored(v1::Stored {}),
            Err(message) => partial_request::Part::StoreUnreachable(v1::StoreUnreachable { message }),
        };
        Some(v1::UploadPartialRequest { part: Some(part) })
    }
}

pub(super) struct OutgoingCheckpoint;

impl OutgoingUpload for OutgoingCheckpoint {
    type UploadHeader = v1::CheckpointHeader;
    type UploadRequest = v1::UploadCheckpointRequest;
    type UploadResponse = v1::UploadCheckpointResponse;
    type UploadAnswer = bool;

    fn header(header: v1::CheckpointHeader) -> v1::UploadCheckpointRequest {
        v1::UploadCheckpointRequest { part: Some(checkpoint_request::Part::Header(header)) }
    }

    fn data(data: Vec<u8>) -> v1::UploadCheckpointRequest {
        v1::UploadCheckpointRequest { part: Some(checkpoint_request::Part::Data(data)) }
    }

    fn reply(response: v1::UploadCheckpointResponse) -> UploadReply<bool> {
        match response.message {
            Some(checkpoint_response::Message::Grant(grant)) => UploadReply::Grant(grant),
            Some(checkpoint_response::Message::Wanted(wanted)) => UploadReply::Answer(wanted),
            None => UploadReply::Nothing,
        }
    }

    fn beside(_: Result<(), String>) -> Option<v1::UploadCheckpointRequest> {
        None
    }
}

/// The messages of an upload, as a call takes them.
pub(super) type GatedMessages<K> = UploadMessages<<K as OutgoingUpload>::UploadRequest, Bytes>;

/// The resources that an upload uses besides the call.
#[derive(Clone, Copy)]
pub(super) struct UploadContext<'a> {
    /// The shared store, where there is one.
    pub(super) store: &'a DirectStore,
    /// The wait that is reported to the user.
    pub(super) wait: &'a UploadWait,
}

/// Makes one attempt to upload a payload.
pub(super) async fn upload<K: OutgoingUpload, C>(
    header: K::UploadHeader,
    bytes: Bytes,
    call: C,
    UploadContext { store, wait }: UploadContext<'_>,
) -> Result<K::UploadAnswer, Status>
where
    C: AsyncFnOnce(GatedMessages<K>) -> Result<Response<Streaming<K::UploadResponse>>, Status>,
{
    let (mut gate, messages) = gated(K::header(header), bytes.clone(), K::data);
    let called = timeout(ACCEPTED, call(messages)).await;
    let called = called.map_err(|_| Status::deadline_exceeded("the coordinator did not accept the call in time"))?;
    let mut answers = called?.into_inner();
    wait.enter(WaitPhase::Grant);
    loop {
        match K::reply(next(&mut answers, &gate, wait).await?) {
            UploadReply::Answer(answer) => return Ok(answer),
            UploadReply::Grant(v1::Grant { put: None }) => {
                wait.enter(WaitPhase::Sending);
                gate.open();
            }
            UploadReply::Grant(v1::Grant { put: Some(put) }) => {
                wait.enter(WaitPhase::Storing);
                let outcome = tokio::select! {
                    outcome = put_beside(store, &put, bytes.clone()) => outcome,
                    message = answers.message() => return reply_meanwhile::<K>(message),
                };
                wait.enter(if outcome.is_ok() { WaitPhase::Answer } else { WaitPhase::Grant });
                let report = K::beside(outcome);
                gate.say(report.ok_or_else(|| {
                    Status::internal("the grant names a place in the store, which such a payload cannot use")
                })?);
            }
            UploadReply::Nothing => {}
        }
    }
}

/// Puts a payload into the store. An error is the reason, in words for the coordinator.
async fn put_beside(store: &DirectStore, put: &v1::PresignedRequest, bytes: Bytes) -> Result<(), String> {
    store.put(put, bytes).await.map_err(|failure| {
        warn_unreachable(&failure);
        reportable(&failure)
    })
}

/// Returns the result of an upload whose payload was being put into the store when a message arrived: it can only end or refuse.
fn reply_meanwhile<K: OutgoingUpload>(
    message: Result<Option<K::UploadResponse>, Status>,
) -> Result<K::UploadAnswer, Status> {
    match message?.map(K::reply) {
        Some(UploadReply::Answer(answer)) => Ok(answer),
        _ => Err(Status::unavailable("the coordinator ended the upload before the payload was in the store")),
    }
}

/// Waits for the coordinator's next message, as long as bytes move or none are due.
async fn next<T, M>(answers: &mut Streaming<T>, gate: &UploadGate<M>, wait: &UploadWait) -> Result<T, Status> {
    let mut pulse = UploadPulse { taken: gate.taken(), moved_at: Instant::now() };
    loop {
        if let Ok(message) = timeout(CHECK_EVERY, answers.message()).await {
            return message?.ok_or_else(|| Status::unavailable("the coordinator ended the upload without an answer"));
        }
        if gate.is_through() {
            wait.enter(WaitPhase::Answer);
        } else if wait.is_sending() && pulse.is_stalled(gate.taken(), Instant::now()) {
            return Err(Status::deadline_exceeded(format!("no byte was accepted for {STALLED:.0?}")));
        }
    }
}

/// The bytes that the connection has taken, and when it last took any.
struct UploadPulse {
    taken: u64,
    moved_at: Instant,
}

impl UploadPulse {
    /// Whether no byte has moved for [`STALLED`], given that `taken` bytes have been accepted.
    fn is_stalled(&mut self, taken: u64, now: Instant) -> bool {
        if taken != self.taken {
            *self = Self { taken, moved_at: now };
        }
        now.duration_since(self.moved_at) >= STALLED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_stalls_after_the_whole_time_without_a_byte() {
        let began = Instant::now();
        let second = Duration::from_secs(1);
        let mut pulse = UploadPulse { taken: 0, moved_at: began };
        assert!(!pulse.is_stalled(0, began + STALLED - second));
        assert!(!pulse.is_stalled(10, began + STALLED), "bytes have moved");
        assert!(!pulse.is_stalled(10, began + 2 * STALLED - second));
        assert!(pulse.is_stalled(10, began + 2 * STALLED));
    }
}
