//! The client library: everything the `nadgrid` command does with a coordinator, for other programs.
//!
//! ```text
//! Client   connect, probe, plan, upload, submit, get, list, cancel, pause, resume, explain, workers     (one call each)
//!          verify          a response for each shard that is computed again
//!          watch           a stream that outlives the coordinator's restarts
//!          read_artifact   chunks put together and checked
//! LocalFiles   the files that a spec names, looked at before they are uploaded
//! ResultFolder   what fetch has filled, as a source of pictures
//! fetch    a finished sweep's files, drawn and moved into place as a whole
//! ```
//! A coordinator is not trusted: its messages are bounded and cleaned where they enter (`bounded`,
//! `untrusted`), and its names before they are paths (`paths`).
//!
//!
//! Deliberately absent: terminals, exit codes, starting programs (the command does those), and any numerics.

mod artifact;
mod bounded;
mod client;
mod error;
mod fetch;
mod inputs;
mod paths;
mod record;
mod result_folder;
mod staging;
mod untrusted;
mod watch;

pub use client::{Address, Client, Plan, Probe};
pub use error::{Error, Refusal};
pub use fetch::{Fetched, ensure_complete, fetch};
pub use inputs::{LocalFile, LocalFiles};
pub use nadgrid_figures::sweep::{Files, JobOutcome, JobResult, NadsSummary, RunsSummary, Spectrum};
pub use nadgrid_proto::access;
pub use nadgrid_proto::v1;
pub use nadgrid_proto::views::{
    ArtifactView, CheckView, ExplanationView, FailureView, InputView, JobPlanView, JobView, PlanView, SweepView,
    WorkerView, members_word, sweep_state,
};
pub use paths::replace_file;
pub use record::{RECORD_FILE, RECORD_FORMAT, Record};
pub use result_folder::ResultFolder;
pub use staging::Staging;
pub use watch::{Patience, WatchEvent, has_ended};

/// This library's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
