//! Sends stored blobs, a few at the same time.
//!
//! A blob is read in pieces while it is sent. HTTP/2 lets a reader stop for ever, so each chunk has a deadline, and a reader
//! that misses it loses its connection. Chunks are small, so that the rate of a slow reader can be seen; the window must be
//! small, too, because bytes in it count as sent.

use super::unreadable;
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

/// The most chunks that wait to be sent.
const MAX_READY: usize = 1;

/// A blob that is sent to a reader, and its place.
pub(super) struct Reading {
    pub(super) blob: BlobReader,
    pub(super) ticket: TransferTicket,
    pub(super) reader: Admitted,
    pub(super) stop: CancellationToken,
}

/// Sends a blob to its reader.
struct BlobSender<T> {
    messages: mpsc::Sender<Result<T, Status>>,
    ticket: TransferTicket,
    reader: Admitted,
    deadline: TransferDeadline,
}

/// The reader has left, or does not read.
struct Unread;

impl Reading {
    /// Sends `first` and then the bytes in chunks. The place is given back when all are sent, or the reader has left. A blob
    /// that turns out to be damaged ends with that error.
    pub(super) fn send<T: Send + 'static>(
        self,
        first: Option<T>,
        wrap: impl Fn(Vec<u8>) -> T + Send + 'static,
        limits: &Limits,
    ) -> BoxStream<'static, Result<T, Status>> {
        let Self { blob, ticket, reader, stop } = self;
        let (messages, receiver) = mpsc::channel(MAX_READY);
        let revoked = reader.caller.revoked.clone();
        let outgoing = BlobSender { messages, ticket, reader, deadline: limits.transfer_deadline(Instant::now()) };
        tokio::spawn(async move {
            let sending = outgoing.send_all(first, blob, wrap);
            tokio::select! { _ = sending => {}, () = stop.cancelled() => {}, () = revoked.cancelled() => {} }
        });
        ReceiverStream::new(receiver).boxed()
    }
}

impl<T> BlobSender<T> {
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
                Err(error) => return self.offer(Err(unreadable(&error, Reason::PayloadDamaged)), 0).await,
            };
            while !piece.is_empty() {
                let chunk: Bytes = piece.split_to(piece.len().min(CHUNK_BYTES));
                self.offer(Ok(wrap(chunk.to_vec())), chunk.len()).await?;
            }
        }
    }

    /// Waits until the reader accepts the next message.
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

/// Returns a ticket once its place is granted.
pub(super) async fn place(places: &TransferPlaces, offer: TransferOffer) -> TransferTicket {
    let mut ticket = places.offer(offer);
    ticket.granted().await;
    ticket
}
