//! What a shard hands in: whether it could be what the shard yields, and what it says.

use nadgrid_core::ids::Digest;
use nadgrid_core::moments::Moments;
use nadgrid_core::runs::{self, Outcome};
use nadgrid_core::spec::Payload;

/// Checks the bytes of a partial of `members` members, which have this digest; returns the digest of what they say, without how
/// long it took.
///
/// # Errors
/// What no right computation yields, in words.
pub(crate) fn check(bytes: &[u8], digest: Digest, payload: Payload, members: u64) -> Result<Digest, String> {
    match payload {
        Payload::Moments { dimension, points } => {
            Moments::check_bytes(bytes, dimension, members * points).map_err(|e| e.to_string())?;
            Ok(digest)
        }
        Payload::Runs { extra, epochs, steps } => {
            let runs = runs::from_bytes(bytes, members, extra).map_err(|e| e.to_string())?;
            let beyond = |run: &Outcome| run.epochs > epochs || run.diverged_at.is_some_and(|step| step > steps);
            if let Some(place) = runs.iter().position(beyond) {
                let Outcome { epochs: had, diverged_at, .. } = &runs[place];
                let at = diverged_at.map_or(String::new(), |step| format!(" and diverged at step {step}"));
                return Err(format!(
                    "run {place} had {had} epochs{at}; its recipe has {epochs} epochs of {steps} steps in all"
                ));
            }
            Ok(runs::digest(&runs, extra))
        }
    }
}

/// The seconds that a worker reports for its shard; what is no duration counts as 0.
pub(crate) fn seconds(said: f64) -> f64 {
    if said.is_finite() && said >= 0.0 { said } else { 0.0 }
}
