//! Puts the parts together: `run(config, listener, stop)`.

use crate::access::{self, Acceptor, Bindings, Gate, Quota, Refusals, Shares, TlsError, Tokens, TokensError};
use crate::artifacts::{OwnerError, Store, StoreError};
use crate::config::{Config, ConfigError};
use crate::event_loop::{CoordinatorHandle, EventLoop, JournalWait};
use crate::journal::{self, JournalError};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::page::{Page, PageToken};
use crate::service::{FoundBlobs, Sweeps, WorkerTransfers, Workers};
use crate::transfers::{PlaceSettings, TransferPlaces};
use nadgrid_core::numerics::ClassPatterns;
use nadgrid_core::places::PlaceBounds;
use nadgrid_core::scheduler::Scheduler;
use nadgrid_proto::DESCRIPTORS;
use nadgrid_proto::v1::sweep_service_server::SweepServiceServer;
use nadgrid_proto::v1::worker_service_server::WorkerServiceServer;
use nadgrid_telemetry::Tracer;
use std::collections::BTreeSet;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tracing::{info, warn};

/// How long open connections may take to end.
const GRACE: Duration = Duration::from_secs(5);
/// Streams that a peer may reset before they are looked at: more means an attack, and ends the connection.
const RESET_STREAMS: usize = 32;

