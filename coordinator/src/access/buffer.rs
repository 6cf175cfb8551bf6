//! Receives a call's request whole before the call occupies a permit, so that a slow request delays nobody else.
//!
//! Until then a request occupies memory, within the bounds of its caller. A request that would exceed them is refused rather
//! than made to wait: two requests that wait for each other's bytes would wait for ever.

use http::Request;
use http_body_util::{BodyExt, Full};
use nadgrid_proto::status::Reason;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::body::Body;

/// The bytes in front of a gRPC message: a flag for compression, and the length.
const PREFIX: usize = 5;

/// A request with its whole body, and the permits for its bytes.
pub(super) type BufferedRequest = (Request<Body>, Option<OwnedSemaphorePermit>);

/// Receives a request's body. If it is longer than a message may be, only its beginning is received, and decoding it fails.
///
/// # Errors
/// `FULL` if the caller's requests would exceed `memory`, which has one permit for each byte; else the connection's error.
pub(super) async fn buffer_request(
    request: Request<Body>,
    memory: &Arc<Semaphore>,
    message_bytes: usize,
) -> Result<BufferedRequest, Status> {
    let (parts, mut body) = request.into_parts();
    let mut bytes = Vec::new();
    let mut held = None::<OwnedSemaphorePermit>;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let permit = memory.clone().try_acquire_many_owned(length).map_err(|_| {
            let message = "the caller's requests occupy all the memory they may; try again when some are answered";
            Reason::Full.status(message)
        })?;
        match &mut held {
            Some(held) => held.merge(permit),
            None => held = Some(permit),
        }
        bytes.extend_from_slice(&data);
        if bytes.len() > message_bytes + PREFIX {
            break;
        }
    }
    Ok((Request::from_parts(parts, Body::new(Full::from(bytes))), held))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use futures::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;

    fn request(pieces: &[&'static [u8]]) -> Request<Body> {
        let frames: Vec<Result<_, Status>> =
            pieces.iter().map(|piece| Ok(Frame::data(Bytes::from_static(piece)))).collect();
        Request::new(Body::new(StreamBody::new(stream::iter(frames))))
    }

    async fn text(request: Request<Body>) -> Vec<u8> {
        request.into_body().collect().await.unwrap().to_bytes().to_vec()
    }

    #[tokio::test]
    async fn a_body_is_received_whole_and_occupies_its_bytes_until_it_is_answered() {
        let memory = Arc::new(Semaphore::new(10));
        let (first, held) = buffer_request(request(&[b"abc", b"", b"def"]), &memory, 100).await.unwrap();
        assert_eq!((text(first).await, memory.available_permits()), (b"abcdef".to_vec(), 4));
        // One that does not fit is refused, and gives its permits back.
        let refused = buffer_request(request(&[b"abc", b"de"]), &memory, 100).await.unwrap_err();
        assert!(Reason::Full.is_of(&refused), "{refused}");
        assert_eq!(memory.available_permits(), 4);
        drop(held);
        assert_eq!(memory.available_permits(), 10);
    }

    #[tokio::test]
    async fn of_an_endless_body_a_little_more_than_a_message_is_received() {
        let memory = Arc::new(Semaphore::new(1000));
        let (cut, _held) = buffer_request(request(&[b"0123456789".as_slice(); 50]), &memory, 20).await.unwrap();
        assert_eq!(text(cut).await.len(), 30);
    }
}
