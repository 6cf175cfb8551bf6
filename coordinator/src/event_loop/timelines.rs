//! The history of the latest shards of each sweep, for the page; and the same as spans.
//!
//! ```text
//! sweep s            a trace of its own, one span
//!   ▲ link
//! shard s/job/blocks a trace of its own ── lease, one for each worker that had it ── what the worker tells
//! ```
//! Ids are made from names: a coordinator that was restarted goes on with the same traces. In memory only, and bounded:
//! older shards are forgotten. Deliberately absent: any say in what happens.

use nadgrid_core::ids::{SweepId, WorkerId};
use nadgrid_core::scheduler::ShardRef;
use nadgrid_core::shell::WorkerStep;
use nadgrid_core::text;
use nadgrid_telemetry::{KeyValue, SpanKind, SpanRecord, TraceContext, Tracer};
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

/// Shards of one sweep that are remembered.
const MOST_SHARDS: usize = 500;
/// Sweeps whose shards are remembered.
const MOST_SWEEPS: usize = 64;
/// Leases of one shard that are remembered.
const MOST_LEASES: usize = 16;
/// Steps of one lease that are remembered.
const MOST_STEPS: usize = 64;

/// The state of a lease or a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// A worker has it.
    Leased,
    /// It is computed; its result is on the way.
    Computed,
    /// Its result counts.
    Committed,
    /// It failed, or was given up, with what was said.
    Failed(String),
    /// Others were faster, or it is not wanted any more.
    Superseded,
    /// It was computed once more and compared, for an audit or a verification.
    Compared,
}

impl Fate {
    /// The fate in one word.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Leased => "leased",
            Self::Computed => "computed",
            Self::Committed => "committed",
            Self::Failed(_) => "failed",
            Self::Superseded => "superseded",
            Self::Compared => "compared",
        }
    }

    fn is_open(&self) -> bool {
        matches!(self, Self::Leased | Self::Computed)
    }
}

/// One worker's turn at a shard.
#[derive(Clone, Debug)]
pub(crate) struct LeaseTimeline {
    pub(crate) worker: WorkerId,
    /// The worker's display name.
    pub(crate) name: Arc<str>,
    pub(crate) begun: SystemTime,
    pub(crate) computed: Option<SystemTime>,
    pub(crate) ended: Option<SystemTime>,
    pub(crate) fate: Fate,
    /// Steps that the worker reported.
    pub(crate) steps: Vec<WorkerStep>,
    context: TraceContext,
}

/// A shard's life.
#[derive(Clone, Debug)]
pub(crate) struct ShardTimeline {
    /// The job's name, for example `nads/lenet`.
    pub(crate) job: Arc<str>,
    pub(crate) blocks: Range<u64>,
    pub(crate) members: u64,
    pub(crate) begun: SystemTime,
    pub(crate) ended: Option<SystemTime>,
    pub(crate) fate: Fate,
    pub(crate) leases: Vec<LeaseTimeline>,
    pub(crate) context: TraceContext,
    /// Leases that it ever had.
    attempts: u32,
}

impl ShardTimeline {
    /// Its name within its sweep.
    pub(crate) fn key(&self) -> String {
        format!("{}/{}+{}", self.job, self.blocks.start, self.blocks.end - self.blocks.start).replace('/', "-")
    }

    /// Leases that it had.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }
}

/// The facts about a shard that must be known when it is leased.
pub(super) struct LeasedShard<'a> {
    pub(super) shard: &'a ShardRef,
    pub(super) job: String,
    pub(super) blocks: Range<u64>,
    pub(super) members: u64,
    pub(super) worker: &'a WorkerId,
    pub(super) name: Arc<str>,
}

#[derive(Default)]
struct SweepShards {
    shards: HashMap<ShardRef, ShardTimeline>,
    /// As they were first leased.
    order: VecDeque<ShardRef>,
    ended: bool,
}

/// All that is remembered.
pub(crate) struct Timelines {
    sweeps: HashMap<SweepId, SweepShards>,
    order: VecDeque<SweepId>,
    tracer: Tracer,
}

/// The trace of a sweep.
pub(crate) fn sweep_context(sweep: &SweepId, tracer: &Tracer) -> TraceContext {
    TraceContext::named(&format!("sweep {sweep}"), tracer.ratio())
}

impl Timelines {
    pub(super) fn new(tracer: Tracer) -> Self {
        Self { sweeps: HashMap::new(), order: VecDeque::new(), tracer }
    }

