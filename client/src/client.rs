//! A connection to a coordinator, and the calls that are answered at once.
//!
//! Absent: retries (only [`Client::watch`] tries again by itself), and any state besides the connection.

use crate::bounded::BoundedChannel;
use crate::error::{Error, said};
use crate::paths::is_plain_id;
use crate::untrusted::Untrusted;
use futures::stream::{BoxStream, StreamExt};
use nadgrid_core::scheduler::FairShare;
use nadgrid_core::spec::Inputs;
use nadgrid_presigned::DirectStore;
use nadgrid_proto::access::{AccessError, Bearer, Credentials, explain, root_cause};
use nadgrid_proto::convert::inputs_to_wire;
use nadgrid_proto::v1::sweep_service_client::SweepServiceClient;
use nadgrid_proto::v1::{
    CancelRequest, ExplainRequest, ExplainResponse, GetRequest, ListRequest, ListWorkersRequest, PauseRequest,
    PlanRequest, ResumeRequest, SubmitRequest, Sweep, VerifyRequest, VerifyResponse, Worker,
};
use nadgrid_telemetry::{TRACEPARENT, TraceContext};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status};

/// The plan of a sweep, as a coordinator gives it.
pub type Plan = nadgrid_proto::v1::PlanResponse;

/// The longest time that connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Until a call that is answered at once is given up: later than the coordinator gives it up (`request_seconds`), since the
/// coordinator says what it waits for.
const CALL_TIMEOUT: Duration = Duration::from_secs(40);
/// Until the whole of such an answer must be there: one that begins and never ends is no answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(45);
/// Between signs of life, and until a missing one means that the connection is dead.
const KEEP_ALIVE: Duration = Duration::from_secs(25);
/// Bytes that may be on their way to this client before it has taken them: a slow line must not look like silence.
const WINDOW: u32 = 256 << 10;
/// Largest message that is taken: a list of a thousand sweeps has a few MiB.
pub(crate) const MESSAGE_LIMIT: usize = 16 << 20;
/// Sweeps per page of a list.
const PAGE: u32 = 100;

/// The generated client, over a connection that carries the token.
pub(crate) type Service = SweepServiceClient<InterceptedService<BoundedChannel, OutgoingCall>>;

/// The address of a coordinator, and the credentials for it.
#[derive(Clone, Debug, Default)]
pub struct Address {
    /// For example `http://127.0.0.1:7400`; `http://` may be left out.
    pub url: String,
    /// The token and the certificates.
    pub credentials: Credentials,
    /// The span that every request is a part of, if there is one.
    pub trace: Option<TraceContext>,
}

/// The metadata of every request: the token, and the span that it is a part of.
#[derive(Clone, Debug)]
pub(crate) struct OutgoingCall {
    bearer: Bearer,
    traceparent: Option<MetadataValue<Ascii>>,
}

impl Interceptor for OutgoingCall {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let mut request = self.bearer.call(request)?;
        if let Some(traceparent) = &self.traceparent {
            request.metadata_mut().insert(TRACEPARENT, traceparent.clone());
        }
        Ok(request)
    }
}

impl From<&str> for Address {
    fn from(url: &str) -> Self {
        Self { url: url.to_owned(), ..Self::default() }
    }
}

impl From<&String> for Address {
    fn from(url: &String) -> Self {
        url.as_str().into()
    }
}

impl From<&Address> for Address {
    fn from(address: &Address) -> Self {
        address.clone()
    }
}

/// The facts that a coordinator reports about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// From the question to the answer.
    pub round_trip: Duration,
    /// The clock of the machine that answered, to the second; nothing when it does not say.
    pub clock: Option<SystemTime>,
    /// Its version; nothing while it has no sweep that this caller may see.
    pub version: Option<String>,
}

