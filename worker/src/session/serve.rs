//! Serving one connection: heartbeats, reports and the goodbye are sent, assignments and revocations received.

use super::received::cleaned;
use super::{ConnectionEnd, MOMENT, OpenConnection, WorkerSession, request};
use crate::shard::{InputFile, ShardKey};
use crate::task::Task;
use nadgrid_proto::v1;
use nadgrid_proto::v1::session_request::Message as Request;
use nadgrid_proto::v1::session_response::Message as Response;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// The shortest time between two reports of progress.
const PROGRESS: Duration = Duration::from_millis(200);

impl WorkerSession {
    /// Serves a connection until it breaks or the worker is asked to stop.
    pub(super) async fn serve(&self, mut open: OpenConnection) -> ConnectionEnd {
        let mut heartbeat = interval(open.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut progress = interval(PROGRESS);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // This session has been told nothing yet, whatever an earlier one was.
        let mut sent = self.report(&open.requests, false);
        let mut last = LastJob::default();
        let mut draining_sent = false;
        while sent.is_ok() {
            sent = tokio::select! {
                () = self.leaving() => return self.leave(open).await,
                () = self.stop.draining(), if !draining_sent => {
                    draining_sent = true;
                    send(&open.requests, Request::Draining(v1::Draining {}))
                }
                response = open.responses.message() => match response {
                    Ok(Some(response)) => self.receive(response, &mut last),
                    Ok(None) => return ConnectionEnd::Lost("it ended the session".to_owned()),
                    Err(status) => return ConnectionEnd::Lost(crate::endpoint::reason(&status)),
                },
                _ = heartbeat.tick() => send(&open.requests, Request::Heartbeat(v1::Heartbeat {})),
                _ = progress.tick() => self.report(&open.requests, true),
                () = self.tasks.has_news() => self.report(&open.requests, false),
            };
        }
        ConnectionEnd::Lost(sent.err().unwrap_or_default())
    }

    fn report(&self, requests: &mpsc::Sender<v1::SessionRequest>, progress: bool) -> Result<(), String> {
        self.tasks.reports(progress).into_iter().try_for_each(|report| send(requests, report.into()))
    }

    /// Acts on a message from the coordinator. An error is the reason to end the session.
    fn receive(&self, response: v1::SessionResponse, last: &mut LastJob) -> Result<(), String> {
        match cleaned(response) {
            Some(Response::Assignment(_)) if self.tasks.is_full() => {
                return Err(format!("it assigns more shards than a worker of {} slots holds", self.identity.slots));
            }
            Some(Response::Assignment(assignment)) => {
                let Some(task) = last.task(assignment) else { return Ok(()) };
                tracing::debug!(shard = %task, "assigned");
                self.tasks.assign(task);
            }
            Some(Response::Revocation(v1::Revocation { shard: Some(shard), reason })) => {
                let shard = ShardKey::from(shard);
                let held = self.tasks.revoke(&shard);
                tracing::debug!(sweep = %shard.job.sweep, blocks = ?shard.range(), held, "revoked: {reason}");
            }
            Some(Response::Answer(answer)) => {
                let is_refused = answer.verdict() == v1::Verdict::Refused;
                if let Some(shard) = answer.shard {
                    self.tasks.answered(&shard.into(), is_refused.then_some(&*answer.message));
                }
            }
            // A second welcome changes nothing, and a message without content is one that a newer coordinator knows.
            other => tracing::debug!("ignored {other:?}"),
        }
        Ok(())
    }

    /// Gives back what is not computed, lets results go out, and says goodbye.
    async fn leave(&self, open: OpenConnection) -> ConnectionEnd {
        let OpenConnection { requests, mut responses, .. } = open;
        // The last reports: a failure to send them changes nothing any more.
        let _ = self.report(&requests, false);
        self.tasks.close();
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
            tokio::select! { () = self.tasks.all_uploaded() => {}, () = answers => {} }
        };
        if timeout(self.last_uploads(), uploaded).await.is_err() {
            tracing::warn!("stopping before all results are uploaded; other workers will compute them again");
        }
        if send(&requests, Request::Goodbye(v1::Goodbye {})).is_ok() {
            drop(requests);
            // The coordinator ends the stream once it has read the goodbye.
            let _ = timeout(MOMENT, async { while let Ok(Some(_)) = responses.message().await {} }).await;
        }
        ConnectionEnd::Left
    }
}

/// The job of the last assignment. The next assignment of the same job does not repeat it.
#[derive(Default)]
struct LastJob {
    spec: Arc<str>,
    name: String,
    /// The files of every shard of the job: all but checkpoints.
    inputs: Vec<InputFile>,
}

impl LastJob {
    /// Makes the task of an assignment, if it names a shard. The text of the spec is shared, not copied for every shard.
    fn task(&mut self, assignment: v1::Assignment) -> Option<Task> {
        let v1::Assignment { shard, spec, architecture, experiment, inputs, traceparent } = assignment;
        let inputs = inputs.into_iter().map(InputFile::from);
        let (checkpoint, own): (Vec<_>, Vec<_>) = inputs.partition(InputFile::is_checkpoint);
        if !spec.is_empty() {
            *self = Self { spec: spec.into(), name: format!("{experiment}/{architecture}"), inputs: own };
        }
        let inputs = self.inputs.iter().cloned().chain(checkpoint).collect();
        Some(Task::new(shard?.into(), self.spec.clone(), self.name.clone(), inputs).traced(&traceparent))
    }
}

fn send(requests: &mpsc::Sender<v1::SessionRequest>, message: Request) -> Result<(), String> {
    requests.try_send(request(message)).map_err(|error| match error {
        mpsc::error::TrySendError::Full(_) => "it reads no messages".to_owned(),
        mpsc::error::TrySendError::Closed(_) => "the connection is closed".to_owned(),
    })
}
