//! The configuration of nadgrid's programs: flags over variables over a file over defaults.
//!
//! ```text
//! key        a key, written once: configuration! makes the struct, flags, variables, --help and the reference from it
//! range      what a number of a configuration may be
//! variables  the variables NADGRID_... that a program reads, among all others
//! flags      the flags of a program's keys
//! layers     one configuration out of the four
//! reference  the table of keys in a page of the guide
//! ```
//! A misspelt key of a file is an error, since it must not pass for a default. A variable that no program of nadgrid reads is not:
//! an environment has variables of others, among them Kubernetes' `NADGRID_PORT` beside a service called nadgrid. One that is
//! nearly a program's own is worth a warning. Deliberately absent: reading the environment and arguments, which are handed in.

mod flags;
mod key;
mod layers;
mod range;
mod reference;
mod variables;

pub use flags::KeyFlags;
pub use key::{Configuration, ConfigurationKey, parse_flag};
pub use layers::{ConfigurationError, load, parsed};
pub use range::{Number, Range};
pub use reference::{is_current, reference};
pub use variables::{PREFIX, Variables, boolean};

#[cfg(test)]
mod tests;
