//! `SweepService`, the service for users.

use super::inputs::{self, FoundBlobs, InputUpload};
use super::receive::{Answers, converse};
use super::{MAX_REPEATED, beside, invalid, read, unexpected, unknown_sweep, unreadable, verify};
use crate::access::{Admitted, Caller, CallerQuotas, UploadQuota, authorise};
use crate::artifacts::Store;
use crate::event_loop::{CoordinatorHandle, Durable, ToldSweep, sweep_context};
use crate::limits::Limits;
use crate::transfers::{CallerTransfers, TransferOffer, TransferPlaces};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use nadgrid_core::cost::Sizing;
use nadgrid_core::ids::{JobIndex, SweepId};
use nadgrid_core::plan::Plan;
use nadgrid_core::scheduler::{Answer, Event, FairShare, Subject};
use nadgrid_core::spec::{Inputs, Spec};
use nadgrid_core::text;
use nadgrid_proto::convert::inputs_to_core;
use nadgrid_proto::status::{Reason, refused_spec};
use nadgrid_proto::v1::{self, sweep_service_server::SweepService};
use nadgrid_telemetry::{SpanKind, TraceContext, Tracer};
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::field::display;
use tracing::info;

/// The longest idempotency key, in bytes.
const MAX_KEY: usize = 200;
/// The number of sweeps on a page, unless the request asks for another.
const PAGE: u32 = 100;
const MAX_PAGE: u32 = 1000;
/// The bytes of the sweeps on a page: a client accepts messages of 4 MiB.
const PAGE_BYTES: usize = 2 << 20;
/// The most notices of a sweep.
const MAX_NOTICES: usize = 8;
/// The specs that are read and plans that are made at the same time; others wait. Each occupies a thread, and memory of many
/// times its size.
static PARSING: Semaphore = Semaphore::const_new(2);
/// The time between two checks of the transfers of a watched sweep.
const CHECK_EVERY: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(crate) struct Sweeps {
    pub(crate) coordinator: CoordinatorHandle,
    pub(crate) store: Store,
    pub(crate) sizing: Sizing,
    /// The places for uploads of files.
    pub(crate) uploads: TransferPlaces,
    /// Files that were uploaded again and that no sweep uses yet.
    pub(crate) found: Arc<FoundBlobs>,
    pub(crate) of_workers: WorkerTransfers,
    /// Ends the streams that would otherwise delay a shutdown.
    pub(crate) stop: CancellationToken,
    pub(crate) limits: Limits,
    /// The places for artifacts that are read.
    pub(crate) reads: TransferPlaces,
    pub(crate) quotas: Arc<CallerQuotas>,
    pub(crate) upload_quota: Arc<UploadQuota>,
    pub(crate) tracer: Tracer,
}

/// Parses and checks a spec, which takes a while if it is long.
async fn parse(spec: String) -> Result<Spec, Status> {
    // The semaphore is never closed.
    let _place = PARSING.acquire().await;
    let read = tokio::task::spawn_blocking(move || Spec::from_toml(&spec).map_err(|error| refused_spec(&error)));
    read.await.unwrap_or_else(|panic| Err(Reason::Internal.status(format!("the spec could not be read: {panic}"))))
}

fn files(inputs: Vec<v1::Input>) -> Result<Inputs, Status> {
    inputs_to_core(inputs).map_err(invalid)
}

impl Sweeps {
    /// Checks that a sweep exists and is the caller's.
    pub(crate) async fn own(&self, caller: &Caller, id: &SweepId) -> Result<(), Status> {
        let asked = id.clone();
        let owner = self.coordinator.read(move |durable| durable.owner(&asked)).await?;
        authorise(caller, &owner.ok_or_else(|| unknown_sweep(id.as_str()))?)
    }

    async fn view(&self, id: &SweepId) -> Result<v1::Sweep, Status> {
        let asked = id.clone();
        let told = self.coordinator.read(move |durable| durable.sweep(&asked)).await?;
        let told = told.ok_or_else(|| unknown_sweep(id.as_str()))?;
        Ok(self.with_notices((&told).into()))
    }

    /// Adds what delays the sweep's payloads.
    fn with_notices(&self, mut view: v1::Sweep) -> v1::Sweep {
        if is_open(&view) {
            view.notices.extend(self.of_workers.notices(&SweepId::new(view.id.as_str())));
            view.notices.truncate(MAX_NOTICES);
        }
        view
    }

