//! Receives a payload. All three uploads have the same conversation.
//!
//! ```text
//!  header ──▶ (its handler checks it) ──▶ waits for a place ──▶ Grant ──▶ exactly its bytes ──▶ end ──▶ the answer
//! ```
//!
//! No byte is accepted before the grant, so waiting uploads do not fill their connections. The place is a [`TransferTicket`]
//! in the receiving task, so it is free again when the sender leaves, is silent, or is refused. Deliberately absent: the
//! meaning of the payload.

use super::beside::BesideOutcome;
use super::{invalid, store_failed};
use crate::access::Admitted;
use crate::artifacts::{BlobLease, Store};
use crate::limits::{Limits, TransferDeadline};
use crate::metrics::{self, TransferWay};
use crate::transfers::{TransferOffer, TransferPlaces, TransferTicket};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use nadgrid_core::ids::Digest;
use nadgrid_proto::chunks::{Assembler, ChunkError, announced_digest};
use nadgrid_proto::status::Reason;
use nadgrid_proto::v1;
use std::future::Future;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, Status, Streaming};

/// The most grants of one upload: one for the store and, if the sender cannot reach it, one for the stream. The channel has
/// room for both, so that granting never waits for a peer that does not read.
const MAX_GRANTS: usize = 2;

/// The most bytes of a header. Headers are in memory while their payloads wait, however many there are.
const MAX_HEADER_BYTES: usize = 64 << 10;

/// A kind of upload: its messages.
pub(super) trait UploadKind: 'static {
    type HeaderMessage: Send;
    type RequestMessage: prost::Message + Send;
    type ResponseMessage: Send + 'static;

    fn part(request: Self::RequestMessage) -> Option<UploadPart<Self::HeaderMessage>>;

    fn grant(grant: v1::Grant) -> Self::ResponseMessage;
}

/// A message of the sender.
pub(super) enum UploadPart<H> {
    Header(H),
    Data(Vec<u8>),
    /// The outcome of storing the payload with the grant's request.
    Beside(BesideOutcome),
}

/// The stream of an upload's answers.
pub(super) type Answers<R> = BoxStream<'static, Result<R, Status>>;

/// The sender's side of one upload.
pub(super) struct Receiver<K: UploadKind> {
    parts: Streaming<K::RequestMessage>,
    grants: mpsc::Sender<K::ResponseMessage>,
    limits: Limits,
    stop: CancellationToken,
}

/// The size and the digest that a header announces.
pub(super) struct Announced {
    pub(super) size: u64,
    pub(super) digest: Digest,
}

impl Announced {
    /// Parses the digest.
    ///
    /// # Errors
    /// `PAYLOAD_DAMAGED` for a malformed digest.
    pub(super) fn new(size: u64, digest: &str) -> Result<Self, Status> {
        let known = announced_digest(digest).map_err(damaged)?;
        Ok(Self { size, digest: known })
    }
}

/// A payload that was received completely, and its place.
pub(super) struct Received {
    pub(super) bytes: Vec<u8>,
    digest: Digest,
    /// Given back when the payload is stored or dropped.
    ticket: TransferTicket,
}

/// Answers an upload with its grant and then with the result of `receive`. If the sender leaves, `receive` is dropped.
pub(super) fn converse<K: UploadKind, F>(
    request: Request<Streaming<K::RequestMessage>>,
    limits: &Limits,
    stop: &CancellationToken,
    receive: impl FnOnce(Admitted, Receiver<K>) -> F,
) -> Result<Response<Answers<K::ResponseMessage>>, Status>
where
    F: Future<Output = Result<K::ResponseMessage, Status>> + Send + 'static,
{
    let admitted = Admitted::of(&request)?;
    let revoked = admitted.caller.revoked.clone();
    let (grants, granted) = mpsc::channel(MAX_GRANTS);
    let limits = limits.clone();
    let stop = stop.clone();
    let receiving = receive(admitted, Receiver { parts: request.into_inner(), grants, limits, stop });
    let ended = async move {
        let received = revoked.run_until_cancelled(receiving).await;
        received.unwrap_or_else(|| Err(Reason::TokenUnknown.status("the token was revoked")))
    };
    Ok(Response::new(answers(granted, ended).boxed()))
}

/// The answers of an upload; `ended` receives it. It runs in a task of its own, because a stream is only polled while its
/// peer's window has room: a peer without room would otherwise keep its place beyond every deadline.
fn answers<T: Send + 'static>(
    granted: mpsc::Receiver<T>,
    ended: impl Future<Output = Result<T, Status>> + Send + 'static,
) -> impl Stream<Item = Result<T, Status>> + Send {
    let receiving = AbortOnDropHandle::new(tokio::spawn(ended));
    let ended = async move {
        receiving.await.unwrap_or_else(|panic| Err(Reason::Internal.status(format!("the upload failed: {panic}"))))
    };
    stream::select(ReceiverStream::new(granted).map(Ok), stream::once(ended))
}

