//! Benchmarks: the slots of a real worker, without a coordinator.

use crate::cli::{DirectionalBench, JacobianBench};
use crate::config::WorkerConfig;
use crate::error::WorkerError;
use crate::inputs::{InputCache, NoInputSource};
use crate::libtorch;
use crate::shard::{JobKey, ShardKey};
use crate::slot::Slots;
use crate::task::{ComputedShard, Task};
use crate::tasks::{TaskReport, TaskTable};
use nadgrid_core::grid::Node;
use nadgrid_core::ids::{JobIndex, SweepId};
use nadgrid_core::numerics::Precision;
use nadgrid_core::spec::{self, Spec};
use nadgrid_telemetry::Tracer;
use serde::Serialize;
use std::sync::Arc;
use std::time::Instant;
use tch::Device;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Shards per slot, so that slots end at about the same time.
const SHARDS_PER_SLOT: u64 = 4;

/// The result of a benchmark, as it is printed.
#[derive(Clone, Debug, Serialize)]
pub struct WorkerMeasurement {
    /// Networks differentiated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networks: Option<u64>,
    /// Runs trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runs: Option<u64>,
    /// The wall time from the first assigned shard to the last result.
    pub seconds: f64,
    /// Threads that computed.
    pub slots: u32,
    /// `patch`, `dense` or `fused`.
    pub evaluation: &'static str,
    /// The precision of the computation.
    pub precision: Precision,
    /// The instruction set, or the GPU's arithmetic.
    pub instruction_set: String,
    /// Most memory that the process ever held.
    pub peak_rss_bytes: u64,
    /// Most memory of the GPU that the process ever held for tensors and workspaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_device_bytes: Option<i64>,
}

/// Measures gradients and moments of networks on the slots: blocks of 32, folded to shards, as in a sweep.
///
/// # Errors
/// [`WorkerError`] when an option is wrong or a shard fails.
pub fn jacobian(options: &JacobianBench, config: &WorkerConfig) -> Result<WorkerMeasurement, WorkerError> {
    let JacobianBench { architecture, networks, block_size, machine, .. } = options;
    let spec = format!(
        "name = 'bench'\narchitectures = [{architecture:?}]\nprecision = {:?}\n[nads]\nnetworks = {networks}\nblock_size = {block_size}",
        machine.precision,
    );
    let measured = measure(&spec, config)?;
    Ok(WorkerMeasurement { networks: Some(*networks), ..measured })
}

/// Measures directional training runs on the slots, of random directions and with the publication's recipe.
///
/// # Errors
/// [`WorkerError`] when an option is wrong or a shard fails.
pub fn directional(options: &DirectionalBench, config: &WorkerConfig) -> Result<WorkerMeasurement, WorkerError> {
    let DirectionalBench { architecture, runs, epochs, block_size, machine, .. } = options;
    let spec = format!(
        "name = 'bench'\narchitectures = [{architecture:?}]\nprecision = {:?}\n\
         [directional]\ndirections = {{ kind = 'random', count = {runs} }}\nblock_size = {block_size}\n\
         training = {{ epochs = {epochs} }}",
        machine.precision,
    );
    let measured = measure(&spec, config)?;
    Ok(WorkerMeasurement { runs: Some(*runs), ..measured })
}

/// Computes the only job of a spec.
fn measure(spec: &str, config: &WorkerConfig) -> Result<WorkerMeasurement, WorkerError> {
    // On a GPU this also makes what is made once: context, handles, kernels.
    let machine = crate::prepare(config)?;
    let slots = config.slots.unwrap_or_else(|| machine.default_slots());
    let spec = Spec::from_toml(spec).map_err(|e| WorkerError::Bench(e.to_string()))?;
    if !machine.precisions().contains(&spec.precision) {
        let offered = machine.precisions().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(WorkerError::Bench(format!("precision = {}: this device offers {offered}", spec.precision)));
    }
    let table = Arc::new(TaskTable::new(slots));
    let (results, mut received) = unbounded_channel();
    let inputs = Arc::new(InputCache::new(NoInputSource));
    let tracer = Tracer::off();
    let shared = Slots { machine: &machine, inputs: &inputs, tasks: &table, results: &results, tracer: &tracer };
    let threads = shared.start(slots)?;
    let began = Instant::now();
    let outcome = wait_for_all(&table, &mut received, tasks(&spec, slots));
    let seconds = began.elapsed().as_secs_f64();
    table.close();
    threads.into_iter().for_each(|thread| drop(thread.join()));
    outcome?;
    Ok(WorkerMeasurement {
        networks: None,
        runs: None,
        seconds,
        slots,
        evaluation: machine.evaluation.as_str(),
        precision: spec.precision,
        instruction_set: machine.instruction_set().to_owned(),
        peak_rss_bytes: peak_rss_bytes(),
        peak_device_bytes: match machine.device {
            Device::Cuda(number) => libtorch::cuda_peak_bytes(number).ok(),
            _ => None,
        },
    })
}

