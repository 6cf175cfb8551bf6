//! Logs, to standard error.

use serde::Deserialize;
use std::io::IsTerminal;
use thiserror::Error;
use tracing_subscriber::EnvFilter;

/// What log lines look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people, with colours on a terminal.
    #[default]
    Text,
    /// A JSON object a line. What belongs to a trace has its id, as `trace_id` of the event or of its span.
    Json,
}

/// Logs cannot be written as was asked.
#[derive(Debug, Error)]
pub enum LogsError {
    /// The filter is none.
    #[error("log = {filter}: a level, or target=level pairs ({reason})")]
    Filter {
        /// As it was given.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Begins to log what `filter` lets through, for example `info` or `nadgrid_coordinator=debug,warn`.
///
/// # Errors
/// [`LogsError::Filter`].
pub fn init(filter: &str, format: LogFormat) -> Result<(), LogsError> {
    let wrong = |reason: String| LogsError::Filter { filter: filter.to_owned(), reason };
    let parsed = EnvFilter::try_new(filter).map_err(|error| wrong(error.to_string()))?;
    let colour = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(parsed).with_ansi(colour).with_writer(std::io::stderr);
    // Fails only where logs were begun before, as a second test of one program does.
    let _ = match format {
        LogFormat::Text => lines.compact().with_target(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).try_init(),
    };
    Ok(())
}
