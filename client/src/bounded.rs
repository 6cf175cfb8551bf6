//! A connection on which no answer takes far more memory than it has bytes.
//!
//! An entry of a list is two bytes on the wire and hundreds in memory: an answer of 14 MB would take 23 GB. So each message is looked at
//! before it is decoded, without knowing what it is: its texts and the messages within it are counted, and an honest answer has far fewer
//! than are accepted.
//! Absent: the limit of a message's bytes, which tonic holds; and what the fields mean.

use crate::client::MESSAGE_LIMIT;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Bytes, Service, http};
use tonic::transport::{Channel, Error};

/// Texts and messages within a message: a page of a hundred sweeps, each with all jobs, files and failures, has fewer.
const MOST: u32 = 1 << 17;
/// Messages within messages that are looked into; the contract has fewer.
const DEPTH: u32 = 8;
/// A frame's bytes before its message: whether it is compressed, and its length.
const HEAD: usize = 5;

/// A channel whose answers are looked at.
#[derive(Clone, Debug)]
pub(crate) struct BoundedChannel(pub(crate) Channel);

impl Service<http::Request<Body>> for BoundedChannel {
    type Response = http::Response<Body>;
    type Error = Error;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Service::poll_ready(&mut self.0, context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = Service::call(&mut self.0, request);
        Box::pin(
            async move { Ok(answer.await?.map(|body| Body::new(BoundedBody { body, frames: Frames::default() }))) },
        )
    }
}

/// An answer's bytes, on their way to be decoded.
struct BoundedBody {
    body: Body,
    frames: Frames,
}

