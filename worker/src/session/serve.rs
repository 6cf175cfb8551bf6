//! Serving one connection: heartbeats, news and goodbye one way, assignments and revocations the other.

use super::received::cleaned;
use super::{End, MOMENT, Open, Session, request};
use crate::board::Task;
use crate::compute;
use nadgrid_proto::v1;
use nadgrid_proto::v1::session_request::Message as Request;
use nadgrid_proto::v1::session_response::Message as Response;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Shortest time between two reports of progress.
const PROGRESS: Duration = Duration::from_millis(200);

impl Session {
    /// Serves a connection until it breaks or the worker is asked to stop.
    pub(super) async fn serve(&self, mut open: Open) -> End {
        let mut heartbeat = interval(open.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut progress = interval(PROGRESS);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // What an earlier session was told, this one was not.
        let mut sent = self.tell(&open.requests, false);
        let mut last = LastJob::default();
        let mut draining_told = false;
        while sent.is_ok() {
            sent = tokio::select! {
                () = self.leaving() => return self.leave(open).await,
                () = self.stop.draining(), if !draining_told => {
                    draining_told = true;
                    send(&open.requests, Request::Draining(v1::Draining {}))
                }
                response = open.responses.message() => match response {
                    Ok(Some(response)) => self.receive(response, &mut last),
                    Ok(None) => return End::Lost("it ended the session".to_owned()),
                    Err(status) => return End::Lost(crate::endpoint::reason(&status)),
                },
                _ = heartbeat.tick() => send(&open.requests, Request::Heartbeat(v1::Heartbeat {})),
                _ = progress.tick() => self.tell(&open.requests, true),
                () = self.board.has_news() => self.tell(&open.requests, false),
            };
        }
        End::Lost(sent.err().unwrap_or_default())
    }

    fn tell(&self, requests: &mpsc::Sender<v1::SessionRequest>, progress: bool) -> Result<(), String> {
        self.board.news(progress).into_iter().try_for_each(|news| send(requests, news))
    }

    /// Does what a message says; an error is the reason to end the session.
    fn receive(&self, response: v1::SessionResponse, last: &mut LastJob) -> Result<(), String> {
        match cleaned(response) {
            Some(Response::Assignment(_)) if self.board.is_full() => {
                return Err(format!("it assigns more shards than a worker of {} lanes holds", self.identity.lanes));
            }
            Some(Response::Assignment(assignment)) => {
                let Some(task) = last.task(assignment) else { return Ok(()) };
                let (shard, job) = (&task.shard, &task.job);
                tracing::debug!(sweep = shard.sweep_id, job, blocks = ?shard.range(), "assigned");
                self.board.assign(task);
            }
            Some(Response::Revocation(v1::Revocation { shard: Some(shard), reason })) => {
                let held = self.board.revoke(&shard);
                tracing::debug!(sweep = shard.sweep_id, blocks = ?shard.range(), held, "revoked: {reason}");
            }
            Some(Response::Answer(answer)) => self.board.answered(&answer),
            // A second welcome changes nothing; what a newer coordinator says besides is not for us.
            other => tracing::debug!("ignored {other:?}"),
        }
        Ok(())
    }

    /// Gives back what is not computed, lets results go out, and says goodbye.
    async fn leave(&self, open: Open) -> End {
        let Open { requests, mut responses, .. } = open;
        // A failure that nothing can follow is told all the same.
        let _ = self.tell(&requests, false);
        self.board.close();
        let answers = async {
            let mut last = LastJob::default();
            while let Ok(Some(response)) = responses.message().await {
                if self.receive(response, &mut last).is_err() {
                    break;
                }
            }
            std::future::pending::<()>().await;
        };
        let uploaded = async {
            tokio::select! { () = self.board.all_uploaded() => {}, () = answers => {} }
        };
        if timeout(self.last_uploads(), uploaded).await.is_err() {
            tracing::warn!("stopping before all results are uploaded; others will compute them again");
        }
        if send(&requests, Request::Goodbye(v1::Goodbye {})).is_ok() {
            drop(requests);
            // The coordinator ends the stream once it has read the goodbye.
            let _ = timeout(MOMENT, async { while let Ok(Some(_)) = responses.message().await {} }).await;
        }
        End::Left
    }
}

/// What the last assignment said of its job: the next of the same job leaves it out.
#[derive(Default)]
struct LastJob {
    spec: Arc<str>,
    name: String,
    /// The files of every shard of the job: all but checkpoints.
    inputs: Vec<v1::ShardInput>,
}

impl LastJob {
    /// The task of an assignment, if it names a shard. Its text is not copied for every shard.
    fn task(&mut self, assignment: v1::Assignment) -> Option<Task> {
        let v1::Assignment { shard, spec, architecture, experiment, inputs, traceparent } = assignment;
        let (own, checkpoint): (Vec<_>, Vec<_>) = inputs.into_iter().partition(|input| input.role != compute::ROLE);
        if !spec.is_empty() {
            *self = Self { spec: spec.into(), name: format!("{experiment}/{architecture}"), inputs: own };
        }
        let inputs = self.inputs.iter().cloned().chain(checkpoint).collect();
        Some(Task::new(shard?, self.spec.clone(), self.name.clone(), inputs).traced(&traceparent))
    }
}

fn send(requests: &mpsc::Sender<v1::SessionRequest>, message: Request) -> Result<(), String> {
    requests.try_send(request(message)).map_err(|error| match error {
        mpsc::error::TrySendError::Full(_) => "it reads no messages".to_owned(),
        mpsc::error::TrySendError::Closed(_) => "the connection is closed".to_owned(),
    })
}
