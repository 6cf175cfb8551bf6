//! Slots: one OS thread for each shard that is computed at once.
//!
//! An error or a panic in a slot becomes the shard's failure, and the slot goes on. Deliberately absent: messages to the
//! coordinator. A slot notes what happened in the table of tasks, and passes large results to the uploads.

use crate::compute::{EvaluatedShard, JobSpecs, ShardEvaluator, ShardTask};
use crate::device::{self, Machine};
use crate::error::WorkerError;
use crate::fault::{Cause, Fault};
use crate::inputs::InputCache;
use crate::libtorch;
use crate::task::{ComputedShard, Task};
use crate::tasks::TaskTable;
use bytes::Bytes;
use nadgrid_core::MAX_INLINE_BYTES;
use nadgrid_core::ids::Digest;
use nadgrid_core::numerics::Precision;
use nadgrid_core::scheduler::FailureKind;
use nadgrid_core::text;
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

/// After this many shards of a job in a row for which the device had no memory, the worker is unfit for the job. It is fewer than
/// the attempts that a coordinator makes by default, so that no block is quarantined for the memory of one card.
const MAX_STARVED: u32 = 3;
/// The most jobs for which such failures are counted; those of the first by name are forgotten.
const MAX_JOBS: usize = 1024;

/// The parts that all slots of a worker share.
pub(crate) struct Slots<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) inputs: &'a Arc<InputCache>,
    pub(crate) tasks: &'a Arc<TaskTable>,
    /// The queue from which large results are uploaded. The table bounds how many of them wait.
    pub(crate) results: &'a UnboundedSender<Arc<ComputedShard>>,
    pub(crate) tracer: &'a Tracer,
}

impl Slots<'_> {
    /// Starts this many slots. They end when the table of tasks is closed.
    ///
    /// # Errors
    /// [`WorkerError::Start`] when the system provides no more threads.
    pub(crate) fn start(&self, slots: u32) -> Result<Vec<JoinHandle<()>>, WorkerError> {
        let starved = Arc::<Starved>::default();
        let specs = Arc::new(JobSpecs::default());
        (0..slots).map(|number| self.slot(&starved, &specs).start(number)).collect()
    }

    fn slot(&self, starved: &Arc<Starved>, specs: &Arc<JobSpecs>) -> Slot {
        Slot {
            machine: self.machine.clone(),
            inputs: self.inputs.clone(),
            evaluator: ShardEvaluator::new(self.machine, self.inputs.clone()),
            tasks: self.tasks.clone(),
            results: self.results.clone(),
            starved: starved.clone(),
            specs: specs.clone(),
            tracer: self.tracer.clone(),
            last_job: String::new(),
        }
    }
}

struct Slot {
    machine: Machine,
    inputs: Arc<InputCache>,
    evaluator: ShardEvaluator,
    tasks: Arc<TaskTable>,
    results: UnboundedSender<Arc<ComputedShard>>,
    starved: Arc<Starved>,
    /// The jobs of the latest shards of all slots.
    specs: Arc<JobSpecs>,
    tracer: Tracer,
    /// The job of the last shard.
    last_job: String,
}

/// The action of a slot at the end of its thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NextStep {
    /// It ends, since the table of tasks is closed.
    End,
    /// It goes on in a new thread.
    NewThread,
}

/// The job of a shard that a slot begins.
struct JobStart {
    /// The job's name among all sweeps.
    name: String,
    /// The number of its shards in a row, up to now, for which there was no memory.
    starved: u32,
}

/// The number of shards in a row, for each job and over all slots, for which the device had no memory.
///
/// When one slot is refused memory, the work of all others is discarded (see [`crate::population::memory::OomWatch`]). So failures
/// of shards that were computed at the same time count once. They are counted for each job, since a job whose shards fit would hide
/// one whose shards never do. Of several slots at least one counts each time, so they cannot spoil each other's work for ever.
#[derive(Default)]
struct Starved(Mutex<BTreeMap<String, u32>>);

impl Starved {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<String, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the count as a shard of this job begins.
    fn begin(&self, job: &str) -> u32 {
        self.counts().get(job).copied().unwrap_or(0)
    }

    /// Counts the failure of a shard of this job that began at the count `begun`, and returns the new count.
    fn fail(&self, job: &str, begun: u32) -> u32 {
        let mut counts = self.counts();
        if counts.len() >= MAX_JOBS && !counts.contains_key(job) {
            counts.pop_first();
        }
        let count = counts.entry(job.to_owned()).or_default();
        *count = (*count).max(begun.min(*count) + 1);
        *count
    }

    /// Resets the count of a job for which there was memory.
    fn end(&self, job: &str) {
        self.counts().remove(job);
    }
}

impl Slot {
    fn start(mut self, number: u32) -> Result<JoinHandle<()>, WorkerError> {
        let thread = Builder::new().name(format!("slot {number}")).spawn(move || self.work());
        thread.map_err(|source| WorkerError::Start { what: "a slot", source })
    }

