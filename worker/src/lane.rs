//! Lanes: one OS thread for each shard that is computed at once.
//!
//! Whatever happens in a lane stays in it: an error or a panic becomes the shard's failure, and the lane goes on.
//! Deliberately absent: any word to the coordinator. A lane tells the board, and hands its result to whoever uploads it.

use crate::board::{Board, Fault, Task};
use crate::compute::{Evaluator, Job, Yield};
use crate::device::{self, Machine};
use crate::error::WorkerError;
use crate::inputs::Inputs;
use bytes::Bytes;
use nadgrid_core::ids::Digest;
use nadgrid_core::numerics::Precision;
use nadgrid_core::text;
use nadgrid_proto::v1::FailureKind;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Instant;
use tokio::sync::mpsc::UnboundedSender;

/// A shard's result, as it is uploaded.
#[derive(Clone, Debug)]
pub struct Computed {
    /// Of what.
    pub task: Arc<Task>,
    /// The partial.
    pub bytes: Bytes,
    /// Its digest.
    pub digest: Digest,
    /// The precision in which it was computed.
    pub precision: Precision,
    /// Seconds it took the lane.
    pub seconds: f64,
}

/// Starts the lanes. They end when the board is closed. The board bounds how many results can be on their way.
///
/// # Errors
/// [`WorkerError::Start`] when the system gives no more threads.
pub fn start(
    lanes: u32,
    machine: &Machine,
    inputs: &Arc<Inputs>,
    board: &Arc<Board>,
    results: &UnboundedSender<Computed>,
) -> Result<Vec<JoinHandle<()>>, WorkerError> {
    let start = |lane: u32| {
        let mut lane_state = Lane::new(machine, inputs.clone(), board.clone(), results.clone());
        let thread = Builder::new().name(format!("lane {lane}")).spawn(move || lane_state.work());
        thread.map_err(|source| WorkerError::Start { what: "a lane", source })
    };
    (0..lanes).map(start).collect()
}

struct Lane {
    machine: Machine,
    inputs: Arc<Inputs>,
    evaluator: Evaluator,
    board: Arc<Board>,
    results: UnboundedSender<Computed>,
}

impl Lane {
    fn new(machine: &Machine, inputs: Arc<Inputs>, board: Arc<Board>, results: UnboundedSender<Computed>) -> Self {
        let evaluator = Evaluator::new(machine, inputs.clone());
        Self { machine: machine.clone(), inputs, evaluator, board, results }
    }

    fn work(&mut self) {
        device::be_one_thread();
        while let Some(task) = self.board.next() {
            let began = Instant::now();
            match catch_unwind(AssertUnwindSafe(|| self.shard(&task))) {
                Ok(Ok(Some((yielded, precision)))) => self.hand_in(task, &yielded, precision, began),
                Ok(Ok(None)) => tracing::debug!(shard = %Name(&task), "dropped"),
                Ok(Err(fault)) => self.fail(&task, fault),
                Err(panic) => {
                    // What the panic left behind is not to be trusted.
                    self.evaluator = Evaluator::new(&self.machine, self.inputs.clone());
                    self.fail(&task, Fault::new(FailureKind::Task, format!("panic: {}", words(&*panic))));
                }
            }
        }
    }

    fn shard(&mut self, task: &Task) -> Result<Option<(Yield, Precision)>, Fault> {
        if task.is_cancelled() {
            return Ok(None);
        }
        let job = Job::new(&task.spec, &task.shard, &task.inputs)?;
        tracing::debug!(shard = %Name(task), members = job.members(), "computing");
        Ok(self.evaluator.shard(&job, task)?.map(|yielded| (yielded, job.precision())))
    }

    fn hand_in(&self, task: Arc<Task>, yielded: &Yield, precision: Precision, began: Instant) {
        let seconds = began.elapsed().as_secs_f64();
        let bytes = Bytes::from(yielded.to_bytes());
        let digest = Digest::of(&bytes);
        if self.board.computed(&task) {
            tracing::info!(shard = %Name(&task), "computed in {}", text::duration(seconds));
            // No receiver is left only while the worker ends.
            let _ = self.results.send(Computed { task, bytes, digest, precision, seconds });
        }
    }

    fn fail(&self, task: &Arc<Task>, fault: Fault) {
        tracing::warn!(shard = %Name(task), kind = fault.kind.as_str_name(), "failed: {}", fault.message);
        self.board.failed(task, fault);
    }
}

/// A shard in logs.
pub(crate) struct Name<'a>(pub(crate) &'a Task);

impl std::fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Task { shard, job, .. } = self.0;
        write!(f, "{}/{job}/{:?}", shard.sweep_id, shard.range())
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without words".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{DeviceChoice, prepare};
    use nadgrid_core::moments::Moments;
    use nadgrid_proto::v1::Shard;
    use nadgrid_proto::v1::session_request::Message;
    use tokio::sync::mpsc::unbounded_channel;

    const SPEC: &str = "name = 'x'\narchitectures = ['logreg']\ninput = { height = 4, width = 4 }\n[nads]\nnetworks = 64\nblock_size = 8";

    fn task(spec: &str, first_block: u64, blocks: u64) -> Task {
        let shard = Shard { sweep_id: "s".into(), job: 0, first_block, blocks };
        Task::new(shard, spec.into(), "nads/logreg".into(), Vec::new())
    }

    #[test]
    fn results_come_out_and_faults_leave_the_lane_alive() {
        let machine = prepare(DeviceChoice::Cpu, None).unwrap();
        let board = Arc::new(Board::new(1));
        let (results, mut received) = unbounded_channel();
        let lanes = start(1, &machine, &Arc::new(Inputs::of("http://127.0.0.1:1")), &board, &results).unwrap();
        board.assign(task("name = 1", 0, 1));
        board.assign(task(SPEC, 4, 4));
        let computed = received.blocking_recv().unwrap();
        assert_eq!(computed.digest, Digest::of(&computed.bytes));
        assert_eq!(Moments::from_bytes(&computed.bytes, 16, 32).unwrap().count, 32);
        let news = board.news(true);
        assert!(matches!(&news[0], Message::Failure(f) if f.kind() == FailureKind::Spec), "{news:?}");
        assert!(matches!(&news[1], Message::Computed(_)), "{news:?}");
        board.close();
        lanes.into_iter().for_each(|lane| lane.join().unwrap());
    }

    #[test]
    fn a_panic_says_what_it_was() {
        let panic = catch_unwind(|| panic!("index {} is out of bounds", 3)).unwrap_err();
        assert_eq!(words(&*panic), "index 3 is out of bounds");
    }
}
