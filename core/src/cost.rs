//! What a job costs, and how large a shard should be.

use crate::spec::JobShape;
use std::collections::BTreeMap;

/// Multiply-adds a second of one lane before anything is measured: a cautious figure for one CPU core on
/// the patch kernels. Measured rates replace it as soon as a worker has reported.
pub const ASSUMED_MULTIPLY_ADDS_PER_SECOND: f64 = 2.0e10;

/// Seconds per member of one lane, by experiment and architecture: measured where a shard was reported, else assumed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rates {
    seconds_per_member: BTreeMap<String, f64>,
    latest: String,
}

impl Rates {
    /// Takes in that `members` of a job took one lane `seconds`. Recent shards weigh more.
    pub fn observe(&mut self, job: &JobShape, members: u64, seconds: f64) {
        if members == 0 || !seconds.is_finite() || seconds <= 0.0 {
            return;
        }
        let measured = seconds / members as f64;
        let name = job.name();
        if self.latest != name {
            self.latest.clone_from(&name);
        }
        let held = self.seconds_per_member.entry(name).or_insert(measured);
        *held = 0.5 * *held + 0.5 * measured;
    }

    /// The job that was measured last, and its seconds per member of one lane.
    pub fn latest(&self) -> Option<(&str, f64)> {
        self.seconds_per_member.get(&self.latest).map(|&seconds| (self.latest.as_str(), seconds))
    }

    /// Kinds of jobs that were measured.
    pub fn len(&self) -> usize {
        self.seconds_per_member.len()
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.seconds_per_member.is_empty()
    }

    /// Seconds that one member of `job` takes one lane, and whether that was measured.
    pub fn seconds_per_member(&self, job: &JobShape) -> (f64, bool) {
        match self.seconds_per_member.get(&job.name()) {
            Some(&measured) => (measured, true),
            None => (job.multiply_adds as f64 / ASSUMED_MULTIPLY_ADDS_PER_SECOND, false),
        }
    }
}

/// How shards are sized.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sizing {
    /// Seconds a shard should take the lane that gets it.
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
    /// Blocks at most of the next shard: what fills the target time, but no more than half of an even share
    /// of what remains, so that all lanes end together; one block until a lane's speed is known.
    pub fn limit(&self, job: &JobShape, rates: &Rates, remaining_blocks: u64, lanes: u32) -> u64 {
        let (seconds, measured) = rates.seconds_per_member(job);
        if !measured {
            return 1;
        }
        let fitting = self.target_seconds / (seconds * f64::from(job.grid.block_size));
        let share = remaining_blocks / (2 * u64::from(lanes.max(1)));
        (fitting as u64).min(share).clamp(1, self.most_blocks.max(1))
    }
}
