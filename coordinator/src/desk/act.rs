//! What the scheduler asks for, done: answers, messages, removals; merges and reductions are in `pool.rs`.

use super::{Asker, DeskTask};
use crate::journal::Journal;
use nadgrid_core::ids::Digest;
use nadgrid_core::scheduler::{Action, Answer, RequestId};
use nadgrid_proto::v1::{self, session_response::Message};
use std::collections::BTreeSet;
use tracing::warn;

impl<J: Journal> DeskTask<J> {
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Answer { request, answer } => self.answer(request, answer),
            Action::Lease { worker, shard } => {
                self.meters.leased();
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
            Action::Damaged { worker, reason } => {
                warn!(%worker, reason, "a partial cannot be used: it is computed again")
            }
            Action::Merge { job, number, node, partials } => self.spawn_merge(job, number, node, partials),
            Action::Reduce { job, generation, committed } => self.spawn_reduction(job, generation, committed),
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