    /// Computes shards until the table of tasks is closed. libtorch remembers, for each thread, which of cuDNN's engines computed a
    /// convolution; after memory was refused that may be another than the first, for good. So the slot goes on in a new thread
    /// then.
    fn work(&mut self) {
        if !self.machine.device.is_cuda() {
            self.compute();
            return;
        }
        let name = std::thread::current().name().unwrap_or("slot").to_owned();
        while self.compute_on_a_new_thread(&name) == NextStep::NewThread {
            tracing::warn!("the device refused memory: {name} starts over with its choice of convolution engines");
        }
    }

    fn compute_on_a_new_thread(&mut self, name: &str) -> NextStep {
        std::thread::scope(|scope| match Builder::new().name(name.to_owned()).spawn_scoped(scope, || self.compute()) {
            // A panic has been reported where it happened.
            Ok(thread) => thread.join().unwrap_or(NextStep::End),
            Err(error) => {
                tracing::error!("{name} ends: cannot start a thread: {error}");
                NextStep::End
            }
        })
    }

    fn compute(&mut self) -> NextStep {
        device::be_one_thread();
        while let Some(task) = self.tasks.next() {
            let refused = self.refused();
            let began = Instant::now();
            task.begin();
            let job = self.begin(&task);
            // Everything that is logged from here on carries the trace.
            let trace_id = task.lease.map(|lease| display(lease.trace_id()));
            let _span = tracing::info_span!("shard", trace_id).entered();
            match catch_unwind(AssertUnwindSafe(|| self.shard(&task))) {
                Ok(Ok(Some((evaluated, precision)))) => {
                    self.starved.end(&job.name);
                    self.hand_in(task, &evaluated, precision, began);
                }
                Ok(Ok(None)) => tracing::debug!(shard = %task, "dropped"),
                Ok(Err(fault)) => self.fail(&task, &job, fault),
                Err(panic) => {
                    // What the panic left behind cannot be trusted.
                    self.evaluator = ShardEvaluator::new(&self.machine, self.inputs.clone());
                    let fault = Fault::new(FailureKind::Task, format!("panic: {}", panic_message(&*panic)));
                    self.fail(&task, &job, fault);
                }
            }
            // This also applies where the shard was dropped meanwhile.
            if self.refused() != refused {
                self.empty_cache();
                return NextStep::NewThread;
            }
        }
        NextStep::End
    }

    /// Returns how often the device has refused memory.
    fn refused(&self) -> i64 {
        match self.machine.device {
            Device::Cuda(number) => libtorch::cuda_ooms(number).unwrap_or(0),
            _ => 0,
        }
    }

    /// Prepares the slot for a shard. Another job's tensors have other sizes, so what the allocator keeps is given back
    /// then.
    fn begin(&mut self, task: &Task) -> JobStart {
        let name = format!("{}/{}", task.shard.job.sweep, task.job);
        if name != self.last_job {
            self.empty_cache();
            self.last_job.clone_from(&name);
        }
        JobStart { starved: self.starved.begin(&name), name }
    }

    fn empty_cache(&self) {
        if self.machine.device.is_cuda()
            && let Err(error) = libtorch::empty_cuda_cache()
        {
            tracing::debug!("{error}");
        }
    }

    fn shard(&mut self, task: &Task) -> Result<Option<(EvaluatedShard, Precision)>, Fault> {
        if task.is_cancelled() {
            return Ok(None);
        }
        let job = self.specs.get(&task.spec, &task.shard.job)?;
        let shard = ShardTask::new(job, &task.shard, &task.inputs)?;
        let checkpoint = self.checkpoint(task);
        tracing::debug!(shard = %task, members = shard.members(), "computing");
        let evaluated = self.evaluator.shard(&shard, checkpoint.as_deref(), task)?;
        Ok(evaluated.map(|evaluated| (evaluated, shard.precision())))
    }

    /// Returns the checkpoint of an earlier worker. Without it the shard begins again.
    fn checkpoint(&self, task: &Task) -> Option<Vec<u8>> {
        let input = task.inputs.iter().find(|input| input.is_checkpoint())?;
        match self.inputs.once(input) {
            Ok(bytes) => Some(bytes),
            Err(fault) => {
                tracing::warn!(shard = %task, "starting over, the checkpoint cannot be fetched: {}", fault.message);
                None
            }
        }
    }

    fn hand_in(&self, task: Arc<Task>, evaluated: &EvaluatedShard, precision: Precision, began: Instant) {
        let seconds = evaluated.earlier + began.elapsed().as_secs_f64();
        let bytes = Bytes::from(evaluated.yielded.to_bytes());
        task.phases.record(&self.tracer, task.lease, None);
        let computed = Arc::new(ComputedShard {
            class: self.machine.class.with(precision),
            digest: Digest::of(&bytes),
            bytes,
            seconds,
            begin_seconds: task.begin_seconds(),
            phases: task.phases.phases(),
            task,
        });
        let is_small = computed.bytes.len() <= MAX_INLINE_BYTES;
        if !self.tasks.computed(&computed.task, is_small.then(|| computed.clone())) {
            return;
        }
        tracing::info!(shard = %computed.task, "computed in {}", text::duration(computed.seconds));
        if !is_small {
            // The receiver is only gone while the worker ends.
            let _ = self.results.send(computed);
        }
    }

