//! The progress of a shard of training runs: what is done, where to continue, and the checkpoints that are handed out.
//!
//! A checkpoint that is damaged, or of anything else, costs the time that it would have saved and nothing more: the shard begins
//! again. Deliberately absent: training, and the decision when a checkpoint is due, which is the watcher's.

use super::{ShardSnapshot, ShardTask, ShardWatcher};
use nadgrid_core::checkpoint::{Checkpoint, CheckpointError, MAX_BYTES, TrainingShape, TrainingState};
use nadgrid_core::ids::Digest;
use nadgrid_core::numerics::{NumericsClass, Precision};
use nadgrid_core::runs::{Outcome, runs_bytes};
use nadgrid_core::text;
use nadgrid_core::training::{Observer, Recipe};
use nadgrid_core::work::RunParts;
use std::borrow::Cow;
use std::ops::Range;
use std::time::Instant;

/// The bytes of a checkpoint that are set aside for everything but the state of the runs in training.
const RESERVED_BYTES: u64 = 1 << 10;

/// The form of a shard's outcomes.
pub(super) struct OutcomeForm<'a> {
    /// The class in which they are computed.
    pub(super) class: &'a NumericsClass,
    /// The count of further numbers of each outcome.
    pub(super) extra: usize,
}

/// The progress of a shard's runs, in order.
pub(super) struct ShardProgress<'a> {
    pub(super) watcher: &'a dyn ShardWatcher,
    /// The digest of everything that the shard's result depends on.
    identity: Digest,
    precision: Precision,
    extra: usize,
    /// The shard's runs.
    members: Range<u64>,
    outcomes: Vec<Outcome>,
    /// The state of the runs after them, where they were in training.
    training: Option<TrainingState<'static>>,
    began: Instant,
    /// Seconds that other slots spent.
    earlier: f64,
}

impl<'a> ShardProgress<'a> {
    /// Begins at the beginning, or at a checkpoint if it is of this shard. `shape` returns the shape of the state of so many runs.
    pub(super) fn new(
        shard: &ShardTask,
        form: &OutcomeForm<'_>,
        from: Option<&[u8]>,
        shape: impl Fn(usize) -> TrainingShape,
        watcher: &'a dyn ShardWatcher,
    ) -> Self {
        let members = shard.members_of(shard.node.blocks(shard.grid().blocks()));
        let mut progress = Self {
            watcher,
            identity: identity(shard, form.class),
            precision: shard.precision(),
            extra: form.extra,
            members,
            outcomes: Vec::new(),
            training: None,
            began: Instant::now(),
            earlier: 0.0,
        };
        match from.map(|bytes| progress.read(shard, bytes, shape)) {
            None => {}
            Some(Ok(Checkpoint { seconds, outcomes, training, .. })) => {
                let epochs = training.as_ref().map_or(0, |state| state.epochs);
                tracing::info!(job = shard.name(), runs = outcomes.len(), epochs, "resuming from a checkpoint");
                progress.outcomes = outcomes.into_owned();
                progress.training = training;
                progress.earlier = seconds;
            }
            Some(Err(error)) => {
                tracing::warn!(job = shard.name(), "starting over, the checkpoint cannot be used: {error}");
            }
        }
        progress
    }

    fn read(
        &self,
        shard: &ShardTask,
        bytes: &[u8],
        shape: impl Fn(usize) -> TrainingShape,
    ) -> Result<Checkpoint<'static>, CheckpointError> {
        let all = self.members.end - self.members.start;
        let within_a_block = |done: u64, members: u64| {
            let first = self.members.start + done;
            let size = u64::from(shard.grid().block_size);
            let end = (first / size + 1) * size;
            let left = end.min(self.members.end).saturating_sub(first);
            (1..=left).contains(&members).then(|| shape(members as usize))
        };
        let checkpoint = Checkpoint::from_bytes(bytes, self.identity, self.extra, within_a_block)?;
        match checkpoint.outcomes.len() as u64 {
            actual if actual > all => Err(CheckpointError::Unexpected { field: "outcomes", expected: all, actual }),
            _ => Ok(checkpoint),
        }
    }

    /// Returns the runs of a block that are still to be trained.
    pub(super) fn left(&self, block: &Range<u64>) -> Range<u64> {
        (self.members.start + self.outcomes.len() as u64).clamp(block.start, block.end)..block.end
    }

    /// Forgets what was done from this run of the shard on.
    pub(super) fn back_to(&mut self, run: u64) {
        self.outcomes.truncate((run - self.members.start) as usize);
        self.training = None;
    }

    /// Takes the state of the next `members` runs, if they have begun.
    pub(super) fn take_state(&mut self, members: usize) -> Option<TrainingState<'static>> {
        self.training.take().filter(|state| state.bad_since.len() == members)
    }

    /// Adds the outcomes of the next runs.
    pub(super) fn push(&mut self, outcomes: Vec<Outcome>) {
        self.outcomes.extend(outcomes);
        let more = (self.outcomes.len() as u64) < self.members.end - self.members.start;
        if more && self.watcher.wants_checkpoint() {
            self.hand_out(None);
        }
    }

    /// Returns all outcomes, and the seconds that other slots spent on them.
    pub(super) fn finish(self) -> (Vec<Outcome>, f64) {
        (self.outcomes, self.earlier)
    }

    /// Returns an observer for the training of the next runs, whose part of their block is `stretch`, and which took other slots
    /// `earlier` seconds before.
    pub(super) fn observer(&self, shape: &TrainingShape, stretch: Stretch, earlier: f64) -> TrainingObserver<'_, 'a> {
        let runs = runs_bytes(self.members.end - self.members.start, self.extra) as u64;
        let max = MAX_BYTES - RESERVED_BYTES;
        let needed = shape.bytes() + runs;
        if needed > max {
            let members = shape.members;
            tracing::warn!(
                "no checkpoints: the state of {members} runs takes {}, the limit is {}",
                text::bytes(needed),
                text::bytes(max)
            );
        }
        TrainingObserver { progress: self, fits: needed <= max, began: Instant::now(), earlier, stretch }
    }

    fn hand_out(&self, training: Option<TrainingState<'_>>) {
        let epochs = training.as_ref().map_or(0, |state| state.epochs);
        let seconds = self.earlier + self.began.elapsed().as_secs_f64();
        let checkpoint = Checkpoint { of: self.identity, seconds, outcomes: Cow::Borrowed(&self.outcomes), training };
        let bytes = checkpoint.to_bytes(self.extra);
        let members_done = self.outcomes.len() as u64;
        let precision = self.precision;
        self.watcher.take_checkpoint(ShardSnapshot { bytes, members_done, epochs, precision });
    }
}

