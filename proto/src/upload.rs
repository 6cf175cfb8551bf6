//! The sender's side of an upload: its header at once, then its bytes after a grant, or a message instead of them.
//!
//! Deliberately absent: the call itself, and the handling of its failure.

use crate::chunks::CHUNK_BYTES;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::Stream;

/// Holds an upload's bytes back until the grant, and counts how many of them were sent.
#[derive(Debug)]
pub struct UploadGate<T> {
    steps: Option<mpsc::UnboundedSender<UploadStep<T>>>,
    is_open: bool,
    size: u64,
    taken: Arc<AtomicU64>,
}

/// The next part of an upload after its header.
#[derive(Debug)]
enum UploadStep<T> {
    /// A message other than the bytes.
    Say(T),
    /// The bytes, and then the end.
    Bytes,
}

impl<T> UploadGate<T> {
    /// Lets the bytes go. A second grant changes nothing.
    pub fn open(&mut self) {
        self.is_open = true;
        // Sending fails only if the call has ended.
        self.steps.take().map(|steps| steps.send(UploadStep::Bytes));
    }

    /// Sends a message while the bytes are held back.
    pub fn say(&mut self, message: T) {
        self.steps.as_ref().map(|steps| steps.send(UploadStep::Say(message)));
    }

    /// The number of bytes that the connection has accepted.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Whether the connection has accepted all bytes, after the grant.
    pub fn is_through(&self) -> bool {
        self.is_open && self.taken() == self.size
    }
}

/// The messages of an upload. They end if the gate is dropped before it was opened.
#[derive(Debug)]
pub struct UploadMessages<T, B> {
    header: Option<T>,
    steps: Option<mpsc::UnboundedReceiver<UploadStep<T>>>,
    bytes: B,
    position: usize,
    taken: Arc<AtomicU64>,
    wrap: fn(Vec<u8>) -> T,
}

/// Creates the messages of an upload, and the gate before its bytes. A chunk is copied only when it is sent.
pub fn gated<T, B: AsRef<[u8]>>(header: T, bytes: B, wrap: fn(Vec<u8>) -> T) -> (UploadGate<T>, UploadMessages<T, B>) {
    let (open, steps) = mpsc::unbounded_channel();
    let (taken, size) = (Arc::<AtomicU64>::default(), bytes.as_ref().len() as u64);
    let messages =
        UploadMessages { header: Some(header), steps: Some(steps), bytes, position: 0, taken: taken.clone(), wrap };
    (UploadGate { steps: Some(open), is_open: false, size, taken }, messages)
}

impl<T: Unpin, B: AsRef<[u8]> + Unpin> Stream for UploadMessages<T, B> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let this = &mut *self;
        if let Some(header) = this.header.take() {
            return Poll::Ready(Some(header));
        }
        if let Some(steps) = &mut this.steps {
            match steps.poll_recv(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(UploadStep::Say(message))) => return Poll::Ready(Some(message)),
                Poll::Ready(Some(UploadStep::Bytes)) => this.steps = None,
                Poll::Ready(None) => return Poll::Ready(None),
            }
        }
        let rest = &this.bytes.as_ref()[this.position..];
        if rest.is_empty() {
            return Poll::Ready(None);
        }
        let chunk = rest[..rest.len().min(CHUNK_BYTES)].to_vec();
        this.position += chunk.len();
        this.taken.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        Poll::Ready(Some((this.wrap)(chunk)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    fn next(messages: &mut UploadMessages<Vec<u8>, Vec<u8>>) -> Poll<Option<Vec<u8>>> {
        Pin::new(messages).poll_next(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn no_byte_leaves_before_the_grant_and_then_all_do() {
        let payload: Vec<u8> = (0..CHUNK_BYTES + 5).map(|i| (i % 251) as u8).collect();
        let (mut gate, mut messages) = gated(b"header".to_vec(), payload.clone(), |chunk| chunk);
        assert_eq!(next(&mut messages), Poll::Ready(Some(b"header".to_vec())));
        assert_eq!((next(&mut messages), gate.taken(), gate.is_through()), (Poll::Pending, 0, false));
        gate.open();
        gate.open();
        assert_eq!(next(&mut messages), Poll::Ready(Some(payload[..CHUNK_BYTES].to_vec())));
        assert!(!gate.is_through());
        assert_eq!(next(&mut messages), Poll::Ready(Some(payload[CHUNK_BYTES..].to_vec())));
        assert!(gate.is_through() && next(&mut messages) == Poll::Ready(None));
    }

    #[test]
    fn an_upload_that_is_given_up_ends() {
        let (gate, mut messages) = gated(Vec::new(), vec![1], |chunk| chunk);
        assert_eq!(next(&mut messages), Poll::Ready(Some(Vec::new())));
        drop(gate);
        assert_eq!(next(&mut messages), Poll::Ready(None));
    }

    #[test]
    fn something_else_can_be_said_before_the_bytes_or_instead_of_them() {
        let (mut gate, mut messages) = gated(Vec::new(), vec![1], |chunk| chunk);
        assert_eq!(next(&mut messages), Poll::Ready(Some(Vec::new())));
        gate.say(b"unreachable".to_vec());
        assert_eq!(next(&mut messages), Poll::Ready(Some(b"unreachable".to_vec())));
        assert_eq!((next(&mut messages), gate.is_through()), (Poll::Pending, false));
        gate.open();
        assert_eq!((next(&mut messages), next(&mut messages)), (Poll::Ready(Some(vec![1])), Poll::Ready(None)));
    }

    #[test]
    fn an_empty_payload_is_through_once_it_is_granted() {
        let (mut gate, _messages) = gated(Vec::new(), Vec::new(), |chunk| chunk);
        assert!(!gate.is_through());
        gate.open();
        assert!(gate.is_through());
    }
}