    fn fail(&self, task: &Arc<Task>, job: &JobStart, mut fault: Fault) {
        if fault.cause == Cause::OutOfMemory && self.starved.fail(&job.name, job.starved) >= MAX_STARVED {
            fault.kind = FailureKind::Unfit;
            fault.message += &format!("; {MAX_STARVED} shards in a row found no memory on this device");
        }
        if fault.cause == Cause::DeviceLost {
            self.tasks.lose(&fault.message);
        }
        task.phases.record(&self.tracer, task.lease, Some(&fault.message));
        tracing::warn!(shard = %task, kind = fault.kind.as_str(), "failed: {}", fault.message);
        self.tasks.failed(task, fault);
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{DeviceChoice, prepare};
    use crate::inputs::NoInputSource;
    use crate::shard::ShardKey;
    use crate::tasks::TaskReport;
    use nadgrid_core::moments::Moments;
    use tokio::sync::mpsc::unbounded_channel;

    const SPEC: &str = "name = 'x'\narchitectures = ['logreg']\ninput = { height = 4, width = 4 }\n[nads]\nnetworks = 64\nblock_size = 8";

    fn task(spec: &str, first_block: u64, blocks: u64) -> Task {
        Task::new(ShardKey::of_tests(0, first_block, blocks), spec, "nads/logreg".into(), Vec::new())
    }

    #[test]
    fn results_come_out_and_faults_leave_the_slot_alive() {
        let machine = prepare(DeviceChoice::Cpu, None).unwrap();
        let table = Arc::new(TaskTable::new(1));
        let (results, mut received) = unbounded_channel();
        let inputs = Arc::new(InputCache::new(NoInputSource));
        let tracer = Tracer::off();
        let slots = Slots { machine: &machine, inputs: &inputs, tasks: &table, results: &results, tracer: &tracer };
        let slots = slots.start(1).unwrap();
        table.assign(task("name = 1", 0, 1));
        table.assign(task(SPEC, 4, 4));
        let computed = received.blocking_recv().unwrap();
        assert_eq!(computed.digest, Digest::of(&computed.bytes));
        assert_eq!(Moments::from_bytes(&computed.bytes, 16, 32).unwrap().count, 32);
        let reports = table.reports(true);
        assert!(
            matches!(&reports[0], TaskReport::Failed { fault, .. } if fault.kind == FailureKind::Spec),
            "{reports:?}"
        );
        assert!(matches!(&reports[1], TaskReport::Computed { .. }), "{reports:?}");
        table.close();
        slots.into_iter().for_each(|slot| slot.join().unwrap());
    }

    /// Passing trouble at first; a device that never has memory is the worker's own fault. A lost device is told of.
    #[test]
    fn memory_is_waited_for_a_few_times() {
        let machine = prepare(DeviceChoice::Cpu, None).unwrap();
        let table = Arc::new(TaskTable::new(1));
        let inputs = Arc::new(InputCache::new(NoInputSource));
        let (results, _received) = unbounded_channel();
        let tracer = Tracer::off();
        let slots = Slots { machine: &machine, inputs: &inputs, tasks: &table, results: &results, tracer: &tracer };
        let mut slot = slots.slot(&Arc::default(), &Arc::default());
        let mut fail = |block, cause, kind| {
            table.assign(task(SPEC, block, 1));
            let task = table.next().unwrap();
            let job = slot.begin(&task);
            slot.fail(&task, &job, Fault { cause, ..Fault::new(kind, "no") });
            match table.reports(false).pop() {
                Some(TaskReport::Failed { fault, .. }) => fault.kind,
                other => panic!("{other:?}"),
            }
        };
        let mut starve = |block| fail(block, Cause::OutOfMemory, FailureKind::Transient);
        assert_eq!((starve(0), starve(1)), (FailureKind::Transient, FailureKind::Transient));
        assert_eq!(starve(2), FailureKind::Unfit);
        assert_eq!(fail(5, Cause::Other, FailureKind::Task), FailureKind::Task);
        assert_eq!(table.lost(), None);
        assert_eq!(fail(6, Cause::DeviceLost, FailureKind::Unfit), FailureKind::Unfit);
        assert_eq!(table.lost().as_deref(), Some("no"));
    }

    /// Three slots that spoil each other's shards are no worse off than one whose shard fails; a success of the job begins anew,
    /// that of another does not.
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
        for job in 0..2 * MAX_JOBS {
            starved.fail(&job.to_string(), 0);
        }
        assert_eq!(starved.counts().len(), MAX_JOBS);
    }

    #[test]
    fn a_panic_says_what_it_was() {
        let panic = catch_unwind(|| panic!("index {} is out of bounds", 3)).unwrap_err();
        assert_eq!(panic_message(&*panic), "index 3 is out of bounds");
    }
}
