//! The worker: computes shards of sweeps that a coordinator leases to it.
//!
//! Threads: a session and an uploader, each with a small runtime of its own, and as many slots as shards are computed at
//! once. They share the table of `tasks`. Wire messages are converted in `session` and `upload`; below them, `tasks` know
//! `compute`, which knows `population`, which knows `libtorch`, and nothing knows what is above it. Deliberately absent: any
//! state on disk, and any say in what is computed when.

pub mod bench;
pub mod cli;
pub mod config;
pub mod error;
pub mod shutdown;

mod backoff;
mod compute;
mod device;
mod endpoint;
mod exit;
mod fault;
mod generator;
mod inputs;
mod libtorch;
mod phases;
mod pinned;
mod population;
mod session;
mod shard;
mod slot;
mod task;
mod tasks;
mod upload;

pub use device::clear_environment;
pub use exit::exit;

use config::WorkerConfig;
use device::{DeviceError, Evaluation, Machine};
use endpoint::CoordinatorEndpoint;
use error::WorkerError;
use fault::{Cause, Fault};
use inputs::InputCache;
use nadgrid_core::text;
use nadgrid_presigned::DirectStore;
use nadgrid_telemetry::Tracer;
use population::{ProofError, memory};
use session::download::InputDownload;
use session::{Identity, WorkerSession};
use shutdown::Stop;
use slot::Slots;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tasks::TaskTable;
use tch::Device;
use tokio::sync::mpsc::unbounded_channel;
use tokio_util::sync::CancellationToken;
use upload::Uploads;

/// The time that threads may take to end after the last message. Slots have been asked to end before.
const LAST_STEP: Duration = Duration::from_secs(2);

/// Prepares the configured device, and proves that it computes.
fn prepare(config: &WorkerConfig) -> Result<Machine, WorkerError> {
    let mut machine = device::prepare(config.device, config.evaluation)?;
    let Device::Cuda(number) = machine.device else { return Ok(machine) };
    let free = libtorch::cuda_free_bytes(number).map_err(DeviceError::from)?;
    let free = u64::try_from(free).unwrap_or(0);
    let budget = memory::CUDA_BUDGET;
    if free < budget {
        let free = text::bytes(free);
        let budget = text::bytes(budget);
        tracing::warn!(
            "{free} of the GPU's memory are free, a population takes up to {budget}: shards that do not fit go to other workers"
        );
    }
    if config.skip_device_proof {
        tracing::warn!("NADGRID_SKIP_DEVICE_PROOF=1: this device is not tested, its results may be zeros");
        generator::leave_proof_out();
        return Ok(machine);
    }
    let began = Instant::now();
    population::prove(machine.device, &machine.precisions()).map_err(unfit)?;
    if machine.evaluation == Evaluation::Fused
        && let Err(error) = population::prove_fused(machine.device, &machine.precisions())
    {
        // Another release of cuDNN may lack an operation. Lack of memory is no reason: the next start may have enough.
        let is_lacking = !matches!(&error, ProofError::Failed { source, .. } if source.is_out_of_memory());
        match unfit(error) {
            WorkerError::Unfit(error) if config.evaluation.is_none() && is_lacking => {
                tracing::warn!("evaluation = dense, since fused does not work on this device: {error}");
                machine = device::prepare(config.device, Some(Evaluation::Dense))?;
            }
            error => return Err(error),
        }
    }
    tracing::info!("the device passed its test in {}", text::duration(began.elapsed().as_secs_f64()));
    Ok(machine)
}

fn unfit(error: ProofError) -> WorkerError {
    match error {
        ProofError::Failed { source, .. } if Fault::from(&source).cause == Cause::DeviceLost => {
            WorkerError::DeviceLost(source.to_string())
        }
        error => WorkerError::Unfit(error),
    }
}

/// Works for the coordinator until asked to stop. Slots that are in a long computation then are left running, so the process must
/// end with [`exit`].
///
/// # Errors
/// [`WorkerError`] when the device is absent, unfit or lost, or the coordinator is unreachable or refuses the worker.
pub fn run(config: &WorkerConfig, stop: Stop, tracer: &Tracer) -> Result<(), WorkerError> {
    // The credentials come before the device, which takes a while, so that errors in their files are reported at once.
    let coordinator =
        CoordinatorEndpoint { url: config.coordinator.clone(), credentials: config.credentials().read()? };
    coordinator.endpoint()?;
    let machine = prepare(config)?;
    let slots = config.slots.unwrap_or_else(|| machine.default_slots());
    let identity = Arc::new(Identity::new(config.name.clone(), &machine, slots));
    tracing::info!(
        name = config.name,
        class = %machine.class,
        slots,
        instruction_set = machine.instruction_set(),
        "worker {}",
        env!("CARGO_PKG_VERSION")
    );
    let tasks = Arc::new(TaskTable::new(slots).checkpointing(config.checkpoint_interval));
    let (results, received) = unbounded_channel();
    let store = Arc::<DirectStore>::default();
    let inputs = Arc::new(InputCache::new(InputDownload {
        coordinator: coordinator.clone(),
        worker_id: identity.worker_id.clone(),
        store: store.clone(),
    }));
    let shared = Slots { machine: &machine, inputs: &inputs, tasks: &tasks, results: &results, tracer };
    let slot_threads = shared.start(slots)?;
    let uploads = Uploads {
        coordinator: coordinator.clone(),
        identity: identity.clone(),
        tasks: tasks.clone(),
        tracer: tracer.clone(),
        store,
    };
    let end_uploads = CancellationToken::new();
    let upload_thread = uploads.start(received, end_uploads.clone())?;
    let session = WorkerSession {
        coordinator,
        identity,
        tasks: tasks.clone(),
        connect_timeout: config.connect_timeout,
        reconnect_timeout: config.reconnect_timeout,
        grace: config.grace,
        stop,
    };
    let outcome = session.start()?.join();
    tasks.close();
    end_uploads.cancel();
    let threads = slot_threads.into_iter().chain([upload_thread]).collect();
    let left = exit::join_within(LAST_STEP, threads);
    if left > 0 {
        tracing::warn!("ending while {left} threads compute: other workers will compute their shards again");
    }
    match tasks.lost() {
        Some(reason) => Err(WorkerError::DeviceLost(reason)),
        None => outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
    }
}
