//! What a worker did for a shard and when: told to the coordinator with the result, and recorded as spans.
//!
//! ```text
//! lease (the coordinator's)
//! └─ compute ─┬─ inputs     files, and what is prepared once
//!    upload   └─ block …
//! ```

use nadgrid_proto::v1::Step;
use nadgrid_telemetry::{KeyValue, SpanKind, SpanRecord, TraceContext, Tracer};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Steps that are kept; a shard of more blocks tells of the first ones, and of the others together.
const MOST: usize = 48;

/// The steps of one shard, from the moment a lane takes it.
#[derive(Debug)]
pub(crate) struct Steps(Mutex<State>);

#[derive(Debug)]
struct State {
    began: Instant,
    wall: SystemTime,
    /// The end of the last step.
    last: Duration,
    done: Vec<Step>,
}

impl Steps {
    /// None yet.
    pub(crate) fn new() -> Self {
        let (began, wall) = (Instant::now(), SystemTime::now());
        Self(Mutex::new(State { began, wall, last: Duration::ZERO, done: Vec::new() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A lane takes the shard now.
    pub(crate) fn begin(&self) {
        *self.state() = Self::new().0.into_inner().unwrap_or_else(PoisonError::into_inner);
    }

    /// What began where the last step ended is done.
    pub(crate) fn end(&self, name: &'static str) {
        let mut state = self.state();
        let (begin, now) = (state.last, state.began.elapsed());
        state.last = now;
        let step = Step { name: name.to_owned(), begin_us: begin.as_micros() as u64, end_us: now.as_micros() as u64 };
        state.done.push(step);
    }

    /// Another block is computed.
    pub(crate) fn block(&self) {
        let mut state = self.state();
        if state.done.len() < MOST {
            drop(state);
            return self.end("block");
        }
        let now = state.began.elapsed();
        state.last = now;
        if let Some(last) = state.done.last_mut() {
            if last.name == "block" {
                last.name = "blocks".to_owned();
            }
            last.end_us = now.as_micros() as u64;
        }
    }

    /// All steps, with one over all of them.
    pub(crate) fn told(&self) -> Vec<Step> {
        let state = self.state();
        let end_us = state.began.elapsed().as_micros() as u64;
        let whole = Step { name: "compute".to_owned(), begin_us: 0, end_us };
        std::iter::once(whole).chain(state.done.iter().cloned()).collect()
    }

    /// Records the steps as spans of a lease.
    pub(crate) fn record(&self, tracer: &Tracer, lease: Option<TraceContext>, error: Option<&str>) {
        let Some(lease) = lease.filter(|lease| tracer.is_on() && lease.is_sampled()) else { return };
        let steps = self.told();
        let (wall, compute) = (self.state().wall, lease.child());
        for (place, step) in steps.into_iter().enumerate() {
            let at = |us| wall + Duration::from_micros(us);
            let whole = place == 0;
            tracer.record(SpanRecord {
                kind: SpanKind::Internal,
                context: if whole { compute } else { compute.child() },
                parent: Some(if whole { lease } else { compute }),
                parent_is_remote: whole,
                begin: at(step.begin_us),
                end: at(step.end_us),
                attributes: if whole { vec![KeyValue::new("thread", thread())] } else { Vec::new() },
                links: Vec::new(),
                error: error.filter(|_| whole).map(str::to_owned),
                name: step.name.into(),
            });
        }
    }
}

/// The lane's name.
fn thread() -> String {
    std::thread::current().name().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_follow_each_other_and_their_number_is_bounded() {
        let steps = Steps::new();
        steps.begin();
        steps.end("inputs");
        (0..1000).for_each(|_| steps.block());
        let told = steps.told();
        assert_eq!(told.len(), MOST + 1);
        assert_eq!(
            (&*told[0].name, &*told[1].name, &*told[2].name, &*told[MOST].name),
            ("compute", "inputs", "block", "blocks")
        );
        assert!(told[1..].windows(2).all(|pair| pair[0].end_us == pair[1].begin_us));
        assert!(told[0].end_us >= told[MOST].end_us);
    }
}
