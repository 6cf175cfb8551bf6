//! A body in pieces that counts what the connection has taken of it.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

/// Bytes that are given to the connection at a time.
const PIECE: usize = 64 << 10;

pub(crate) struct CountedBody {
    rest: Bytes,
    taken: Arc<AtomicU64>,
}

impl CountedBody {
    pub(crate) fn new(bytes: Bytes, taken: Arc<AtomicU64>) -> Self {
        Self { rest: bytes, taken }
    }
}

impl Body for CountedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let size = self.rest.len().min(PIECE);
        if size == 0 {
            return Poll::Ready(None);
        }
        let piece = self.rest.split_to(size);
        self.taken.fetch_add(size as u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    /// Exact: stores require the length before the bytes.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