    /// Passes items on until they end, the coordinator stops, or the caller's token is revoked.
    fn until_over<T: Send + 'static>(
        &self,
        items: impl Stream<Item = T> + Send + 'static,
        caller: &Caller,
    ) -> BoxStream<'static, Result<T, Status>> {
        let ended = Reason::ShuttingDown.status("the coordinator is shutting down");
        let stopped = stream::once(self.stop.clone().cancelled_owned()).map(move |()| Some(Err(ended.clone())));
        let items = items.map(|item| Some(Ok(item))).chain(stream::iter([None]));
        let merged = stream::select(items, stopped).take_while(|item| std::future::ready(item.is_some()));
        let revoked = caller.revoked.clone().cancelled_owned();
        merged.filter_map(std::future::ready).take_until(revoked).boxed()
    }

    async fn set_paused(&self, caller: &Caller, sweep_id: String, paused: bool) -> Result<Response<v1::Sweep>, Status> {
        let id = SweepId::new(sweep_id);
        self.own(caller, &id).await?;
        let sweep = id.clone();
        let answer = self.coordinator.order(move |request| Event::Pause { request, sweep, paused }).await?;
        self.view_after(&id, &answer).await
    }

    /// The sweep after an order was carried out.
    async fn view_after(&self, id: &SweepId, answer: &Answer) -> Result<Response<v1::Sweep>, Status> {
        match answer {
            Answer::Done => self.view(id).await.map(Response::new),
            Answer::UnknownSweep => Err(unknown_sweep(id.as_str())),
            other => Err(unexpected(other)),
        }
    }
}

/// Returns a sweep's share of the slots. A weight of 0 stands for 1.
fn share(priority: i32, weight: f64) -> Result<FairShare, Status> {
    let weight = if weight == 0.0 { 1.0 } else { weight };
    if !(-100..=100).contains(&priority) {
        return Err(invalid(format!("priority = {priority}: from -100 to 100")));
    }
    if !(0.01..=100.0).contains(&weight) {
        return Err(invalid(format!("weight = {weight}: from 0.01 to 100")));
    }
    Ok(FairShare { priority, weight })
}

#[tonic::async_trait]
impl SweepService for Sweeps {
    async fn plan(&self, request: Request<v1::PlanRequest>) -> Result<Response<v1::PlanResponse>, Status> {
        let v1::PlanRequest { spec, inputs } = request.into_inner();
        let spec = parse(spec).await?;
        let inputs = files(inputs)?;
        let precision = spec.precision;
        let found = self.coordinator.read(move |durable| durable.workforce(precision)).await?;
        let sizing = self.sizing;
        let _place = PARSING.acquire().await;
        let planned = tokio::task::spawn_blocking(move || {
            let plan = Plan::new(&spec, &inputs, &found.rates, &sizing, found.slots);
            v1::PlanResponse::of(&plan, found.workers)
        });
        let planned = planned.await;
        planned
            .map(Response::new)
            .map_err(|panic| Reason::Internal.status(format!("the plan could not be made: {panic}")))
    }

    type UploadInputStream = Answers<v1::UploadInputResponse>;

    async fn upload_input(
        &self,
        request: Request<Streaming<v1::UploadInputRequest>>,
    ) -> Result<Response<Self::UploadInputStream>, Status> {
        let sweeps = self.clone();
        converse::<InputUpload, _>(request, &self.limits, &self.stop, |admitted, receiver| async move {
            inputs::receive(&sweeps, &admitted, receiver).await
        })
    }