/// A coordinator. Cheap to clone; clones share the connection, which comes back by itself after a break.
#[derive(Clone, Debug)]
pub struct Client {
    url: String,
    service: Service,
    /// The store that artifacts are in, where it is shared.
    store: Arc<DirectStore>,
}

impl Client {
    /// Connects to the coordinator at an address: a URL, or an [`Address`] with credentials.
    ///
    /// # Errors
    /// [`Error::Address`], [`Error::Access`], [`Error::Unreachable`].
    pub async fn connect(to: impl Into<Address>) -> Result<Self, Error> {
        let Address { url, credentials, trace } = to.into();
        let url = normalised(&url)?;
        let endpoint = credentials.endpoint(&url).map_err(|problem| match problem {
            AccessError::Address(reason) => Error::Address { url: url.clone(), reason },
            other => Error::Access(other),
        })?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .tcp_nodelay(true);
        let unreachable = |e: tonic::transport::Error| {
            let reason = said(&explain(&root_cause(&e)));
            Error::Unreachable { url: url.clone(), reason }
        };
        let channel = endpoint.connect().await.map_err(unreachable)?;
        let traceparent = trace.and_then(|trace| trace.to_string().parse().ok());
        let outgoing = OutgoingCall { bearer: credentials.bearer(), traceparent };
        let service = SweepServiceClient::with_interceptor(BoundedChannel(channel), outgoing);
        let service = service.max_decoding_message_size(MESSAGE_LIMIT);
        Ok(Self { url, service, store: Arc::default() })
    }

    /// The coordinator's address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The generated client, for one call.
    pub(crate) fn service(&self) -> Service {
        self.service.clone()
    }

    /// The way to artifacts past the coordinator.
    pub(crate) fn store(&self) -> &DirectStore {
        &self.store
    }

    /// A status of this coordinator as an error.
    #[allow(clippy::needless_pass_by_value, reason = "for map_err")]
    pub(crate) fn error(&self, status: Status) -> Error {
        Error::from_status(&self.url, &status)
    }

    /// A message of this coordinator, made harmless, or its status as an error. Every word of a coordinator enters here.
    pub(crate) fn received<T: Untrusted>(&self, message: Result<T, Status>) -> Result<T, Error> {
        let mut message = message.map_err(|status| self.error(status))?;
        message.clean();
        Ok(message)
    }

