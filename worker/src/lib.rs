//! The worker: computes shards of sweeps that a coordinator leases to it.
//!
//! Threads: a session and an uploader, each with a small runtime of its own, and as many lanes as shards are computed at
//! once; they meet at the [`board`]. Deliberately absent: any state on disk, and any say in what is computed when.

pub mod bench;
pub mod board;
pub mod cli;
pub mod compute;
pub mod config;
pub mod device;
pub mod ending;
pub mod error;
pub mod generator;
pub mod inputs;
pub mod lane;
pub mod libtorch;
pub mod population;
pub mod session;
pub mod shutdown;

mod backoff;
mod endpoint;
mod pinned;
mod steps;
mod upload;

use board::{Board, Cause};
use config::WorkerConfig;
use device::{DeviceError, Evaluation, Machine};
use endpoint::Coordinator;
use error::WorkerError;
use inputs::Inputs;
use nadgrid_core::text;
use nadgrid_presigned::DirectStore;
use nadgrid_telemetry::Tracer;
use population::{ProofError, memory};
use session::{Identity, Session};
use shutdown::Stop;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tch::Device;
use tokio::sync::mpsc::unbounded_channel;
use tokio_util::sync::CancellationToken;
use upload::Uploads;

/// How long threads may take to end after the last message; lanes were asked to end before that.
const LAST_STEP: Duration = Duration::from_secs(2);

/// The device that is configured, once it has shown that it computes.
fn prepare(config: &WorkerConfig) -> Result<Machine, WorkerError> {
    let mut machine = device::prepare(config.device, config.evaluation)?;
    let Device::Cuda(number) = machine.device else { return Ok(machine) };
    let free = libtorch::cuda_free_bytes(number).map_err(DeviceError::from)?;
    let (free, budget) = (u64::try_from(free).unwrap_or(0), memory::CUDA_BUDGET);
    if free < budget {
        let (free, budget) = (text::bytes(free), text::bytes(budget));
        tracing::warn!(
            "{free} of the GPU are free, a population takes up to {budget}: what does not fit goes to others"
        );
    }
    if config.skip_device_proof {
        tracing::warn!(
            "NADGRID_SKIP_DEVICE_PROOF=1: nothing shows that this device computes, its results may be zeros"
        );
        generator::leave_proof_out();
        return Ok(machine);
    }
    let began = Instant::now();
    population::prove(machine.device, &machine.precisions()).map_err(unfit)?;
    if machine.evaluation == Evaluation::Fused
        && let Err(error) = population::prove_fused(machine.device, &machine.precisions())
    {
        // Another release of cuDNN may lack an operation. Lack of memory is no reason: whoever starts again may have enough.
        let is_lacking = !matches!(&error, ProofError::Failed { source, .. } if source.is_out_of_memory());
        match unfit(error) {
            WorkerError::Unfit(error) if config.evaluation.is_none() && is_lacking => {
                tracing::warn!("evaluation = dense, since fused does not compute here: {error}");
                machine = device::prepare(config.device, Some(Evaluation::Dense))?;
            }
            error => return Err(error),
        }
    }
    tracing::info!("the device has proved itself in {}", text::duration(began.elapsed().as_secs_f64()));
    Ok(machine)
}

fn unfit(error: ProofError) -> WorkerError {
    match error {
        ProofError::Failed { source, .. } if source.fault().cause == Cause::DeviceLost => {
            WorkerError::DeviceLost(source.to_string())
        }
        error => WorkerError::Unfit(error),
    }
}

/// Works for the coordinator until asked to stop. Lanes that are amid a long computation then are left running: end the process
/// with [`ending::exit`].
///
/// # Errors
/// [`WorkerError`] when the device is absent, unfit or lost, or the coordinator out of reach or unwilling.
pub fn run(config: &WorkerConfig, stop: Stop, tracer: &Tracer) -> Result<(), WorkerError> {
    // Before the device, which takes a while: what is wrong with a file is told at once.
    let coordinator = Coordinator { url: config.coordinator.clone(), credentials: config.credentials().read()? };
    coordinator.endpoint()?;
    let machine = prepare(config)?;
    let lanes = config.lanes.unwrap_or_else(|| machine.default_lanes());
    let identity = Arc::new(Identity::new(config.name.clone(), &machine, lanes));
    tracing::info!(
        name = config.name,
        class = %machine.class,
        lanes,
        instruction_set = machine.instruction_set(),
        "worker {}",
        env!("CARGO_PKG_VERSION")
    );
    let board = Arc::new(Board::new(lanes).checkpointing(config.checkpoint_interval));
    let (results, received) = unbounded_channel();
    let reconnect_timeout = config.reconnect_timeout;
    let store = Arc::<DirectStore>::default();
    let inputs = Arc::new(Inputs::at(coordinator.clone(), &identity.worker_id, store.clone()));
    let lane_threads = lane::start(lanes, &machine, &inputs, &board, &results, tracer)?;
    let uploads = Uploads {
        coordinator: coordinator.clone(),
        identity: identity.clone(),
        board: board.clone(),
        tracer: tracer.clone(),
        store,
    };
    let end_uploads = CancellationToken::new();
    let upload_thread = uploads.start(received, end_uploads.clone())?;
    let connect_timeout = config.connect_timeout;
    let grace = config.grace;
    let session =
        Session { coordinator, identity, board: board.clone(), connect_timeout, reconnect_timeout, grace, stop };
    let outcome = session.start()?.join();
    board.close();
    end_uploads.cancel();
    let threads = lane_threads.into_iter().chain([upload_thread]).collect();
    let left = ending::join_within(LAST_STEP, threads);
    if left > 0 {
        tracing::warn!("ending while {left} threads compute: what they do is lost, others will do it again");
    }
    match board.lost() {
        Some(reason) => Err(WorkerError::DeviceLost(reason)),
        None => outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
    }
}
