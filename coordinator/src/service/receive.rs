//! Receiving a payload: the conversation of all three uploads.
//!
//! ```text
//!  header ──▶ (its handler checks it) ──▶ waits for a place ──▶ Grant ──▶ exactly its bytes ──▶ end ──▶ the answer
//! ```
//!
//! No byte is taken before the grant, so what waits fills no connection. The place is a [`TransferTicket`] in the future that
//! receives: it is free again when the sender goes, is silent, or is refused. Deliberately absent: what the payload means.

use super::beside::BesideOutcome;
use super::store_failed;
use crate::access::Admitted;
use crate::artifacts::{Held, Store};
use crate::limits::{Limits, Pace};
use crate::metrics::{self, TransferWay};
use crate::transfers::{TransferOffer, TransferPlaces, TransferTicket};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use nadgrid_core::ids::Digest;
use nadgrid_proto::chunks::{Assembler, ChunkError};
use nadgrid_proto::status::Reason;
use nadgrid_proto::v1;
use std::future::Future;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// One kind of upload: its messages.
pub(super) trait UploadKind: 'static {
    type Header: Send;
    type Request: prost::Message + Send;
    type Response: Send + 'static;

    fn part(request: Self::Request) -> Option<UploadPart<Self::Header>>;

    fn grant(grant: v1::Grant) -> Self::Response;
}

/// What a sender says.
pub(super) enum UploadPart<H> {
    Header(H),
    Data(Vec<u8>),
    /// What became of a payload that was to be put where its grant said.
    Beside(BesideOutcome),
}

/// What every upload's answers travel in.
pub(super) type Answers<R> = BoxStream<'static, Result<R, Status>>;

/// The sender's side of one upload.
pub(super) struct Receiver<K: UploadKind> {
    parts: Streaming<K::Request>,
    grants: mpsc::Sender<K::Response>,
    limits: Limits,
    stop: CancellationToken,
}

/// What a header announces.
pub(super) struct Announced {
    pub(super) size: u64,
    pub(super) digest: Digest,
}

impl Announced {
    /// With a digest that is one.
    pub(super) fn new(size: u64, digest: &str) -> Result<Self, Status> {
        let known = Digest::from_hex(digest).ok_or_else(|| damaged(ChunkError::Digest(digest.to_owned())))?;
        Ok(Self { size, digest: known })
    }
}

/// A payload that came whole, and its place.
pub(super) struct Received {
    pub(super) bytes: Vec<u8>,
    digest: Digest,
    /// Given back when the payload is stored or dropped.
    ticket: TransferTicket,
}

/// Answers an upload with what `receive` yields, and with its grant before that. When the sender goes, `receive` is dropped.
pub(super) fn converse<K: UploadKind, F>(
    request: Request<Streaming<K::Request>>,
    limits: &Limits,
    stop: &CancellationToken,
    receive: impl FnOnce(Admitted, Receiver<K>) -> F,
) -> Result<Response<Answers<K::Response>>, Status>
where
    F: Future<Output = Result<K::Response, Status>> + Send + 'static,
{
    let admitted = Admitted::of(&request)?;
    let revoked = admitted.caller.revoked.clone();
    let (grants, granted) = mpsc::channel(1);
    let (limits, stop) = (limits.clone(), stop.clone());
    let receiving = receive(admitted, Receiver { parts: request.into_inner(), grants, limits, stop });
    let ended = async move {
        let received = revoked.run_until_cancelled(receiving).await;
        received.unwrap_or_else(|| Err(Reason::TokenUnknown.status("the token was revoked")))
    };
    Ok(Response::new(answers(granted, ended).boxed()))
}

fn answers<T: Send + 'static>(
    granted: mpsc::Receiver<T>,
    ended: impl Future<Output = Result<T, Status>> + Send + 'static,
) -> impl Stream<Item = Result<T, Status>> + Send {
    stream::select(ReceiverStream::new(granted).map(Ok), stream::once(ended))
}

impl<K: UploadKind> Receiver<K> {
    /// The header, which is the first that is said.
    pub(super) async fn header(&mut self) -> Result<K::Header, Status> {
        let mut pace = self.limits.pace(Instant::now());
        match self.next(&mut pace).await? {
            Some(UploadPart::Header(header)) => Ok(header),
            _ => Err(Reason::RequestInvalid.status("an upload begins with its header")),
        }
    }

