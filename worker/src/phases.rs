//! The phases of a worker's work on a shard and their times: reported to the coordinator with the result, and recorded as spans.
//!
//! ```text
//! lease (the coordinator's)
//! └─ compute ─┬─ inputs     files, and what is prepared once
//!    upload   └─ block …
//! ```

use nadgrid_telemetry::{KeyValue, SpanKind, SpanRecord, TraceContext, Tracer};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// The most phases that are kept. Of a shard with more blocks, the last phase covers all blocks that have none of their own.
const MAX_PHASES: usize = 48;

/// A phase of a worker's work on a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Phase {
    /// `compute`, which covers all others, `inputs`, `block` or `blocks`.
    pub(crate) name: &'static str,
    /// Microseconds from the moment a slot took the shard to the phase's begin and end.
    pub(crate) begin_us: u64,
    pub(crate) end_us: u64,
}

/// Times the phases of one shard, from the moment a slot takes it.
#[derive(Debug)]
pub(crate) struct PhaseTimer(Mutex<PhaseLog>);

#[derive(Debug)]
struct PhaseLog {
    began: Instant,
    began_at: SystemTime,
    /// The end of the last phase.
    last: Duration,
    done: Vec<Phase>,
}

impl PhaseLog {
    fn new() -> Self {
        Self { began: Instant::now(), began_at: SystemTime::now(), last: Duration::ZERO, done: Vec::new() }
    }
}

impl PhaseTimer {
    /// Makes a timer without phases.
    pub(crate) fn new() -> Self {
        Self(Mutex::new(PhaseLog::new()))
    }

    fn log(&self) -> MutexGuard<'_, PhaseLog> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts anew: a slot takes the shard now.
    pub(crate) fn begin(&self) {
        *self.log() = PhaseLog::new();
    }

    /// Ends the phase that began where the last one ended.
    pub(crate) fn end(&self, name: &'static str) {
        let mut log = self.log();
        let begin = log.last;
        let now = log.began.elapsed();
        log.last = now;
        log.done.push(Phase { name, begin_us: begin.as_micros() as u64, end_us: now.as_micros() as u64 });
    }

    /// Ends the phase of a block.
    pub(crate) fn block(&self) {
        let mut log = self.log();
        if log.done.len() < MAX_PHASES {
            drop(log);
            return self.end("block");
        }
        let now = log.began.elapsed();
        log.last = now;
        if let Some(last) = log.done.last_mut() {
            if last.name == "block" {
                last.name = "blocks";
            }
            last.end_us = now.as_micros() as u64;
        }
    }

    /// Returns all phases, after one that covers them all.
    pub(crate) fn phases(&self) -> Vec<Phase> {
        let log = self.log();
        let end_us = log.began.elapsed().as_micros() as u64;
        let whole = Phase { name: "compute", begin_us: 0, end_us };
        std::iter::once(whole).chain(log.done.iter().cloned()).collect()
    }

    /// Records the phases as spans of a lease.
    pub(crate) fn record(&self, tracer: &Tracer, lease: Option<TraceContext>, error: Option<&str>) {
        let Some(lease) = lease.filter(|lease| tracer.is_on() && lease.is_sampled()) else { return };
        let phases = self.phases();
        let began_at = self.log().began_at;
        let compute = lease.child();
        for (index, phase) in phases.into_iter().enumerate() {
            let at = |us| began_at + Duration::from_micros(us);
            let whole = index == 0;
            tracer.record(SpanRecord {
                kind: SpanKind::Internal,
                context: if whole { compute } else { compute.child() },
                parent: Some(if whole { lease } else { compute }),
                parent_is_remote: whole,
                begin: at(phase.begin_us),
                end: at(phase.end_us),
                attributes: if whole { vec![KeyValue::new("thread", thread())] } else { Vec::new() },
                links: Vec::new(),
                error: error.filter(|_| whole).map(str::to_owned),
                name: phase.name.into(),
            });
        }
    }
}

/// Returns the slot's name.
fn thread() -> String {
    std::thread::current().name().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_follow_each_other_and_their_number_is_bounded() {
        let timer = PhaseTimer::new();
        timer.begin();
        timer.end("inputs");
        (0..1000).for_each(|_| timer.block());
        let told = timer.phases();
        assert_eq!(told.len(), MAX_PHASES + 1);
        assert_eq!(
            (told[0].name, told[1].name, told[2].name, told[MAX_PHASES].name),
            ("compute", "inputs", "block", "blocks")
        );
        assert!(told[1..].windows(2).all(|pair| pair[0].end_us == pair[1].begin_us));
        assert!(told[0].end_us >= told[MAX_PHASES].end_us);
    }
}
