//! One function per subcommand: arguments in, results on stdout.

mod compare;
mod fetch;
mod plan;
mod run;
mod sweeps;
mod token;
mod watch;

pub(crate) use compare::compare;
pub(crate) use fetch::fetch;
pub(crate) use plan::plan;
pub(crate) use run::run;
pub(crate) use sweeps::{cancel, list, status, workers};
pub(crate) use token::token;
pub(crate) use watch::{submit, watch};
