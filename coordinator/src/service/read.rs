//! Sending what is stored: a few at once, and only to those who take it.
//!
//! A blob is read while it is sent, a piece at a time. HTTP/2 lets a reader stop for ever, so each chunk has a deadline, and
//! whoever misses it loses the connection. Chunks are small, so that the deadline of a slow reader is seen; its window must be small,
//! too, for what lies in it counts as sent.

use super::store_failed;
use crate::access::Admitted;
use crate::artifacts::BlobReader;
use crate::limits::{Limits, TransferDeadline};
use crate::metrics::{self, TransferWay};
use crate::transfers::{TransferOffer, TransferPlaces, TransferTicket};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use nadgrid_proto::chunks::CHUNK_BYTES;
use nadgrid_proto::status::Reason;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Chunks that wait to be taken.
const READY: usize = 1;

/// A blob on its way to a reader, and its place.
pub(super) struct Reading {
    pub(super) blob: BlobReader,
    pub(super) ticket: TransferTicket,
    pub(super) reader: Admitted,
    pub(super) stop: CancellationToken,
}

/// The way to a reader.
struct Outgoing<T> {
    messages: mpsc::Sender<Result<T, Status>>,
    ticket: TransferTicket,
    reader: Admitted,
    deadline: TransferDeadline,
}

/// Nobody takes any more of it.
struct Unread;

impl Reading {
    /// The bytes in chunks, after what `first` holds. The place is given back when all are taken, or nobody wants them. A blob
    /// that turns out to be damaged ends with that word.
    pub(super) fn send<T: Send + 'static>(
        self,
        first: Option<T>,
        wrap: impl Fn(Vec<u8>) -> T + Send + 'static,
        limits: &Limits,
    ) -> BoxStream<'static, Result<T, Status>> {
        let Self { blob, ticket, reader, stop } = self;
        let (messages, receiver) = mpsc::channel(READY);
        let revoked = reader.caller.revoked.clone();
        let outgoing = Outgoing { messages, ticket, reader, deadline: limits.transfer_deadline(Instant::now()) };
        tokio::spawn(async move {
            let sending = outgoing.send_all(first, blob, wrap);
            tokio::select! { _ = sending => {}, () = stop.cancelled() => {}, () = revoked.cancelled() => {} }
        });
        ReceiverStream::new(receiver).boxed()
    }
}

impl<T> Outgoing<T> {
    async fn send_all(
        mut self,
        first: Option<T>,
        mut blob: BlobReader,
        wrap: impl Fn(Vec<u8>) -> T,
    ) -> Result<(), Unread> {
        if let Some(first) = first {
            self.offer(Ok(first), 0).await?;
        }
        loop {
            let mut piece = match blob.next().await {
                Ok(Some(piece)) => piece,
                Ok(None) => return Ok(()),
                Err(error) if error.is_loss() => {
                    return self.offer(Err(Reason::PayloadDamaged.status(error.to_string())), 0).await;
                }
                Err(error) => return self.offer(Err(store_failed(&error)), 0).await,
            };
            while !piece.is_empty() {
                let chunk: Bytes = piece.split_to(piece.len().min(CHUNK_BYTES));
                self.offer(Ok(wrap(chunk.to_vec())), chunk.len()).await?;
            }
        }
    }

    /// Waits until the reader takes the next message.
    async fn offer(&mut self, message: Result<T, Status>, size: usize) -> Result<(), Unread> {
        match timeout_at(self.deadline.at(Instant::now()), self.messages.send(message)).await {
            Ok(Ok(())) => {
                self.deadline.moved(size);
                self.ticket.moved(size);
                metrics::transferred(TransferWay::Out, size as u64);
                Ok(())
            }
            Ok(Err(_)) => Err(Unread),
            Err(_) => {
                self.reader.peer.stuck();
                Err(Unread)
            }
        }
    }
}

/// Waits for a place among those who read.
pub(super) async fn place(places: &TransferPlaces, offer: TransferOffer) -> TransferTicket {
    let mut ticket = places.offer(offer);
    ticket.granted().await;
    ticket
}
