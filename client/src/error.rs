//! The errors of a client. Every error keeps its class, so that a program can act on it: whether the
//! coordinator is away, the spec is wrong, a payload is damaged or a sweep has failed are different variants.
//!
//! Every message is one line and names what it is about. Absent: advice on what to type next; the command adds it.

use crate::untrusted::SENTENCE;
use nadgrid_core::spec::SpecError;
use nadgrid_core::text::clean;
use nadgrid_figures::sweep::SweepError;
use nadgrid_proto::access::{AccessError, explain, root_cause};
use nadgrid_proto::chunks::ChunkError;
use nadgrid_proto::status::{Reason, blamed_fields, describe as in_words};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;
use tonic::{Code, Status};

/// Violations of a spec that are told; a coordinator has fewer.
const MOST_VIOLATIONS: usize = 100;

/// The reason why a call, a watch or a fetch failed.
#[derive(Debug, Error)]
pub enum Error {
    /// The address is malformed.
    #[error("{url:?} is not the address of a coordinator: {reason}")]
    Address {
        /// As given.
        url: String,
        /// The reason why it is no address.
        reason: String,
    },
    /// A token or certificate is of no use.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The coordinator does not let this caller do it.
    #[error("the coordinator at {url} denied access: {message}")]
    Denied {
        /// The coordinator's address.
        url: String,
        /// The status, in one line.
        message: String,
    },
    /// Nobody answers there, or the connection broke.
    #[error("the coordinator at {url} cannot be reached: {reason}")]
    Unreachable {
        /// The coordinator's address.
        url: String,
        /// The operating system's or the transport's error.
        reason: String,
    },
    /// The spec is wrong.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The coordinator does not have a file that the spec names.
    #[error("a file of the spec is missing at the coordinator: {0}")]
    InputMissing(String),
    /// There is no such sweep or artifact.
    #[error("{0}")]
    NotFound(String),
    /// An artifact did not arrive as it was sent.
    #[error("{name}: {source}")]
    Damaged {
        /// The artifact.
        name: String,
        /// The way in which it is wrong.
        source: ChunkError,
    },
    /// The sweep ended without a result.
    #[error("sweep {id} {state}{}", colon(.message))]
    Ended {
        /// The sweep.
        id: String,
        /// `failed` or `was cancelled`.
        state: &'static str,
        /// The reason, if the coordinator gives one.
        message: String,
    },
    /// The sweep has no result yet.
    #[error("sweep {id} is {state}; its results are available once it is complete")]
    Unfinished {
        /// The sweep.
        id: String,
        /// `queued` or `running`.
        state: String,
    },
    /// A file or folder could not be read or written.
    #[error("{}: cannot {action}: {source}", .path.display())]
    Io {
        /// The name of the file.
        path: PathBuf,
        /// The operation, for example `write`.
        action: &'static str,
        /// The operating system's error.
        source: io::Error,
    },
    /// The arrays came whole, but do not make a figure.
    #[error("{what}: {reason}")]
    Draw {
        /// The array or figure.
        what: String,
        /// The reason why it cannot be drawn.
        reason: String,
    },
    /// The coordinator's answer breaks the contract: it is another program, or of another version.
    #[error("unexpected answer from the coordinator: {0}")]
    Contract(String),
    /// The coordinator could not do it.
    #[error("the coordinator at {url} reports: {message}")]
    Coordinator {
        /// The coordinator's address.
        url: String,
        /// The status, in one line.
        message: String,
    },
}

fn colon(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

/// Everything that is wrong with a spec.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct Refusal {
    /// One line each: the field, its value and what is accepted.
    pub violations: Vec<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the spec is refused: {}", self.violations.join("; "))
    }
}

impl From<SpecError> for Error {
    fn from(error: SpecError) -> Self {
        Refusal { violations: error.violations.iter().map(ToString::to_string).collect() }.into()
    }
}

impl From<SweepError> for Error {
    fn from(error: SweepError) -> Self {
        match error {
            SweepError::Missing { .. } => Self::Contract(error.to_string()),
            SweepError::Unreadable { what, reason } => Self::Draw { what, reason },
            SweepError::Read { name, source } => Self::Io { path: name.into(), action: "read", source },
            SweepError::Nothing { name, reason } => Self::Draw { what: name, reason },
            SweepError::Figure { name, source } => Self::Draw { what: name, reason: source.to_string() },
            SweepError::Unknown { ref name, .. } => Self::Draw { what: name.clone(), reason: error.to_string() },
        }
    }
}

