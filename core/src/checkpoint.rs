//! The progress of a shard of training runs, as bytes from which another worker goes on to the same bits.
//!
//! A checkpoint holds the outcomes of the shard's first runs, and the state of the runs that are in training. What is made from
//! keys (samples, orders, weights before the first step) is not in it. Bytes end with their BLAKE3 and name what they are of, so
//! that a damaged checkpoint, or one of another shard, is told apart. Deliberately absent: what to do then, which is the
//! worker's: it begins again.

use crate::architecture::{Layer, Network};
use crate::ids::Digest;
use crate::runs::{self, Outcome, RunsError, runs_bytes};
use std::borrow::Cow;
use thiserror::Error;

/// The largest checkpoint that a coordinator takes, whatever the job. Runs whose state is larger begin again on another worker.
pub const MAX_BYTES: u64 = 1 << 30;

/// The first bytes of a checkpoint; their digit is the version.
const MAGIC: [u8; 8] = *b"NADCKPT1";
/// Of a checkpoint without outcomes and state: magic, what it is of, seconds, bytes of outcomes, whether there is a state, BLAKE3.
const FIXED_BYTES: u64 = 8 + 32 + 8 + 8 + 8 + 32;
/// Of a state without its numbers: members, epochs, seconds.
const STATE_BYTES: u64 = 24;

/// Bytes that are no checkpoint of this shard.
#[derive(Debug, Error, PartialEq)]
pub enum CheckpointError {
    /// Something else, or another version.
    #[error("these bytes begin with {0:?}, a checkpoint with {MAGIC:?}")]
    Magic(Vec<u8>),
    /// The digest at the end is not that of the bytes before it.
    #[error("the checkpoint is damaged: its digest is {actual}, {expected} was written")]
    Damaged {
        /// As it was written.
        expected: Digest,
        /// Of the bytes that came.
        actual: Digest,
    },
    /// Of another shard, spec, file or numerics class.
    #[error("the checkpoint is of {actual}, not of {expected}")]
    Other {
        /// The digest of what was asked for.
        expected: Digest,
        /// The digest of what the checkpoint is of.
        actual: Digest,
    },
    /// A count that does not fit what is trained.
    #[error("{field}: {actual} where {expected} is due")]
    Unexpected {
        /// The name of what was counted.
        field: &'static str,
        /// The count that is due.
        expected: u64,
        /// The count that came.
        actual: u64,
    },
    /// Runs in training that the shard does not have.
    #[error("{members} runs in training after {outcomes} that are done: the shard has none such")]
    Members {
        /// Runs that are done.
        outcomes: u64,
        /// The number of runs in training.
        members: u64,
    },
    /// It says more than is there, or less.
    #[error("the checkpoint ends at {at}: {missing} more bytes of {field} are due")]
    Short {
        /// The field whose bytes are missing.
        field: &'static str,
        /// Bytes there are.
        at: usize,
        /// Bytes missing.
        missing: usize,
    },
    /// An outcome that no run gives.
    #[error(transparent)]
    Runs(#[from] RunsError),
}

/// The state, between two epochs, of runs that are trained together: all that the rest of their training depends on
/// besides their keys. Members one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainingState<'a> {
    /// Epochs that are done.
    pub epochs: u32,
    /// Seconds that they took.
    pub seconds: f64,
    /// `[K, P]`, in PyTorch's order.
    pub parameters: Cow<'a, [f32]>,
    /// `[K, P]`, or empty where the optimiser keeps none.
    pub velocity: Cow<'a, [f32]>,
    /// Running means of all batch norms, `[K, S]`.
    pub means: Cow<'a, [f32]>,
    /// Running variances of all batch norms, `[K, S]`.
    pub variances: Cow<'a, [f32]>,
    /// `[K]`: the first step after which a member's loss or a weight was no finite number; 0 for none.
    pub bad_since: Vec<u64>,
    /// The positions of the dropout layers' streams, `[layers, K]`.
    pub dropouts: Vec<u64>,
}

/// The size of a state, by what is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainingShape {
    /// Runs trained together.
    pub members: usize,
    /// The number of parameters of each run.
    pub parameters: usize,
    /// The number of running means of each run.
    pub statistics: usize,
    /// The number of dropout layers.
    pub dropouts: usize,
    /// Whether the optimiser keeps a velocity.
    pub velocity: bool,
    /// Epochs of the whole training.
    pub epochs: u32,
}

