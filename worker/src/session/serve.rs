//! Serving one connection: heartbeats, news and goodbye one way, assignments and revocations the other.

use super::{End, MOMENT, Open, Session, request};
use crate::board::Task;
use nadgrid_proto::v1;
use nadgrid_proto::v1::session_request::Message as Request;
use nadgrid_proto::v1::session_response::Message as Response;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// How often progress is told at most.
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
        let mut last = v1::Assignment::default();
        let mut draining_told = false;
        while sent.is_ok() {
            sent = tokio::select! {
                () = self.leaving() => return self.leave(open).await,
                () = self.stop.draining(), if !draining_told => {
                    draining_told = true;
                    send(&open.requests, Request::Draining(v1::Draining {}))
                }
                response = open.responses.message() => match response {
                    Ok(Some(response)) => {
                        self.receive(response, &mut last);
                        Ok(())
                    }
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

    fn receive(&self, response: v1::SessionResponse, last: &mut v1::Assignment) {
        match response.message {
            Some(Response::Assignment(mut assignment)) => {
                complete(&mut assignment, last);
                let v1::Assignment { shard, spec, architecture, experiment, inputs, traceparent } = assignment;
                let Some(shard) = shard else { return };
                let job = format!("{experiment}/{architecture}");
                tracing::debug!(sweep = shard.sweep_id, job, blocks = ?shard.range(), "assigned");
                self.board.assign(Task::new(shard, spec, job, inputs).traced(&traceparent));
            }
            Some(Response::Revocation(v1::Revocation { shard: Some(shard), reason })) => {
                let held = self.board.revoke(&shard);
                tracing::debug!(sweep = shard.sweep_id, blocks = ?shard.range(), held, "revoked: {reason}");
            }
            Some(Response::Answer(answer)) => self.board.answered(&answer),
            // A second welcome changes nothing; what a newer coordinator says besides is not for us.
            other => tracing::debug!("ignored {other:?}"),
        }
    }

    /// Gives back what is not computed, lets results go out, and says goodbye.
    async fn leave(&self, open: Open) -> End {
        let Open { requests, mut responses, .. } = open;
        // A failure that nothing can follow is told all the same.
        let _ = self.tell(&requests, false);
        self.board.close();
        let answers = async {
            let mut last = v1::Assignment::default();
            while let Ok(Some(response)) = responses.message().await {
                self.receive(response, &mut last);
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

/// Fills in what an assignment leaves out because it is of the same job as the one before it.
fn complete(assignment: &mut v1::Assignment, last: &mut v1::Assignment) {
    if assignment.spec.is_empty() {
        let checkpoint = std::mem::take(&mut assignment.inputs);
        let traceparent = std::mem::take(&mut assignment.traceparent);
        *assignment = v1::Assignment { shard: assignment.shard.take(), traceparent, ..last.clone() };
        assignment.inputs.extend(checkpoint);
        return;
    }
    last.clone_from(assignment);
    last.inputs.retain(|input| input.role != "checkpoint");
}

fn send(requests: &mpsc::Sender<v1::SessionRequest>, message: Request) -> Result<(), String> {
    requests.try_send(request(message)).map_err(|error| match error {
        mpsc::error::TrySendError::Full(_) => "it reads no messages".to_owned(),
        mpsc::error::TrySendError::Closed(_) => "the connection is closed".to_owned(),
    })
}
