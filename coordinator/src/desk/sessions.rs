//! Workers' sessions: what they say becomes events, and what they are told.

use super::handle::Outbox;
use super::timeline::Leased;
use super::{Asker, DeskTask};
use crate::journal::Journal;
use crate::log_throttle::LogThrottle;
use crate::partial;
use metrics::counter;
use nadgrid_core::MAX_INLINE_BYTES;
use nadgrid_core::ids::{Digest, JobIndex, SweepId, WorkerId};
use nadgrid_core::scheduler::{Event, Partial, PartialBytes, ShardRef, ShardStand, Verdict, WorkerProfile};
use nadgrid_core::text;
use nadgrid_proto::v1;
use nadgrid_proto::v1::session_request::Message as Request;
use nadgrid_proto::v1::session_response::Message as Response;
use nadgrid_telemetry::TraceContext;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::oneshot;
use tracing::field::display;
use tracing::{debug, info, warn};

/// A worker's own words are kept, but not at any length: characters.
const MAX_WORDS: usize = 2_000;

/// Characters that are repeated of what should be a digest, and bytes of a sweep's id.
const MAX_DIGEST: usize = 80;
const MAX_SWEEP_ID: usize = 100;

/// An open session.
pub(super) struct Session {
    number: u64,
    /// The worker's display name.
    name: Arc<str>,
    outbox: Outbox,
    /// The job of the last assignment: the next of the same job does not repeat its spec.
    last: Option<(SweepId, JobIndex)>,
    /// Its refused results in the log.
    refused: LogThrottle,
}

impl<J: Journal> DeskTask<J> {
    pub(super) fn attach(
        &mut self,
        worker: WorkerId,
        profile: WorkerProfile,
        held: &[v1::Shard],
        outbox: Outbox,
        reply: oneshot::Sender<u64>,
    ) -> Event {
        self.session_count += 1;
        let number = self.session_count;
        let name: Arc<str> = profile.name.as_str().into();
        self.sessions
            .insert(worker.clone(), Session { number, name, outbox, last: None, refused: LogThrottle::default() });
        reply.send(number).ok();
        info!(worker = %worker, name = %profile.name, class = %profile.class, lanes = profile.lanes, "worker joined");
        // Shards that do not exist are none of the scheduler's business.
        let held: Vec<ShardRef> = held.iter().filter_map(|shard| self.shard(shard)).collect();
        for shard in &held {
            // After a restart nothing is known of it, but its span has the same id.
            if !self.timelines.knows(shard, &worker) {
                self.note_lease(&worker, shard);
            }
        }
        Event::Join { worker, profile, held }
    }

    pub(super) fn detach(&mut self, worker: WorkerId, session: u64, drained: bool) -> Option<Event> {
        self.sessions.get(&worker).filter(|current| current.number == session)?;
        self.sessions.remove(&worker);
        counter!("nadgrid_workers_left_total", "how" => if drained { "drained" } else { "lost" }).increment(1);
        info!(worker = %worker, drained, "worker left");
        Some(Event::Leave { worker, drained })
    }

    /// The shard of a message, if there is such a one.
    pub(super) fn shard(&self, shard: &v1::Shard) -> Option<ShardRef> {
        let (sweep, job) = (SweepId::new(shard.sweep_id.as_str()), JobIndex(shard.job));
        let node = self.scheduler.node(&sweep, job, shard.range())?;
        Some(ShardRef { sweep, job, node })
    }

    /// What a worker says in its session, as an event. An older session's words are nothing to a newer one.
    pub(super) fn message(&mut self, worker: WorkerId, session: u64, message: Request) -> Option<Event> {
        self.sessions.get(&worker).filter(|current| current.number == session)?;
        match message {
            Request::Heartbeat(_) => Some(Event::Alive { worker }),
            Request::Draining(_) => Some(Event::Draining { worker }),
            Request::Progress(v1::Progress { shard, blocks_done, seconds, begin_seconds, fraction }) => {
                let stand = ShardStand { blocks_done, fraction, seconds, begin_seconds };
                Some(Event::Progress { worker, shard: self.shard(&shard?)?, stand })
            }
            Request::Computed(v1::Computed { shard }) => {
                let shard = self.shard(&shard?).filter(|shard| self.scheduler.holds(&worker, shard))?;
                self.timelines.computed(&shard, &worker);
                Some(Event::Computed { worker, shard })
            }
            Request::Failure(failure) => {
                let (kind, message) = (failure.kind().to_core(), text::clean(&failure.message, MAX_WORDS));
                let shard = self.shard(&failure.shard?).filter(|shard| self.scheduler.holds(&worker, shard))?;
                let trace_id = self.timelines.trace_id(&shard).map(display);
                warn!(%worker, ?kind, reason = message, trace_id, "a shard failed");
                counter!("nadgrid_shards_failed_total", "kind" => kind.as_str()).increment(1);
                self.gone(&shard, &worker, Some(&message));
                Some(Event::Failed { worker, shard, kind, message })
            }
            Request::Result(result) => self.result(worker, result),
            // Sessions end before these.
            Request::Hello(_) | Request::Goodbye(_) => None,
        }
    }

