//! One function per subcommand: arguments in, results on stdout.

mod compare;
mod completions;
mod doctor;
mod explain;
mod fetch;
mod init;
mod plan;
mod plot;
mod run;
mod sweeps;
mod token;
mod verify;
mod watch;

pub(crate) use compare::compare;
pub(crate) use completions::completions;
pub(crate) use doctor::doctor;
pub(crate) use explain::explain;
pub(crate) use fetch::fetch;
pub(crate) use init::init;
pub(crate) use plan::plan;
pub(crate) use plot::plot;
pub(crate) use run::run;
pub(crate) use sweeps::{cancel, list, pause, resume, status, workers};
pub(crate) use token::token;
pub(crate) use verify::verify;
pub(crate) use watch::{submit, watch};
