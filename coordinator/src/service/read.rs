//! Sending what is stored: a few at once, and only to those who take it.
//!
//! A blob is in memory while it is sent. HTTP/2 lets a reader stop for ever, so each chunk has a deadline, and whoever
//! misses it loses the connection.

use crate::access::Admitted;
use crate::limits::Pace;
use futures::StreamExt;
use futures::stream::BoxStream;
use nadgrid_proto::chunks::chunks;
use nadgrid_proto::status::Reason;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Chunks that wait to be taken.
const READY: usize = 1;

/// The bytes in chunks, after what `first` holds. `place` is given back when all are taken, or nobody wants them.
pub(super) fn send<T: Send + 'static>(
    first: Option<T>,
    bytes: Vec<u8>,
    wrap: impl Fn(Vec<u8>) -> T + Send + 'static,
    place: OwnedSemaphorePermit,
    mut pace: Pace,
    reader: Admitted,
    stop: CancellationToken,
) -> BoxStream<'static, Result<T, Status>> {
    let (sender, receiver) = mpsc::channel(READY);
    let revoked = reader.caller.revoked.clone();
    let sending = async move {
        let _place = place;
        if let Some(first) = first {
            drop(sender.send(Ok(first)).await);
        }
        for chunk in chunks(bytes) {
            let size = chunk.len();
            let sent = timeout_at(pace.deadline(Instant::now()), sender.send(Ok(wrap(chunk))));
            match sent.await {
                Ok(Ok(())) => pace.moved(size),
                Ok(Err(_)) => return,
                Err(_) => {
                    tracing::warn!(peer = %reader.peer.address, "it does not take what it asked for: its connection is cut");
                    return reader.peer.cut();
                }
            }
        }
    };
    tokio::spawn(async move {
        tokio::select! { () = sending => {}, () = stop.cancelled() => {}, () = revoked.cancelled() => {} }
    });
    ReceiverStream::new(receiver).boxed()
}

/// Waits for a place among those who read.
pub(super) async fn place(places: &std::sync::Arc<tokio::sync::Semaphore>) -> Result<OwnedSemaphorePermit, Status> {
    places.clone().acquire_owned().await.map_err(|_| Reason::ShuttingDown.status("nothing is sent any more"))
}