    async fn submit(&self, request: Request<v1::SubmitRequest>) -> Result<Response<v1::SubmitResponse>, Status> {
        let admitted = Admitted::of(&request)?;
        let trace = request.extensions().get::<TraceContext>().copied();
        let v1::SubmitRequest { spec, idempotency_key, inputs: given, priority, weight } = request.into_inner();
        if idempotency_key.len() > MAX_KEY {
            let message =
                format!("idempotency_key has {} bytes, at most {MAX_KEY} are accepted", idempotency_key.len());
            return Err(invalid(message));
        }
        let share = share(priority, weight)?;
        let spec = Box::new(parse(spec).await?);
        let given = files(given)?;
        // Files that are found in the store are kept there until the journal names them.
        let digests: Vec<_> = given.values().map(|input| input.digest).collect();
        let _leases = self.store.lease(digests).await;
        let inputs = inputs::resolve(&self.coordinator, &self.store, &admitted.caller, &spec, given).await?;
        let key = (!idempotency_key.is_empty()).then_some(idempotency_key);
        let id = SweepId::new(uuid::Uuid::now_v7().to_string());
        let name = spec.name.clone();
        let owner = admitted.caller.name.to_string();
        let used: Vec<_> = inputs.values().map(|input| input.digest).collect();
        let answer = self
            .coordinator
            .order(move |request| Event::Submit { request, id, owner, key, share, spec, inputs })
            .await?;
        match answer {
            Answer::Submitted { sweep, created } => {
                let trace_id = trace.map(|trace| display(trace.trace_id()));
                info!(%sweep, name, owner = %admitted.caller.name, created, trace_id, "submitted");
                if let Some(trace) = trace {
                    // The sweep has a trace of its own, because it may take days. This span links to it.
                    let mut span = self.tracer.span("submitted", SpanKind::Internal, Some(trace));
                    span.set("sweep.id", sweep.to_string());
                    span.link(sweep_context(&sweep, &self.tracer));
                }
                self.upload_quota.used(&admitted.caller, used);
                Ok(Response::new(v1::SubmitResponse { sweep: Some(self.view(&sweep).await?), created }))
            }
            Answer::KeyTaken { sweep } => {
                let message = format!("the idempotency key belongs to sweep {sweep}, whose spec differs");
                Err(Reason::KeyTaken.status(message))
            }
            Answer::TooManySweeps { limit, each } => {
                let whose = if each { " of yours" } else { "" };
                let message = format!("{limit} sweeps{whose} are open; no more are accepted until some have ended");
                Err(Reason::Full.status(message))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::Sweep>, Status> {
        let caller = Admitted::of(&request)?.caller;
        let id = SweepId::new(request.into_inner().sweep_id);
        self.own(&caller, &id).await?;
        self.view(&id).await.map(Response::new)
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Result<Response<v1::ListResponse>, Status> {
        let caller = Admitted::of(&request)?.caller;
        let v1::ListRequest { page_size, page_token } = request.into_inner();
        let limit = if page_size == 0 { PAGE } else { page_size.min(MAX_PAGE) } as usize;
        let before = match page_token.as_str() {
            "" => None,
            token => Some(token.parse().map_err(|_| {
                let token = text::clean(token, MAX_REPEATED);
                invalid(format!("page_token = {token:?}: not a token of a response"))
            })?),
        };
        let ask = move |durable: &mut Durable<'_>| {
            (durable.sweeps_before(before, limit + 1, |owner| caller.sees(owner)), durable.wait())
        };
        let (found, wait) = self.coordinator.read(ask).await?;
        let mut sweeps = Vec::new();
        let mut bytes = 0;
        let mut last = None;
        for (number, told) in found.iter().take(limit) {
            // Specs are long and not needed in a list.
            let view = v1::Sweep { spec: String::new(), ..self.with_notices(told.into()) };
            bytes += view.encoded_len();
            if bytes > PAGE_BYTES && !sweeps.is_empty() {
                break;
            }
            sweeps.push(view);
            last = Some(number);
        }
        let more = sweeps.len() < found.len();
        let next_page_token = last.filter(|_| more).map_or(String::new(), u64::to_string);
        let notices = wait.iter().map(ToString::to_string).collect();
        Ok(Response::new(v1::ListResponse { sweeps, next_page_token, notices }))
    }

    type WatchStream = BoxStream<'static, Result<v1::Sweep, Status>>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let admitted = Admitted::of(&request)?;
        let permits = self.quotas.watcher(&admitted)?;
        let id = request.into_inner().sweep_id;
        self.own(&admitted.caller, &SweepId::new(id.clone())).await?;
        let receiver = self.coordinator.follow(SweepId::new(id.clone())).await?.ok_or_else(|| unknown_sweep(&id))?;
        let watched = self.until_over(self.clone().changes(receiver), &admitted.caller);
        let watched = watched.map(move |item| {
            // The permits are given back with the stream.
            let _permits = &permits;
            item
        });
        Ok(Response::new(watched.boxed()))
    }

    async fn cancel(&self, request: Request<v1::CancelRequest>) -> Result<Response<v1::Sweep>, Status> {
        let caller = Admitted::of(&request)?.caller;
        let id = SweepId::new(request.into_inner().sweep_id);
        self.own(&caller, &id).await?;
        let sweep = id.clone();
        let answer = self.coordinator.order(move |request| Event::Cancel { request, sweep }).await?;
        self.view_after(&id, &answer).await
    }

    async fn pause(&self, request: Request<v1::PauseRequest>) -> Result<Response<v1::Sweep>, Status> {
        let caller = Admitted::of(&request)?.caller;
        self.set_paused(&caller, request.into_inner().sweep_id, true).await
    }

    async fn resume(&self, request: Request<v1::ResumeRequest>) -> Result<Response<v1::Sweep>, Status> {
        let caller = Admitted::of(&request)?.caller;
        self.set_paused(&caller, request.into_inner().sweep_id, false).await
    }

    async fn explain(&self, request: Request<v1::ExplainRequest>) -> Result<Response<v1::ExplainResponse>, Status> {
        let caller = Admitted::of(&request)?.caller;
        let v1::ExplainRequest { sweep_id, job, block } = request.into_inner();
        let subject = match (job.map(JobIndex), block) {
            (None, None) => Subject::Sweep,
            (Some(job), None) => Subject::Job(job),
            (Some(job), Some(block)) => Subject::Block(job, block),
            (None, Some(_)) => return Err(Reason::RequestInvalid.status("block: a block is one of a job; name it")),
        };
        let id = SweepId::new(sweep_id.as_str());
        self.own(&caller, &id).await?;
        let ask = move |durable: &mut Durable<'_>| (durable.is_known(&id), durable.explain(&id, subject));
        match self.coordinator.read(ask).await? {
            (_, Some(explanation)) => {
                let mut response = v1::ExplainResponse::from(explanation);
                let waits = self.of_workers.notices(&SweepId::new(sweep_id.as_str()));
                response.reasons.splice(0..0, waits);
                Ok(Response::new(response))
            }
            (false, None) => Err(unknown_sweep(&sweep_id)),
            (true, None) => {
                let message = format!("job = {job:?}, block = {block:?}: sweep {sweep_id} has no such job or block");
                Err(Reason::RequestInvalid.status(message))
            }
        }
    }

    type VerifyStream = BoxStream<'static, Result<v1::VerifyResponse, Status>>;

    async fn verify(&self, request: Request<v1::VerifyRequest>) -> Result<Response<Self::VerifyStream>, Status> {
        let caller = Admitted::of(&request)?.caller;
        let request = request.into_inner();
        self.own(&caller, &SweepId::new(request.sweep_id.as_str())).await?;
        let checks = verify::start(&self.coordinator, &self.store, request).await?;
        Ok(Response::new(self.until_over(checks, &caller)))
    }

    type ReadArtifactStream = BoxStream<'static, Result<v1::ReadArtifactResponse, Status>>;

    async fn read_artifact(
        &self,
        request: Request<v1::ReadArtifactRequest>,
    ) -> Result<Response<Self::ReadArtifactStream>, Status> {
        let admitted = Admitted::of(&request)?;
        let v1::ReadArtifactRequest { sweep_id, name, presigned } = request.into_inner();
        let id = SweepId::new(sweep_id.clone());
        let asked = name.clone();
        self.own(&admitted.caller, &id).await?;
        let ask = move |durable: &mut Durable<'_>| {
            let artifact = durable.artifacts(&id).into_iter().find(|artifact| artifact.name == asked);
            (durable.is_known(&id), artifact)
        };
        let found = self.coordinator.read(ask).await?;
        let artifact = match found {
            (false, _) => return Err(unknown_sweep(&sweep_id)),
            (true, None) => {
                let name = text::clean(&name, MAX_REPEATED);
                let message = format!("sweep {sweep_id} does not have an artifact {name:?} (yet)");
                return Err(Reason::ArtifactUnknown.status(message));
            }
            (true, Some(artifact)) => artifact,
        };
        if presigned && let Some(get) = beside::offer_read(&self.store, &self.limits, artifact.digest).await {
            let artifact = Some((&artifact).into());
            let answer = v1::ReadArtifactResponse { artifact, data: Vec::new(), get: Some(get) };
            return Ok(Response::new(stream::iter([Ok(answer)]).boxed()));
        }
        let offer = TransferOffer { caller: admitted.turn(), sweep: None, size: 0 };
        let ticket = read::place(&self.reads, offer).await;
        let blob = self.store.reader(artifact.digest).await;
        let blob = blob.map_err(|error| unreadable(&error, Reason::PayloadDamaged))?;
        let header = v1::ReadArtifactResponse { artifact: Some((&artifact).into()), data: Vec::new(), get: None };
        let wrap = |data| v1::ReadArtifactResponse { artifact: None, data, get: None };
        let reading = read::Reading { blob, ticket, reader: admitted, stop: self.stop.clone() };
        Ok(Response::new(reading.send(Some(header), wrap, &self.limits)))
    }

    async fn list_workers(
        &self,
        _: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        let (workers, wait) = self.coordinator.read(|durable| (durable.workers(), durable.wait())).await?;
        let notices = wait.iter().map(ToString::to_string).collect();
        let mut workers: Vec<v1::Worker> = workers.iter().map(Into::into).collect();
        self.of_workers.fill_in(&mut workers);
        Ok(Response::new(v1::ListWorkersResponse { workers, notices }))
    }
}

/// Whether a sweep has not ended.
fn is_open(view: &v1::Sweep) -> bool {
    matches!(view.state(), v1::SweepState::Queued | v1::SweepState::Running)
}

/// The transfers of workers in both directions.
#[derive(Clone)]
pub(crate) struct WorkerTransfers {
    pub(crate) uploads: TransferPlaces,
    pub(crate) direct: TransferPlaces,
    pub(crate) reads: TransferPlaces,
}

impl WorkerTransfers {
    /// Returns the reasons why payloads of a sweep are delayed.
    fn notices(&self, sweep: &SweepId) -> Vec<String> {
        [&self.uploads, &self.direct].iter().flat_map(|places| places.notices(sweep)).collect()
    }