    /// The latest shards of a sweep, the latest first.
    pub(crate) fn shards(&self, sweep: &SweepId) -> impl Iterator<Item = &ShardTimeline> {
        let sweep = self.sweeps.get(sweep);
        sweep.into_iter().flat_map(|sweep| sweep.order.iter().rev().filter_map(|shard| sweep.shards.get(shard)))
    }

    /// A worker has the shard from now on; its span, for the worker's.
    pub(super) fn leased(&mut self, leased: LeasedShard<'_>) -> TraceContext {
        let LeasedShard { shard, job, blocks, members, worker, name } = leased;
        let now = SystemTime::now();
        let tracer = self.tracer.clone();
        let sweep = self.sweep(&shard.job.sweep);
        if !sweep.shards.contains_key(shard) {
            while sweep.order.len() >= MOST_SHARDS {
                sweep.forget_oldest(&tracer);
            }
            sweep.order.push_back(shard.clone());
            let name = format!("shard {}/{job}/{}+{}", shard.job.sweep, blocks.start, blocks.end - blocks.start);
            let timeline = ShardTimeline {
                job: job.into(),
                blocks,
                members,
                begun: now,
                ended: None,
                fate: Fate::Leased,
                leases: Vec::new(),
                context: TraceContext::named(&name, tracer.ratio()),
                attempts: 0,
            };
            sweep.shards.insert(shard.clone(), timeline);
        }
        let Some(timeline) = sweep.shards.get_mut(shard) else { return TraceContext::new(0.0) };
        let attempt = timeline.leases.iter().filter(|lease| lease.worker == *worker).count();
        let context = timeline.context.child_named(&format!("{worker} {attempt}"));
        timeline.attempts += 1;
        if timeline.leases.len() >= MOST_LEASES {
            timeline.leases.remove(0);
        }
        if timeline.fate != Fate::Committed {
            (timeline.fate, timeline.ended) = (Fate::Leased, None);
        }
        timeline.leases.push(LeaseTimeline {
            worker: worker.clone(),
            name,
            begun: now,
            computed: None,
            ended: None,
            fate: Fate::Leased,
            steps: Vec::new(),
            context,
        });
        context
    }

    fn sweep(&mut self, id: &SweepId) -> &mut SweepShards {
        if !self.sweeps.contains_key(id) {
            self.order.push_back(id.clone());
            if self.order.len() > MOST_SWEEPS
                && let Some(oldest) = self.order.pop_front()
                && let Some(mut sweep) = self.sweeps.remove(&oldest)
            {
                while !sweep.order.is_empty() {
                    sweep.forget_oldest(&self.tracer);
                }
            }
        }
        self.sweeps.entry(id.clone()).or_default()
    }

    fn shard(&mut self, shard: &ShardRef) -> Option<&mut ShardTimeline> {
        self.sweeps.get_mut(&shard.job.sweep)?.shards.get_mut(shard)
    }

    /// A worker's open lease of a shard.
    fn lease(&mut self, shard: &ShardRef, worker: &WorkerId) -> Option<&mut LeaseTimeline> {
        let timeline = self.shard(shard)?;
        timeline.leases.iter_mut().rev().find(|lease| lease.worker == *worker && lease.fate.is_open())
    }

    /// Whether a worker's lease of a shard is known.
    pub(super) fn knows(&self, shard: &ShardRef, worker: &WorkerId) -> bool {
        let timeline = self.sweeps.get(&shard.job.sweep).and_then(|sweep| sweep.shards.get(shard));
        timeline.is_some_and(|timeline| timeline.leases.iter().any(|lease| lease.worker == *worker))
    }

    /// The trace of a shard.
    pub(super) fn trace_id(&self, shard: &ShardRef) -> Option<impl std::fmt::Display + use<>> {
        let timeline = self.sweeps.get(&shard.job.sweep)?.shards.get(shard)?;
        Some(timeline.context.trace_id())
    }

    /// The worker has computed the shard, and its result follows.
    pub(super) fn computed(&mut self, shard: &ShardRef, worker: &WorkerId) {
        if let Some(lease) = self.lease(shard, worker) {
            (lease.fate, lease.computed) = (Fate::Computed, Some(SystemTime::now()));
        }
        if let Some(timeline) = self.shard(shard)
            && timeline.fate.is_open()
        {
            timeline.fate = Fate::Computed;
        }
    }

