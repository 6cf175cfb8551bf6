//! A shard of training runs on its way: what is done, where it goes on from, and the checkpoints that are handed out.
//!
//! A checkpoint that is damaged, or of anything else, costs the time that it would have saved and nothing more: the shard begins
//! again. Deliberately absent: training, and the decision when a checkpoint is due, which is the watcher's.

use super::{Job, Snapshot, Watcher};
use nadgrid_core::checkpoint::{Checkpoint, CheckpointError, TrainingShape, TrainingState};
use nadgrid_core::ids::Digest;
use nadgrid_core::numerics::{NumericsClass, Precision};
use nadgrid_core::runs::{Outcome, runs_bytes};
use nadgrid_core::text;
use nadgrid_core::training::{Observer, Recipe};
use nadgrid_core::work::RunParts;
use std::borrow::Cow;
use std::ops::Range;
use std::time::Instant;

/// What a file of this role is to a shard.
pub(crate) const ROLE: &str = "checkpoint";
/// Bytes of a checkpoint that the coordinator takes at most. Runs whose state is larger begin again on another worker.
pub const MOST_BYTES: u64 = 1 << 30;

/// A shard's runs, in order.
pub(super) struct Course<'a> {
    pub(super) watcher: &'a dyn Watcher,
    of: Digest,
    precision: Precision,
    extra: usize,
    /// The shard's runs.
    members: Range<u64>,
    outcomes: Vec<Outcome>,
    /// Where the runs after them stood.
    training: Option<TrainingState<'static>>,
    began: Instant,
    /// Seconds on other lanes.
    earlier: f64,
}

impl<'a> Course<'a> {
    /// From the beginning, or from a checkpoint if it is one of this shard. `shape` says what the state of so many runs holds.
    pub(super) fn new(
        job: &Job,
        (class, extra): (&NumericsClass, usize),
        from: Option<&[u8]>,
        shape: impl Fn(usize) -> TrainingShape,
        watcher: &'a dyn Watcher,
    ) -> Self {
        let members = job.members_of(job.node.blocks(job.grid().blocks()));
        let of = identity(job, class);
        let mut course = Self {
            watcher,
            of,
            precision: job.precision(),
            extra,
            members,
            outcomes: Vec::new(),
            training: None,
            began: Instant::now(),
            earlier: 0.0,
        };
        match from.map(|bytes| course.read(job, bytes, shape)) {
            None => {}
            Some(Ok(Checkpoint { seconds, outcomes, training, .. })) => {
                let epochs = training.as_ref().map_or(0, |state| state.epochs);
                tracing::info!(job = job.name(), runs = outcomes.len(), epochs, "going on from a checkpoint");
                (course.outcomes, course.training, course.earlier) = (outcomes.into_owned(), training, seconds);
            }
            Some(Err(error)) => tracing::warn!(job = job.name(), "beginning again, without the checkpoint: {error}"),
        }
        course
    }

    fn read(
        &self,
        job: &Job,
        bytes: &[u8],
        shape: impl Fn(usize) -> TrainingShape,
    ) -> Result<Checkpoint<'static>, CheckpointError> {
        let all = self.members.end - self.members.start;
        let within_a_block = |done: u64, members: u64| {
            let (first, size) = (self.members.start + done, u64::from(job.grid().block_size));
            let end = (first / size + 1) * size;
            let left = end.min(self.members.end).saturating_sub(first);
            (1..=left).contains(&members).then(|| shape(members as usize))
        };
        let checkpoint = Checkpoint::from_bytes(bytes, self.of, self.extra, within_a_block)?;
        match checkpoint.outcomes.len() as u64 {
            actual if actual > all => Err(CheckpointError::Unexpected { field: "outcomes", expected: all, actual }),
            _ => Ok(checkpoint),
        }
    }

    /// The runs of a block that are still to be trained.
    pub(super) fn left(&self, block: &Range<u64>) -> Range<u64> {
        (self.members.start + self.outcomes.len() as u64).clamp(block.start, block.end)..block.end
    }

    /// Forgets what was done from a run of the shard on.
    pub(super) fn back_to(&mut self, run: u64) {
        self.outcomes.truncate((run - self.members.start) as usize);
        self.training = None;
    }

    /// Where the next `members` runs stand, if they have begun.
    pub(super) fn take_state(&mut self, members: usize) -> Option<TrainingState<'static>> {
        self.training.take().filter(|state| state.bad_since.len() == members)
    }

    /// The next runs are done.
    pub(super) fn push(&mut self, outcomes: Vec<Outcome>) {
        self.outcomes.extend(outcomes);
        let more = (self.outcomes.len() as u64) < self.members.end - self.members.start;
        if more && self.watcher.wants_checkpoint() {
            self.hand_out(None);
        }
    }

    /// All outcomes, and the seconds that other lanes spent on them.
    pub(super) fn finish(self) -> (Vec<Outcome>, f64) {
        (self.outcomes, self.earlier)
    }

    /// Watches the training of the next runs, whose part of their block is `stretch`, and which went on for so many seconds
    /// elsewhere.
    pub(super) fn observer(&self, shape: &TrainingShape, stretch: Stretch, earlier: f64) -> OnCourse<'_, 'a> {
        let runs = runs_bytes(self.members.end - self.members.start, self.extra) as u64;
        let (most, needed) = (MOST_BYTES - (1 << 10), shape.bytes() + runs);
        if needed > most {
            let (most, needed) = (text::bytes(most), text::bytes(needed));
            tracing::warn!("no checkpoints: {} runs together take {needed}, {most} are taken", shape.members);
        }
        OnCourse { course: self, fits: needed <= most, began: Instant::now(), earlier, stretch }
    }

    fn hand_out(&self, training: Option<TrainingState<'_>>) {
        let epochs = training.as_ref().map_or(0, |state| state.epochs);
        let seconds = self.earlier + self.began.elapsed().as_secs_f64();
        let checkpoint = Checkpoint { of: self.of, seconds, outcomes: Cow::Borrowed(&self.outcomes), training };
        let bytes = checkpoint.to_bytes(self.extra);
        let (members_done, precision) = (self.outcomes.len() as u64, self.precision);
        self.watcher.take_checkpoint(Snapshot { bytes, members_done, epochs, precision });
    }
}

