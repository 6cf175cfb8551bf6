//! The failure of a command: one line on stderr beginning `error: `, the next step where there is one, and an exit code.

use nadgrid_client::{Error, Refusal};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use thiserror::Error as ThisError;

/// The reason why a command failed.
#[derive(Debug, ThisError)]
pub(crate) enum Failure {
    /// The library says why.
    #[error(transparent)]
    Client(#[from] Error),
    /// The spec in a file is wrong.
    #[error("{}: {refusal}", .file.display())]
    Spec {
        /// The file, or `standard input`.
        file: PathBuf,
        /// The reason why the spec was refused.
        refusal: Refusal,
    },
    /// The typed command or an environment variable is wrong.
    #[error("{0}")]
    Usage(String),
    /// Something else, in one line.
    #[error("{0}")]
    Other(String),
    /// The sweep that `run` computed ended without a result; its coordinator is gone with it.
    #[error("{0}; use --keep-state to keep the programs' logs")]
    RunEnded(Error),
    /// A program that `run` started ended by itself. The last lines of its log follow.
    #[error("{what}{}", indented(.log))]
    Died {
        /// The program, and how it ended.
        what: String,
        /// Its last lines.
        log: String,
    },
    /// Recomputed blocks differ from their committed results.
    #[error("{0}")]
    Disagreement(String),
    /// `doctor` found so many things that will not work, and has told them.
    #[error("{0} of these checks failed")]
    Problems(usize),
    /// Ctrl-C, or a signal that means the same.
    #[error("interrupted")]
    Interrupted,
    /// Nobody reads stdout any more: `nadgrid list | head -1`.
    #[error("stdout is closed")]
    Closed,
}

impl Failure {
    /// Returns the error in one line.
    pub(crate) fn other(line: impl fmt::Display) -> Self {
        Self::Other(line.to_string())
    }

    /// A refused spec is one of this file; other failures are what they were.
    pub(crate) fn of_spec(self, file: &Path) -> Self {
        let file = if file == Path::new("-") { Path::new("standard input") } else { file };
        match self {
            Self::Client(Error::Refused(refusal)) => Self::Spec { file: file.to_owned(), refusal },
            other => other,
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Client(Error::Refused(_) | Error::Address { .. } | Error::Access(_)) => 2,
            Self::Spec { .. } | Self::Usage(_) => 2,
            Self::Client(Error::Unreachable { .. }) => 3,
            Self::Client(Error::Ended { .. }) | Self::RunEnded(_) => 4,
            Self::Disagreement(_) => 5,
            Self::Client(Error::Denied { .. }) => 6,
            Self::Client(_) | Self::Other(_) | Self::Died { .. } | Self::Problems(_) => 1,
            Self::Interrupted => 130,
            // The reader has what it wanted.
            Self::Closed => 0,
        }
    }

    /// Returns the lines for stderr: a spec may have several things wrong, each on a line of its own.
    fn lines(&self) -> Vec<String> {
        let refused = |refusal: &Refusal, file: &str| -> Vec<String> {
            let line = |violation: &String| format!("error: {file}the spec is refused: {violation}");
            refusal.violations.iter().map(line).collect()
        };
        match self {
            Self::Closed => Vec::new(),
            Self::Client(Error::Refused(refusal)) => refused(refusal, ""),
            Self::Spec { file, refusal } => refused(refusal, &format!("{}: ", file.display())),
            _ => vec![format!("error: {self}{}", self.next_step())],
        }
    }

    fn next_step(&self) -> String {
        let Self::Client(error) = self else { return String::new() };
        match error {
            Error::Address { .. } => "; for example --coordinator http://127.0.0.1:7400".into(),
            Error::Access(_) => "; docs/security.md explains tokens and certificates".into(),
            Error::Unreachable { url, .. } => format!(
                "; start one with `nadgrid-coordinator --data DIR`, say where it is with --coordinator URL, or ask `nadgrid \
                 --coordinator {url} doctor`"
            ),
            Error::Denied { .. } => {
                "; a token is named with --token-file FILE or in NADGRID_TOKEN, docs/security.md says how one is made"
                    .into()
            }
            Error::Unfinished { id, .. } => format!("; `nadgrid watch {id}` follows it"),
            Error::Ended { id, .. } => format!("; `nadgrid explain {id}` and `nadgrid status {id}` have the details"),
            Error::NotFound(_) => "; `nadgrid list` shows the sweeps there are".into(),
            Error::Damaged { .. } => "; fetch it again".into(),
            Error::InputMissing(_) => "; submit it again".into(),
            Error::Contract(_) => "; `nadgrid doctor` compares the versions".into(),
            Error::Refused(_) | Error::Io { .. } | Error::Draw { .. } | Error::Coordinator { .. } => String::new(),
        }
    }
}

fn indented(log: &str) -> String {
    if log.is_empty() {
        return "; it logged nothing".into();
    }
    let lines: String = log.lines().map(|line| format!("\n  | {line}")).collect();
    format!("; the end of its log:{lines}")
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
    fn a_refused_spec_names_its_file_and_other_failures_keep_their_words() {
        let refusal = Refusal { violations: vec!["name = 3: a".into(), "seed = -1: b".into()] };
        let named = |file: &str| Failure::from(Error::from(refusal.clone())).of_spec(Path::new(file));
        assert_eq!(named("a/b.toml").lines()[1], "error: a/b.toml: the spec is refused: seed = -1: b");
        assert_eq!((named("a").exit_code(), named("-").lines()[0].contains("error: standard input: ")), (2, true));
        assert_eq!(Failure::other("x").of_spec(Path::new("a")).lines(), ["error: x"]);
    }

    /// The classes that a user can do something about say what.
    #[test]
    fn the_next_step_is_told() {
        let (url, id) = ("http://x:1".to_owned(), "s-1".to_owned());
        for (error, words) in [
            (Error::Address { url: url.clone(), reason: "r".into() }, "--coordinator http://"),
            (Error::Denied { url: url.clone(), message: "m".into() }, "docs/security.md"),
            (Error::Unreachable { url, reason: "r".into() }, "--coordinator http://x:1 doctor"),
            (Error::Unfinished { id: id.clone(), state: "running".into() }, "`nadgrid watch s-1`"),
            (Error::Ended { id, state: "failed", message: "m".into() }, "`nadgrid explain s-1`"),
            (Error::NotFound("no sweep".into()), "`nadgrid list`"),
            (Error::Contract("c".into()), "`nadgrid doctor`"),
            (Error::InputMissing("f".into()), "submit it again"),
        ] {
            let lines = Failure::from(error).lines();
            assert!(lines.len() == 1 && lines[0].contains(words), "{lines:?} lacks {words}");
        }
    }

    #[test]
    fn a_dead_program_shows_its_last_words() {
        let failure = Failure::Died { what: "worker 1 ended early".into(), log: "a\nb".into() };
        assert_eq!(failure.lines(), ["error: worker 1 ended early; the end of its log:\n  | a\n  | b"]);
    }
}
