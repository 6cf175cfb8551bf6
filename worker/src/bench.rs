//! Benchmarks: the lanes of a real worker, fed without a coordinator.

use crate::board::{Board, Task};
use crate::cli::Jacobian;
use crate::config::Config;
use crate::device;
use crate::error::WorkerError;
use crate::lane::{self, Computed};
use nadgrid_core::grid::{Grid, Node};
use nadgrid_core::spec::Spec;
use nadgrid_proto::v1;
use nadgrid_proto::v1::session_request::Message;
use serde::Serialize;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Shards per lane, so that lanes end at about the same time.
const SHARDS_PER_LANE: u64 = 4;

/// What a benchmark prints.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    /// Networks differentiated.
    pub networks: u64,
    /// Wall time from the first shard given out to the last result.
    pub seconds: f64,
    /// Threads that computed.
    pub lanes: u32,
    /// `patch` or `dense`.
    pub evaluation: &'static str,
    /// What the arithmetic ran on.
    pub instruction_set: String,
    /// Most memory that the process ever held.
    pub peak_rss_bytes: u64,
}

/// Gradients and moments of networks on the lanes: blocks of 32, folded to shards, as in a sweep.
///
/// # Errors
/// [`WorkerError`] when an option is wrong or a shard fails.
pub fn jacobian(options: &Jacobian, config: &Config) -> Result<Measurement, WorkerError> {
    let machine = device::prepare(config.device, config.evaluation)?;
    let lanes = config.lanes.unwrap_or_else(|| machine.default_lanes());
    let spec = format!(
        "name = 'bench'\narchitectures = [{:?}]\n[nads]\nnetworks = {}",
        options.architecture, options.networks
    );
    let spec = Spec::from_toml(&spec).map_err(|e| WorkerError::Bench(e.to_string()))?;
    let board = Arc::new(Board::new(lanes));
    let (results, mut received) = unbounded_channel();
    let threads = lane::start(lanes, &machine, &board, &results)?;
    let began = Instant::now();
    let tasks = tasks(&spec, &options.architecture, lanes);
    let outcome = wait_for_all(&board, &mut received, tasks);
    let seconds = began.elapsed().as_secs_f64();
    board.close();
    threads.into_iter().for_each(|thread| drop(thread.join()));
    outcome?;
    Ok(Measurement {
        networks: options.networks,
        seconds,
        lanes,
        evaluation: machine.evaluation.as_str(),
        instruction_set: machine.instruction_set().to_owned(),
        peak_rss_bytes: peak_rss_bytes(),
    })
}

/// Gives out the tasks and takes every result.
fn wait_for_all(
    board: &Board,
    received: &mut UnboundedReceiver<Computed>,
    tasks: Vec<Task>,
) -> Result<(), WorkerError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|source| WorkerError::Start { what: "the benchmark", source })?;
    let mut missing = tasks.len();
    tasks.into_iter().for_each(|task| board.assign(task));
    runtime.block_on(async {
        while missing > 0 {
            tokio::select! {
                Some(computed) = received.recv() => {
                    missing -= 1;
                    board.uploaded(&computed.task);
                }
                () = board.has_news() => if let Some(fault) = failure(board) {
                    return Err(WorkerError::Bench(fault));
                },
            }
        }
        Ok(())
    })
}

/// All blocks, in aligned shards of about equal size.
fn tasks(spec: &Spec, architecture: &str, lanes: u32) -> Vec<Task> {
    let total = Grid { networks: spec.nads.networks, block_size: spec.nads.block_size }.blocks();
    let limit = (total / (u64::from(lanes) * SHARDS_PER_LANE)).max(1);
    let mut pending = 0..total;
    let next = || {
        let blocks = (!pending.is_empty()).then(|| Node::first_of(&pending, limit, total).blocks(total))?;
        pending.start = blocks.end;
        let shard = v1::Shard {
            sweep_id: "bench".into(),
            job: 0,
            first_block: blocks.start,
            blocks: blocks.end - blocks.start,
        };
        Some(Task::new(shard, spec.to_toml(), architecture.to_owned()))
    };
    std::iter::from_fn(next).collect()
}

fn failure(board: &Board) -> Option<String> {
    board.news(false).into_iter().find_map(|news| match news {
        Message::Failure(failure) => Some(failure.message),
        _ => None,
    })
}

/// As Linux counts it; 0 where it does not say.
fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flags;

    #[test]
    fn every_network_is_computed_and_memory_is_reported() {
        let options = Jacobian {
            architecture: "logreg".into(),
            networks: 70,
            lanes: Some(2),
            device: "cpu".into(),
            evaluation: "auto".into(),
            json: true,
        };
        let config = Config::load(&options.flags(), std::iter::empty()).unwrap();
        let measured = jacobian(&options, &config).unwrap();
        assert_eq!((measured.networks, measured.lanes, measured.evaluation), (70, 2, "patch"));
        assert!(measured.seconds > 0.0 && measured.peak_rss_bytes > 1 << 20);
        let flags = Flags::default();
        let config = Config::load(&flags, std::iter::empty()).unwrap();
        let wrong = Jacobian { architecture: "lennet".into(), ..options };
        assert!(jacobian(&wrong, &config).unwrap_err().to_string().contains("lenet"));
    }
}