impl TrainingShape {
    /// Of `members` runs of a network.
    pub fn new(network: &Network, members: usize, velocity: bool, epochs: u32) -> Self {
        let dropouts = network.steps().iter().filter(|step| matches!(step.layer, Layer::Dropout { .. })).count();
        let (parameters, statistics) = (network.parameter_count(), network.statistics_count());
        Self { members, parameters, statistics, dropouts, velocity, epochs }
    }

    /// Returns the bytes that a state takes.
    pub fn bytes(&self) -> u64 {
        let copies = if self.velocity { 2 } else { 1 };
        let each = 4 * (copies * self.parameters + 2 * self.statistics) + 8 * (1 + self.dropouts);
        STATE_BYTES + (self.members * each) as u64
    }
}

/// The progress of a shard.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint<'a> {
    /// A digest of everything that decides the shard's result.
    pub of: Digest,
    /// Seconds that the shard took its slots so far.
    pub seconds: f64,
    /// The outcomes of the shard's first runs.
    pub outcomes: Cow<'a, [Outcome]>,
    /// The state of the runs after them, if they have begun.
    pub training: Option<TrainingState<'a>>,
}

/// The largest checkpoint of a shard of `runs` runs with `extra` further numbers each, whose blocks have states of `state_bytes`.
pub const fn most_bytes(state_bytes: u64, runs: u64, extra: usize) -> u64 {
    FIXED_BYTES + runs_bytes(runs, extra) as u64 + state_bytes
}

impl Checkpoint<'_> {
    /// As bytes, little-endian.
    ///
    /// # Panics
    /// When an outcome has another number of extra numbers than `extra`.
    pub fn to_bytes(&self, extra: usize) -> Vec<u8> {
        let outcomes = runs::to_bytes(&self.outcomes, extra);
        let numbers =
            self.training.as_ref().map_or(0, |state| 4 * (state.floats().map(<[f32]>::len).iter().sum::<usize>()));
        let mut bytes = Vec::with_capacity((FIXED_BYTES + STATE_BYTES) as usize + outcomes.len() + numbers);
        bytes.extend(MAGIC);
        bytes.extend(self.of.0);
        bytes.extend(self.seconds.to_le_bytes());
        bytes.extend((outcomes.len() as u64).to_le_bytes());
        bytes.extend(outcomes);
        bytes.extend(u64::from(self.training.is_some()).to_le_bytes());
        if let Some(state) = &self.training {
            state.append(&mut bytes);
        }
        let digest = Digest::of(&bytes);
        bytes.extend(digest.0);
        bytes
    }
}

impl Checkpoint<'static> {
    /// Reads a checkpoint of `of`. `shape` says what a state holds after so many outcomes and with so many members; `None` where
    /// there can be none.
    ///
    /// # Errors
    /// [`CheckpointError`] when the bytes are damaged, of something else, or do not fit.
    pub fn from_bytes(
        bytes: &[u8],
        of: Digest,
        extra: usize,
        shape: impl FnOnce(u64, u64) -> Option<TrainingShape>,
    ) -> Result<Self, CheckpointError> {
        let mut rest = whole(bytes)?;
        let actual = Digest(rest.array("what it is of")?);
        if actual != of {
            return Err(CheckpointError::Other { expected: of, actual });
        }
        let seconds = f64::from_bits(rest.word("seconds")?);
        let outcomes = rest.word("outcomes")?;
        let outcomes = rest.take(usize::try_from(outcomes).unwrap_or(usize::MAX), "outcomes")?;
        let count = runs::runs_in(outcomes.len(), extra);
        let outcomes = Cow::Owned(runs::from_bytes(outcomes, count, extra)?);
        let training = match rest.word("states")? {
            0 => None,
            1 => {
                let members = rest.word("members")?;
                let shape = shape(count, members).ok_or(CheckpointError::Members { outcomes: count, members })?;
                Some(TrainingState::read(&mut rest, &shape)?)
            }
            actual => return Err(CheckpointError::Unexpected { field: "states", expected: 1, actual }),
        };
        expect("bytes after the state", 0, rest.0.len() as u64)?;
        Ok(Self { of, seconds: sound(seconds), outcomes, training })
    }
}