/// The eyes of a shard's watcher on a training.
pub(super) struct OnCourse<'c, 'a> {
    course: &'c Course<'a>,
    /// Whether the state is not too large.
    fits: bool,
    began: Instant,
    earlier: f64,
    stretch: Stretch,
}

/// A part of a block's runs, as shares of the block from 0 to 1.
#[derive(Clone, Copy)]
pub(super) struct BlockPart {
    /// The share that lies before it.
    first: f64,
    /// Its own share.
    share: f64,
}

impl BlockPart {
    /// These runs of a block of `all` runs, counted from its first.
    pub(super) fn new(runs: Range<u64>, all: u64) -> Self {
        let share = |runs: u64| runs as f64 / all as f64;
        Self { first: share(runs.start), share: share(runs.end - runs.start) }
    }
}

/// The training and measuring of some runs of a block: how far they bring the block.
pub(super) struct Stretch {
    /// Which part it is.
    pub(super) part: BlockPart,
    /// How their time is divided between training, evaluation and margins.
    pub(super) parts: RunParts,
    /// Batches of their training that are done.
    pub(super) done: u64,
    /// Batches of their training in all.
    pub(super) batches: u64,
}

impl Stretch {
    /// The part of the block that is done when this part of the runs is.
    fn at(&self, part: f64) -> f64 {
        self.part.first + self.part.share * part
    }
}

impl OnCourse<'_, '_> {
    /// Seconds that the training has taken, here and elsewhere.
    pub(super) fn seconds(&self) -> f64 {
        self.earlier + self.began.elapsed().as_secs_f64()
    }

    /// Both sets are evaluated.
    pub(super) fn evaluated(&self) {
        self.course.watcher.advance(self.stretch.at(self.stretch.parts.evaluated));
    }

    /// This part of the margins is measured, from 0 to 1.
    pub(super) fn measured(&self, part: f64) {
        let evaluated = self.stretch.parts.evaluated;
        self.course.watcher.advance(self.stretch.at(evaluated + part * (1.0 - evaluated)));
    }
}

impl Observer for OnCourse<'_, '_> {
    fn goes_on(&mut self) -> bool {
        self.stretch.done += 1;
        let part = self.stretch.done as f64 / self.stretch.batches.max(1) as f64;
        self.course.watcher.advance(self.stretch.at(part.min(1.0) * self.stretch.parts.trained));
        self.course.watcher.wants()
    }

    fn wants_state(&mut self) -> bool {
        self.fits && self.course.watcher.wants_checkpoint()
    }

    fn take_state(&mut self, state: TrainingState<'_>) {
        let seconds = self.seconds();
        self.course.hand_out(Some(TrainingState { seconds, ..state }));
    }
}

/// What a state of `members` runs holds in the kernels' trainer.
pub(super) fn kernels_shape(job: &Job, recipe: &Recipe, members: usize) -> TrainingShape {
    TrainingShape::new(&job.plan.network, members, true, recipe.epochs)
}

/// A digest of everything that a shard's result is a function of.
fn identity(job: &Job, class: &NumericsClass) -> Digest {
    let blocks = job.node.blocks(job.grid().blocks());
    let mut words = vec![job.plan.digest.to_string(), job.name(), format!("{blocks:?}"), class.to_string()];
    let files = job.inputs.iter().filter(|input| input.role != ROLE);
    words.extend(files.map(|input| format!("{} {}", input.role, input.digest)));
    let mut bytes = Vec::new();
    for word in words {
        bytes.extend((word.len() as u64).to_le_bytes());
        bytes.extend(word.into_bytes());
    }
    Digest::of(&bytes)
}