    /// A result that came in the session: looked at here, since it is small.
    fn result(&mut self, worker: WorkerId, mut result: v1::ShardResult) -> Option<Event> {
        let mut wire = result.shard?;
        if wire.sweep_id.len() > MAX_SWEEP_ID {
            // Of no sweep, and nothing to repeat.
            wire.sweep_id = text::clean(&wire.sweep_id, MAX_SWEEP_ID);
        }
        let refused =
            |message: String| v1::Answer { shard: Some(wire.clone()), verdict: v1::Verdict::Refused.into(), message };
        let known = self.shard(&wire).filter(|shard| self.scheduler.expects(shard));
        let taken = known.filter(|shard| self.scheduler.takes_report(&worker, shard) == Some(true));
        let Some(shard) = taken else {
            let verdict = v1::Verdict::NotNeeded.into();
            let answer = v1::Answer { shard: Some(wire), verdict, message: String::new() };
            self.send(&worker, Response::Answer(answer));
            return None;
        };
        self.timelines.told(&shard, &worker, std::mem::take(&mut result.steps));
        let (_, job, members) = self.scheduler.shard(&shard)?;
        let checked = match Digest::of(&result.data) {
            _ if result.data.len() > MAX_INLINE_BYTES => {
                Err(format!("data has {} bytes; more than {MAX_INLINE_BYTES} are uploaded", result.data.len()))
            }
            digest if digest.to_string() != result.digest => {
                Err(format!("digest = {:?}: the data's digest is {digest}", text::clean(&result.digest, MAX_DIGEST)))
            }
            digest => partial::check(&result.data, digest, job.payload, members),
        };
        let (content, class) = match (checked, result.numerics_class) {
            (Ok(content), Some(class)) => (content, class.into()),
            (refusal, _) => {
                let message = refusal.err().unwrap_or_else(|| "numerics_class is missing".to_owned());
                if let Some(unsaid) =
                    self.sessions.get_mut(&worker).and_then(|session| session.refused.is_news(Instant::now()))
                {
                    warn!(%worker, sweep = %shard.sweep, job = job.name(), reason = message, unsaid, "a result was refused");
                }
                self.send(&worker, Response::Answer(refused(message)));
                return None;
            }
        };
        let partial = Partial { bytes: PartialBytes::Inline(result.data.into()), content };
        let (seconds, begin_seconds) = (partial::seconds(result.seconds), partial::seconds(result.begin_seconds));
        let request = self.request(Asker::Session(worker.clone(), Box::new(shard.clone())));
        Some(Event::Report { request, worker, shard, class, partial, seconds, begin_seconds })
    }

    /// Answers a result that came in the session.
    pub(super) fn answer_result(&mut self, worker: &WorkerId, shard: &ShardRef, verdict: Verdict) {
        let message = match verdict {
            Verdict::Invalid => partial::INVALID.to_owned(),
            _ => String::new(),
        };
        let verdict = v1::Verdict::of(verdict).unwrap_or(v1::Verdict::Refused).into();
        let answer = v1::Answer { shard: self.wire_shard(shard), verdict, message };
        self.send(worker, Response::Answer(answer));
    }

    pub(super) fn wire_shard(&self, shard: &ShardRef) -> Option<v1::Shard> {
        self.scheduler.blocks(shard).map(|blocks| v1::Shard::of(&shard.sweep, shard.job, &blocks))
    }

    /// Takes down that the worker has the shard now; the lease's span.
    fn note_lease(&mut self, worker: &WorkerId, shard: &ShardRef) -> Option<TraceContext> {
        let (_, job, members) = self.scheduler.shard(shard)?;
        let (job, blocks) = (job.name(), self.scheduler.blocks(shard)?);
        let name = self.sessions.get(worker).map_or_else(|| "".into(), |session| session.name.clone());
        Some(self.timelines.leased(Leased { shard, job, blocks, members, worker, name }))
    }

    pub(super) fn send_assignment(&mut self, worker: &WorkerId, shard: &ShardRef) {
        let Some((_, job, _)) = self.scheduler.shard(shard) else { return };
        let (architecture, experiment) = (job.architecture.clone(), job.experiment.to_string());
        let traceparent = self.note_lease(worker, shard).map_or(String::new(), |context| {
            let trace_id = context.trace_id();
            debug!(worker = %worker, sweep = %shard.sweep, job = experiment, node = ?shard.node, %trace_id, "leased");
            context.to_string()
        });
        let of = (shard.sweep.clone(), shard.job);
        let known = self.sessions.get(worker).is_some_and(|session| session.last.as_ref() == Some(&of));
        let assignment = if known {
            let checkpoint = self.scheduler.checkpoint_of(shard);
            let inputs = checkpoint.iter().map(Into::into).collect();
            v1::Assignment { shard: self.wire_shard(shard), inputs, traceparent, ..v1::Assignment::default() }
        } else {
            v1::Assignment {
                shard: self.wire_shard(shard),
                spec: self.scheduler.spec_text(&shard.sweep).unwrap_or_default().to_owned(),
                architecture,
                experiment,
                inputs: self.scheduler.shard_inputs(shard).iter().map(Into::into).collect(),
                traceparent,
            }
        };
        if let Some(session) = self.sessions.get_mut(worker) {
            session.last = Some(of);
        }
        self.send(worker, Response::Assignment(assignment));
    }

    /// Sends without waiting. A worker that does not read loses its session, and with it its leases in time.
    pub(super) fn send(&mut self, worker: &WorkerId, message: Response) {
        let Some(session) = self.sessions.get(worker) else { return };
        if session.outbox.try_send(v1::SessionResponse { message: Some(message) }).is_err() {
            warn!(worker = %worker, "the worker does not read its messages: its session is closed");
            self.sessions.remove(worker);
        }
    }
}
