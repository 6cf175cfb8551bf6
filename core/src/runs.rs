//! The result of training runs: what became of each, as it travels, is stored and is digested.
//!
//! How long a run took is carried along but is no part of its digest: everything else is a function of the spec and the
//! numerics class.

use crate::ids::Digest;
use thiserror::Error;

/// The first bytes of runs.
const MAGIC: [u8; 8] = *b"NADRUNS1";
/// Bytes before the numbers: magic, runs (u64), extra numbers per run (u64).
const HEADER_BYTES: usize = 24;
/// Numbers of a run besides the extra ones.
const FIXED: usize = 7;
/// The place among them of how long the run took.
const SECONDS: usize = 6;

/// The outcome of one training run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Percent of the training samples that the trained network classifies rightly, in evaluation mode.
    pub train_accuracy: f64,
    /// Percent of the test samples.
    pub test_accuracy: f64,
    /// Mean cross-entropy of the training samples, nats.
    pub train_loss: f64,
    /// Mean cross-entropy of the test samples, nats.
    pub test_loss: f64,
    /// Epochs that were completed.
    pub epochs: u32,
    /// The step, counted from 1 over all epochs, after whose batch the loss or a weight was no finite number. Then the accuracies
    /// and losses are not numbers either.
    pub diverged_at: Option<u64>,
    /// Seconds that it took; no part of the digest.
    pub seconds: f64,
    /// The further numbers that an experiment measures, for example margins.
    pub extra: Vec<f64>,
}

impl Outcome {
    /// A run that diverged.
    pub fn diverged(epochs: u32, step: u64) -> Self {
        let none = f64::NAN;
        Self {
            train_accuracy: none,
            test_accuracy: none,
            train_loss: none,
            test_loss: none,
            epochs,
            diverged_at: Some(step),
            ..Self::default()
        }
    }

    fn numbers(&self) -> impl Iterator<Item = f64> {
        // A step of 0 stands for none.
        let diverged_at = self.diverged_at.unwrap_or(0) as f64;
        let fixed: [f64; FIXED] = [
            self.train_accuracy,
            self.test_accuracy,
            self.train_loss,
            self.test_loss,
            f64::from(self.epochs),
            diverged_at,
            self.seconds,
        ];
        fixed.into_iter().chain(self.extra.iter().copied())
    }
}

/// Bytes that are no runs, or not those that were expected.
#[derive(Debug, Error, PartialEq)]
pub enum RunsError {
    /// The bytes do not begin as runs do.
    #[error("the bytes are no runs: they begin with {0:?}")]
    Magic(Vec<u8>),
    /// Another number of bytes, runs or numbers per run.
    #[error("{field} is {actual}, expected {expected}")]
    Unexpected {
        /// `runs`, `extra` or `bytes`.
        field: &'static str,
        /// The value that was asked for.
        expected: u64,
        /// The value that came.
        actual: u64,
    },
    /// A number that no run gives.
    #[error("{field} of run {run} is {value}")]
    Value {
        /// The name of the number.
        field: &'static str,
        /// The index of the run.
        run: usize,
        /// The number.
        value: f64,
    },
}

/// Bytes that `runs` runs with `extra` further numbers each take.
pub const fn runs_bytes(runs: u64, extra: usize) -> usize {
    HEADER_BYTES + runs as usize * (FIXED + extra) * 8
}

/// Writes runs as bytes, little-endian.
///
/// # Panics
/// When a run has another number of extra numbers than `extra`.
pub fn to_bytes(runs: &[Outcome], extra: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(runs_bytes(runs.len() as u64, extra));
    bytes.extend(MAGIC);
    bytes.extend((runs.len() as u64).to_le_bytes());
    bytes.extend((extra as u64).to_le_bytes());
    for run in runs {
        assert_eq!(run.extra.len(), extra, "extra numbers of a run");
        run.numbers().for_each(|number| bytes.extend(number.to_le_bytes()));
    }
    bytes
}

/// Reads `expected` runs of `extra` further numbers each.
///
/// # Errors
/// [`RunsError`] when the bytes are something else, or hold a number that no run gives.
pub fn from_bytes(bytes: &[u8], expected: u64, extra: usize) -> Result<Vec<Outcome>, RunsError> {
    if bytes.len() < HEADER_BYTES || bytes[..8] != MAGIC {
        return Err(RunsError::Magic(bytes[..bytes.len().min(8)].to_vec()));
    }
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
    let (length, whole) = (bytes.len() as u64, runs_bytes(expected, extra) as u64);
    for (field, expected, actual) in
        [("runs", expected, word(8)), ("extra", extra as u64, word(16)), ("bytes", whole, length)]
    {
        if expected != actual {
            return Err(RunsError::Unexpected { field, expected, actual });
        }
    }
    let numbers: Vec<f64> = bytes[HEADER_BYTES..]
        .chunks_exact(8)
        .map(|chunk| f64::from_le_bytes(std::array::from_fn(|i| chunk[i])))
        .collect();
    numbers.chunks_exact(FIXED + extra).enumerate().map(|(run, numbers)| read(run, numbers)).collect()
}

/// Returns how many runs with `extra` further numbers each fit in so many bytes, whatever the bytes say themselves.
pub const fn runs_in(bytes: usize, extra: usize) -> u64 {
    (bytes.saturating_sub(HEADER_BYTES) / ((FIXED + extra) * 8)) as u64
}