    /// Adds the steps that a worker reports of a shard. It may say anything: only so much is kept.
    pub(super) fn told(&mut self, shard: &ShardRef, worker: &WorkerId, mut steps: Vec<WorkerStep>) {
        steps.truncate(MOST_STEPS);
        for step in &mut steps {
            step.name = text::clean(&step.name, 32);
            step.end_us = step.end_us.max(step.begin_us);
        }
        if let Some(lease) = self.lease(shard, worker) {
            lease.steps = steps;
        }
        // A report of what is committed already is compared with it.
        if self.shard(shard).is_some_and(|timeline| timeline.fate == Fate::Committed) {
            self.lease_ended(shard, worker, Fate::Compared);
        }
    }

    /// A worker's turn is over.
    pub(super) fn lease_ended(&mut self, shard: &ShardRef, worker: &WorkerId, fate: Fate) {
        let (now, tracer) = (SystemTime::now(), self.tracer.clone());
        let Some(timeline) = self.shard(shard) else { return };
        let parent = timeline.context;
        for lease in timeline.leases.iter_mut().filter(|lease| lease.worker == *worker && lease.fate.is_open()) {
            lease.end(fate.clone(), now, parent, &tracer);
        }
        if !timeline.leases.iter().any(|lease| lease.fate.is_open()) && timeline.fate.is_open() {
            timeline.fate = fate;
        }
    }

    /// A worker's result counts. Others that compute the same lose.
    pub(super) fn committed(&mut self, shard: &ShardRef, worker: &WorkerId) {
        self.lease_ended(shard, worker, Fate::Committed);
        let tracer = self.tracer.clone();
        if let Some(timeline) = self.shard(shard) {
            timeline.end(Fate::Committed, SystemTime::now(), &shard.job.sweep, &tracer);
        }
    }

    /// A sweep has ended, and with it all of its shards.
    pub(super) fn sweep_ended(&mut self, id: &SweepId, span: impl FnOnce() -> Option<SpanRecord>) {
        let (now, tracer) = (SystemTime::now(), self.tracer.clone());
        let sweep = self.sweep(id);
        if std::mem::replace(&mut sweep.ended, true) {
            return;
        }
        for timeline in sweep.shards.values_mut() {
            timeline.end(Fate::Superseded, now, id, &tracer);
        }
        if let Some(span) = span().filter(|_| tracer.is_on()) {
            tracer.record(span);
        }
    }
}

impl SweepShards {
    fn forget_oldest(&mut self, tracer: &Tracer) {
        let Some(shard) = self.order.pop_front() else { return };
        if let Some(mut timeline) = self.shards.remove(&shard) {
            timeline.end(Fate::Superseded, SystemTime::now(), &shard.job.sweep, tracer);
        }
    }
}

impl LeaseTimeline {
    fn end(&mut self, fate: Fate, now: SystemTime, parent: TraceContext, tracer: &Tracer) {
        (self.fate, self.ended) = (fate, Some(now));
        if !tracer.is_on() {
            return;
        }
        tracer.record(SpanRecord {
            name: "lease".into(),
            kind: SpanKind::Producer,
            context: self.context,
            parent: Some(parent),
            parent_is_remote: false,
            begin: self.begun,
            end: now,
            attributes: vec![
                KeyValue::new("worker.id", self.worker.to_string()),
                KeyValue::new("worker.name", self.name.to_string()),
                KeyValue::new("outcome", self.fate.as_str()),
            ],
            links: Vec::new(),
            error: if let Fate::Failed(message) = &self.fate { Some(message.clone()) } else { None },
        });
    }
}