    /// Waits for a place. Nothing is said meanwhile: a sender that goes on without a grant is refused.
    pub(super) async fn place(
        &mut self,
        places: &TransferPlaces,
        offer: TransferOffer,
    ) -> Result<TransferTicket, Status> {
        let mut ticket = places.offer(offer);
        tokio::select! {
            biased;
            () = ticket.granted() => Ok(ticket),
            () = self.stop.cancelled() => Err(Reason::ShuttingDown.status("no more uploads are taken")),
            message = self.parts.message() => Err(match message?.and_then(K::part) {
                Some(UploadPart::Header(_)) => second_header(),
                Some(UploadPart::Data(_) | UploadPart::Beside(_)) => {
                    let message = "bytes came before their grant: after the header nothing is sent until a grant has come";
                    Reason::RequestInvalid.status(message)
                }
                None => Reason::RequestInvalid.status("the upload ended before its grant: after it, its bytes are sent"),
            }),
        }
    }

    /// Grants the place, and takes the payload: exactly as many bytes as were announced, with their digest, and the end.
    pub(super) async fn payload(&mut self, announced: &Announced, ticket: TransferTicket) -> Result<Received, Status> {
        let mut assembler = Assembler::of(announced.size, announced.digest);
        // A sender that is gone is found out below.
        drop(self.grants.send(K::grant(v1::Grant { put: None })).await);
        let mut pace = self.limits.pace(Instant::now());
        while let Some(part) = self.next(&mut pace).await? {
            match part {
                UploadPart::Data(data) => {
                    ticket.moved(data.len());
                    assembler.push(&data).map_err(damaged)?;
                }
                UploadPart::Header(_) => return Err(second_header()),
                UploadPart::Beside(_) => {
                    let message = "the payload was to be sent in this stream: its grant named no other place";
                    return Err(Reason::RequestInvalid.status(message));
                }
            }
        }
        ticket.received();
        metrics::transferred(TransferWay::In, announced.size);
        let (bytes, digest) = assembler.finish().map_err(damaged)?;
        Ok(Received { bytes, digest, ticket })
    }

    /// Grants a place beside this stream, and waits until the sender says what became of its payload.
    pub(super) async fn beside(&mut self, put: v1::PresignedRequest, until: Instant) -> Result<BesideOutcome, Status> {
        drop(self.grants.send(K::grant(v1::Grant { put: Some(put) })).await);
        let said = tokio::select! {
            said = timeout_at(until, self.parts.message()) => said,
            () = self.stop.cancelled() => return Err(Reason::ShuttingDown.status("no more uploads are taken")),
        };
        let said = said.map_err(|_| Status::deadline_exceeded("the upload did not say what became of its payload"))?;
        match said?.and_then(K::part) {
            Some(UploadPart::Beside(outcome)) => Ok(outcome),
            Some(UploadPart::Header(_)) => Err(second_header()),
            Some(UploadPart::Data(_)) => {
                let message = "the payload was to be put where its grant says, or `store_unreachable` to be said first";
                Err(Reason::RequestInvalid.status(message))
            }
            None => Err(Reason::RequestInvalid.status("the upload ended before it said what became of its payload")),
        }
    }

    /// The next part, at the pace that the sender must keep; `None` at its end.
    async fn next(&mut self, pace: &mut Pace) -> Result<Option<UploadPart<K::Header>>, Status> {
        let message = timeout_at(pace.deadline(Instant::now()), self.parts.message()).await;
        let message =
            message.map_err(|_| Status::deadline_exceeded("the upload was silent or slow for too long"))??;
        pace.moved(message.as_ref().map_or(0, prost::Message::encoded_len));
        Ok(message.and_then(K::part))
    }
}

impl Received {
    /// Stores the payload and gives its place back. It is held until the report is in the journal.
    pub(super) async fn store(self, store: &Store) -> Result<Held, Status> {
        let Self { bytes, digest, ticket } = self;
        let stored = store.put_checked(bytes, digest).await.map_err(|error| store_failed(&error));
        drop(ticket);
        stored
    }

    /// Of its bytes.
    pub(super) fn digest(&self) -> Digest {
        self.digest
    }
}

fn second_header() -> Status {
    Reason::RequestInvalid.status("an upload has one header")
}

pub(super) fn damaged(error: ChunkError) -> Status {
    Reason::PayloadDamaged.status(error.to_string())
}