/// The coordinator cannot start or had to end.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The data folder cannot be made.
    #[error("the data folder {path} cannot be made: {source}", path = path.display())]
    Folder {
        /// Path of the folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The artifact store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The artifact store is another journal's.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// The configuration contradicts itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The file of tokens cannot be used.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// The server failed.
    #[error("the server failed: {0}")]
    Server(#[from] tonic::transport::Error),
    /// A part of the server could not be built.
    #[error("reflection could not be set up: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Where people find the page of a coordinator that listens on `url`. Without access control it holds the word that lets the
/// page change anything.
///
/// # Errors
/// [`ServeError::Folder`] when the data folder does not take it.
pub fn page_address(config: &Config, url: &str) -> Result<String, ServeError> {
    let token = page_token(config)?;
    Ok(format!("{url}/{}", token.map_or(String::new(), |token| format!("#token={}", token.word()))))
}

/// Makes the data folder: what is in it is nobody else's. One that is there already is left as it is.
fn make_private(folder: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The page's own token, where there are no others.
fn page_token(config: &Config) -> Result<Option<PageToken>, ServeError> {
    if config.tokens.is_some() {
        return Ok(None);
    }
    let failed = |source| ServeError::Folder { path: config.data.clone(), source };
    make_private(&config.data).map_err(failed)?;
    // With TLS a browser has compared the name with the certificate's: nobody else can have made it mean this machine.
    let any_name = config.insecure || config.tls_certificate.is_some();
    PageToken::open(&config.data, any_name).map(Some).map_err(failed)
}

/// Serves on `listener` until `stop`; then ends the streams, lets requests finish and returns.
///
/// # Errors
/// [`ServeError`]. A journal that fails while serving ends the server: nothing could be acknowledged any more.
pub async fn run(
    config: Config,
    listener: TcpListener,
    stop: CancellationToken,
    tracer: Tracer,
) -> Result<(), ServeError> {
    // What is wrong with these files is reported before anything is touched.
    let mut doors = Doors::open(&config)?;
    let folder = |source| ServeError::Folder { path: config.data.clone(), source };
    make_private(&config.data).map_err(folder)?;
    doors.page_token = page_token(&config)?;
    let metrics = Metrics::install();
    tokio::spawn(stop.clone().run_until_cancelled_owned(metrics.clone().keep()));
    let patience = Duration::from_secs_f64(config.journal_patience);
    let journal = journal::open(&config.journal, &config.data, patience).await?;
    let store = Store::open(&config.artifacts, &config.data, &config.presign()?).await?;
    let scheduler = Scheduler::new(config.settings());
    let (task, desk) = EventLoop::open(scheduler, journal, store.clone(), config.reducers, tracer.clone()).await?;
    // Before anything is written to either: beside a wrong journal every artifact would be an orphan.
    store.claim(&desk.journal(), task.journal_name(), task.is_new(), config.adopt_artifacts).await?;
    // The desk outlives the server, so that requests in flight are still answered.
    let ended = CancellationToken::new();
    let desk_task = tokio::spawn({
        let (ended, stop) = (ended.clone(), stop.clone());
        async move {
            let result = task.run(ended).await;
            stop.cancel();
            result
        }
    });
    let found = Arc::new(FoundBlobs::new(Duration::from_secs_f64(config.orphan_age)));
    tokio::spawn(stop.clone().run_until_cancelled_owned(collect_orphans(
        desk.clone(),
        store.clone(),
        found.clone(),
        Duration::from_secs_f64(config.orphan_age),
    )));
    doors.journal = desk.journal_wait();
    let limits = &config.limits;
    let of_workers = WorkerTransfers {
        uploads: places_of_partials(&config),
        direct: places_of_direct(limits),
        reads: places_of_reads(limits),
    };
    let sweeps = Sweeps {
        desk: desk.clone(),
        store: store.clone(),
        sizing: config.settings().sizing,
        uploads: places_of_inputs(&config),
        found,
        of_workers: of_workers.clone(),
        stop: stop.clone(),
        limits: limits.clone(),
        reads: places_of_reads(limits),
        shares: doors.shares.clone(),
        quota: Arc::new(Quota::new(limits)),
        tracer: tracer.clone(),
    };
    let sweeps = Arc::new(sweeps);
    let page = Page::new(sweeps.clone(), desk.clone(), metrics);
    let workers = Workers {
        desk,
        store,
        heartbeat: Duration::from_secs_f64(config.heartbeat_seconds()),
        uploads: of_workers.uploads,
        direct: of_workers.direct,
        stop: stop.clone(),
        limits: limits.clone(),
        reads: of_workers.reads,
        shares: doors.shares.clone(),
        bindings: Arc::new(Bindings::default()),
        refusals: doors.refusals.clone(),
        classes: ClassPatterns::parse(&config.classes),
    };
    doors.tracer = tracer;
    let served = serve(sweeps, workers, page, doors, limits, listener, stop).await;
    ended.cancel();
    match desk_task.await {
        Ok(result) => result?,
        Err(panic) => warn!(%panic, "the task that owns the state panicked"),
    }
    served
}

/// Partials and checkpoints: those of one worker follow each other, so that a slow line carries one of them as fast as it can.
fn places_of_partials(config: &Config) -> TransferPlaces {
    let Limits { uploads_per_worker: each, upload_bytes: bytes, .. } = config.limits;
    TransferPlaces::new(PlaceBounds { places: config.uploads, each, bytes }, PlaceSettings::PARTIALS)
}

/// What workers put into the store themselves is not in memory here, so its size does not matter.
fn places_of_direct(limits: &Limits) -> TransferPlaces {
    let Limits { direct_uploads: places, uploads_per_worker: each, .. } = *limits;
    TransferPlaces::new(PlaceBounds { places, each, bytes: u64::MAX }, PlaceSettings::DIRECT)
}

fn places_of_inputs(config: &Config) -> TransferPlaces {
    let Limits { inputs_per_user: each, upload_bytes: bytes, .. } = config.limits;
    TransferPlaces::new(PlaceBounds { places: config.uploads, each, bytes }, PlaceSettings::INPUTS)
}

/// What is read is sent a piece at a time, so its size does not matter. One slow reader shall not have all places.
fn places_of_reads(limits: &Limits) -> TransferPlaces {
    let (places, each) = (limits.reads, limits.reads.div_ceil(2));
    TransferPlaces::new(PlaceBounds { places, each, bytes: u64::MAX }, PlaceSettings::READS)
}

/// Sets aside what nothing refers to any more, now and again.
async fn collect_orphans(desk: CoordinatorHandle, store: Store, found: Arc<FoundBlobs>, age: Duration) {
    loop {
        // Nothing is removed before somebody could have noticed that something is wrong.
        tokio::time::sleep(age).await;
        found.forget_old();
        let removal = store.removal();
        let needed = desk.query(|scheduler, _| scheduler.referenced().collect::<BTreeSet<_>>()).await;
        let Ok(needed) = needed else { return };
        if let Err(error) = store.note_owner(&desk.journal()).await {
            warn!(%error, "the artifact store does not take down whose it is");
            continue;
        }
        match removal.collect(&needed, age).await {
            Ok(0) => {}
            Ok(orphans) => info!(orphans, "artifacts that nothing refers to were set aside"),
            Err(error) => warn!(%error, "artifacts that nothing refers to could not all be set aside"),
        }
    }
}

/// What stands between the network and the services.
struct Doors {
    tls: Option<Arc<Acceptor>>,
    tokens: Arc<Tokens>,
    shares: Arc<Shares>,
    refusals: Arc<Refusals>,
    page_token: Option<PageToken>,
    tracer: Tracer,
    journal: watch::Receiver<Option<JournalWait>>,
}

impl Doors {
    fn open(config: &Config) -> Result<Self, ServeError> {
        let tls = config.tls()?.map(Acceptor::open).transpose()?.map(Arc::new);
        let tokens = Arc::new(Tokens::open(config.tokens.as_deref())?);
        let shares = Arc::new(Shares::new(&config.limits));
        let (_, journal) = watch::channel(None);
        Ok(Self { tls, tokens, shares, refusals: Arc::default(), page_token: None, tracer: Tracer::off(), journal })
    }
}

async fn serve(
    sweeps: Arc<Sweeps>,
    workers: Workers,
    page: Page,
    doors: Doors,
    limits: &Limits,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let Doors { tls, tokens, shares, refusals, page_token, tracer, journal } = doors;
    tokio::spawn(access::refresh(tokens.clone(), stop.clone()));
    if let Some(tls) = &tls {
        tokio::spawn(tls.clone().refresh(stop.clone()));
    }
    // Serving even while the journal cannot write: questions are answered then, what waits goes on afterwards, and a supervisor
    // that restarted the coordinator for it would only take the answers away. A journal that stays away ends it by itself.
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<SweepServiceServer<Sweeps>>().await;
    health.set_serving::<WorkerServiceServer<Workers>>().await;
    // v1 for today's tools, v1alpha for those that still ask for it.
    let reflection = || {
        let builder = tonic_reflection::server::Builder::configure();
        let builder = builder.register_encoded_file_descriptor_set(DESCRIPTORS);
        builder.register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let gate = Gate { tokens, shares, refusals: refusals.clone(), limits: limits.clone(), page_token, tracer, journal };
    let routes = Routes::from(page.router())
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(SweepServiceServer::from_arc(sweeps).max_decoding_message_size(limits.message_bytes))
        .add_service(WorkerServiceServer::new(workers).max_decoding_message_size(limits.message_bytes));
    let keepalive = Some(Duration::from_secs_f64(limits.keepalive_seconds));
    let server = Server::builder()
        .max_concurrent_streams(limits.streams_per_connection)
        .http2_max_header_list_size(limits.header_bytes)
        .http2_max_pending_accept_reset_streams(Some(RESET_STREAMS))
        .initial_connection_window_size(limits.window_bytes)
        .initial_stream_window_size(limits.window_bytes)
        .http2_keepalive_interval(keepalive)
        .http2_keepalive_timeout(keepalive)
        // Browsers speak it where there is no TLS.
        .accept_http1(true)
        .layer(gate.layer())
        .add_routes(routes);
    let incoming = access::accept(listener, tls, limits, refusals, stop.clone());
    let serving = server.serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    tokio::select! {
        served = serving => Ok(served?),
        () = async { stop.cancelled().await; tokio::time::sleep(GRACE).await } => {
            warn!("connections that did not end in time are dropped");
            Ok(())
        }
    }
}
