//! The reasons why a worker ends other than by being asked to, and their exit codes.

use crate::device::DeviceError;
use crate::population::ProofError;
use nadgrid_configuration::ConfigurationError;
use nadgrid_core::text;
use nadgrid_proto::access::AccessError;
use nadgrid_telemetry::TelemetryError;
use std::time::Duration;
use thiserror::Error;

/// The reason why a worker ends. Its text is one line; [`WorkerError::exit_code`] is for scripts.
#[derive(Debug, Error)]
pub enum WorkerError {
    /// A key of the configuration, a variable or a flag is wrong.
    #[error(transparent)]
    Config(#[from] ConfigurationError),
    /// Logs or spans cannot be set up as configured.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// A token or certificate cannot be used.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The device cannot be used as configured.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The device does not compute what a CPU computes.
    #[error("the device is unfit: {0}")]
    Unfit(ProofError),
    /// The coordinator did not answer for as long as the worker waits for it.
    #[error("cannot reach the coordinator at {url}: {reason} (tried for {})", text::duration(.tried_for.as_secs_f64()))]
    Unreachable {
        /// The coordinator's address.
        url: String,
        /// The reason why the last attempt failed.
        reason: String,
        /// The time for which the worker tried.
        tried_for: Duration,
    },
    /// The coordinator rejected this worker.
    #[error("the coordinator at {url} refuses this worker: {reason}")]
    Refused {
        /// The coordinator's address.
        url: String,
        /// The coordinator's reason.
        reason: String,
    },
    /// After an error this process can no longer use the device. A new process may be able to.
    #[error("the device is lost: {0}")]
    DeviceLost(String),
    /// A shard of a benchmark failed.
    #[error("the benchmark failed: {0}")]
    Bench(String),
    /// The operating system provided no thread or no runtime.
    #[error("cannot start {what}: {source}")]
    Start {
        /// The thing that could not be started.
        what: &'static str,
        /// The operating system's error.
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