fn read(run: usize, numbers: &[f64]) -> Result<Outcome, RunsError> {
    let wrong = |field, value| Err(RunsError::Value { field, run, value });
    let (epochs, step, seconds) = (numbers[4], numbers[5], numbers[6]);
    let counts = |value: f64, most: f64| (0.0..=most).contains(&value) && value.fract() == 0.0;
    if !counts(epochs, f64::from(u32::MAX)) {
        return wrong("epochs", epochs);
    }
    if !counts(step, 9.0e15) {
        return wrong("diverged_at", step);
    }
    if !(seconds >= 0.0 && seconds.is_finite()) {
        return wrong("seconds", seconds);
    }
    let diverged_at = (step > 0.0).then_some(step as u64);
    let (percent, loss) = (|v: f64| (0.0..=100.0).contains(&v), |v: f64| v >= 0.0 && v.is_finite());
    let sound = |place: usize| if place < 2 { percent(numbers[place]) } else { loss(numbers[place]) };
    for (place, field) in ["train_accuracy", "test_accuracy", "train_loss", "test_loss"].into_iter().enumerate() {
        // A run that diverged has nothing to show; any other has all.
        if diverged_at.is_some() != numbers[place].is_nan() || (diverged_at.is_none() && !sound(place)) {
            return wrong(field, numbers[place]);
        }
    }
    Ok(Outcome {
        train_accuracy: numbers[0],
        test_accuracy: numbers[1],
        train_loss: numbers[2],
        test_loss: numbers[3],
        epochs: epochs as u32,
        diverged_at,
        seconds,
        extra: numbers[FIXED..].to_vec(),
    })
}

/// The digest of runs in order, without their durations.
pub fn digest(runs: &[Outcome], extra: usize) -> Digest {
    let mut hasher = RunsHasher::new(runs.len() as u64, extra);
    runs.iter().for_each(|run| hasher.push(run));
    hasher.finish()
}

/// The digest of runs that come one after the other: that of their bytes with durations of 0.
pub struct RunsHasher(blake3::Hasher);

impl RunsHasher {
    /// A hasher for so many runs with `extra` further numbers each.
    pub fn new(runs: u64, extra: usize) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&MAGIC).update(&runs.to_le_bytes()).update(&(extra as u64).to_le_bytes());
        Self(hasher)
    }

    /// Takes in the next run.
    pub fn push(&mut self, run: &Outcome) {
        for (place, number) in run.numbers().enumerate() {
            let number = if place == SECONDS { 0.0 } else { number };
            self.0.update(&number.to_le_bytes());
        }
    }

    /// The digest of the runs that came.
    pub fn finish(self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(test_accuracy: f64, seconds: f64) -> Outcome {
        Outcome {
            train_accuracy: 99.5,
            test_accuracy,
            train_loss: 0.01,
            test_loss: 0.7,
            epochs: 20,
            diverged_at: None,
            seconds,
            extra: vec![1.5, f64::INFINITY],
        }
    }

    #[test]
    fn bytes_round_trip() {
        let bytes = to_bytes(&[run(90.0, 2.0), run(50.0, 3.0)], 2);
        assert_eq!(bytes.len(), runs_bytes(2, 2));
        assert_eq!(from_bytes(&bytes, 2, 2).unwrap(), [run(90.0, 2.0), run(50.0, 3.0)]);
        let diverged = Outcome { extra: vec![f64::NAN; 2], ..Outcome::diverged(1, 80) };
        let read = from_bytes(&to_bytes(&[diverged], 2), 1, 2).unwrap();
        assert_eq!((read[0].diverged_at, read[0].epochs), (Some(80), 1));
        assert!(read[0].test_accuracy.is_nan());
    }

    #[test]
    fn durations_are_no_part_of_the_digest() {
        assert_eq!(digest(&[run(90.0, 2.0)], 2), Digest::of(&to_bytes(&[run(90.0, 0.0)], 2)));
        assert_eq!(digest(&[run(90.0, 2.0)], 2), digest(&[run(90.0, 9.0)], 2));
        assert_ne!(digest(&[run(90.0, 2.0)], 2), digest(&[run(91.0, 2.0)], 2));
    }

    #[test]
    fn what_no_run_gives_is_named() {
        let bytes = to_bytes(&[run(90.0, 2.0)], 2);
        let unexpected = |field, expected, actual| Err(RunsError::Unexpected { field, expected, actual });
        assert_eq!(from_bytes(&bytes, 2, 2), unexpected("runs", 2, 1));
        assert_eq!(from_bytes(&bytes, 1, 0), unexpected("extra", 0, 2));
        assert_eq!(from_bytes(&bytes[..80], 1, 2), unexpected("bytes", 96, 80));
        assert!(matches!(from_bytes(b"NADPART1", 1, 2), Err(RunsError::Magic(_))));
        let refused = |lie: Outcome| from_bytes(&to_bytes(&[lie], 2), 1, 2).unwrap_err().to_string();
        assert_eq!(refused(run(100.5, 2.0)), "test_accuracy of run 0 is 100.5");
        assert_eq!(refused(run(f64::NAN, 2.0)), "test_accuracy of run 0 is NaN");
        assert_eq!(refused(run(50.0, -1.0)), "seconds of run 0 is -1");
        assert_eq!(refused(Outcome { diverged_at: Some(3), ..run(50.0, 1.0) }), "train_accuracy of run 0 is 99.5");
    }
}
