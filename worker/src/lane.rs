//! Lanes: one OS thread for each shard that is computed at once.
//!
//! Whatever happens in a lane stays in it: an error or a panic becomes the shard's failure, and the lane goes on.
//! Deliberately absent: any word to the coordinator. A lane tells the board, and hands its result to whoever uploads it.

use crate::board::{Board, Cause, Fault, Task};
use crate::compute::{self, Evaluated, Evaluator, Job, JobSpecs};
use crate::device::{self, Machine};
use crate::error::WorkerError;
use crate::inputs::Inputs;
use crate::libtorch;
use bytes::Bytes;
use nadgrid_core::MAX_INLINE_BYTES;
use nadgrid_core::ids::Digest;
use nadgrid_core::numerics::Precision;
use nadgrid_core::text;
use nadgrid_proto::v1::{self, FailureKind};
use nadgrid_telemetry::Tracer;
use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;
use tch::Device;
use tokio::sync::mpsc::UnboundedSender;
use tracing::field::display;

/// A device that had no memory for so many shards of a job in a row is not waited for any more. It is fewer than a coordinator
/// tries a shard by default, so that no block is given up for the memory of a card.
const MOST_STARVED: u32 = 3;
/// Jobs of which this is counted; of an old one it is forgotten.
const MOST_JOBS: usize = 1024;

/// A shard's result, as it is uploaded.
#[derive(Clone, Debug)]
pub struct Computed {
    /// The task that it is the result of.
    pub task: Arc<Task>,
    /// The partial, as it is stored.
    pub bytes: Bytes,
    /// Its digest.
    pub digest: Digest,
    /// The precision in which it was computed.
    pub precision: Precision,
    /// Seconds it took the lane.
    pub seconds: f64,
    /// Of these, the seconds before its first block.
    pub begin_seconds: f64,
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
    tracer: &Tracer,
) -> Result<Vec<JoinHandle<()>>, WorkerError> {
    let starved = Arc::<Starved>::default();
    let specs = Arc::new(JobSpecs::default());
    let start = |lane: u32| {
        let evaluator = Evaluator::new(machine, inputs.clone());
        let mut lane_state = Lane {
            machine: machine.clone(),
            inputs: inputs.clone(),
            evaluator,
            board: board.clone(),
            results: results.clone(),
            starved: starved.clone(),
            specs: specs.clone(),
            tracer: tracer.clone(),
            latest: String::new(),
        };
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
    starved: Arc<Starved>,
    /// The jobs of the latest shards, of all lanes.
    specs: Arc<JobSpecs>,
    tracer: Tracer,
    /// The job of the shard before.
    latest: String,
}

/// Why a lane's thread ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NextStep {
    /// The board is closed.
    End,
    /// The lane goes on in another.
    NewThread,
}

/// Shards in a row, of each job and of all lanes, that the device had no memory for.
///
/// Where one lane is refused memory, what all others compute is thrown away (see [`crate::population::memory::OomWatch`]). So
/// failures of shards that were under way together count once; and they count for each job, since one whose shards fit would hide
/// another's that never do. Of several lanes at least one counts each time, so they cannot spoil each other's work for ever.
#[derive(Default)]
struct Starved(Mutex<BTreeMap<String, u32>>);

impl Starved {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<String, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often in a row, as a shard of this job begins.
    fn begin(&self, job: &str) -> u32 {
        self.counts().get(job).copied().unwrap_or(0)
    }

    /// A shard of this job that began at this count has failed; how often in a row that is.
    fn fail(&self, job: &str, begun: u32) -> u32 {
        let mut counts = self.counts();
        if counts.len() >= MOST_JOBS && !counts.contains_key(job) {
            counts.pop_first();
        }
        let count = counts.entry(job.to_owned()).or_default();
        *count = (*count).max(begun.min(*count) + 1);
        *count
    }

    /// There was memory.
    fn end(&self, job: &str) {
        self.counts().remove(job);
    }
}

impl Lane {
    /// Computes shards until the board is closed. libtorch keeps, for each thread, which of cuDNN's engines it computed a convolution
    /// with; after memory was refused that may be another than the first, for good. So the lane goes on in a new thread then.
    fn work(&mut self) {
        if !self.machine.device.is_cuda() {
            self.compute();
            return;
        }
        let name = std::thread::current().name().unwrap_or("lane").to_owned();
        while self.compute_on_a_new_thread(&name) == NextStep::NewThread {
            tracing::warn!("memory of the device was refused: {name} forgets how it computed convolutions");
        }
    }

