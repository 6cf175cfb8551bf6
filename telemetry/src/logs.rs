//! This module writes logs to standard error.
//!
//! A line of a library (that of HTTP, of TLS, of the store) is written once a minute at most, wherever in its source it comes
//! from: whoever sends what it does not like would fill the log otherwise. Whoever asks for `debug` gets all lines of that level.

use serde::Deserialize;
use std::collections::HashMap;
use std::hash::Hash;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use thiserror::Error;
use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// The time for which a library's line is not written again.
const QUIET: Duration = Duration::from_secs(60);
/// The prefix of the targets of our own lines; those are written as often as our programs mean them to be.
const OURS: &str = "nadgrid";

/// The format of log lines.
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
        /// The reason why it is no filter.
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
        LogFormat::Text => lines.compact().with_target(false).finish().with(OnceAMinute::default()).try_init(),
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_span_list(false).finish();
            lines.with(OnceAMinute::default()).try_init()
        }
    };
    Ok(())
}

/// Lets a library's line through once a minute.
#[derive(Default)]
struct OnceAMinute(Lately<Identifier>);

impl<S: Subscriber> Layer<S> for OnceAMinute {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let line = event.metadata();
        // Levels that are written more often are greater.
        line.target().starts_with(OURS)
            || *line.level() > Level::INFO
            || self.0.is_news(line.callsite(), Instant::now())
    }
}

/// The keys that were let through within the last minute. There are as many keys as places in the source, so nothing is forgotten.
struct Lately<K>(Mutex<HashMap<K, Instant>>);

impl<K> Default for Lately<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> Lately<K> {
    fn is_news(&self, key: K, now: Instant) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(&key).is_some_and(|at| now.duration_since(*at) < QUIET) {
            return false;
        }
        told.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Counts what is let through.
    struct Written(Arc<AtomicU32>);

    impl<S: Subscriber> Layer<S> for Written {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_librarys_line_is_written_once() {
        let written = Arc::new(AtomicU32::new(0));
        let lines = tracing_subscriber::registry().with(Written(written.clone())).with(OnceAMinute::default());
        let lines_of = |say: fn()| {
            (0..5).for_each(|_| say());
            written.swap(0, Ordering::Relaxed)
        };
        tracing::subscriber::with_default(lines, || {
            assert_eq!(lines_of(|| tracing::warn!(target: "h2::proto", "a ping that was never sent")), 1);
            assert_eq!(lines_of(|| tracing::error!(target: "hyper", "something else")), 1);
            assert_eq!(lines_of(|| tracing::debug!(target: "h2::proto", "asked for")), 5);
            assert_eq!(lines_of(|| tracing::warn!(target: "nadgrid_coordinator", "ours")), 5);
        });
    }

    #[test]
    fn and_again_after_a_minute() {
        let lately = Lately::default();
        let start = Instant::now();
        assert!(lately.is_news("one", start) && lately.is_news("other", start));
        assert!(!lately.is_news("one", start + QUIET / 2));
        assert!(lately.is_news("one", start + QUIET));
    }
}
