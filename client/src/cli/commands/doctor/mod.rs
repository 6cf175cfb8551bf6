//! `nadgrid doctor`: what works here, what works with less, and what will not, each with the next step.
//!
//! ```text
//! programs      versions, libtorch, devices, a computation      machine   processor, memory, disks, files
//! coordinator   the one that is named, or the port where one would listen
//! ```
//! Absent: repairs. It changes nothing and starts nothing that stays.

mod coordinator;
mod machine;
mod programs;

use crate::cli::args::DoctorArgs;
use crate::cli::styled::{StyledRow, TextStyle, colours};
use crate::cli::{Failure, output};
use nadgrid_client::Address;
use serde::Serialize;
use std::io::IsTerminal;

/// The outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum FindingLevel {
    Ok,
    /// The checked thing works, but with limitations.
    Warning,
    /// It will not work.
    Problem,
}

/// The subject of a check, and its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    level: FindingLevel,
    message: String,
    next_step: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, level: FindingLevel::Ok, message: message.into(), next_step: None }
    }

    fn warning(check: &'static str, message: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self { check, level: FindingLevel::Warning, message: message.into(), next_step: Some(next_step.into()) }
    }

    fn problem(check: &'static str, message: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self { check, level: FindingLevel::Problem, message: message.into(), next_step: Some(next_step.into()) }
    }

    fn rows(&self) -> Vec<StyledRow> {
        let (tone, level) = match self.level {
            FindingLevel::Ok => (TextStyle::Good, "ok"),
            FindingLevel::Warning => (TextStyle::Warn, "warning"),
            FindingLevel::Problem => (TextStyle::Bad, "problem"),
        };
        let first = StyledRow::of(tone, format!("{level:<8}")).and(TextStyle::Strong, format!("{:<20}", self.check));
        let next = self
            .next_step
            .iter()
            .map(|step| StyledRow::of(TextStyle::Plain, " ".repeat(28)).and(TextStyle::Accent, format!("→ {step}")));
        [first.and(TextStyle::Plain, &self.message)].into_iter().chain(next).collect()
    }
}

/// The output for scripts.
#[derive(Serialize)]
struct DoctorReport {
    findings: Vec<Finding>,
    warnings: usize,
    problems: usize,
}

/// Looks at everything, and fails when something will not work.
pub(crate) async fn doctor(at: Option<Address>, args: DoctorArgs) -> Result<(), Failure> {
    let mut findings = programs::findings().await;
    findings.extend(machine::findings());
    findings.extend(match at {
        Some(at) => coordinator::named(&at).await,
        None => coordinator::port().await,
    });
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let warnings = count(FindingLevel::Warning);
    let problems = count(FindingLevel::Problem);
    if args.json.json {
        output::print_json(&DoctorReport { findings, warnings, problems })?;
    } else {
        let colours = colours() && std::io::stdout().is_terminal();
        let rows = findings.iter().flat_map(Finding::rows).map(|row| row.to_terminal(colours));
        output::print(&rows.collect::<Vec<_>>().join("\n"))?;
    }
    if problems == 0 { Ok(()) } else { Err(Failure::Problems(problems)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line_and_its_next_step_another() {
        let lines = |finding: Finding| finding.rows().iter().map(|row| row.to_terminal(false)).collect::<Vec<_>>();
        assert_eq!(lines(Finding::ok("memory", "4.0 GiB free")), ["ok      memory              4.0 GiB free"]);
        let told = lines(Finding::problem("disk", "none free", "make room"));
        assert!(told[0].starts_with("problem disk") && told[1].trim() == "→ make room" && told.len() == 2, "{told:?}");
        let json = serde_json::to_value(Finding::warning("x", "y", "z")).unwrap();
        assert_eq!((&json["level"], &json["next_step"]), (&"warning".into(), &"z".into()));
    }
}