/// Assigns the tasks and waits for every result.
fn wait_for_all(
    table: &TaskTable,
    received: &mut UnboundedReceiver<Arc<ComputedShard>>,
    tasks: Vec<Task>,
) -> Result<(), WorkerError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|source| WorkerError::Start { what: "the benchmark", source })?;
    let mut missing = tasks.len();
    tasks.into_iter().for_each(|task| table.assign(task));
    runtime.block_on(async {
        while missing > 0 {
            tokio::select! {
                Some(computed) = received.recv() => {
                    missing -= 1;
                    table.uploaded(&computed.task);
                }
                () = table.has_news() => missing -= take_small_results(table)?,
            }
        }
        Ok(())
    })
}

/// Returns all blocks, in aligned shards of about equal size.
fn tasks(spec: &Spec, slots: u32) -> Vec<Task> {
    let Some((job, _)) = spec.job(0, &spec::Inputs::new()) else { return Vec::new() };
    let total = job.grid.blocks();
    let text: Arc<str> = spec.to_toml().into();
    let limit = (total / (u64::from(slots) * SHARDS_PER_SLOT)).max(1);
    let mut pending = 0..total;
    let next = || {
        let blocks = (!pending.is_empty()).then(|| Node::first_of(&pending, limit, total).blocks(total))?;
        pending.start = blocks.end;
        let key = JobKey { sweep: SweepId::new("bench"), job: JobIndex(0) };
        let shard = ShardKey { job: key, first_block: blocks.start, blocks: blocks.end - blocks.start };
        Some(Task::new(shard, text.clone(), job.name(), Vec::new()))
    };
    std::iter::from_fn(next).collect()
}

/// Takes the small results, and returns their number; a large one comes as an upload.
fn take_small_results(table: &TaskTable) -> Result<usize, WorkerError> {
    let mut count = 0;
    for report in table.reports(false) {
        match report {
            TaskReport::Result(computed) => {
                table.answered(&computed.task.shard, None);
                count += 1;
            }
            TaskReport::Failed { fault, .. } => return Err(WorkerError::Bench(fault.message)),
            TaskReport::Progress { .. } | TaskReport::Computed { .. } => {}
        }
    }
    Ok(count)
}

/// Returns the process's peak memory as Linux counts it, or 0 where it is unknown.
fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::MachineFlags;
    use nadgrid_configuration::Variables;

    fn machine() -> MachineFlags {
        MachineFlags {
            slots: Some(2),
            device: "cpu".into(),
            evaluation: "auto".into(),
            precision: "fp32".into(),
            json: true,
        }
    }

    #[test]
    fn every_network_is_computed_and_memory_is_reported() {
        let options = JacobianBench { architecture: "logreg".into(), networks: 70, block_size: 32, machine: machine() };
        let config = WorkerConfig::load(&options.machine.flags(), &Variables::default()).unwrap();
        let measured = jacobian(&options, &config).unwrap();
        assert_eq!((measured.networks, measured.slots, measured.evaluation), (Some(70), 2, "patch"));
        assert!(measured.seconds > 0.0 && measured.peak_rss_bytes > 1 << 20);
        let wrong = JacobianBench { architecture: "lennet".into(), ..options };
        assert!(jacobian(&wrong, &config).unwrap_err().to_string().contains("lenet"));
        let wrong = MachineFlags { precision: "tf32".into(), ..machine() };
        let wrong = JacobianBench { architecture: "logreg".into(), networks: 2, block_size: 1, machine: wrong };
        assert!(jacobian(&wrong, &config).unwrap_err().to_string().contains("offers fp32"));
    }

    #[test]
    fn every_run_is_trained() {
        let options =
            DirectionalBench { architecture: "logreg".into(), runs: 3, epochs: 1, block_size: 1, machine: machine() };
        let config = WorkerConfig::load(&options.machine.flags(), &Variables::default()).unwrap();
        let measured = directional(&options, &config).unwrap();
        assert_eq!((measured.runs, measured.networks), (Some(3), None));
        assert!(measured.seconds > 0.0);
    }
}