    fn compute_on_a_new_thread(&mut self, name: &str) -> NextStep {
        std::thread::scope(|scope| match Builder::new().name(name.to_owned()).spawn_scoped(scope, || self.compute()) {
            // A panic has been reported where it happened.
            Ok(thread) => thread.join().unwrap_or(NextStep::End),
            Err(error) => {
                tracing::error!("{name} ends: the system gives no thread: {error}");
                NextStep::End
            }
        })
    }

    fn compute(&mut self) -> NextStep {
        device::be_one_thread();
        while let Some(task) = self.board.next() {
            let refused = self.refused();
            let began = Instant::now();
            task.begin();
            let (job, starved) = self.begin(&task);
            // Whatever is logged on the way carries the trace.
            let trace_id = task.lease.map(|lease| display(lease.trace_id()));
            let _span = tracing::info_span!("shard", trace_id).entered();
            match catch_unwind(AssertUnwindSafe(|| self.shard(&task))) {
                Ok(Ok(Some((evaluated, precision)))) => {
                    self.starved.end(&job);
                    self.hand_in(task, &evaluated, precision, began);
                }
                Ok(Ok(None)) => tracing::debug!(shard = %Name(&task), "dropped"),
                Ok(Err(fault)) => self.fail(&task, (&job, starved), fault),
                Err(panic) => {
                    // What the panic left behind is not to be trusted.
                    self.evaluator = Evaluator::new(&self.machine, self.inputs.clone());
                    let fault = Fault::new(FailureKind::Task, format!("panic: {}", words(&*panic)));
                    self.fail(&task, (&job, starved), fault);
                }
            }
            // Also where the shard was dropped meanwhile.
            if self.refused() != refused {
                self.empty_cache();
                return NextStep::NewThread;
            }
        }
        NextStep::End
    }

    /// How often the device has refused memory.
    fn refused(&self) -> i64 {
        match self.machine.device {
            Device::Cuda(number) => libtorch::cuda_ooms(number).unwrap_or(0),
            _ => 0,
        }
    }

    /// The name of a shard's job among all sweeps, and how often in a row the job found no memory. Another job's tensors have other
    /// sizes: what the allocator keeps is given back.
    fn begin(&mut self, task: &Task) -> (String, u32) {
        let job = format!("{}/{}", task.shard.sweep_id, task.job);
        if job != self.latest {
            self.empty_cache();
            self.latest.clone_from(&job);
        }
        let starved = self.starved.begin(&job);
        (job, starved)
    }

    fn empty_cache(&self) {
        if self.machine.device.is_cuda()
            && let Err(error) = libtorch::empty_cuda_cache()
        {
            tracing::debug!("{error}");
        }
    }

    fn shard(&mut self, task: &Task) -> Result<Option<(Evaluated, Precision)>, Fault> {
        if task.is_cancelled() {
            return Ok(None);
        }
        let job = Job::of_task(task, &self.specs)?;
        let checkpoint = self.checkpoint(task);
        tracing::debug!(shard = %Name(task), members = job.members(), "computing");
        let evaluated = self.evaluator.shard(&job, checkpoint.as_deref(), task)?;
        Ok(evaluated.map(|evaluated| (evaluated, job.precision())))
    }

    /// What an earlier worker left of the shard. Without it the shard begins again.
    fn checkpoint(&self, task: &Task) -> Option<Vec<u8>> {
        let input = task.inputs.iter().find(|input| input.role == compute::ROLE)?;
        match self.inputs.once(input) {
            Ok(bytes) => Some(bytes),
            Err(fault) => {
                tracing::warn!(shard = %Name(task), "beginning again, without the checkpoint: {}", fault.message);
                None
            }
        }
    }

    fn hand_in(&self, task: Arc<Task>, evaluated: &Evaluated, precision: Precision, began: Instant) {
        let Evaluated { yielded, earlier } = evaluated;
        let seconds = earlier + began.elapsed().as_secs_f64();
        let bytes = Bytes::from(yielded.to_bytes());
        let digest = Digest::of(&bytes);
        task.steps.record(&self.tracer, task.lease, None);
        let small = (bytes.len() <= MAX_INLINE_BYTES).then(|| v1::ShardResult {
            shard: Some(task.shard.clone()),
            numerics_class: Some((&self.machine.class.with(precision)).into()),
            data: bytes.to_vec(),
            digest: digest.to_string(),
            seconds,
            steps: task.steps.told(),
            begin_seconds: task.begin_seconds(),
        });
        let uploaded = small.is_none();
        if !self.board.computed(&task, small) {
            return;
        }
        tracing::info!(shard = %Name(&task), "computed in {}", text::duration(seconds));
        if uploaded {
            // No receiver is left only while the worker ends.
            let begin_seconds = task.begin_seconds();
            let _ = self.results.send(Computed { task, bytes, digest, precision, seconds, begin_seconds });
        }
    }

