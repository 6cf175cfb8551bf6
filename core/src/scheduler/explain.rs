//! The reasons why something does not run, for `nadgrid explain`.

use super::Scheduler;
use super::record::SweepOutcome;
use super::shard::{JobRef, ShardRef, WorkerProfile};
use super::state::{Job, JobState, Lease, Sweep, SweepState, Worker, meeting};
use crate::ids::{JobIndex, SweepId, Time, WorkerId};
use crate::text;
use std::ops::Range;

/// The thing that is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The whole sweep.
    Sweep,
    /// One of its jobs.
    Job(JobIndex),
    /// One block of a job.
    Block(JobIndex, u64),
}

/// The state of something, and the reasons for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// The thing that was asked about.
    pub subject: String,
    /// Its state in one word.
    pub state: String,
    /// The most important reason first.
    pub reasons: Vec<String>,
    /// The reason of each worker that does not take it. Empty where no worker is waited for.
    pub workers: Vec<WorkerReason>,
}

/// The reason why a worker does not take something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerReason {
    /// The worker's id.
    pub id: WorkerId,
    /// The worker's name, for people.
    pub name: String,
    /// The reason, in words.
    pub reason: String,
}

impl Scheduler {
    /// Explains the state of a sweep, a job or a block. `None` when there is no such thing.
    pub fn explain(&self, id: &SweepId, subject: Subject, now: Time) -> Option<Explanation> {
        let sweep = self.sweeps.get(id)?;
        let now = self.now.max(now);
        match subject {
            Subject::Sweep => Some(self.explain_sweep(id, sweep, now)),
            Subject::Job(index) => Some(self.explain_job(&JobRef::new(id, index), sweep, sweep.job(index)?, now)),
            Subject::Block(index, block) => {
                let job = sweep.job(index).filter(|job| block < job.total)?;
                Some(self.explain_block(&JobRef::new(id, index), block, sweep, job, now))
            }
        }
    }

    fn explain_sweep(&self, id: &SweepId, sweep: &Sweep, now: Time) -> Explanation {
        let mut told = Explanation {
            subject: format!("sweep {id}"),
            state: sweep.state.name(sweep.paused).to_owned(),
            ..Explanation::default()
        };
        match &sweep.state {
            SweepState::Ended(outcome) => told.reasons.push(match outcome {
                SweepOutcome::Failed { message } | SweepOutcome::Incomplete { message } => message.clone(),
                SweepOutcome::Complete { digest } => format!("its digest is {digest}"),
                SweepOutcome::Cancelled => "its user cancelled it".to_owned(),
            }),
            SweepState::Queued | SweepState::Running => {
                told.reasons.extend(self.what_holds_back(sweep));
                for (index, job) in sweep.jobs.iter().enumerate().filter(|(_, job)| job.state != JobState::Complete) {
                    let of_job = self.explain_job(&JobRef::new(id, JobIndex(index as u32)), sweep, job, now);
                    let reasons = of_job.reasons.iter().filter(|reason| !told.reasons.contains(reason));
                    let reason = reasons.map(String::as_str).next().unwrap_or("nothing holds it back");
                    told.reasons.push(format!("{}: {}, {reason}", job.name, of_job.state));
                }
                if sweep.leased == 0 {
                    told.workers = self.what_keeps_workers(sweep);
                }
            }
        }
        told
    }

    fn explain_job(&self, of: &JobRef, sweep: &Sweep, job: &Job, now: Time) -> Explanation {
        let subject = format!("job {} ({}) of sweep {}", of.index.0, job.name, of.sweep);
        let mut told = Explanation { subject, ..Explanation::default() };
        let (state, reason) = match job.state {
            JobState::Complete => ("complete", "its results are stored".to_owned()),
            JobState::Reducing => ("reducing", "all blocks are committed; its results are computed".to_owned()),
            JobState::Incomplete => ("incomplete", "the rest of its blocks is committed".to_owned()),
            _ if sweep.waits(job) => {
                let needed = sweep.needed(job).map_or("", |needed| needed.name.as_str());
                let over = if sweep.is_over(job) { ", which is incomplete" } else { "" };
                ("waiting", format!("it needs the NADs of {needed}{over}"))
            }
            _ => ("computing", counts(job)),
        };
        state.clone_into(&mut told.state);
        told.reasons.extend(job.quarantined.values().take(10).map(|failure| failure.in_words(&job.name)));
        told.reasons.extend(if sweep.state.has_ended() { None } else { self.what_holds_back(sweep) });
        told.reasons.push(reason);
        told.reasons.extend(job.leased.values().take(10).map(|lease| self.who_computes(job, lease, now)));
        told.reasons.extend(job.waiting.values().take(10).map(|retry| why_it_waits(job, retry, now)));
        if !job.audits.is_empty() {
            told.reasons.push(format!("{} shards are to be computed by a second worker", job.audits.len()));
        }
        if job.state == JobState::Computing && job.leased.is_empty() && !sweep.waits(job) {
            told.workers = self.what_keeps_workers(sweep);
        }
        told
    }

