//! The telemetry of a running program: logs, and spans by OTLP.
//!
//! ```text
//! context   where a span is: trace and span ids, as W3C's traceparent carries them between programs
//! span      a span while it lasts, or all of one at once
//! export    a thread that sends spans to a collector
//! logs      lines for people or JSON
//! settings  what a configuration says of both
//! ```
//! A shard's ids are made from its name ([`TraceContext::named`]), so that a coordinator which was restarted goes on with the
//! same trace, and everybody who knows the shard knows where to look. Nothing waits for a collector: what it does not take
//! in time is dropped. Deliberately absent: metrics, which the programs offer themselves.

mod context;
mod export;
mod logs;
mod settings;
mod span;

pub use context::{TRACEPARENT, TraceContext};
pub use export::{ExportError, Tracer};
pub use logs::{LogFormat, LogsError, init};
pub use opentelemetry::KeyValue;
pub use opentelemetry::trace::SpanKind;
pub use settings::{Settings, TelemetryError};
pub use span::{Span, SpanRecord};