    /// The same of a call that is answered at once or not at all.
    async fn answer<T: Untrusted>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<Response<T>, Error> {
        let late = |_| Err(Status::unavailable(format!("no complete answer within {ANSWER_TIMEOUT:.0?}")));
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, call).await.unwrap_or_else(late);
        let mut response = answered.map_err(|status| self.error(status))?;
        response.get_mut().clean();
        Ok(response)
    }

    /// The sweep that a call about the sweep `id` is answered with.
    async fn sweep(
        &self,
        id: &str,
        call: impl Future<Output = Result<Response<Sweep>, Status>>,
    ) -> Result<Sweep, Error> {
        of_sweep(id, self.answer(call).await?.into_inner())
    }

    /// Estimates what the spec (TOML) with these files will take on the coordinator's workers, without running it. The files need not be
    /// uploaded.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Unreachable`].
    pub async fn plan(&self, spec: &str, inputs: &Inputs) -> Result<Plan, Error> {
        let request = timed(PlanRequest { spec: spec.into(), inputs: inputs_to_wire(inputs) });
        Ok(self.answer(self.service().plan(request)).await?.into_inner())
    }

    /// Submits a spec (TOML) with its files, which were uploaded before. The same key, spec and files give the sweep that was
    /// submitted first, so a call whose answer was lost can be repeated. Also tells whether this call created the sweep.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::InputMissing`], [`Error::Unreachable`], [`Error::Coordinator`] for a key that was used with
    /// another spec.
    pub async fn submit(
        &self,
        spec: &str,
        key: &str,
        inputs: &Inputs,
        share: FairShare,
    ) -> Result<(Sweep, bool), Error> {
        let inputs = inputs_to_wire(inputs);
        let FairShare { priority, weight } = share;
        let request = timed(SubmitRequest { spec: spec.into(), idempotency_key: key.into(), inputs, priority, weight });
        let response = self.answer(self.service().submit(request)).await?.into_inner();
        let sweep =
            response.sweep.ok_or_else(|| Error::Contract("the answer to the submission has no sweep".into()))?;
        // Scripts put it into commands.
        if !is_plain_id(&sweep.id) {
            let accepted = "1 to 64 letters, digits, `-`, `_` or `.`, the first of them a letter or a digit";
            return Err(Error::Contract(format!("the new sweep's id is {:?}; an id is {accepted}", sweep.id)));
        }
        Ok((sweep, response.created))
    }

    /// One sweep as it stands.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unreachable`].
    pub async fn get(&self, id: &str) -> Result<Sweep, Error> {
        let request = timed(GetRequest { sweep_id: id.into() });
        self.sweep(id, self.service().get(request)).await
    }

    /// Whether the coordinator answers this caller, how fast, and what it tells of itself.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::Unreachable`].
    pub async fn probe(&self) -> Result<Probe, Error> {
        let request = timed(ListRequest { page_size: 1, page_token: String::new() });
        let asked = Instant::now();
        let answer = self.answer(self.service().list(request)).await?;
        let round_trip = asked.elapsed();
        let date = answer.metadata().get("date").and_then(|date| date.to_str().ok());
        let clock = date.and_then(|date| httpdate::parse_http_date(date).ok());
        let version = answer.into_inner().sweeps.pop().map(|sweep| sweep.coordinator_version);
        Ok(Probe { round_trip, clock, version: version.filter(|version| !version.is_empty()) })
    }

    /// The newest sweeps, at most `most`.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn list(&self, most: usize) -> Result<Vec<Sweep>, Error> {
        Ok(self.list_with_notices(most).await?.0)
    }

    /// The newest sweeps, at most `most`, and what the coordinator itself waits for.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn list_with_notices(&self, most: usize) -> Result<(Vec<Sweep>, Vec<String>), Error> {
        let mut sweeps = Vec::new();
        let mut notices = Vec::new();
        let mut page_token = String::new();
        while sweeps.len() < most {
            let page_size = u32::try_from(most - sweeps.len()).unwrap_or(PAGE).min(PAGE);
            let request = timed(ListRequest { page_size, page_token });
            let page = self.answer(self.service().list(request)).await?.into_inner();
            let is_empty = page.sweeps.is_empty();
            sweeps.extend(page.sweeps.into_iter().take(page_size as usize));
            notices = page.notices;
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
            // Each page brings the end nearer.
            if is_empty {
                return Err(Error::Contract("a page of the list is empty, but another is announced".into()));
            }
        }
        sweeps.truncate(most);
        Ok((sweeps, notices))
    }

    /// Cancels a sweep and gives it as it then stands; cancelling an ended sweep changes nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unreachable`].
    pub async fn cancel(&self, id: &str) -> Result<Sweep, Error> {
        let request = timed(CancelRequest { sweep_id: id.into() });
        self.sweep(id, self.service().cancel(request)).await
    }

    /// Gives out no more shards of a sweep, and gives it as it then stands.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unreachable`].
    pub async fn pause(&self, id: &str) -> Result<Sweep, Error> {
        let request = timed(PauseRequest { sweep_id: id.into() });
        self.sweep(id, self.service().pause(request)).await
    }

    /// Goes on with a paused sweep, and gives it as it then stands.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unreachable`].
    pub async fn resume(&self, id: &str) -> Result<Sweep, Error> {
        let request = timed(ResumeRequest { sweep_id: id.into() });
        self.sweep(id, self.service().resume(request)).await
    }

    /// Explains where a sweep, a job of it or a block of that stands, and why it does not run.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Coordinator`] for a job or block that the sweep does not have, [`Error::Unreachable`].
    pub async fn explain(&self, id: &str, job: Option<u32>, block: Option<u64>) -> Result<ExplainResponse, Error> {
        let request = timed(ExplainRequest { sweep_id: id.into(), job, block });
        Ok(self.answer(self.service().explain(request)).await?.into_inner())
    }

    /// Has the shards computed again that hold `sample` random blocks of a complete sweep; a response before the first of
    /// them, then one for each.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Coordinator`] for a sweep that is not complete, [`Error::Unreachable`].
    pub async fn verify(
        &self,
        id: &str,
        sample: u32,
        seed: u64,
    ) -> Result<BoxStream<'static, Result<VerifyResponse, Error>>, Error> {
        let request = Request::new(VerifyRequest { sweep_id: id.into(), sample, seed });
        let responses = self.service().verify(request).await.map_err(|s| self.error(s))?.into_inner();
        let client = self.clone();
        Ok(responses.map(move |response| client.received(response)).boxed())
    }

    /// The workers the coordinator knows.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn workers(&self) -> Result<Vec<Worker>, Error> {
        Ok(self.workers_with_notices().await?.0)
    }

    /// The workers the coordinator knows, and what it itself waits for.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn workers_with_notices(&self) -> Result<(Vec<Worker>, Vec<String>), Error> {
        let request = timed(ListWorkersRequest {});
        let response = self.answer(self.service().list_workers(request)).await?.into_inner();
        Ok((response.workers, response.notices))
    }
}

