//! What the scheduler asks for, done: answers, messages, reductions, removals.

use super::handle::Command;
use super::{Asker, DeskTask};
use crate::journal::Journal;
use crate::reducer::{self, ReduceError};
use metrics::{counter, histogram};
use nadgrid_core::grid::Node;
use nadgrid_core::ids::{Digest, JobIndex, SweepId};
use nadgrid_core::scheduler::{Action, Answer, Contribution, Event, RequestId, ShardRef};
use nadgrid_proto::v1::{self, session_response::Message};
use std::collections::BTreeSet;
use std::time::Instant;
use tracing::{info, warn};

impl<J: Journal> DeskTask<J> {
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Answer { request, answer } => self.answer(request, answer),
            Action::Lease { worker, shard } => {
                counter!("nadgrid_shards_leased_total").increment(1);
                self.send_assignment(&worker, &shard);
            }
            Action::Revoke { worker, shard, reason } => {
                self.gone(&shard, &worker, None);
                let Some(shard) = self.wire_shard(&shard) else { return };
                let revocation = v1::Revocation { shard: Some(shard), reason: reason.to_owned() };
                self.send(&worker, Message::Revocation(revocation));
            }
            Action::Disconnect { worker } => {
                warn!(%worker, "silent for too long: its session is closed");
                self.sessions.remove(&worker);
            }
            Action::SetAside { worker, reason } => warn!(%worker, reason, "a worker is set aside"),
            Action::Reduce { sweep, job, generation, partials } => {
                self.spawn_reduction(sweep, (job, generation), partials);
            }
            Action::Checked { verification, check } => {
                if let Some(checks) = self.verifications.get(&verification) {
                    // A receiver that is gone ends the verification by itself.
                    drop(checks.send(check));
                }
            }
            Action::Discard { blobs } => self.spawn_discard(blobs),
            Action::Changed { sweep } => self.views.changed(&sweep),
        }
    }

    fn answer(&mut self, request: RequestId, answer: Answer) {
        match (self.askers.remove(&request), answer) {
            (Some(Asker::Call(sender)), answer) => drop(sender.send(answer)),
            (Some(Asker::Session(worker, shard)), Answer::Reported(verdict)) => {
                self.answer_result(&worker, &shard, verdict);
            }
            (Some(Asker::Session(..)) | None, _) => {}
        }
    }

    fn spawn_reduction(&self, sweep: SweepId, (job, generation): (JobIndex, u64), contributions: Vec<Contribution>) {
        let shard = ShardRef { sweep, job, node: Node::block(0) };
        let Some((spec, shape, _)) = self.scheduler.shard(&shard) else { return };
        let (spec, shape) = (spec.clone(), shape.clone());
        let (store, back, slots) = (self.store.clone(), self.back.clone(), self.reducers.clone());
        tokio::spawn(async move {
            let slot = slots.acquire_owned().await;
            let (sweep, started) = (shard.sweep, Instant::now());
            let io = tokio::runtime::Handle::current();
            let count = contributions.len();
            let name = shape.name();
            let reduce = move || reducer::reduce(&spec, &shape, &contributions, &store, &io);
            let reduced = tokio::task::spawn_blocking(reduce).await;
            drop(slot);
            // Kept from the collection of orphans until the journal names them.
            let mut stored = Vec::new();
            let failed =
                |damaged, message| Event::ReduceFailed { sweep: sweep.clone(), job, generation, damaged, message };
            let event = match reduced {
                Ok(Ok((result, held))) => {
                    stored = held;
                    let seconds = started.elapsed().as_secs_f64();
                    histogram!("nadgrid_reduction_seconds").record(seconds);
                    info!(%sweep, job = name, partials = count, seconds, digest = %result.digest, "reduced");
                    Event::Reduced { sweep: sweep.clone(), job, generation, result }
                }
                Ok(Err(error)) => {
                    counter!("nadgrid_reductions_failed_total").increment(1);
                    warn!(%sweep, job = name, %error, "reduction failed");
                    let damaged = if let ReduceError::Partial { node, .. } = error { vec![node] } else { Vec::new() };
                    failed(damaged, error.to_string())
                }
                Err(panic) => {
                    let message = format!("the reduction of {name} panicked: {panic}");
                    counter!("nadgrid_reductions_failed_total").increment(1);
                    warn!(%sweep, reason = message, "reduction failed");
                    failed(Vec::new(), message)
                }
            };
            if let Some(desk) = back.upgrade() {
                drop(desk.send(Command::Event(event)).await);
                // A question is answered once all before it is in the journal.
                drop(desk.send(Command::Query(Box::new(move |_, _| drop(stored)))).await);
            }
        });
    }

    /// Removes blobs that nothing else refers to.
    fn spawn_discard(&self, blobs: Vec<Digest>) {
        if blobs.is_empty() {
            return;
        }
        // Begun before looking at what is referred to: what is stored from now on is spared.
        let removal = self.store.removal();
        let mut unneeded: BTreeSet<Digest> = blobs.into_iter().collect();
        for needed in self.scheduler.referenced() {
            unneeded.remove(&needed);
        }
        tokio::spawn(async move {
            for digest in unneeded {
                if let Err(error) = removal.remove(digest).await {
                    warn!(%error, "a blob could not be removed");
                }
            }
        });
    }
}