    /// Fills in the transfers of each worker.
    pub(crate) fn fill_in(&self, workers: &mut [v1::Worker]) {
        let kinds = [&self.uploads, &self.direct, &self.reads].map(TransferPlaces::by_caller);
        for worker in workers {
            for transfers in kinds.iter().filter_map(|callers| callers.get(worker.id.as_str())) {
                let CallerTransfers { waiting, waited, moving, bytes_per_second } = *transfers;
                worker.transfers_waiting += waiting;
                worker.transfers_waiting_ms = worker.transfers_waiting_ms.max(waited.as_millis() as u64);
                worker.transfers += moving;
                worker.transfer_bytes_per_second += bytes_per_second;
            }
        }
    }
}

/// A sweep that is watched, and the version that was sent last.
struct WatchedSweep {
    sweeps: Sweeps,
    changes: watch::Receiver<Arc<ToldSweep>>,
    ticks: tokio::time::Interval,
    sent: Option<v1::Sweep>,
}

impl WatchedSweep {
    /// The next version to send; `None` when the sweep has ended or the coordinator stops.
    async fn next(&mut self) -> Option<v1::Sweep> {
        if self.sent.as_ref().is_some_and(|sent| !is_open(sent)) {
            return None;
        }
        loop {
            let is_new = match &self.sent {
                None => true,
                Some(_) => tokio::select! {
                    changed = self.changes.changed() => changed.map(|()| true).ok()?,
                    _ = self.ticks.tick() => false,
                },
            };
            let told = self.changes.borrow_and_update().clone();
            let view = self.sweeps.with_notices(v1::Sweep::from(&*told));
            // A sweep whose payloads wait may not change for long, but its notices do.
            if is_new || self.sent.as_ref().is_some_and(|sent| sent.notices != view.notices) {
                self.sent = Some(view.clone());
                return Some(view);
            }
        }
    }
}

impl Sweeps {
    /// The current version of the sweep, then every later one until it has ended.
    fn changes(self, changes: watch::Receiver<Arc<ToldSweep>>) -> impl Stream<Item = v1::Sweep> + Send {
        let mut ticks = tokio::time::interval(CHECK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let watched = WatchedSweep { sweeps: self, changes, ticks, sent: None };
        stream::unfold(watched, |mut watched| async move { watched.next().await.map(|view| (view, watched)) })
    }
}