/// The sweep, if it is the one that was asked for.
pub(crate) fn of_sweep(id: &str, sweep: Sweep) -> Result<Sweep, Error> {
    if sweep.id == id {
        return Ok(sweep);
    }
    Err(Error::Contract(format!("sweep {id} was requested, but {:?} was received", sweep.id)))
}

/// A request that is answered at once or not at all.
fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

/// The address with its scheme.
fn normalised(url: &str) -> Result<String, Error> {
    let refuse = |reason: &str| Err(Error::Address { url: url.into(), reason: reason.into() });
    match url.split_once("://") {
        _ if url.trim().is_empty() => refuse("it is empty"),
        None => Ok(format!("http://{url}")),
        Some(("http" | "https", rest)) if !rest.is_empty() => Ok(url.into()),
        Some(_) => refuse("expected http://HOST:PORT or https://HOST:PORT"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood_or_refused_with_a_reason() {
        assert_eq!(normalised("127.0.0.1:7400").unwrap(), "http://127.0.0.1:7400");
        assert_eq!(normalised("http://host:1").unwrap(), "http://host:1");
        assert_eq!(normalised("https://host:1").unwrap(), "https://host:1");
        for (url, word) in
            [("https://", "https://HOST"), ("ftp://host", "http://HOST"), ("", "empty"), ("http://", "HOST")]
        {
            assert!(normalised(url).unwrap_err().to_string().contains(word), "{url}");
        }
    }

    #[test]
    fn another_sweep_than_the_one_asked_for_is_refused() {
        let sweep = |id: &str| Sweep { id: id.into(), ..Sweep::default() };
        assert_eq!(of_sweep("s-1", sweep("s-1")).unwrap().id, "s-1");
        let error = of_sweep("s-1", sweep("s-2")).unwrap_err().to_string();
        assert!(error.contains("sweep s-1 was requested, but \"s-2\" was received"), "{error}");
    }

    #[tokio::test]
    async fn a_coordinator_that_is_not_there_is_unreachable_in_one_line() {
        // A port that was free a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let error = Client::connect(format!("http://127.0.0.1:{port}").as_str()).await.unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
        let line = error.to_string();
        assert!(line.contains("Connection refused") && !line.contains('\n'), "{line}");
        let error = Client::connect("http://a b").await.unwrap_err();
        assert!(matches!(error, Error::Address { .. }), "{error:?}");
    }
}
