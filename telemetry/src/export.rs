//! The way of spans out of the program: a thread that sends them to a collector, by OTLP over gRPC.

use crate::{Span, SpanKind, SpanRecord, TraceContext};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SpanProcessor};
use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::runtime::Runtime;

/// Spans that may wait to be sent; what comes on top is dropped.
const QUEUE: usize = 32_768;
/// The most spans that one request carries.
const BATCH: usize = 1024;
const EVERY: Duration = Duration::from_secs(1);
/// The longest time that a collector may take for one request, and for what is left at the end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Spans cannot be exported.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The thread cannot be started.
    #[error("spans cannot be sent: {0}")]
    Thread(#[from] std::io::Error),
    /// The address is none.
    #[error("otlp = {url}: {reason}; a URL such as http://127.0.0.1:4317 is accepted")]
    Address {
        /// As it was given.
        url: String,
        /// The reason why it is no address.
        reason: String,
    },
    /// The share of traces is none.
    #[error("trace_sample = {0}: from 0 to 1")]
    Ratio(f64),
}

/// Takes spans, and drops them where no collector is configured. Clones are handles to the same.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<Exporting>>);

struct Exporting {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
    ratio: f64,
    /// For the exporter's connection; taken when it ends.
    runtime: Mutex<Option<Runtime>>,
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_on() { "Tracer(on)" } else { "Tracer(off)" })
    }
}

impl Tracer {
    /// Drops every span.
    pub fn off() -> Self {
        Self(None)
    }

    /// Sends spans of `service` to the collector at `url`, `ratio` (from 0 to 1) of all traces; without a URL, none. Nothing is
    /// connected yet: a collector that is away costs spans, nothing else.
    ///
    /// # Errors
    /// [`ExportError`] names the key that is wrong.
    pub fn start(service: &'static str, url: Option<&str>, ratio: f64) -> Result<Self, ExportError> {
        if !(0.0..=1.0).contains(&ratio) {
            return Err(ExportError::Ratio(ratio));
        }
        let Some(url) = url.filter(|url| !url.is_empty()) else { return Ok(Self(None)) };
        let wrong = |reason: String| ExportError::Address { url: url.to_owned(), reason };
        if !["http://", "https://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(wrong("it begins with neither http:// nor https://".into()));
        }
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("otlp").enable_all().build()?;
        let entered = runtime.enter();
        let exporter = SpanExporter::builder().with_tonic().with_endpoint(url).with_timeout(PATIENCE).build();
        let exporter = exporter.map_err(|error| wrong(error.to_string()))?;
        drop(entered);
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(EVERY)
            .build();
        let mut processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let instance = KeyValue::new("service.instance.id", std::process::id().to_string());
        let resource = Resource::builder().with_service_name(service).with_attributes([version, instance]).build();
        processor.set_resource(&resource);
        let scope = InstrumentationScope::builder("nadgrid").with_version(env!("CARGO_PKG_VERSION")).build();
        Ok(Self(Some(Arc::new(Exporting { processor, scope, ratio, runtime: Mutex::new(Some(runtime)) }))))
    }

    /// Returns whether spans are exported.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The share of traces that are recorded, from 0 to 1; 0 without a collector.
    pub fn ratio(&self) -> f64 {
        self.0.as_ref().map_or(0.0, |exporting| exporting.ratio)
    }

    /// Begins a span, of a new trace where it has no parent.
    pub fn span(&self, name: impl Into<Cow<'static, str>>, kind: SpanKind, parent: Option<TraceContext>) -> Span {
        Span::new(self.clone(), name.into(), kind, parent)
    }

    /// Takes a span that has ended.
    pub fn record(&self, span: SpanRecord) {
        if let Some(exporting) = &self.0
            && span.context.is_sampled()
        {
            exporting.processor.on_end(span.into_data(exporting.scope.clone()));
        }
    }

    /// Sends what is left, and waits for that for a few seconds; blocks the thread, which must be none of an async runtime's.
    pub fn shutdown(&self) {
        let Some(exporting) = &self.0 else { return };
        if let Err(error) = exporting.processor.shutdown_with_timeout(PATIENCE) {
            tracing::debug!(%error, "the last spans may not have arrived");
        }
        let runtime = exporting.runtime.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(runtime) = runtime {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Exporting {
    fn drop(&mut self) {
        // Dropped inside another runtime, it must not block.
        if let Some(runtime) = self.runtime.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        let said = |url, ratio| Tracer::start("test", Some(url), ratio).unwrap_err().to_string();
        assert!(said("127.0.0.1:4317", 1.0).contains("otlp = 127.0.0.1:4317"));
        assert!(said("http://", 1.0).contains("otlp = http://"));
        assert!(said("http://127.0.0.1:4317", 1.5).contains("trace_sample = 1.5"));
        assert!(said("http://127.0.0.1:4317", f64::NAN).contains("trace_sample"));
        assert!(!Tracer::start("test", None, 1.0).unwrap().is_on());
    }

    /// Nobody listens there: spans are taken and dropped, and the end comes.
    #[test]
    fn a_collector_that_is_away_costs_spans_alone() {
        let tracer = Tracer::start("test", Some("http://127.0.0.1:1"), 1.0).unwrap();
        let parent = tracer.span("outer", SpanKind::Client, None).context();
        let child = tracer.span("inner", SpanKind::Internal, Some(parent));
        assert!(child.context().is_of_the_trace_of(&parent));
        drop(child);
        tracer.shutdown();
    }
}