/// Returns what lies between magic and digest, if both are right.
fn whole(bytes: &[u8]) -> Result<Rest<'_>, CheckpointError> {
    if bytes.len() < MAGIC.len() || bytes[..MAGIC.len()] != MAGIC {
        return Err(CheckpointError::Magic(bytes[..bytes.len().min(MAGIC.len())].to_vec()));
    }
    let Some((before, written)) = bytes.split_last_chunk::<32>() else {
        return Err(CheckpointError::Short { field: "digest", at: bytes.len(), missing: 32 });
    };
    let (expected, actual) = (Digest(*written), Digest::of(before));
    match expected == actual {
        true => Ok(Rest(&before[MAGIC.len()..])),
        false => Err(CheckpointError::Damaged { expected, actual }),
    }
}

fn expect(field: &'static str, expected: u64, actual: u64) -> Result<(), CheckpointError> {
    if expected == actual { Ok(()) } else { Err(CheckpointError::Unexpected { field, expected, actual }) }
}

/// Durations are told and decide nothing.
fn sound(seconds: f64) -> f64 {
    if seconds.is_finite() && seconds >= 0.0 { seconds } else { 0.0 }
}

impl TrainingState<'_> {
    fn floats(&self) -> [&[f32]; 4] {
        [&self.parameters, &self.velocity, &self.means, &self.variances]
    }

    fn append(&self, bytes: &mut Vec<u8>) {
        bytes.extend((self.bad_since.len() as u64).to_le_bytes());
        bytes.extend(u64::from(self.epochs).to_le_bytes());
        bytes.extend(self.seconds.to_le_bytes());
        self.floats().into_iter().flatten().for_each(|number| bytes.extend(number.to_le_bytes()));
        self.bad_since.iter().chain(&self.dropouts).for_each(|word| bytes.extend(word.to_le_bytes()));
    }
}

impl TrainingState<'static> {
    fn read(rest: &mut Rest<'_>, shape: &TrainingShape) -> Result<Self, CheckpointError> {
        let TrainingShape { members, parameters, statistics, dropouts, velocity, epochs } = *shape;
        let done = rest.word("epochs")?;
        let Some(done) = u32::try_from(done).ok().filter(|done| (1..=epochs).contains(done)) else {
            return Err(CheckpointError::Unexpected { field: "epochs", expected: epochs.into(), actual: done });
        };
        let seconds = sound(f64::from_bits(rest.word("seconds")?));
        Ok(Self {
            epochs: done,
            seconds,
            parameters: rest.floats(members * parameters, "parameters")?,
            velocity: rest.floats(if velocity { members * parameters } else { 0 }, "velocity")?,
            means: rest.floats(members * statistics, "running means")?,
            variances: rest.floats(members * statistics, "running variances")?,
            bad_since: rest.words(members, "bad steps")?,
            dropouts: rest.words(members * dropouts, "dropouts")?,
        })
    }
}

