//! The cost of a job, and the size that a shard should have.
//!
//! ```text
//! seconds of a shard = its beginning + members x seconds of a member
//! seconds of a member = fixed + assumed seconds of its work x slowness        (learned: fixed and slowness)
//! ```
//!
//! The work is counted beforehand ([`crate::work`]); the assumed speeds ([`SpeedClass`]) say how its parts weigh against each
//! other; [`Rates`] learns how much longer it really takes. Deliberately absent: who measured what, which is the scheduler's.

mod rates;
mod speed;

pub use rates::Rates;
pub use speed::SpeedClass;

use crate::spec::JobShape;

/// The evidence for an estimate, the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EstimateBasis {
    /// Assumed speeds, because nothing was measured.
    Assumed,
    /// Measurements of work of another experiment.
    OtherExperiment,
    /// Measurements of another architecture in the same experiment.
    OtherArchitecture,
    /// Measurements of the same kind of work in other amounts, for example fewer points or epochs.
    OtherSize,
    /// Measurements of exactly this work.
    Measured,
}

impl EstimateBasis {
    /// Whether this kind of work was measured, in whatever amounts.
    pub const fn is_measured(self) -> bool {
        matches!(self, Self::OtherSize | Self::Measured)
    }

    /// The name that plans give it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Assumed => "assumed",
            Self::OtherExperiment => "other-experiment",
            Self::OtherArchitecture => "other-architecture",
            Self::OtherSize => "other-size",
            Self::Measured => "measured",
        }
    }
}

/// Seconds of one slot, and what they rest on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The seconds, positive and finite.
    pub seconds: f64,
    /// The evidence for the estimate.
    pub basis: EstimateBasis,
}

impl Estimate {
    /// The estimate of so many members; parts of a member count.
    #[must_use]
    pub fn times(self, members: f64) -> Self {
        Self { seconds: self.seconds * members, ..self }
    }

    /// Whichever of the two rests on more, this one when they are equal.
    #[must_use]
    pub fn or_better(self, other: Self) -> Self {
        if other.basis > self.basis { other } else { self }
    }
}

/// The target and the limit for the sizes of shards.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sizing {
    /// Seconds a shard should take the slot that gets it.
    pub target_seconds: f64,
    /// No shard has more blocks than this.
    pub most_blocks: u64,
}

impl Default for Sizing {
    fn default() -> Self {
        Self { target_seconds: 20.0, most_blocks: 1 << 20 }
    }
}

impl Sizing {
    /// Blocks at most of the next shard, where a member takes so long: what fills the target time, but no more than half of an
    /// even share of what remains, so that all slots end together. One block until work of this kind was measured; what was
    /// measured in other amounts may be off by a few times, so it fills half the time.
    pub fn limit(&self, job: &JobShape, member: Estimate, remaining_blocks: u64, slots: u32) -> u64 {
        let filled = match member.basis {
            EstimateBasis::Measured => self.target_seconds,
            EstimateBasis::OtherSize => self.target_seconds / 2.0,
            _ => return 1,
        };
        let fitting = filled / (member.seconds * f64::from(job.grid.block_size));
        let share = remaining_blocks / (2 * u64::from(slots.max(1)));
        (fitting as u64).min(share).clamp(1, self.most_blocks.max(1))
    }
}