/// Passes cancellation and checkpoint requests from a shard to its training, and the training's progress back.
pub(super) struct TrainingObserver<'c, 'a> {
    progress: &'c ShardProgress<'a>,
    /// Whether the state fits into a checkpoint.
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
    /// Makes the part that these runs are of a block of `all` runs, counted from its first.
    pub(super) fn new(runs: Range<u64>, all: u64) -> Self {
        let share = |runs: u64| runs as f64 / all as f64;
        Self { first: share(runs.start), share: share(runs.end - runs.start) }
    }
}

/// The training and measuring of some runs of a block, as a part of the block's progress.
pub(super) struct Stretch {
    /// The part of the block that they are.
    pub(super) part: BlockPart,
    /// The division of their time between training, evaluation and margins.
    pub(super) parts: RunParts,
    /// Batches of their training that are done.
    pub(super) done: u64,
    /// All batches of their training.
    pub(super) batches: u64,
}

impl Stretch {
    /// Returns the part of the block that is done when this part of the runs is.
    fn at(&self, part: f64) -> f64 {
        self.part.first + self.part.share * part
    }
}

impl TrainingObserver<'_, '_> {
    /// Returns the seconds that the training has taken, here and on other slots.
    pub(super) fn seconds(&self) -> f64 {
        self.earlier + self.began.elapsed().as_secs_f64()
    }

    /// Notes that both sets are evaluated.
    pub(super) fn evaluated(&self) {
        self.progress.watcher.advance(self.stretch.at(self.stretch.parts.evaluated));
    }

    /// Notes that this part of the margins is measured, from 0 to 1.
    pub(super) fn measured(&self, part: f64) {
        let evaluated = self.stretch.parts.evaluated;
        self.progress.watcher.advance(self.stretch.at(evaluated + part * (1.0 - evaluated)));
    }
}

impl Observer for TrainingObserver<'_, '_> {
    fn goes_on(&mut self) -> bool {
        self.stretch.done += 1;
        let part = self.stretch.done as f64 / self.stretch.batches.max(1) as f64;
        self.progress.watcher.advance(self.stretch.at(part.min(1.0) * self.stretch.parts.trained));
        self.progress.watcher.wants()
    }

    fn wants_state(&mut self) -> bool {
        self.fits && self.progress.watcher.wants_checkpoint()
    }

    fn take_state(&mut self, state: TrainingState<'_>) {
        let seconds = self.seconds();
        self.progress.hand_out(Some(TrainingState { seconds, ..state }));
    }
}

/// Returns the shape of a state of `members` runs in the kernels' trainer.
pub(super) fn kernels_shape(shard: &ShardTask, recipe: &Recipe, members: usize) -> TrainingShape {
    TrainingShape::new(&shard.job.network, members, true, recipe.epochs)
}

/// Returns a digest of everything that a shard's result is a function of.
fn identity(shard: &ShardTask, class: &NumericsClass) -> Digest {
    let blocks = shard.node.blocks(shard.grid().blocks());
    let mut words = vec![shard.job.digest.to_string(), shard.name(), format!("{blocks:?}"), class.to_string()];
    let files = shard.inputs.iter().filter(|input| !input.is_checkpoint());
    words.extend(files.map(|input| format!("{} {}", input.role, input.digest)));
    let mut bytes = Vec::new();
    for word in words {
        bytes.extend((word.len() as u64).to_le_bytes());
        bytes.extend(word.into_bytes());
    }
    Digest::of(&bytes)
}