impl<K: UploadKind> Receiver<K> {
    /// Receives the header, which comes first.
    pub(super) async fn header(&mut self) -> Result<K::HeaderMessage, Status> {
        let mut deadline = self.limits.transfer_deadline(Instant::now());
        let message = self.next(&mut deadline).await?;
        let bytes = message.as_ref().map_or(0, prost::Message::encoded_len);
        if bytes > MAX_HEADER_BYTES {
            let message = format!("the upload's header has {bytes} bytes, at most {MAX_HEADER_BYTES} are accepted");
            return Err(invalid(message));
        }
        match message.and_then(K::part) {
            Some(UploadPart::Header(header)) => Ok(header),
            _ => Err(invalid("an upload must begin with its header")),
        }
    }

    /// Waits until a place is granted. A sender that continues without a grant is refused.
    pub(super) async fn place(
        &mut self,
        places: &TransferPlaces,
        offer: TransferOffer,
    ) -> Result<TransferTicket, Status> {
        let mut ticket = places.offer(offer);
        tokio::select! {
            biased;
            () = ticket.granted() => Ok(ticket),
            () = self.stop.cancelled() => Err(stopping()),
            message = self.parts.message() => Err(match message?.and_then(K::part) {
                Some(UploadPart::Header(_)) => second_header(),
                Some(UploadPart::Data(_) | UploadPart::Beside(_)) => {
                    invalid("bytes came before their grant: after the header, nothing may be sent until the grant has come")
                }
                None => invalid("the upload ended before its grant: the bytes are sent after it"),
            }),
        }
    }

    /// Grants the place and receives the payload: exactly the announced bytes, with their digest, and the end.
    pub(super) async fn payload(&mut self, announced: &Announced, ticket: TransferTicket) -> Result<Received, Status> {
        let mut assembler = Assembler::of(announced.size, announced.digest);
        // Whether the sender has left is noticed below.
        drop(self.grants.send(K::grant(v1::Grant { put: None })).await);
        let mut deadline = self.limits.transfer_deadline(Instant::now());
        while let Some(part) = self.next(&mut deadline).await?.and_then(K::part) {
            match part {
                // Parts without bytes would extend the deadline for ever.
                UploadPart::Data(data) if data.is_empty() => return Err(invalid("a part of the payload has no bytes")),
                UploadPart::Data(data) => {
                    ticket.moved(data.len());
                    assembler.push(&data).map_err(damaged)?;
                }
                UploadPart::Header(_) => return Err(second_header()),
                UploadPart::Beside(_) => {
                    return Err(invalid("the payload must be sent in this stream: its grant has no presigned request"));
                }
            }
        }
        ticket.received();
        metrics::transferred(TransferWay::In, announced.size);
        let (bytes, digest) = assembler.finish().map_err(damaged)?;
        Ok(Received { bytes, digest, ticket })
    }

    /// Grants a place in the store, and waits until the sender reports the outcome.
    pub(super) async fn beside(&mut self, put: v1::PresignedRequest, until: Instant) -> Result<BesideOutcome, Status> {
        drop(self.grants.send(K::grant(v1::Grant { put: Some(put) })).await);
        let said = tokio::select! {
            said = timeout_at(until, self.parts.message()) => said,
            () = self.stop.cancelled() => return Err(stopping()),
        };
        let said =
            said.map_err(|_| Status::deadline_exceeded("the sender did not report whether its payload is stored"))?;
        match said?.and_then(K::part) {
            Some(UploadPart::Beside(outcome)) => Ok(outcome),
            Some(UploadPart::Header(_)) => Err(second_header()),
            Some(UploadPart::Data(_)) => Err(invalid(
                "the payload must be stored with the grant's request, or `store_unreachable` be sent before its bytes",
            )),
            None => Err(invalid("the upload ended before the sender reported whether its payload is stored")),
        }
    }

    /// The next message before the sender's deadline; `None` at its end.
    async fn next(&mut self, deadline: &mut TransferDeadline) -> Result<Option<K::RequestMessage>, Status> {
        let message = timeout_at(deadline.at(Instant::now()), self.parts.message()).await;
        let message =
            message.map_err(|_| Status::deadline_exceeded("the upload was silent or slow for too long"))??;
        deadline.moved(message.as_ref().map_or(0, prost::Message::encoded_len));
        Ok(message)
    }
}