impl ShardTimeline {
    /// Ends what is still open; a shard that was committed stays so.
    fn end(&mut self, fate: Fate, now: SystemTime, sweep: &SweepId, tracer: &Tracer) {
        for lease in self.leases.iter_mut().filter(|lease| lease.fate.is_open()) {
            lease.end(Fate::Superseded, now, self.context, tracer);
        }
        if self.ended.is_some() {
            return;
        }
        if self.fate.is_open() || fate == Fate::Committed {
            self.fate = fate;
        }
        self.ended = Some(now);
        if !tracer.is_on() {
            return;
        }
        tracer.record(SpanRecord {
            name: "shard".into(),
            kind: SpanKind::Internal,
            context: self.context,
            parent: None,
            parent_is_remote: false,
            begin: self.begun,
            end: now,
            attributes: vec![
                KeyValue::new("sweep.id", sweep.to_string()),
                KeyValue::new("job", self.job.to_string()),
                KeyValue::new("first_block", self.blocks.start as i64),
                KeyValue::new("blocks", (self.blocks.end - self.blocks.start) as i64),
                KeyValue::new("members", self.members as i64),
                KeyValue::new("outcome", self.fate.as_str()),
            ],
            links: vec![sweep_context(sweep, tracer)],
            error: None,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nadgrid_core::grid::Node;
    use nadgrid_core::ids::JobIndex;
    use nadgrid_core::scheduler::JobRef;

    fn shard(sweep: &str, index: u64) -> ShardRef {
        JobRef::new(&SweepId::new(sweep), JobIndex(0)).shard(Node { level: 0, index })
    }

    fn lease(timelines: &mut Timelines, shard: &ShardRef, worker: &str) -> TraceContext {
        let (job, blocks) = ("nads/lenet".to_owned(), shard.node.index..shard.node.index + 1);
        let worker = WorkerId::new(worker);
        timelines.leased(LeasedShard { shard, job, blocks, members: 32, worker: &worker, name: "w".into() })
    }

    #[test]
    fn the_first_result_ends_a_shard_and_the_others_turns() {
        let mut timelines = Timelines::new(Tracer::off());
        let shard = shard("s", 3);
        lease(&mut timelines, &shard, "a");
        lease(&mut timelines, &shard, "b");
        timelines.computed(&shard, &WorkerId::new("b"));
        timelines.told(
            &shard,
            &WorkerId::new("b"),
            vec![WorkerStep { name: "x".repeat(99), begin_us: 5, end_us: 1 }; 99],
        );
        timelines.committed(&shard, &WorkerId::new("b"));
        let sweep = SweepId::new("s");
        let told: Vec<_> = timelines.shards(&sweep).collect();
        assert_eq!((told.len(), &told[0].fate, told[0].attempts()), (1, &Fate::Committed, 2));
        assert_eq!(told[0].key(), "nads-lenet-3+1");
        let fates: Vec<_> = told[0].leases.iter().map(|lease| lease.fate.as_str()).collect();
        assert_eq!(fates, ["superseded", "committed"]);
        let steps = &told[0].leases[1].steps;
        assert_eq!((steps.len(), steps[0].name.chars().count(), steps[0].end_us), (MOST_STEPS, 32, 5));
    }

    /// An audit is a turn of its own: the shard stays as it was.
    #[test]
    fn what_is_committed_stays_so() {
        let mut timelines = Timelines::new(Tracer::off());
        let shard = shard("s", 3);
        lease(&mut timelines, &shard, "a");
        timelines.committed(&shard, &WorkerId::new("a"));
        let ended = timelines.shards(&SweepId::new("s")).next().unwrap().ended;
        lease(&mut timelines, &shard, "b");
        timelines.told(&shard, &WorkerId::new("b"), Vec::new());
        timelines.sweep_ended(&SweepId::new("s"), || None);
        let sweep = SweepId::new("s");
        let told = timelines.shards(&sweep).next().unwrap();
        assert_eq!((&told.fate, told.ended, told.leases[1].fate.as_str()), (&Fate::Committed, ended, "compared"));
    }

    /// Also what a restarted coordinator tells a worker that comes back.
    #[test]
    fn the_same_shard_and_worker_have_the_same_span() {
        let lease_of = |worker: &str| lease(&mut Timelines::new(Tracer::off()), &shard("s", 3), worker);
        assert_eq!(lease_of("a"), lease_of("a"));
        assert_ne!(lease_of("a"), lease_of("b"));
        let mut timelines = Timelines::new(Tracer::off());
        let first = lease(&mut timelines, &shard("s", 3), "a");
        timelines.lease_ended(&shard("s", 3), &WorkerId::new("a"), Fate::Failed("no".into()));
        assert_ne!(lease(&mut timelines, &shard("s", 3), "a"), first);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut timelines = Timelines::new(Tracer::off());
        for index in 0..2 * MOST_SHARDS as u64 {
            lease(&mut timelines, &shard("s", index), "a");
        }
        assert_eq!(timelines.shards(&SweepId::new("s")).count(), MOST_SHARDS);
        let latest = timelines.shards(&SweepId::new("s")).next().map(|shard| shard.blocks.start);
        assert_eq!(latest, Some(2 * MOST_SHARDS as u64 - 1));
        for sweep in 0..2 * MOST_SWEEPS {
            lease(&mut timelines, &shard(&format!("s{sweep}"), 0), "a");
        }
        assert_eq!((timelines.sweeps.len(), timelines.order.len()), (MOST_SWEEPS, MOST_SWEEPS));
    }
}