/// Bytes that are still to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize, field: &'static str) -> Result<&'a [u8], CheckpointError> {
        let short = CheckpointError::Short { field, at: self.0.len(), missing: count.saturating_sub(self.0.len()) };
        let (taken, rest) = self.0.split_at_checked(count).ok_or(short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], CheckpointError> {
        let taken = self.take(N, field)?;
        Ok(std::array::from_fn(|place| taken[place]))
    }

    fn word(&mut self, field: &'static str) -> Result<u64, CheckpointError> {
        self.array(field).map(u64::from_le_bytes)
    }

    fn words(&mut self, count: usize, field: &'static str) -> Result<Vec<u64>, CheckpointError> {
        let (words, _) = self.take(count.saturating_mul(8), field)?.as_chunks();
        Ok(words.iter().map(|word| u64::from_le_bytes(*word)).collect())
    }

    fn floats(&mut self, count: usize, field: &'static str) -> Result<Cow<'static, [f32]>, CheckpointError> {
        let (floats, _) = self.take(count.saturating_mul(4), field)?.as_chunks();
        Ok(Cow::Owned(floats.iter().map(|float| f32::from_le_bytes(*float)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHAPE: TrainingShape =
        TrainingShape { members: 2, parameters: 3, statistics: 1, dropouts: 2, velocity: true, epochs: 5 };

    fn checkpoint() -> Checkpoint<'static> {
        let run =
            |loss| Outcome { test_loss: loss, epochs: 5, seconds: 3.0, extra: vec![loss, 1.0], ..Outcome::default() };
        let diverged = Outcome { extra: vec![f64::INFINITY; 2], train_accuracy: 0.0, ..Outcome::default() };
        let training = TrainingState {
            epochs: 4,
            seconds: 1.5,
            parameters: Cow::Owned(vec![1.0, -0.0, f32::MIN_POSITIVE, 4.0, 5.0, 6.5]),
            velocity: Cow::Owned(vec![0.5; 6]),
            means: Cow::Owned(vec![0.25, 0.5]),
            variances: Cow::Owned(vec![2.0, 3.0]),
            bad_since: vec![0, 17],
            dropouts: vec![1, 2, 3, u64::MAX],
        };
        let outcomes = Cow::Owned(vec![run(0.5), diverged, run(0.25)]);
        Checkpoint { of: Digest::of(b"shard"), seconds: 9.0, outcomes, training: Some(training) }
    }

    fn read(bytes: &[u8]) -> Result<Checkpoint<'static>, CheckpointError> {
        Checkpoint::from_bytes(bytes, Digest::of(b"shard"), 2, |done, members| {
            (done == 3 && members == 2).then_some(SHAPE)
        })
    }

    /// The bytes with another digest at their end, as a program would write them that is wrong but not damaged.
    fn sealed(mut bytes: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        bytes.truncate(bytes.len() - 32);
        change(&mut bytes);
        let digest = Digest::of(&bytes);
        bytes.extend(digest.0);
        bytes
    }

    #[test]
    fn bytes_round_trip() {
        let checkpoint = checkpoint();
        let bytes = checkpoint.to_bytes(2);
        assert_eq!(bytes.len() as u64, FIXED_BYTES + runs_bytes(3, 2) as u64 + SHAPE.bytes());
        assert_eq!(read(&bytes), Ok(checkpoint.clone()));
        let between = Checkpoint { training: None, ..checkpoint };
        assert_eq!(read(&between.to_bytes(2)), Ok(between));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let bytes = checkpoint().to_bytes(2);
        let other = Checkpoint::from_bytes(&bytes, Digest::of(b"another"), 2, |_, _| Some(SHAPE));
        assert!(matches!(other, Err(CheckpointError::Other { .. })), "{other:?}");
        assert!(matches!(read(b"NADRUNS1 and more"), Err(CheckpointError::Magic(_))));
        assert!(matches!(read(b"NAD"), Err(CheckpointError::Magic(_))));
        assert!(matches!(read(b"NADCKPT1"), Err(CheckpointError::Short { .. })));
        let of = |shape| Checkpoint::from_bytes(&bytes, Digest::of(b"shard"), 2, |_, _| Some(shape)).unwrap_err();
        let unexpected = |field, expected, actual| CheckpointError::Unexpected { field, expected, actual };
        assert!(matches!(of(TrainingShape { members: 3, ..SHAPE }), CheckpointError::Short { .. }));
        assert_eq!(of(TrainingShape { epochs: 3, ..SHAPE }), unexpected("epochs", 3, 4));
        assert_eq!(of(TrainingShape { dropouts: 1, ..SHAPE }), unexpected("bytes after the state", 0, 16));
        assert!(matches!(of(TrainingShape { parameters: 1 << 40, ..SHAPE }), CheckpointError::Short { .. }));
        let done = Checkpoint::from_bytes(&bytes, Digest::of(b"shard"), 2, |_, _| None);
        assert_eq!(done, Err(CheckpointError::Members { outcomes: 3, members: 2 }));
        let lying = sealed(bytes, |bytes| bytes[48..56].fill(0xff));
        assert!(matches!(read(&lying), Err(CheckpointError::Short { field: "outcomes", .. })));
    }

    proptest! {
        /// Whatever happens to the bytes, they are not taken for a checkpoint.
        #[test]
        fn damage_is_found(place in 0usize..600, bit in 0u8..8, cut in 1usize..600) {
            let bytes = checkpoint().to_bytes(2);
            let mut flipped = bytes.clone();
            flipped[place % bytes.len()] ^= 1 << bit;
            prop_assert!(read(&flipped).is_err());
            prop_assert!(read(&bytes[..bytes.len() - cut.min(bytes.len())]).is_err());
        }

        /// Not even bytes with a right digest make it panic or take memory that is not there.
        #[test]
        fn wrong_words_are_refused_or_read(place in 8usize..500, word: u64) {
            let lying = sealed(checkpoint().to_bytes(2), |bytes| {
                let place = place.min(bytes.len() - 8);
                bytes[place..place + 8].copy_from_slice(&word.to_le_bytes());
            });
            let _ = read(&lying);
        }
    }
}
