//! Checks of a shard's result before it is reported to the scheduler.

use nadgrid_core::ids::Digest;
use nadgrid_core::moments::Moments;
use nadgrid_core::runs::{self, Outcome};
use nadgrid_core::spec::Payload;

/// Checks the bytes of a partial of `members` members. `digest` is that of the bytes; returns the digest of their content,
/// which does not include how long the runs took.
///
/// # Errors
/// Describes what no correct computation yields.
pub(crate) fn check(bytes: &[u8], digest: Digest, payload: Payload, members: u64) -> Result<Digest, String> {
    match payload {
        Payload::Moments { dimension, points } => {
            Moments::check_bytes(bytes, dimension, members * points).map_err(|e| e.to_string())?;
            Ok(digest)
        }
        Payload::Runs { extra, epochs, steps } => {
            let runs = runs::from_bytes(bytes, members, extra).map_err(|e| e.to_string())?;
            let beyond = |run: &Outcome| run.epochs > epochs || run.diverged_at.is_some_and(|step| step > steps);
            if let Some(index) = runs.iter().position(beyond) {
                let Outcome { epochs: had, diverged_at, .. } = &runs[index];
                let at = diverged_at.map_or(String::new(), |step| format!(" and diverged at step {step}"));
                return Err(format!(
                    "run {index} had {had} epochs{at}; its recipe has {epochs} epochs with {steps} steps in total"
                ));
            }
            Ok(runs::digest(&runs, extra))
        }
    }
}

/// The seconds that a worker reports for its shard. Invalid durations count as 0.
pub(crate) fn seconds(reported: f64) -> f64 {
    if reported.is_finite() && reported >= 0.0 { reported } else { 0.0 }
}
