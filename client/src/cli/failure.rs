//! How a command fails: one line on stderr beginning `error: `, the next step where there is one, and an exit code.

use nadgrid_client::Error;
use std::fmt;
use std::process::ExitCode;
use thiserror::Error as ThisError;

/// Why a command did not do what was asked.
#[derive(Debug, ThisError)]
pub(crate) enum Failure {
    /// The library says why.
    #[error(transparent)]
    Client(#[from] Error),
    /// What was typed, or a variable, is wrong.
    #[error("{0}")]
    Usage(String),
    /// Something else, in one line.
    #[error("{0}")]
    Other(String),
    /// A program that `run` started ended by itself. The last lines of its log follow.
    #[error("{what}{}", indented(.log))]
    Died {
        /// Which one and how.
        what: String,
        /// Its last lines.
        log: String,
    },
    /// Blocks that were computed again have other bits than before.
    #[error("{0}")]
    Disagreement(String),
    /// Ctrl-C, or a signal that means the same.
    #[error("interrupted")]
    Interrupted,
    /// Nobody reads stdout any more: `nadgrid list | head -1`.
    #[error("stdout is closed")]
    Closed,
}

impl Failure {
    /// In one line.
    pub(crate) fn other(line: impl fmt::Display) -> Self {
        Self::Other(line.to_string())
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Client(Error::Refused(_) | Error::Address { .. }) | Self::Usage(_) => 2,
            Self::Client(Error::Unreachable { .. }) => 3,
            Self::Client(Error::Ended { .. }) => 4,
            Self::Disagreement(_) => 5,
            Self::Client(_) | Self::Other(_) | Self::Died { .. } => 1,
            Self::Interrupted => 130,
            // The reader has what it wanted.
            Self::Closed => 0,
        }
    }

    /// What stands on stderr: a spec may have several things wrong, each on a line of its own.
    fn lines(&self) -> Vec<String> {
        match self {
            Self::Closed => Vec::new(),
            Self::Client(Error::Refused(refusal)) => {
                refusal.violations.iter().map(|violation| format!("error: the spec is refused: {violation}")).collect()
            }
            _ => vec![format!("error: {self}{}", self.next_step())],
        }
    }

    fn next_step(&self) -> &'static str {
        match self {
            Self::Client(Error::Unreachable { .. }) => {
                "; start one with `nadgrid-coordinator --data DIR`, or say where it is with --coordinator URL"
            }
            Self::Client(Error::Unfinished { .. }) => "; `nadgrid watch ID` follows it",
            Self::Client(Error::NotFound(_)) => "; `nadgrid list` shows the sweeps there are",
            Self::Client(Error::Damaged { .. }) => "; fetch it again",
            Self::Client(Error::InputMissing(_)) => "; submit it again",
            _ => "",
        }
    }
}

fn indented(log: &str) -> String {
    if log.is_empty() {
        return "; it logged nothing".into();
    }
    let lines: String = log.lines().map(|line| format!("\n  | {line}")).collect();
    format!("; its log ends:{lines}")
}

/// Says what went wrong, and gives the exit code.
pub(crate) fn conclude(outcome: Result<(), Failure>) -> ExitCode {
    let Err(failure) = outcome else { return ExitCode::SUCCESS };
    for line in failure.lines() {
        crate::cli::output::note(&line);
    }
    ExitCode::from(failure.exit_code())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nadgrid_client::Refusal;

    #[test]
    fn each_class_has_its_exit_code_and_one_line() {
        let unreachable = Error::Unreachable { url: "http://x".into(), reason: "refused".into() };
        let ended = Error::Ended { id: "s-1".into(), state: "failed", message: "poison".into() };
        for (failure, code, words) in [
            (Failure::from(unreachable), 3, "nadgrid-coordinator --data"),
            (Failure::from(ended), 4, "sweep s-1 failed: poison"),
            (Failure::other("x"), 1, "error: x"),
            (Failure::Interrupted, 130, "error: interrupted"),
        ] {
            let lines = failure.lines();
            assert_eq!(failure.exit_code(), code);
            assert!(lines.len() == 1 && lines[0].starts_with("error: ") && lines[0].contains(words), "{lines:?}");
        }
        assert!(Failure::Closed.lines().is_empty());
    }

    #[test]
    fn several_violations_are_several_lines() {
        let refusal = Refusal { violations: vec!["name = 3: a".into(), "nads.step = 0: b".into()] };
        let failure = Failure::from(Error::from(refusal));
        assert_eq!((failure.exit_code(), failure.lines().len()), (2, 2));
        assert_eq!(failure.lines()[1], "error: the spec is refused: nads.step = 0: b");
    }

    #[test]
    fn a_dead_program_shows_its_last_words() {
        let failure = Failure::Died { what: "worker 1 ended early".into(), log: "a\nb".into() };
        assert_eq!(failure.lines(), ["error: worker 1 ended early; its log ends:\n  | a\n  | b"]);
    }
}
