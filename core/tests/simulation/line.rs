//! A worker's connection for payloads: its streams share one line and one window, as those of HTTP/2 do.
//!
//! A chunk takes the line its time, and its place in the window until the receiver has read it. Deliberately absent: windows of
//! single streams, which are as large as the connection's, and the time that a window's update takes.

use std::collections::{BTreeMap, VecDeque};

/// Bytes of a chunk.
pub(crate) const CHUNK: u64 = 64 * 1024;

/// A payload on its way, at the worker.
#[derive(Debug)]
pub(crate) struct Sending {
    /// The shard that it is of, and the worker's call for it.
    pub(crate) key: u64,
    pub(crate) call: u64,
    /// A result, which is brought again and again; otherwise a checkpoint, of which the next will do.
    pub(crate) is_result: bool,
    /// Whether its bytes may be sent.
    pub(crate) granted: bool,
    /// Chunks that are not sent yet.
    left: u64,
}

impl Sending {
    /// A payload of so many chunks.
    pub(crate) fn new((key, call): (u64, u64), is_result: bool, chunks: u64) -> Self {
        Self { key, call, is_result, granted: false, left: chunks }
    }
}

/// The worker's end.
#[derive(Debug)]
pub(crate) struct Line {
    /// Milliseconds that a chunk takes.
    pub(crate) chunk_ms: u64,
    /// Chunks that may be sent before others are read.
    window: u64,
    /// Whether a chunk is on the line.
    busy: bool,
    streams: BTreeMap<u64, Sending>,
    /// Streams that have something to send, in turn.
    turns: VecDeque<u64>,
}

impl Line {
    /// A line without streams.
    pub(crate) fn new(chunk_ms: u64, window: u64) -> Self {
        Self { chunk_ms, window, busy: false, streams: BTreeMap::new(), turns: VecDeque::new() }
    }

    /// Begins a stream, of which no byte may be sent yet.
    pub(crate) fn open(&mut self, stream: u64, sending: Sending) {
        self.streams.insert(stream, sending);
    }

    /// A stream may send its bytes. None if there is no such stream any more.
    pub(crate) fn allow(&mut self, stream: u64) -> Option<&Sending> {
        let sending = self.streams.get_mut(&stream)?;
        if !std::mem::replace(&mut sending.granted, true) {
            self.turns.push_back(stream);
        }
        Some(sending)
    }

    /// Ends a stream; what is on the line arrives.
    pub(crate) fn close(&mut self, stream: u64) -> Option<Sending> {
        self.turns.retain(|turn| *turn != stream);
        self.streams.remove(&stream)
    }

    /// The stream whose chunk goes on the line now; none while that is busy, the window is full, or nothing is to be sent.
    pub(crate) fn next(&mut self) -> Option<u64> {
        if self.busy || self.window == 0 {
            return None;
        }
        let stream = self.turns.pop_front()?;
        let sending = self.streams.get_mut(&stream)?;
        sending.left -= 1;
        if sending.left > 0 {
            self.turns.push_back(stream);
        }
        (self.busy, self.window) = (true, self.window - 1);
        Some(stream)
    }

    /// The chunk has arrived; the line is free.
    pub(crate) fn arrived(&mut self) {
        self.busy = false;
    }

    /// Chunks were read: as many may follow.
    pub(crate) fn read(&mut self, chunks: u64) {
        self.window += chunks;
    }

    /// The shard that a stream is of.
    pub(crate) fn key(&self, stream: u64) -> Option<u64> {
        self.streams.get(&stream).map(|sending| sending.key)
    }

    /// All streams.
    pub(crate) fn streams(&self) -> impl Iterator<Item = &Sending> {
        self.streams.values()
    }
}
