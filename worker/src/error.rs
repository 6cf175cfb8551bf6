//! Why the worker ends other than by being asked to, and the exit code that says so to scripts.

use crate::device::DeviceError;
use crate::population::ProofError;
use nadgrid_configuration::ConfigurationError;
use nadgrid_core::text;
use nadgrid_proto::access::AccessError;
use nadgrid_telemetry::TelemetryError;
use std::time::Duration;
use thiserror::Error;

/// One line for people; [`WorkerError::exit_code`] for programs.
#[derive(Debug, Error)]
pub enum WorkerError {
    /// A key of the configuration, a variable or a flag is wrong.
    #[error(transparent)]
    Config(#[from] ConfigurationError),
    /// Logs or spans cannot be had as configured.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// A token or certificate is of no use.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The machine cannot do what is asked.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The device does not compute what a CPU does.
    #[error("the device is unfit: {0}")]
    Unfit(ProofError),
    /// The coordinator did not answer for as long as the worker waits for it.
    #[error("cannot reach the coordinator at {url}: {reason} (tried for {})", text::duration(.tried_for.as_secs_f64()))]
    Unreachable {
        /// Where it should be.
        url: String,
        /// What went wrong last.
        reason: String,
        /// For how long.
        tried_for: Duration,
    },
    /// The coordinator answered that it will not have this worker.
    #[error("the coordinator at {url} refuses this worker: {reason}")]
    Refused {
        /// Where it is.
        url: String,
        /// In its words.
        reason: String,
    },
    /// After an error that leaves nothing of the device to this process. A new process may have it again.
    #[error("the device is lost: {0}")]
    DeviceLost(String),
    /// A shard of a benchmark failed.
    #[error("the benchmark failed: {0}")]
    Bench(String),
    /// The operating system gave no thread or no runtime.
    #[error("cannot start {what}: {source}")]
    Start {
        /// What was to be started.
        what: &'static str,
        /// Its words.
        source: std::io::Error,
    },
}

impl WorkerError {
    /// 2 for a wrong configuration, 3 for an unreachable coordinator, 4 for one that refuses, 5 for a lost device (start the
    /// worker again), 6 for a device that computes wrong numbers (do not), else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Telemetry(_) | Self::Access(_) => 2,
            Self::Unreachable { .. } => 3,
            Self::Refused { .. } => 4,
            Self::DeviceLost(_) => 5,
            Self::Unfit(ProofError::Zeros { .. } | ProofError::Wrong { .. }) => 6,
            Self::Device(_) | Self::Unfit(_) | Self::Bench(_) | Self::Start { .. } => 1,
        }
    }
}