    fn explain_block(&self, of: &JobRef, block: u64, sweep: &Sweep, job: &Job, now: Time) -> Explanation {
        let Range { start, end } = job.shape.grid.members(block..block + 1);
        let subject = format!("block {block} of {} of sweep {}: members {start}..{end}", job.name, of.sweep);
        let told = |state: &str, reasons: Vec<String>| Explanation {
            subject: subject.clone(),
            state: state.to_owned(),
            reasons,
            workers: Vec::new(),
        };
        let one = block..block + 1;
        if let Some((_, failure)) = meeting(&job.quarantined, &one, job.total).next() {
            return told("quarantined", vec![failure.in_words(&job.name)]);
        }
        if let Some((start, held)) = job.committed.meeting(&one).next() {
            let blocks = job.blocks(held.node);
            let mut reasons = vec![format!("blocks {}..{} were computed by {}", blocks.start, blocks.end, held.worker)];
            let partial = job.blocks(job.committed.partial_of(held.node));
            if partial != blocks {
                reasons.push(format!("their partial is merged into that of blocks {}..{}", partial.start, partial.end));
            }
            let audit = job.audits.get(&start).map(|audit| match &audit.holder {
                Some(worker) => format!("{worker} computes them again to compare"),
                None => "a second worker is to compute them again".to_owned(),
            });
            reasons.extend(audit);
            return told("committed", reasons);
        }
        if job.state == JobState::Complete || (sweep.state.has_ended() && job.tally.blocks == job.total) {
            return told("committed", vec!["its job is complete".to_owned()]);
        }
        if sweep.state.has_ended() {
            return told("dropped", vec![format!("the sweep has ended: it is {}", sweep.state.name(sweep.paused))]);
        }
        if let Some((_, lease)) = meeting(&job.leased, &one, job.total).next() {
            return told("leased", vec![self.who_computes(job, lease, now)]);
        }
        let mut reasons: Vec<String> = self.what_holds_back(sweep).into_iter().collect();
        if let Some((_, retry)) = meeting(&job.waiting, &one, job.total).next() {
            reasons.insert(0, why_it_waits(job, retry, now));
            let workers = self.what_keeps_workers_from(sweep, job, &of.shard(retry.node));
            return Explanation { workers, ..told("retrying", reasons) };
        }
        if sweep.waits(job) {
            reasons.insert(0, self.explain_job(of, sweep, job, now).reasons.join("; "));
            return told("waiting", reasons);
        }
        let before = job.pending.iter().take_while(|range| range.start <= block);
        let before: u64 = before.map(|range| range.end.min(block) - range.start).sum();
        reasons.push(format!("{before} pending blocks of its job come before it"));
        Explanation { workers: self.what_keeps_workers(sweep), ..told("pending", reasons) }
    }

    /// Returns what keeps a whole sweep from being given to anybody.
    pub(super) fn what_holds_back(&self, sweep: &Sweep) -> Option<String> {
        if sweep.paused {
            return Some("the sweep is paused: nothing of it is given out".to_owned());
        }
        if self.workers.is_empty() {
            return Some("no worker is connected".to_owned());
        }
        let able = self.workers.values().filter(|worker| worker.is_fit() && sweep.accepts(&worker.profile)).count();
        if able == 0 {
            return Some(format!("none of {} workers can take it", self.workers.len()));
        }
        let before = self.queue.range(..sweep.place?).count();
        (before > 0).then(|| format!("{before} sweeps come before it, by priority or share of the slots"))
    }