impl HttpBody for BoundedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(status) = this.frames.push(data)
        {
            return Poll::Ready(Some(Err(status)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Puts messages together again, to look at each of them before its last byte goes on to be decoded.
#[derive(Default)]
struct Frames {
    bytes: Vec<u8>,
}

impl Frames {
    fn push(&mut self, data: &[u8]) -> Result<(), Status> {
        self.bytes.extend_from_slice(data);
        while let Some((head, rest)) = self.bytes.split_first_chunk::<HEAD>() {
            let [_, a, b, c, d] = *head;
            let size = u32::from_be_bytes([a, b, c, d]) as usize;
            if size > MESSAGE_LIMIT {
                let words = format!("a message of {size} bytes, at most {MESSAGE_LIMIT} are accepted");
                return Err(Status::unimplemented(words));
            }
            let Some(message) = rest.get(..size) else { break };
            if entries(message, MOST, DEPTH).is_none_or(|entries| entries > MOST) {
                let words =
                    format!("a message of {size} bytes that cannot be decoded, or whose fields take far more memory");
                return Err(Status::unimplemented(words));
            }
            self.bytes.drain(..HEAD + size);
        }
        Ok(())
    }
}

/// Texts and messages within a message, and within these; `None` for what no decoder takes for a message. A text may look like a message and
/// is counted as one; of a megabyte of text that is not too much. Counting ends as soon as there are more than `most`.
fn entries(mut bytes: &[u8], most: u32, depth: u32) -> Option<u32> {
    let mut found = 0;
    while !bytes.is_empty() && found <= most {
        let tag = varint(&mut bytes)?;
        if tag >> 3 == 0 {
            return None;
        }
        match tag & 7 {
            0 => {
                varint(&mut bytes)?;
            }
            1 => bytes = bytes.get(8..)?,
            2 => {
                let size = usize::try_from(varint(&mut bytes)?).ok()?;
                let (within, rest) = bytes.split_at_checked(size)?;
                bytes = rest;
                found += 1;
                if depth > 0 {
                    found += entries(within, most.saturating_sub(found), depth - 1).unwrap_or(0);
                }
            }
            // The begin and the end of a group, whose fields stand between them.
            3 | 4 => {}
            5 => bytes = bytes.get(4..)?,
            _ => return None,
        }
    }
    Some(found)
}

/// A number of at most ten bytes, seven bits in each.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..10 {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << (7 * place);
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use nadgrid_proto::v1;

    fn frame(message: &[u8]) -> Vec<u8> {
        let size = u32::try_from(message.len()).unwrap();
        [&[0][..], &size.to_be_bytes(), message].concat()
    }

    /// Whether frames are taken, that come in pieces of so many bytes.
    fn is_taken_in(frames: &[u8], piece: usize) -> bool {
        let mut taken = Frames::default();
        let is_taken = frames.chunks(piece).all(|piece| taken.push(piece).is_ok());
        assert!(!is_taken || taken.bytes.is_empty());
        is_taken
    }

    fn is_taken(frames: &[u8]) -> bool {
        let is_taken = is_taken_in(frames, 1 << 14);
        assert_eq!(is_taken, is_taken_in(frames, 977));
        is_taken
    }

    /// The largest pages that an honest coordinator sends.
    #[test]
    fn honest_messages_are_taken() {
        let text = |size: usize| "x".repeat(size);
        let job = v1::Job {
            experiment: text(11),
            architecture: text(11),
            digest: text(64),
            state: 3,
            members: 1 << 40,
            members_done: 1,
            members_in_flight: 1,
            dimension: 4096,
            slot_seconds: 1.5,
            shards: 9,
            retries: 9,
            progress: 0.5,
            seconds_left: Some(0.5),
            partials: 9,
            members_per_second: 0.5,
            ..Default::default()
        };
        let artifact = v1::Artifact { name: text(30), size: 1 << 30, digest: text(64) };
        let sweep = v1::Sweep {
            id: text(36),
            name: text(36),
            spec: "name = 'x' # \n\n\n\t\"z\"\n".repeat(100),
            jobs: vec![job; 35],
            artifacts: vec![artifact; 100],
            notices: vec![text(100); 10],
            ..Default::default()
        };
        let list = v1::ListResponse { sweeps: vec![sweep; 100], ..Default::default() };
        let class = v1::NumericsClass { device: text(3), arithmetic: text(8), kernels: 1, ..Default::default() };
        let worker =
            v1::Worker { id: text(36), name: text(9), numerics_class: Some(class), slots: 4, ..Default::default() };
        let workers = v1::ListWorkersResponse { workers: vec![worker; 4096], ..Default::default() };
        let chunk = v1::ReadArtifactResponse { data: vec![0; 64 << 10], ..Default::default() };
        // Texts that look like messages.
        let alike = ["\n", "\n\t", "x", "\"\n", "z*"].map(|text| text.repeat((1 << 20) / text.len()));
        let texts = alike.map(|text| frame(&encoded(&v1::Sweep { spec: text, ..Default::default() })));
        assert!(is_taken(&frame(&encoded(&list))));
        assert!(is_taken(&frame(&encoded(&workers))));
        assert!(is_taken(&[frame(&encoded(&chunk)), frame(&[]), texts.concat()].concat()));
    }

    #[test]
    fn entries_without_bytes_are_not_taken_by_the_million() {
        let jobs = [0x3a_u8, 0].repeat(1 << 20);
        let sweeps = [0x0a_u8, 0].repeat(1 << 20);
        assert!(!is_taken(&frame(&jobs)) && !is_taken(&frame(&sweeps)));
        // Within another message, and with a group at the end, which a decoder passes over.
        let within = [&jobs[..], &[0xa3, 0x06, 0xa4, 0x06]].concat();
        let size = u32::try_from(within.len()).unwrap();
        let bytes = [0_u32, 7, 14, 21].map(|shift| ((size >> shift) & 0x7f) as u8 | if shift < 21 { 0x80 } else { 0 });
        assert!(!is_taken(&frame(&[&[0x0a][..], &bytes, &within].concat())));
        // What is no message at all, and a length that nobody sends.
        assert!(!is_taken(&frame(&[0x07])) && !is_taken(&[0, 0xff, 0xff, 0xff, 0xff]));
    }

    fn encoded(message: &impl prost::Message) -> Vec<u8> {
        message.encode_to_vec()
    }
}
