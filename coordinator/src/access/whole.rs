//! A call's request, received whole before the call takes a place: what has not come yet keeps nobody else waiting.
//!
//! Requests that are on their way hold memory instead, and no more of it than their caller may have. Whoever would need more is
//! refused, not kept waiting: two that wait for each other's bytes would wait for ever.

use http::Request;
use http_body_util::{BodyExt, Full};
use nadgrid_proto::status::Reason;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::body::Body;

/// Bytes in front of a gRPC message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// A request whose body is here, and the bytes that it holds of its caller's.
pub(super) type Whole = (Request<Body>, Option<OwnedSemaphorePermit>);

/// Receives a request's body. Of one that is longer than a message may be, only the beginning: whoever decodes it refuses it.
///
/// # Errors
/// `FULL` when the caller's requests hold all of `memory`, one permit a byte; otherwise that of the connection.
pub(super) async fn whole(
    request: Request<Body>,
    memory: &Arc<Semaphore>,
    message_bytes: usize,
) -> Result<Whole, Status> {
    let (parts, mut body) = request.into_parts();
    let (mut bytes, mut held) = (Vec::new(), None::<OwnedSemaphorePermit>);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let permit = memory.clone().try_acquire_many_owned(length).map_err(|_| {
            let message = "this caller's requests hold as many bytes as they may; try again when some are answered";
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
    async fn a_body_comes_whole_and_holds_its_bytes_until_it_is_answered() {
        let memory = Arc::new(Semaphore::new(10));
        let (first, held) = whole(request(&[b"abc", b"", b"def"]), &memory, 100).await.unwrap();
        assert_eq!((text(first).await, memory.available_permits()), (b"abcdef".to_vec(), 4));
        // One that does not fit is refused, and gives back what it had.
        let refused = whole(request(&[b"abc", b"de"]), &memory, 100).await.unwrap_err();
        assert!(Reason::Full.is_of(&refused), "{refused}");
        assert_eq!(memory.available_permits(), 4);
        drop(held);
        assert_eq!(memory.available_permits(), 10);
    }

    #[tokio::test]
    async fn of_an_endless_body_a_little_more_than_a_message_is_taken() {
        let memory = Arc::new(Semaphore::new(1000));
        let (cut, _held) = whole(request(&[b"0123456789".as_slice(); 50]), &memory, 20).await.unwrap();
        assert_eq!(text(cut).await.len(), 30);
    }
}