impl Received {
    /// Stores the payload and gives its place back. The caller keeps the lease until the report is in the journal.
    pub(super) async fn store(self, store: &Store) -> Result<BlobLease, Status> {
        let Self { bytes, digest, ticket } = self;
        let stored = store.put_checked(bytes, digest).await.map_err(|error| store_failed(&error));
        drop(ticket);
        stored
    }

    /// The digest of its bytes.
    pub(super) fn digest(&self) -> Digest {
        self.digest
    }
}

fn second_header() -> Status {
    invalid("an upload has only one header")
}

fn stopping() -> Status {
    Reason::ShuttingDown.status("the coordinator is shutting down and accepts no uploads")
}

pub(super) fn damaged(error: ChunkError) -> Status {
    Reason::PayloadDamaged.status(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::inputs::InputUpload;
    use crate::transfers::PlaceSettings;
    use bytes::Bytes;
    use http_body_util::Full;
    use nadgrid_core::places::PlaceBounds;
    use prost::Message;
    use std::time::Duration;
    use tokio::sync::oneshot;
    use tonic::codec::{DecodeBuf, Decoder};
    use v1::upload_input_request::Part;

    struct Messages;

    impl Decoder for Messages {
        type Item = v1::UploadInputRequest;
        type Error = Status;

        fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<v1::UploadInputRequest>, Status> {
            v1::UploadInputRequest::decode(bytes).map(Some).map_err(|error| Status::internal(error.to_string()))
        }
    }

    /// Receives an upload with these parts.
    fn receiver(parts: Vec<Part>) -> Receiver<InputUpload> {
        let mut body = Vec::new();
        for part in parts {
            let message = v1::UploadInputRequest { part: Some(part) }.encode_to_vec();
            body.push(0);
            body.extend((message.len() as u32).to_be_bytes());
            body.extend(message);
        }
        let parts = Streaming::new_request(Messages, Full::new(Bytes::from(body)), None, None);
        let (grants, _) = mpsc::channel(MAX_GRANTS);
        Receiver { parts, grants, limits: Limits::default(), stop: CancellationToken::new() }
    }

    async fn payload(parts: &[&[u8]]) -> Result<Vec<u8>, Status> {
        let all = parts.concat();
        let announced = Announced { size: all.len() as u64, digest: Digest::of(&all) };
        let places = TransferPlaces::new(PlaceBounds { places: 1, each: 1, bytes: 100 }, PlaceSettings::PARTIALS);
        let mut ticket = places.offer(TransferOffer { caller: "c".into(), sweep: None, size: announced.size });
        ticket.granted().await;
        let parts = parts.iter().map(|part| Part::Data(part.to_vec())).collect();
        receiver(parts).payload(&announced, ticket).await.map(|received| received.bytes)
    }

    #[tokio::test]
    async fn a_header_is_small() {
        let header = |digest: String| Part::Header(v1::InputHeader { size: 1, digest });
        assert_eq!(receiver(vec![header("ab".to_owned())]).header().await.unwrap().digest, "ab");
        let status = receiver(vec![header("a".repeat(MAX_HEADER_BYTES))]).header().await.unwrap_err();
        assert!(status.message().contains("at most 65536"), "{status}");
    }

    #[tokio::test]
    async fn a_payload_comes_in_parts_that_have_bytes() {
        assert_eq!(payload(&[b"gra", b"dient"]).await.unwrap(), b"gradient");
        assert_eq!(payload(&[]).await.unwrap(), b"");
        let status = payload(&[b"gra", b"", b"dient"]).await.unwrap_err();
        assert!(Reason::RequestInvalid.is_of(&status), "{status}");
    }

    #[tokio::test]
    async fn an_upload_continues_although_its_answers_are_not_read_and_ends_when_they_are_dropped() {
        let within = Duration::from_secs(60);
        let (over, is_over) = oneshot::channel();
        let (_grants, granted) = mpsc::channel::<u8>(MAX_GRANTS);
        let unread = answers(granted, async move {
            let _ = over.send(());
            Ok(1)
        });
        tokio::time::timeout(within, is_over).await.unwrap().unwrap();
        assert_eq!(unread.boxed().next().await.unwrap().unwrap(), 1);

        let (place, is_left) = oneshot::channel::<()>();
        let (_grants, granted) = mpsc::channel::<u8>(MAX_GRANTS);
        let waiting = answers(granted, async move {
            let _place = place;
            std::future::pending().await
        });
        tokio::task::yield_now().await;
        drop(waiting);
        assert!(tokio::time::timeout(within, is_left).await.unwrap().is_err());
    }
}
