//! The context of a span, and its form between programs.

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};
use std::fmt;

/// The name of the header, or of the gRPC metadata, that carries a context.
pub const TRACEPARENT: &str = "traceparent";

/// A span's ids, and whether it is recorded at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace: TraceId,
    span: SpanId,
    sampled: bool,
}

impl TraceContext {
    /// A new trace. `ratio` of all traces, from 0 to 1, are recorded.
    pub fn new(ratio: f64) -> Self {
        let trace = RandomIdGenerator::default().new_trace_id();
        Self { trace, span: RandomIdGenerator::default().new_span_id(), sampled: is_sampled(trace, ratio) }
    }

    /// The trace and first span that belong to a name: the same whoever makes them, wherever.
    pub fn named(name: &str, ratio: f64) -> Self {
        let hash = blake3::derive_key("nadgrid 2026-11 trace of a name", name.as_bytes());
        let (trace, rest) = hash.split_at(16);
        let trace = TraceId::from_bytes(trace.try_into().unwrap_or([1; 16]));
        let span = SpanId::from_bytes(rest[..8].try_into().unwrap_or([1; 8]));
        Self { trace, span, sampled: is_sampled(trace, ratio) }
    }

    /// A new span of the same trace.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { span: RandomIdGenerator::default().new_span_id(), ..*self }
    }

    /// The span of this trace that belongs to a name.
    #[must_use]
    pub fn child_named(&self, name: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("nadgrid 2026-11 span of a name");
        hasher.update(&self.trace.to_bytes()).update(&self.span.to_bytes()).update(name.as_bytes());
        let mut span = [0; 8];
        hasher.finalize_xof().fill(&mut span);
        Self { span: SpanId::from_bytes(span), ..*self }
    }

    /// Reads a `traceparent` (W3C Trace Context, version 00). What is none is no error: the trace begins anew.
    pub fn parse(traceparent: &str) -> Option<Self> {
        let mut parts = traceparent.split('-');
        let version = parts.next()?;
        let trace = parts.next()?;
        let span = parts.next()?;
        let flags = parts.next()?;
        let lengths = (version.len(), trace.len(), span.len(), flags.len()) == (2, 32, 16, 2);
        // Later versions may add parts, version 00 may not.
        if !lengths || version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let trace = TraceId::from_hex(trace).ok()?;
        let span = SpanId::from_hex(span).ok()?;
        let flags = u8::from_str_radix(flags, 16).ok()?;
        let valid = trace != TraceId::INVALID && span != SpanId::INVALID;
        valid.then_some(Self { trace, span, sampled: flags & 1 == 1 })
    }

    /// Whether spans of this trace are recorded.
    pub fn is_sampled(&self) -> bool {
        self.sampled
    }

    /// 32 hexadecimal digits.
    pub fn trace_id(&self) -> impl fmt::Display + use<> {
        self.trace
    }

    pub(crate) fn span_id(&self) -> SpanId {
        self.span
    }

    #[cfg(test)]
    pub(crate) fn is_of_the_trace_of(&self, other: &Self) -> bool {
        self.trace == other.trace
    }

    pub(crate) fn to_otel(self, remote: bool) -> SpanContext {
        let flags = TraceFlags::default().with_sampled(self.sampled);
        SpanContext::new(self.trace, self.span, flags, remote, TraceState::default())
    }
}

/// As `traceparent` has it.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

/// Decided by the trace's id alone, so that all programs decide alike.
fn is_sampled(trace: TraceId, ratio: f64) -> bool {
    let bytes = trace.to_bytes();
    let low = u64::from_be_bytes(bytes[8..].try_into().unwrap_or_default());
    ratio >= 1.0 || (low as f64) < ratio * 2f64.powi(64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_survives_its_journey() {
        let here = TraceContext::new(1.0);
        assert_eq!(TraceContext::parse(&here.to_string()), Some(here));
        let unsampled = TraceContext::new(0.0);
        assert!(!TraceContext::parse(&unsampled.to_string()).unwrap().is_sampled());
        let published = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(TraceContext::parse(published).unwrap().to_string(), published);
        for wrong in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-zaf7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(TraceContext::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn names_lead_to_the_same_ids_everywhere() {
        let a = TraceContext::named("s/0/4+2", 1.0);
        let b = TraceContext::named("s/0/4+2", 0.0);
        assert!(a.is_of_the_trace_of(&b) && a.span_id() == b.span_id() && a.is_sampled() && !b.is_sampled());
        let other = TraceContext::named("s/0/6+2", 1.0);
        assert!(!a.is_of_the_trace_of(&other));
        assert_eq!(a.child_named("w1"), a.child_named("w1"));
        assert_ne!(a.child_named("w1"), a.child_named("w2"));
        assert!(a.child().is_of_the_trace_of(&a) && a.child() != a.child());
    }

    #[test]
    fn a_ratio_of_the_traces_is_recorded() {
        let sampled = (0..4000).filter(|n| TraceContext::named(&n.to_string(), 0.25).is_sampled()).count();
        // Five standard deviations of 1,000.
        assert!((863..=1137).contains(&sampled), "{sampled}");
    }
}
