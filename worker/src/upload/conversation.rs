//! One attempt to hand a payload in: its header, a grant, its bytes, the answer. Where the grant names a place in a shared store, the
//! bytes are put there, and only that is said in the stream; if they cannot be, another grant is waited for.
//!
//! An attempt is given up when the connection breaks, the coordinator refuses, or no byte moves for a while after the grant.
//! Until the grant, and once all bytes are through, it waits: pings find out when nobody is there. Deliberately absent: trying again.

use super::waits::{Wait, WaitPhase};
use crate::endpoint::warn_unreachable;
use bytes::Bytes;
use nadgrid_presigned::DirectStore;
use nadgrid_proto::upload::{UploadGate, UploadMessages, gated};
use nadgrid_proto::v1;
use nadgrid_proto::v1::{
    upload_checkpoint_request as checkpoint_request, upload_checkpoint_response as checkpoint_response,
    upload_partial_request as partial_request, upload_partial_response as partial_response,
};
use std::time::Duration;
use tokio::time::timeout;
use tonic::{Response, Status, Streaming};

/// How long the connection may take nothing after the grant. The coordinator's own patience is shorter as a rule.
const STALLED: Duration = Duration::from_secs(90);
/// Until the coordinator has let the call in.
const LET_IN: Duration = Duration::from_secs(60);

/// One kind of upload: its messages.
pub(super) trait UploadKind {
    type Header;
    type Request: Unpin;
    type Response;
    type Answer;

    fn header(header: Self::Header) -> Self::Request;
    fn data(data: Vec<u8>) -> Self::Request;
    fn said(response: Self::Response) -> Said<Self::Answer>;
    /// What became of a payload that was to be put into the store; `None` where no grant asks for that.
    fn beside(outcome: Result<(), String>) -> Option<Self::Request>;
}

/// What the coordinator says.
pub(super) enum Said<A> {
    /// There is a place.
    Grant(v1::Grant),
    Answer(A),
    Nothing,
}

pub(super) struct PartialUpload;

impl UploadKind for PartialUpload {
    type Header = v1::PartialHeader;
    type Request = v1::UploadPartialRequest;
    type Response = v1::UploadPartialResponse;
    type Answer = v1::Verdict;

    fn header(header: v1::PartialHeader) -> v1::UploadPartialRequest {
        v1::UploadPartialRequest { part: Some(partial_request::Part::Header(header)) }
    }

    fn data(data: Vec<u8>) -> v1::UploadPartialRequest {
        v1::UploadPartialRequest { part: Some(partial_request::Part::Data(data)) }
    }

    fn said(response: v1::UploadPartialResponse) -> Said<v1::Verdict> {
        match response.message {
            Some(partial_response::Message::Grant(grant)) => Said::Grant(grant),
            Some(partial_response::Message::Verdict(verdict)) => Said::Answer(verdict.try_into().unwrap_or_default()),
            None => Said::Nothing,
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

pub(super) struct CheckpointUpload;

impl UploadKind for CheckpointUpload {
    type Header = v1::CheckpointHeader;
    type Request = v1::UploadCheckpointRequest;
    type Response = v1::UploadCheckpointResponse;
    type Answer = bool;

    fn header(header: v1::CheckpointHeader) -> v1::UploadCheckpointRequest {
        v1::UploadCheckpointRequest { part: Some(checkpoint_request::Part::Header(header)) }
    }

    fn data(data: Vec<u8>) -> v1::UploadCheckpointRequest {
        v1::UploadCheckpointRequest { part: Some(checkpoint_request::Part::Data(data)) }
    }

    fn said(response: v1::UploadCheckpointResponse) -> Said<bool> {
        match response.message {
            Some(checkpoint_response::Message::Grant(grant)) => Said::Grant(grant),
            Some(checkpoint_response::Message::Wanted(wanted)) => Said::Answer(wanted),
            None => Said::Nothing,
        }
    }

    fn beside(_: Result<(), String>) -> Option<v1::UploadCheckpointRequest> {
        None
    }
}

/// The messages of an upload, as a call takes them.
pub(super) type Messages<K> = UploadMessages<<K as UploadKind>::Request, Bytes>;

/// What handing in makes use of.
#[derive(Clone, Copy)]
pub(super) struct HandInBy<'a> {
    /// The shared store, where there is one.
    pub(super) store: &'a DirectStore,
    /// What is told while it waits.
    pub(super) wait: &'a Wait,
}

/// Hands a payload in, once.
pub(super) async fn hand_in<K: UploadKind, C>(
    header: K::Header,
    bytes: Bytes,
    call: C,
    HandInBy { store, wait }: HandInBy<'_>,
) -> Result<K::Answer, Status>
where
    C: AsyncFnOnce(Messages<K>) -> Result<Response<Streaming<K::Response>>, Status>,
{
    let (mut gate, messages) = gated(K::header(header), bytes.clone(), K::data);
    let called = timeout(LET_IN, call(messages)).await;
    let called = called.map_err(|_| Status::deadline_exceeded("the coordinator did not take the call"))?;
    let mut answers = called?.into_inner();
    wait.enter(WaitPhase::Place);
    loop {
        match K::said(next(&mut answers, &gate, wait).await?) {
            Said::Answer(answer) => return Ok(answer),
            Said::Grant(v1::Grant { put: None }) => {
                wait.enter(WaitPhase::Sending);
                gate.open();
            }
            Said::Grant(v1::Grant { put: Some(put) }) => {
                wait.enter(WaitPhase::Storing);
                let outcome = tokio::select! {
                    outcome = put_beside(store, &put, bytes.clone()) => outcome,
                    said = answers.message() => return said_meanwhile::<K>(said),
                };
                wait.enter(if outcome.is_ok() { WaitPhase::Answer } else { WaitPhase::Place });
                let said = K::beside(outcome);
                gate.say(said.ok_or_else(|| Status::internal("a grant of a place that such a payload has not"))?);
            }
            Said::Nothing => {}
        }
    }
}

/// Puts a payload into the store; why it could not, for the coordinator.
async fn put_beside(store: &DirectStore, put: &v1::PresignedRequest, bytes: Bytes) -> Result<(), String> {
    store.put(put, bytes).await.map_err(|failure| {
        warn_unreachable(&failure);
        failure.to_string()
    })
}

/// What the coordinator says while a payload is put into the store: the end, or a refusal.
fn said_meanwhile<K: UploadKind>(said: Result<Option<K::Response>, Status>) -> Result<K::Answer, Status> {
    match said?.map(K::said) {
        Some(Said::Answer(answer)) => Ok(answer),
        _ => Err(Status::unavailable("the coordinator ended the upload before the payload was in the store")),
    }
}

/// The next that the coordinator says, while bytes move or none are to.
async fn next<T, M>(answers: &mut Streaming<T>, gate: &UploadGate<M>, wait: &Wait) -> Result<T, Status> {
    let mut taken = gate.taken();
    loop {
        let said = timeout(STALLED / 2, answers.message()).await;
        if let Ok(said) = said {
            return said?.ok_or_else(|| Status::unavailable("the coordinator ended the upload without an answer"));
        }
        let before = std::mem::replace(&mut taken, gate.taken());
        if gate.is_through() {
            wait.enter(WaitPhase::Answer);
        } else if wait.is_sending() && taken == before {
            return Err(Status::deadline_exceeded(format!("no byte was taken for {STALLED:.0?}")));
        }
    }
}
