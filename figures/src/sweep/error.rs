//! The reason why a picture of a sweep could not be drawn.

use std::io;

use thiserror::Error;

use crate::FigureError;

/// The reason why a picture of a sweep could not be drawn.
#[derive(Debug, Error)]
pub enum SweepError {
    /// An artifact is not there: the sweep is another one, or not that far.
    #[error("the sweep has no artifact {name}")]
    Missing {
        /// Its name.
        name: String,
    },
    /// An artifact is there, but could not be read.
    #[error("{name}: {source}")]
    Read {
        /// The artifact.
        name: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// An artifact is not what its name says.
    #[error("{what}: {reason}")]
    Unreadable {
        /// The artifact.
        what: String,
        /// The reason why it cannot be read.
        reason: String,
    },
    /// There is nothing to draw, so far or for good.
    #[error("{name} is not drawn: {reason}")]
    Nothing {
        /// The picture.
        name: String,
        /// The names that exist.
        reason: String,
    },
    /// The measured numbers make no figure.
    #[error("{name} is not drawn: {source}")]
    Figure {
        /// The picture.
        name: String,
        /// The flaw of its numbers.
        source: FigureError,
    },
    /// The sweep has no picture, architecture or NAD of this name.
    #[error("{name:?} is no {what} of this sweep{hint}; accepted is {accepted}")]
    Unknown {
        /// The kind of thing that it should name.
        what: &'static str,
        /// As it was given.
        name: String,
        /// The nearest name, as a question, or nothing.
        hint: String,
        /// The names that there are.
        accepted: String,
    },
}

impl SweepError {
    /// Whether only this picture is lost: what it would show was read and understood.
    pub fn is_of_one_picture(&self) -> bool {
        matches!(self, Self::Nothing { .. } | Self::Figure { .. })
    }

    pub(super) fn unreadable(what: &str, reason: impl ToString) -> Self {
        Self::Unreadable { what: what.to_owned(), reason: reason.to_string() }
    }

    pub(super) fn nothing(name: &str, reason: impl Into<String>) -> Self {
        Self::Nothing { name: name.to_owned(), reason: reason.into() }
    }
}