    fn who_computes(&self, job: &Job, lease: &Lease, now: Time) -> String {
        let blocks = job.blocks(lease.node);
        let count = blocks.end - blocks.start;
        let holders = lease.holders.iter().map(|holder| {
            let worker = self.workers.get(&holder.worker);
            let name = worker.map_or("", |worker| worker.profile.name.as_str());
            let seconds = now.seconds_since(holder.since);
            let silent = worker
                .filter(|w| !w.connected)
                .map_or(String::new(), |w| format!(", not heard for {:.0} s", now.seconds_since(w.last_seen)));
            format!(
                "{name} ({}) for {seconds:.0} s, {} of {count} blocks done{silent}",
                holder.worker, holder.blocks_done
            )
        });
        format!(
            "blocks {}..{} are computed by {}",
            blocks.start,
            blocks.end,
            holders.collect::<Vec<_>>().join(" and by ")
        )
    }

    fn what_keeps_workers(&self, sweep: &Sweep) -> Vec<WorkerReason> {
        let reason_of = |(id, worker): (&WorkerId, &Worker)| WorkerReason {
            id: id.clone(),
            name: worker.profile.name.clone(),
            reason: what_keeps(worker, sweep, self.now).unwrap_or_else(|| "it is free".to_owned()),
        };
        self.workers.iter().take(100).map(reason_of).collect()
    }

    fn what_keeps_workers_from(&self, sweep: &Sweep, job: &Job, shard: &ShardRef) -> Vec<WorkerReason> {
        let mut reasons = self.what_keeps_workers(sweep);
        let attempts = job.attempts.get(&shard.node);
        for WorkerReason { id, reason, .. } in &mut reasons {
            let hangs = self.workers.get(id).is_some_and(Worker::hangs);
            if !hangs && attempts.is_some_and(|a| a.workers.contains_key(id) && self.has_others(shard, a)) {
                "it failed here before, others are tried first".clone_into(reason);
            }
        }
        reasons
    }
}

fn counts(job: &Job) -> String {
    let waiting: u64 = job.waiting.values().map(|retry| job.blocks(retry.node)).map(|b| b.end - b.start).sum();
    let leased: u64 = job.leased.values().map(|lease| job.blocks(lease.node)).map(|b| b.end - b.start).sum();
    let total = job.total;
    let committed = job.tally.blocks;
    let pending = job.pending.len();
    format!(
        "of {total} blocks {committed} are committed, {leased} leased, {waiting} wait for another attempt, {pending} pending"
    )
}

fn why_it_waits(job: &Job, retry: &super::state::Retry, now: Time) -> String {
    let blocks = job.blocks(retry.node);
    let wait = retry.not_before.seconds_since(now);
    let due = if wait > 0.0 { format!("in {wait:.1} s") } else { "as soon as a slot is free".to_owned() };
    let attempts = job.attempts.get(&retry.node).map_or(String::new(), |attempts| {
        let on: Vec<&str> = attempts.workers.values().map(String::as_str).collect();
        let on = if on.is_empty() { String::new() } else { format!(" on {}", on.join(", ")) };
        let count = attempts.failures + attempts.losses;
        format!(" after {count} failed attempts{on}, the last: {}", attempts.message)
    });
    format!("blocks {}..{} are tried again {due}{attempts}", blocks.start, blocks.end)
}

/// Returns what keeps a worker from a sweep's shards; `None` when nothing does.
fn what_keeps(worker: &Worker, sweep: &Sweep, now: Time) -> Option<String> {
    let WorkerProfile { class, precisions, slots, .. } = &worker.profile;
    if let Some(reason) = &worker.unfit {
        return Some(format!("it is set aside: {reason}"));
    }
    if !worker.connected {
        return Some("it is not connected".to_owned());
    }
    if let Some(again) = worker.tried_again().filter(|_| worker.hangs()) {
        let wait = text::duration(again.seconds_since(now));
        return Some(format!("all its slots hang: one is tried again in {wait}"));
    }
    if worker.draining {
        return Some("it is draining".to_owned());
    }
    if !precisions.contains(&sweep.spec.precision) {
        return Some(format!("it does not offer precision {}", sweep.spec.precision));
    }
    if let Some(own) = sweep.class.as_ref().filter(|own| !own.differs_in_precision_alone(class)) {
        return Some(format!("the sweep runs in class {own}, it computes in {class}"));
    }
    let hung = worker.hung.len();
    if worker.has_free_slot() {
        return None;
    }
    Some(match slots {
        1 => "its slot is busy".to_owned(),
        slots if hung > 0 => format!("{hung} of its {slots} slots hang, the others are busy"),
        slots => format!("its {slots} slots are busy"),
    })
}