    fn fail(&self, task: &Arc<Task>, (job, starved): (&str, u32), mut fault: Fault) {
        if fault.cause == Cause::OutOfMemory && self.starved.fail(job, starved) >= MOST_STARVED {
            fault.kind = FailureKind::Unfit;
            fault.message += &format!("; so it was for {MOST_STARVED} shards in a row on this device");
        }
        if fault.cause == Cause::DeviceLost {
            self.board.lose(&fault.message);
        }
        task.steps.record(&self.tracer, task.lease, Some(&fault.message));
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
        Task::new(shard, spec, "nads/logreg".into(), Vec::new())
    }

    #[test]
    fn results_come_out_and_faults_leave_the_lane_alive() {
        let machine = prepare(DeviceChoice::Cpu, None).unwrap();
        let board = Arc::new(Board::new(1));
        let (results, mut received) = unbounded_channel();
        let lanes =
            start(1, &machine, &Arc::new(Inputs::of("http://127.0.0.1:1")), &board, &results, &Tracer::off()).unwrap();
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

    /// Passing trouble at first; a device that never has memory is the worker's own fault. A lost device is told of.
    #[test]
    fn memory_is_waited_for_a_few_times() {
        let machine = prepare(DeviceChoice::Cpu, None).unwrap();
        let (board, inputs) = (Arc::new(Board::new(1)), Arc::new(Inputs::of("http://127.0.0.1:1")));
        let (results, _received) = unbounded_channel();
        let evaluator = Evaluator::new(&machine, inputs.clone());
        let starved = Arc::default();
        let (specs, tracer, latest) = (Arc::default(), Tracer::off(), String::new());
        let mut lane =
            Lane { machine, inputs, evaluator, board: board.clone(), results, starved, specs, tracer, latest };
        let mut fail = |block, cause, kind| {
            board.assign(task(SPEC, block, 1));
            let task = board.next().unwrap();
            let (job, starved) = lane.begin(&task);
            lane.fail(&task, (&job, starved), Fault { cause, ..Fault::new(kind, "no") });
            match board.news(false).pop() {
                Some(Message::Failure(failure)) => failure.kind(),
                other => panic!("{other:?}"),
            }
        };
        let mut starve = |block| fail(block, Cause::OutOfMemory, FailureKind::Transient);
        assert_eq!((starve(0), starve(1)), (FailureKind::Transient, FailureKind::Transient));
        assert_eq!(starve(2), FailureKind::Unfit);
        assert_eq!(fail(5, Cause::Other, FailureKind::Task), FailureKind::Task);
        assert_eq!(board.lost(), None);
        assert_eq!(fail(6, Cause::DeviceLost, FailureKind::Unfit), FailureKind::Unfit);
        assert_eq!(board.lost().as_deref(), Some("no"));
    }

    /// Three lanes that spoil each other's shards are no worse off than one whose shard fails; a success of the job begins anew, that
    /// of another does not.
    #[test]
    fn what_fails_together_counts_once_and_each_job_counts_its_own() {
        let starved = Starved::default();
        for round in 0..2 {
            let begun = [(); 3].map(|()| starved.begin("a"));
            assert_eq!(begun.map(|begun| starved.fail("a", begun)), [round + 1; 3]);
            starved.end("b");
        }
        let begun = starved.begin("a");
        assert_eq!((starved.fail("b", starved.begin("b")), starved.fail("a", begun)), (1, 3));
        let begun = starved.begin("a");
        starved.end("a");
        assert_eq!(starved.fail("a", begun), 1);
        for job in 0..2 * MOST_JOBS {
            starved.fail(&job.to_string(), 0);
        }
        assert_eq!(starved.counts().len(), MOST_JOBS);
    }

    #[test]
    fn a_panic_says_what_it_was() {
        let panic = catch_unwind(|| panic!("index {} is out of bounds", 3)).unwrap_err();
        assert_eq!(words(&*panic), "index 3 is out of bounds");
    }
}
