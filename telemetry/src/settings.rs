//! The telemetry part of a program's configuration.

use crate::{ExportError, LogFormat, LogsError, Tracer, init};
use thiserror::Error;

/// The keys `log`, `log_format`, `otlp` and `trace_sample`, which mean the same to every program.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The filter: a level, or `target=level` pairs.
    pub log: String,
    /// The format of log lines.
    pub log_format: LogFormat,
    /// The collector that spans are sent to, OTLP over gRPC; none by default.
    pub otlp: Option<String>,
    /// The share of traces that are recorded, from 0 to 1.
    pub trace_sample: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { log: "info".to_owned(), log_format: LogFormat::Text, otlp: None, trace_sample: 1.0 }
    }
}

/// Telemetry that is configured wrongly.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The settings of the log are wrong.
    #[error(transparent)]
    Logs(#[from] LogsError),
    /// The settings of the export of spans are wrong.
    #[error(transparent)]
    Export(#[from] ExportError),
}

impl Settings {
    /// Begins to log, and to send the spans of `service` where a collector is configured.
    ///
    /// # Errors
    /// [`TelemetryError`] names the key and what it accepts.
    pub fn start(&self, service: &'static str) -> Result<Tracer, TelemetryError> {
        init(&self.log, self.log_format)?;
        Ok(Tracer::start(service, self.otlp.as_deref(), self.trace_sample)?)
    }
}