impl Error {
    /// For `map_err` after a file operation.
    pub fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, action, source }
    }

    /// The class of a status that the coordinator at `url` gave.
    pub fn from_status(url: &str, status: &Status) -> Self {
        match status.code() {
            // It is there, and says what ails it.
            _ if Reason::StoreUnavailable.is_of(status) => {
                Self::Coordinator { url: url.into(), message: describe(status) }
            }
            _ if is_away(status) => Self::Unreachable { url: url.into(), reason: away_reason(status) },
            _ if Reason::SpecInvalid.is_of(status) => refusal(status).into(),
            _ if Reason::InputMissing.is_of(status) => Self::InputMissing(describe(status)),
            Code::Unauthenticated | Code::PermissionDenied => {
                Self::Denied { url: url.into(), message: describe(status) }
            }
            Code::NotFound => Self::NotFound(describe(status)),
            Code::Unimplemented => Self::Contract(format!("{url} does not serve nadgrid.v1 ({})", describe(status))),
            _ => Self::Coordinator { url: url.into(), message: describe(status) },
        }
    }
}

/// Whether the coordinator is away (so that trying again may help), rather than there and unwilling.
pub(crate) fn is_away(status: &Status) -> bool {
    // A status that was made on this side has the transport's error as its source; one that came over the wire has none.
    status.code() == Code::Unavailable || std::error::Error::source(status).is_some()
}

/// The coordinator's words or those of a transport, which repeats what it was sent: cleaned.
pub(crate) fn said(words: &str) -> String {
    clean(words, SENTENCE)
}

/// A status as one line, cleaned.
fn describe(status: &Status) -> String {
    said(&in_words(status))
}

fn refusal(status: &Status) -> Refusal {
    let line = |(field, wrong): (String, String)| {
        let field = said(&field);
        let wrong = said(&wrong);
        if field.is_empty() { wrong } else { format!("{field}: {wrong}") }
    };
    let violations: Vec<String> = blamed_fields(status).into_iter().take(MOST_VIOLATIONS).map(line).collect();
    Refusal { violations: if violations.is_empty() { vec![describe(status)] } else { violations } }
}

fn away_reason(status: &Status) -> String {
    match std::error::Error::source(status) {
        Some(source) => said(&explain(&root_cause(source))),
        None => describe(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nadgrid_core::spec::Spec;
    use nadgrid_proto::status::refused_spec;

    #[test]
    fn a_refused_spec_says_the_same_here_and_over_the_wire() {
        let wrong = Spec::from_toml("name = 'x'\narchitectures = ['lennet']\n[nads]\nnetworks = 1").unwrap_err();
        let Error::Refused(over_wire) = Error::from_status("http://x", &refused_spec(&wrong)) else {
            panic!("the class is lost")
        };
        let Error::Refused(here) = Error::from(wrong) else { panic!("the class is lost") };
        assert_eq!(over_wire.violations.len(), here.violations.len());
        for word in ["nads.networks", "1", "from 2"] {
            assert!(over_wire.to_string().contains(word) && here.to_string().contains(word), "{over_wire}");
        }
    }

    /// A status reaches the terminal of whoever asked.
    #[test]
    fn no_word_of_a_status_is_obeyed_by_a_terminal() {
        let paint = "\u{1b}[2J\u{7}\r\nerror: forged\u{202e}";
        let mut wrong = Spec::from_toml("name = 'x'\narchitectures = ['lennet']\n[nads]\nnetworks = 1").unwrap_err();
        wrong.violations.iter_mut().for_each(|violation| paint.clone_into(&mut violation.value));
        for status in [
            refused_spec(&wrong),
            Reason::KeyTaken.status(paint),
            Reason::SweepUnknown.status(paint),
            Reason::TokenMissing.status(paint),
            Reason::ShuttingDown.status(paint),
            Reason::StoreUnavailable.status(paint),
            Status::unimplemented(paint),
            Status::internal(paint.repeat(10_000)),
        ] {
            let told = Error::from_status("http://x", &status).to_string();
            assert_eq!(told, clean(&told, 2 * SENTENCE));
            assert!(told.contains("error: forged") && told.len() < 8 * SENTENCE, "{}", told.len());
        }
    }

    #[test]
    fn every_status_keeps_its_class() {
        let class = |status: Status| Error::from_status("http://x", &status);
        assert!(matches!(class(Reason::ShuttingDown.status("later")), Error::Unreachable { .. }));
        assert!(matches!(class(Reason::SweepUnknown.status("no sweep s-1")), Error::NotFound(_)));
        assert!(matches!(class(Reason::InputMissing.status("nads.npy")), Error::InputMissing(_)));
        assert!(matches!(class(Reason::KeyTaken.status("the key is taken")), Error::Coordinator { .. }));
        assert!(matches!(class(Reason::TokenMissing.status("a token is needed")), Error::Denied { .. }));
        assert!(matches!(class(Reason::NotYours.status("not yours")), Error::Denied { .. }));
        assert!(matches!(class(Status::unimplemented("")), Error::Contract(_)));
    }
}
