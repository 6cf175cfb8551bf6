//! Spans: while they last, or told of afterwards.

use crate::{KeyValue, SpanKind, TraceContext, Tracer};
use opentelemetry::InstrumentationScope;
use opentelemetry::trace::{Link, SpanId, Status};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use std::borrow::Cow;
use std::time::SystemTime;

/// All of a span.
#[derive(Clone, Debug)]
pub struct SpanRecord {
    /// The name of the operation.
    pub name: Cow<'static, str>,
    /// The side of a request.
    pub kind: SpanKind,
    /// Its own ids.
    pub context: TraceContext,
    /// The span that it is a part of; a trace begins with one that is part of none.
    pub parent: Option<TraceContext>,
    /// Whether the parent is another program's.
    pub parent_is_remote: bool,
    /// The time when it began.
    pub begin: SystemTime,
    /// The time when it ended.
    pub end: SystemTime,
    /// The span's further attributes.
    pub attributes: Vec<KeyValue>,
    /// Spans of other traces that have to do with it.
    pub links: Vec<TraceContext>,
    /// The error, where it failed.
    pub error: Option<String>,
}

impl SpanRecord {
    pub(crate) fn into_data(self, scope: InstrumentationScope) -> SpanData {
        let link = |context: &TraceContext| Link::new(context.to_otel(true), Vec::new(), 0);
        let mut links = SpanLinks::default();
        links.links = self.links.iter().map(link).collect();
        SpanData {
            span_context: self.context.to_otel(false),
            parent_span_id: self.parent.map_or(SpanId::INVALID, |parent| parent.span_id()),
            parent_span_is_remote: self.parent_is_remote,
            span_kind: self.kind,
            name: self.name,
            start_time: self.begin,
            end_time: self.end,
            attributes: self.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status: self.error.map_or(Status::Unset, Status::error),
            instrumentation_scope: scope,
        }
    }
}

/// A span that lasts until it is dropped.
#[derive(Debug)]
pub struct Span {
    tracer: Tracer,
    record: SpanRecord,
}

impl Span {
    pub(crate) fn new(tracer: Tracer, name: Cow<'static, str>, kind: SpanKind, parent: Option<TraceContext>) -> Self {
        let context = parent.map_or_else(|| TraceContext::new(tracer.ratio()), |parent| parent.child());
        let now = SystemTime::now();
        let record = SpanRecord {
            name,
            kind,
            context,
            parent,
            parent_is_remote: false,
            begin: now,
            end: now,
            attributes: Vec::new(),
            links: Vec::new(),
            error: None,
        };
        Self { tracer, record }
    }

    /// Says that its parent is another program's.
    #[must_use]
    pub fn of_remote_parent(mut self) -> Self {
        self.record.parent_is_remote = self.record.parent.is_some();
        self
    }

    /// Its ids, for its children.
    pub fn context(&self) -> TraceContext {
        self.record.context
    }

    /// Says something about it.
    pub fn set(&mut self, key: &'static str, value: impl Into<opentelemetry::Value>) {
        if self.tracer.is_on() {
            self.record.attributes.push(KeyValue::new(key, value));
        }
    }

    /// Says that a span of another trace has to do with it.
    pub fn link(&mut self, other: TraceContext) {
        self.record.links.push(other);
    }

    /// Says that it failed.
    pub fn fail(&mut self, error: impl Into<String>) {
        self.record.error = Some(error.into());
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if self.tracer.is_on() {
            self.record.end = SystemTime::now();
            self.tracer.record(self.record.clone());
        }
    }
}
