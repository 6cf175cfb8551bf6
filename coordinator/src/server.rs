//! Assembles the coordinator's parts and serves: `run(config, listener, stop, tracer)`.

use crate::access::{
    self, AuthLayer, AuthPolicy, CallerQuotas, PageToken, RejectionLog, ServerTls, TlsError, Tokens, TokensError,
    UploadQuota, WorkerBindings,
};
use crate::artifacts::{OwnerError, Store, StoreError};
use crate::config::{Config, ConfigError};
use crate::event_loop::{CoordinatorHandle, EventLoop, JournalWait};
use crate::journal::{self, JournalError};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::page::Page;
use crate::service::{FoundBlobs, SweepServer, Sweeps, WorkerServer, WorkerTransfers, Workers};
use crate::transfers::{PlaceSettings, TransferPlaces};
use nadgrid_core::numerics::ClassPatterns;
use nadgrid_core::places::PlaceBounds;
use nadgrid_core::scheduler::Scheduler;
use nadgrid_proto::DESCRIPTORS;
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

/// The time that open connections may take to end.
const GRACE: Duration = Duration::from_secs(5);
/// The number of streams that a peer may reset before they are accepted. More are an attack and end the connection.
const RESET_STREAMS: usize = 32;

/// The coordinator cannot start, or had to end.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The data folder cannot be created or written to.
    #[error("the data folder {path} cannot be created: {source}", path = path.display())]
    Folder {
        /// The folder's path.
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
    /// The artifact store belongs to another journal.
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
    /// Server reflection could not be set up.
    #[error("server reflection could not be set up: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// The address of the page of a coordinator that listens on `url`. Without access control it contains the token that lets
/// the page change something.
///
/// # Errors
/// [`ServeError::Folder`] if the token cannot be written to the data folder.
pub fn page_address(config: &Config, url: &str) -> Result<String, ServeError> {
    let token = page_token(config)?;
    Ok(format!("{url}/{}", token.map_or(String::new(), |token| format!("#token={}", token.word()))))
}

/// Creates the data folder, readable by its owner only. An existing folder is left as it is.
fn make_private(folder: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The page's own token, if there are no others.
fn page_token(config: &Config) -> Result<Option<PageToken>, ServeError> {
    if config.tokens.is_some() {
        return Ok(None);
    }
    let failed = |source| ServeError::Folder { path: config.data.clone(), source };
    make_private(&config.data).map_err(failed)?;
    // With TLS the browser has checked the name against the certificate, so nobody else can have pointed it at this machine.
    let any_name = config.insecure || config.tls_certificate.is_some();
    PageToken::open(&config.data, any_name).map(Some).map_err(failed)
}

/// Serves on `listener` until `stop`; then ends the streams, lets requests finish and returns.
///
/// # Errors
/// [`ServeError`]. A journal that fails while serving ends the server, because nothing could be acknowledged any more.
pub async fn run(
    config: Config,
    listener: TcpListener,
    stop: CancellationToken,
    tracer: Tracer,
) -> Result<(), ServeError> {
    // Errors in these files are reported before anything is changed.
    let mut access_parts = AccessParts::open(&config)?;
    let folder = |source| ServeError::Folder { path: config.data.clone(), source };
    make_private(&config.data).map_err(folder)?;
    access_parts.page_token = page_token(&config)?;
    let metrics = Metrics::install();
    tokio::spawn(stop.clone().run_until_cancelled_owned(metrics.clone().keep()));
    let patience = Duration::from_secs_f64(config.journal_patience);
    let journal = journal::open(&config.journal, &config.data, patience).await?;
    let store = Store::open(&config.artifacts, &config.data, &config.presign()?).await?;
    let scheduler = Scheduler::new(config.settings());
    let (task, coordinator) =
        EventLoop::open(scheduler, journal, store.clone(), config.reducers, tracer.clone()).await?;
    // This comes before anything is written to either: with a wrong journal every artifact would be an orphan.
    store.claim(&coordinator.journal(), task.journal_name(), task.is_new(), config.adopt_artifacts).await?;
    // The event loop outlives the server, so that requests in flight are still answered.
    let ended = CancellationToken::new();
    let loop_task = tokio::spawn({
        let ended = ended.clone();
        let stop = stop.clone();
        async move {
            let result = task.run(ended).await;
            stop.cancel();
            result
        }
    });
    let found = Arc::new(FoundBlobs::new(Duration::from_secs_f64(config.orphan_age)));
    tokio::spawn(stop.clone().run_until_cancelled_owned(collect_orphans(
        coordinator.clone(),
        store.clone(),
        found.clone(),
        Duration::from_secs_f64(config.orphan_age),
    )));
    access_parts.journal = coordinator.journal_wait();
    let limits = &config.limits;
    let of_workers = WorkerTransfers {
        uploads: places_of_partials(&config),
        direct: places_of_direct(limits),
        reads: places_of_reads(limits),
    };
    let sweeps = Sweeps {
        coordinator: coordinator.clone(),
        store: store.clone(),
        sizing: config.settings().sizing,
        uploads: places_of_inputs(&config),
        found,
        of_workers: of_workers.clone(),
        stop: stop.clone(),
        limits: limits.clone(),
        reads: places_of_reads(limits),
        quotas: access_parts.quotas.clone(),
        upload_quota: Arc::new(UploadQuota::new(limits)),
        tracer: tracer.clone(),
    };
    let sweeps = Arc::new(sweeps);
    let page = Page::new(sweeps.clone(), coordinator.clone(), metrics);
    let workers = Workers {
        coordinator,
        store,
        heartbeat: Duration::from_secs_f64(config.heartbeat_seconds()),
        uploads: of_workers.uploads,
        direct: of_workers.direct,
        stop: stop.clone(),
        limits: limits.clone(),
        reads: of_workers.reads,
        quotas: access_parts.quotas.clone(),
        bindings: Arc::new(WorkerBindings::default()),
        rejections: access_parts.rejections.clone(),
        classes: ClassPatterns::parse(&config.classes),
    };
    access_parts.tracer = tracer;
    let served = serve(sweeps, workers, page, access_parts, limits, listener, stop).await;
    ended.cancel();
    match loop_task.await {
        Ok(result) => result?,
        Err(panic) => warn!(%panic, "the coordinator's event loop panicked"),
    }
    served
}

/// Places for partials and checkpoints. By default a worker sends one at a time, so that a slow line carries it as fast as it can.
fn places_of_partials(config: &Config) -> TransferPlaces {
    let Limits { uploads_per_worker: each, upload_bytes: bytes, .. } = config.limits;
    TransferPlaces::new(PlaceBounds { places: config.uploads, each, bytes }, PlaceSettings::PARTIALS)
}

/// Places for partials that workers put into the store themselves. They are not in memory here, so their size does not matter.
fn places_of_direct(limits: &Limits) -> TransferPlaces {
    let Limits { direct_uploads: places, uploads_per_worker: each, .. } = *limits;
    TransferPlaces::new(PlaceBounds { places, each, bytes: u64::MAX }, PlaceSettings::DIRECT)
}

fn places_of_inputs(config: &Config) -> TransferPlaces {
    let Limits { inputs_per_user: each, upload_bytes: bytes, .. } = config.limits;
    TransferPlaces::new(PlaceBounds { places: config.uploads, each, bytes }, PlaceSettings::INPUTS)
}

/// Returns the places for readers. Payloads are sent in pieces, so their size does not matter. One slow reader cannot
/// take all places.
fn places_of_reads(limits: &Limits) -> TransferPlaces {
    let bounds = PlaceBounds { places: limits.reads, each: limits.reads.div_ceil(2), bytes: u64::MAX };
    TransferPlaces::new(bounds, PlaceSettings::READS)
}

/// Periodically sets aside the artifacts that nothing refers to.
async fn collect_orphans(coordinator: CoordinatorHandle, store: Store, found: Arc<FoundBlobs>, age: Duration) {
    loop {
        // Nothing is removed before somebody could have noticed a mistake.
        tokio::time::sleep(age).await;
        found.forget_old();
        let removal = store.removal();
        let needed = coordinator.query(|scheduler, _| scheduler.referenced().collect::<BTreeSet<_>>()).await;
        let Ok(needed) = needed else { return };
        if let Err(error) = store.note_owner(&coordinator.journal()).await {
            warn!(%error, "the owner of the artifact store could not be recorded");
            continue;
        }
        match removal.collect(&needed, age).await {
            Ok(0) => {}
            Ok(orphans) => info!(orphans, "artifacts that nothing refers to were set aside"),
            Err(error) => warn!(%error, "some artifacts that nothing refers to could not be set aside"),
        }
    }
}

/// The parts between the network and the services.
struct AccessParts {
    tls: Option<Arc<ServerTls>>,
    tokens: Arc<Tokens>,
    quotas: Arc<CallerQuotas>,
    rejections: Arc<RejectionLog>,
    page_token: Option<PageToken>,
    tracer: Tracer,
    journal: watch::Receiver<Option<JournalWait>>,
}

impl AccessParts {
    fn open(config: &Config) -> Result<Self, ServeError> {
        let tls = config.tls()?.map(ServerTls::open).transpose()?.map(Arc::new);
        let tokens = Arc::new(Tokens::open(config.tokens.as_deref())?);
        let quotas = Arc::new(CallerQuotas::new(&config.limits));
        let (_, journal) = watch::channel(None);
        Ok(Self { tls, tokens, quotas, rejections: Arc::default(), page_token: None, tracer: Tracer::off(), journal })
    }
}

async fn serve(
    sweeps: Arc<Sweeps>,
    workers: Workers,
    page: Page,
    access_parts: AccessParts,
    limits: &Limits,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let AccessParts { tls, tokens, quotas, rejections, page_token, tracer, journal } = access_parts;
    tokio::spawn(access::refresh(tokens.clone(), stop.clone()));
    if let Some(tls) = &tls {
        tokio::spawn(tls.clone().refresh(stop.clone()));
    }
    // The services are healthy even while the journal cannot write: reads are answered, the rest waits and continues
    // afterwards, and a supervisor that restarted the coordinator would only interrupt the reads. If the journal stays
    // unavailable, the coordinator ends by itself.
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<SweepServer>().await;
    health.set_serving::<WorkerServer>().await;
    // Current tools use v1, some older ones still v1alpha.
    let reflection = || {
        let builder = tonic_reflection::server::Builder::configure();
        let builder = builder.register_encoded_file_descriptor_set(DESCRIPTORS);
        builder.register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let policy = AuthPolicy {
        tokens,
        quotas,
        rejections: rejections.clone(),
        limits: limits.clone(),
        page_token,
        tracer,
        journal,
    };
    let routes = Routes::from(page.router())
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(SweepServer::from_arc(sweeps).max_decoding_message_size(limits.message_bytes))
        .add_service(WorkerServer::new(workers).max_decoding_message_size(limits.message_bytes));
    let keepalive = Some(Duration::from_secs_f64(limits.keepalive_seconds));
    let server = Server::builder()
        .max_concurrent_streams(limits.streams_per_connection)
        .http2_max_header_list_size(limits.header_bytes)
        .http2_max_pending_accept_reset_streams(Some(RESET_STREAMS))
        .initial_connection_window_size(limits.window_bytes)
        .initial_stream_window_size(limits.window_bytes)
        .http2_keepalive_interval(keepalive)
        .http2_keepalive_timeout(keepalive)
        // Browsers speak HTTP/1 if there is no TLS.
        .accept_http1(true)
        .layer(AuthLayer::new(policy))
        .add_routes(routes);
    let incoming = access::accept(listener, tls, limits, rejections, stop.clone());
    let serving = server.serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    tokio::select! {
        served = serving => Ok(served?),
        () = async { stop.cancelled().await; tokio::time::sleep(GRACE).await } => {
            warn!("connections that did not end in time are dropped");
            Ok(())
        }
    }
}
