//! Converts errors to gRPC statuses and back. Every status has an `ErrorInfo` with a reason that programs can rely on; the
//! status of a refused spec also has a `BadRequest` that names each field.

use nadgrid_core::spec::{SpecError, Violation};
use std::collections::HashMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

/// The domain of every `ErrorInfo`.
pub const DOMAIN: &str = "nadgrid";

/// The reason why a request was refused; the `reason` of the status's `ErrorInfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The spec is wrong; the `BadRequest` says where.
    SpecInvalid,
    /// A field of the request other than the spec is wrong.
    RequestInvalid,
    /// There is no such sweep.
    SweepUnknown,
    /// There is no such artifact, or not yet.
    ArtifactUnknown,
    /// A file that the spec names was not uploaded, or is not in the store.
    InputMissing,
    /// The idempotency key belongs to another spec.
    KeyTaken,
    /// A limit is reached: no more is accepted now.
    Full,
    /// The request has no token.
    TokenMissing,
    /// This coordinator does not know the token, or it was revoked.
    TokenUnknown,
    /// The token has expired.
    TokenExpired,
    /// The token is not for requests of this kind.
    RoleWrong,
    /// The sweep or worker belongs to another user.
    NotYours,
    /// The worker speaks another protocol version.
    ProtocolMismatch,
    /// The worker runs another libtorch release.
    LibtorchMismatch,
    /// The coordinator is configured not to accept workers of this numerics class.
    ClassRefused,
    /// A payload was truncated or changed in transit.
    PayloadDamaged,
    /// A payload contains what no correct computation yields.
    PayloadInvalid,
    /// The worker has no session: it must open one, and name the shards that it holds, before it reports anything.
    SessionMissing,
    /// The artifact store cannot be read or written now, for example because its disk is full.
    StoreUnavailable,
    /// The journal cannot be written now, for example because its disk is full. Nothing new is accepted until it can.
    JournalWaits,
    /// The coordinator is shutting down.
    ShuttingDown,
    /// The coordinator failed.
    Internal,
}

impl Reason {
    /// The reason as it is written on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SpecInvalid => "SPEC_INVALID",
            Self::RequestInvalid => "REQUEST_INVALID",
            Self::SweepUnknown => "SWEEP_UNKNOWN",
            Self::ArtifactUnknown => "ARTIFACT_UNKNOWN",
            Self::InputMissing => "INPUT_MISSING",
            Self::KeyTaken => "KEY_TAKEN",
            Self::Full => "FULL",
            Self::TokenMissing => "TOKEN_MISSING",
            Self::TokenUnknown => "TOKEN_UNKNOWN",
            Self::TokenExpired => "TOKEN_EXPIRED",
            Self::RoleWrong => "ROLE_WRONG",
            Self::NotYours => "NOT_YOURS",
            Self::ProtocolMismatch => "PROTOCOL_MISMATCH",
            Self::LibtorchMismatch => "LIBTORCH_MISMATCH",
            Self::ClassRefused => "CLASS_REFUSED",
            Self::PayloadDamaged => "PAYLOAD_DAMAGED",
            Self::PayloadInvalid => "PAYLOAD_INVALID",
            Self::SessionMissing => "SESSION_MISSING",
            Self::StoreUnavailable => "STORE_UNAVAILABLE",
            Self::JournalWaits => "JOURNAL_WAITS",
            Self::ShuttingDown => "SHUTTING_DOWN",
            Self::Internal => "INTERNAL",
        }
    }

    const fn code(self) -> Code {
        match self {
            Self::SpecInvalid | Self::RequestInvalid | Self::PayloadInvalid => Code::InvalidArgument,
            Self::SweepUnknown | Self::ArtifactUnknown => Code::NotFound,
            Self::KeyTaken => Code::AlreadyExists,
            Self::Full => Code::ResourceExhausted,
            Self::TokenMissing | Self::TokenUnknown | Self::TokenExpired => Code::Unauthenticated,
            Self::RoleWrong | Self::NotYours | Self::ClassRefused => Code::PermissionDenied,
            Self::ProtocolMismatch | Self::LibtorchMismatch | Self::InputMissing => Code::FailedPrecondition,
            Self::PayloadDamaged => Code::DataLoss,
            // These are transient: a worker whose session broke is about to open another.
            Self::ShuttingDown | Self::StoreUnavailable | Self::SessionMissing => Code::Unavailable,
            Self::JournalWaits => Code::DeadlineExceeded,
            Self::Internal => Code::Internal,
        }
    }

    /// A status with this reason.
    pub fn status(self, message: impl Into<String>) -> Status {
        let details = ErrorDetails::with_error_info(self.as_str(), DOMAIN, HashMap::new());
        Status::with_error_details(self.code(), message, details)
    }

    /// Whether `status` has this reason.
    pub fn is_of(self, status: &Status) -> bool {
        status.get_details_error_info().is_some_and(|info| info.domain == DOMAIN && info.reason == self.as_str())
    }
}

/// The status of a refused spec.
pub fn refused_spec(error: &SpecError) -> Status {
    let describe = |v: &Violation| {
        let place = v.position.map_or(String::new(), |position| format!("{position}: "));
        if v.value.is_empty() {
            format!("{place}{}", v.accepted)
        } else {
            format!("{place}{}: {}", v.value, v.accepted)
        }
    };
    let violations: Vec<FieldViolation> =
        error.violations.iter().map(|v| FieldViolation::new(v.field.clone(), describe(v))).collect();
    let mut details = ErrorDetails::with_bad_request(violations);
    details.set_error_info(Reason::SpecInvalid.as_str(), DOMAIN, HashMap::new());
    Status::with_error_details(Code::InvalidArgument, error.to_string(), details)
}

/// The fields that a status names, each with what is wrong with it.
pub fn blamed_fields(status: &Status) -> Vec<(String, String)> {
    let violations = status.get_details_bad_request().map(|request| request.field_violations);
    violations.unwrap_or_default().into_iter().map(|v| (v.field, v.description)).collect()
}

/// A status as one line of text.
pub fn describe(status: &Status) -> String {
    match (status.message(), status.code()) {
        ("", code) => code.description().to_owned(),
        (message, Code::Unknown | Code::Internal) => format!("server error: {message}"),
        (message, _) => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nadgrid_core::spec::Spec;

    #[test]
    fn a_refused_spec_crosses_the_wire_with_its_fields() {
        let error = Spec::from_toml("name = 'x'\narchitectures = ['lennet']\n[nads]\nnetworks = 1").unwrap_err();
        let status = refused_spec(&error);
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(Reason::SpecInvalid.is_of(&status) && !Reason::Full.is_of(&status));
        let fields = blamed_fields(&status);
        assert_eq!(fields[0].0, "architectures[0]");
        assert!(fields[1].1.starts_with("line 4, column 12: 1: from 2"), "{fields:?}");
        assert!(describe(&status).contains("lennet"));
    }

    #[test]
    fn every_reason_survives_in_the_details() {
        let status = Reason::PayloadDamaged.status("truncated");
        assert_eq!((status.code(), status.message()), (Code::DataLoss, "truncated"));
        assert!(Reason::PayloadDamaged.is_of(&status));
    }
}
