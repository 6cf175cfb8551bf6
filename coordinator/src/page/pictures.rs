//! Pictures of a sweep's results so far, drawn on request by the code that draws the command line's.
//!
//! Their numbers come from the artifacts of complete jobs and the committed partials of the others.

use super::api::AdmittedExtension;
use super::{Page, json};
use crate::access::Admitted;
use crate::http_status::HttpError;
use crate::service;
use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header;
use nadgrid_core::architecture;
use nadgrid_core::ids::{JobIndex, SweepId};
use nadgrid_core::runs::{Outcome, from_bytes};
use nadgrid_core::scheduler::{ArtifactRef, Committed, JobRef, JobState, PartialBytes, StoredPartial, SweepView};
use nadgrid_core::spec::{Experiment, JobShape, Payload, Spec};
use nadgrid_figures::Theme;
use nadgrid_figures::npy::parse_vector;
use nadgrid_figures::sweep::{self, Files, MarginRow, Picture, PictureKind, Runs, Source, SweepError};
use nadgrid_proto::status::Reason;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

/// The number of pictures that are drawn at once; others wait.
const DRAWN_AT_ONCE: usize = 2;
/// The number of pictures that are kept.
const MAX_KEPT: usize = 96;

/// A cache of pictures, so that ten people who look at a sweep do not cause ten times the work.
pub(crate) struct Pictures {
    turns: Arc<Semaphore>,
    kept: Mutex<VecDeque<(PictureKey, Bytes)>>,
}

/// Identifies a picture, and the progress that it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PictureKey {
    sweep: SweepId,
    name: String,
    theme: Theme,
    format: ImageFormat,
    members_done: u64,
}

impl Default for Pictures {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(DRAWN_AT_ONCE)), kept: Mutex::default() }
    }
}

impl Pictures {
    fn kept(&self) -> MutexGuard<'_, VecDeque<(PictureKey, Bytes)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, key: &PictureKey) -> Option<Bytes> {
        self.kept().iter().find(|(known, _)| known == key).map(|(_, bytes)| bytes.clone())
    }

    fn keep(&self, key: PictureKey, bytes: Bytes) {
        let mut kept = self.kept();
        kept.push_back((key, bytes));
        if kept.len() > MAX_KEPT {
            kept.pop_front();
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ImageFormat {
    Svg,
    Png,
}

/// Splits a file's name into the picture's name and its format.
fn format(file: &str) -> Result<(&str, ImageFormat), Status> {
    let unknown = || Reason::RequestInvalid.status(format!("{file:?}: a picture ends with .svg or .png"));
    let (name, ending) = file.rsplit_once('.').ok_or_else(unknown)?;
    match ending {
        "svg" => Ok((name, ImageFormat::Svg)),
        "png" => Ok((name, ImageFormat::Png)),
        _ => Err(unknown()),
    }
}

/// A theme's name.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ThemeName {
    #[default]
    Light,
    Dark,
}

impl From<ThemeName> for Theme {
    fn from(name: ThemeName) -> Self {
        match name {
            ThemeName::Light => Self::Light,
            ThemeName::Dark => Self::Dark,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct ThemeQuery {
    #[serde(default)]
    theme: ThemeName,
}

/// A job of a sweep whose pictures are drawn.
struct PicturedJob {
    shape: JobShape,
    complete: bool,
    members_done: u64,
    committed: Option<Committed>,
}

impl PicturedJob {
    /// Whether a picture shows the runs of this job although it is not complete.
    fn is_shown(&self, picture: &Picture) -> bool {
        !self.complete && is_of(picture, &self.shape) && matches!(self.shape.payload, Payload::Runs { .. })
    }
}

/// A sweep whose pictures are drawn.
struct PicturedSweep {
    spec: Arc<Spec>,
    artifacts: Vec<ArtifactRef>,
    jobs: Vec<PicturedJob>,
}

/// Finds a sweep of the caller, with the committed partials of the jobs that `choice` picks.
async fn find(
    page: &Page,
    admitted: &Admitted,
    id: &SweepId,
    choice: impl Fn(&JobShape) -> bool + Send + 'static,
) -> Result<PicturedSweep, Status> {
    page.sweeps.own(&admitted.caller, id).await?;
    let asked = id.clone();
    let found = page.coordinator.read(move |durable| {
        let told = durable.sweep(&asked)?;
        let SweepView { spec, jobs, .. } = told.view().clone();
        let artifacts = durable.artifacts(&asked);
        let job = |(index, job): (usize, nadgrid_core::scheduler::JobView)| {
            let complete = job.state == JobState::Complete;
            let wanted = !complete && choice(&job.shape) && matches!(job.shape.payload, Payload::Runs { .. });
            let committed = wanted.then(|| durable.committed(&JobRef::new(&asked, JobIndex(index as u32)))).flatten();
            PicturedJob { shape: job.shape, complete, members_done: job.members_done, committed }
        };
        Some(PicturedSweep { spec, artifacts, jobs: jobs.into_iter().enumerate().map(job).collect() })
    });
    found.await?.ok_or_else(|| service::unknown_sweep(id.as_str()))
}

/// The numbers of the jobs that a picture shows.
#[derive(Default)]
struct Numbers {
    artifacts: Files,
    /// The runs so far of jobs that are not complete, by the job's name.
    runs: BTreeMap<String, Runs>,
    margins: BTreeMap<String, Vec<MarginRow>>,
}

impl Source for Numbers {
    fn artifact(&self, name: &str) -> Result<Cow<'_, [u8]>, SweepError> {
        let bytes = self.artifacts.get(name).ok_or_else(|| SweepError::Missing { name: name.to_owned() })?;
        Ok(Cow::Borrowed(bytes))
    }

    fn runs(&self, experiment: Experiment, architecture: &str) -> Result<Runs, SweepError> {
        match self.runs.get(&format!("{experiment}/{architecture}")) {
            Some(runs) => Ok(runs.clone()),
            None => self.artifacts.runs(experiment, architecture),
        }
    }

    fn margins(&self, architecture: &str) -> Result<Vec<MarginRow>, SweepError> {
        match self.margins.get(architecture) {
            Some(rows) => Ok(rows.clone()),
            None => self.artifacts.margins(architecture),
        }
    }
}

/// The stored bytes that a picture is drawn from.
#[derive(Default)]
struct StoredNumbers {
    artifacts: Files,
    partials: Vec<StoredRuns>,
}

/// A committed partial of a job that is not complete.
struct StoredRuns {
    /// The job's index in the sweep.
    job: usize,
    members: Range<u64>,
    bytes: Vec<u8>,
}

/// Reads the bytes that a picture is drawn from. A damaged partial is missing from the picture; a damaged artifact is an error.
async fn read(page: &Page, found: &PicturedSweep, picture: &Picture) -> Result<StoredNumbers, Status> {
    let mut stored = StoredNumbers::default();
    for (index, job) in found.jobs.iter().enumerate().filter(|(_, job)| job.is_shown(picture)) {
        let partials: Vec<StoredPartial> = job.committed.iter().flat_map(Committed::partials).collect();
        for StoredPartial { node, bytes } in partials {
            let bytes = match &bytes {
                PartialBytes::Inline(bytes) => bytes.to_vec(),
                // A lost partial is recomputed when the job is reduced; until then the picture has fewer runs.
                PartialBytes::Stored(digest) => page.sweeps.store.get(*digest).await.unwrap_or_default(),
            };
            let grid = &job.shape.grid;
            stored.partials.push(StoredRuns { job: index, members: grid.members(node.blocks(grid.blocks())), bytes });
        }
    }
    for name in picture.artifacts() {
        if let Some(artifact) = found.artifacts.iter().find(|artifact| artifact.name == name) {
            let bytes = page.sweeps.store.get(artifact.digest).await;
            stored.artifacts.insert(name, bytes.map_err(|error| Reason::StoreUnavailable.status(error.to_string()))?);
        }
    }
    Ok(stored)
}

impl Numbers {
    /// Decodes the stored bytes, which may take a while if there are many runs.
    fn of(found: &PicturedSweep, picture: &Picture, stored: StoredNumbers) -> Self {
        let mut outcomes: BTreeMap<usize, Vec<(u64, Outcome)>> = BTreeMap::new();
        for StoredRuns { job, members, bytes } in stored.partials {
            let Payload::Runs { extra, .. } = found.jobs[job].shape.payload else { continue };
            let runs = from_bytes(&bytes, members.end - members.start, extra).unwrap_or_default();
            outcomes.entry(job).or_default().extend(members.zip(runs));
        }
        let mut numbers = Self { artifacts: stored.artifacts, ..Self::default() };
        for (index, job) in found.jobs.iter().enumerate().filter(|(_, job)| job.is_shown(picture)) {
            let outcomes = outcomes.remove(&index).unwrap_or_default();
            let JobShape { experiment, architecture, grid, .. } = &job.shape;
            let pairs = outcomes.iter().map(|(member, outcome)| (*member, outcome));
            let runs = Runs::new(&found.spec, *experiment, architecture, pairs, grid.networks);
            if *experiment == Experiment::Margins {
                let rows = MarginRow::of_runs(&found.spec, outcomes.iter().map(|(_, outcome)| outcome));
                numbers.margins.insert(architecture.clone(), rows);
            }
            numbers.runs.insert(job.shape.name(), runs);
        }
        numbers
    }
}

fn is_of(picture: &Picture, shape: &JobShape) -> bool {
    picture.experiment == shape.experiment && picture.architectures.contains(&shape.architecture)
}

#[derive(Serialize)]
struct ListedPicture {
    name: String,
    title: String,
    kind: PictureKind,
    /// The job, if the picture shows only one.
    job: Option<String>,
    complete: bool,
    members_done: u64,
}

#[derive(Serialize)]
struct PictureList {
    pictures: Vec<ListedPicture>,
}

/// The pictures that can be drawn now.
pub(super) async fn list(
    State(page): State<Arc<Page>>,
    Extension(admitted): AdmittedExtension,
    Path(id): Path<String>,
) -> Result<Response, HttpError> {
    let found = find(&page, &admitted, &SweepId::new(id), |_| false).await?;
    let listed = |picture: Picture| {
        let jobs: Vec<&PicturedJob> = found.jobs.iter().filter(|job| is_of(&picture, &job.shape)).collect();
        let complete = jobs.iter().all(|job| job.complete);
        let members_done = jobs.iter().map(|job| job.members_done).sum();
        let drawn = if picture.kind == PictureKind::Nads { complete } else { members_done > 0 };
        let Picture { name, title, kind, .. } = picture;
        let job = if let [job] = jobs[..] { Some(job.shape.name()) } else { None };
        drawn.then_some(ListedPicture { name, title, kind, job, complete, members_done })
    };
    Ok(json(&PictureList { pictures: sweep::pictures(&found.spec).into_iter().filter_map(listed).collect() }))
}

/// One picture.
pub(super) async fn one(
    State(page): State<Arc<Page>>,
    Extension(admitted): AdmittedExtension,
    Path((id, file)): Path<(String, String)>,
    Query(ThemeQuery { theme }): Query<ThemeQuery>,
) -> Result<Response, HttpError> {
    let (name, format) = format(&file)?;
    // The page calls this picture, which shows several jobs, by a short name.
    let name = if name == "spectra" { "nads/spectra" } else { name };
    let name = name.to_owned();
    let key = PictureKey { sweep: SweepId::new(id), name, theme: theme.into(), format, members_done: 0 };
    cached_or_drawn(&page, &admitted, key).await
}

/// A picture from the cache, or newly drawn.
async fn cached_or_drawn(page: &Page, admitted: &Admitted, mut key: PictureKey) -> Result<Response, HttpError> {
    let asked = key.name.clone();
    let found = find(page, admitted, &key.sweep, move |shape| asked.starts_with(shape.experiment.as_str())).await?;
    let picture = Picture::find(&found.spec, &key.name).map_err(unknown)?;
    key.members_done = found.jobs.iter().filter(|job| is_of(&picture, &job.shape)).map(|job| job.members_done).sum();
    let PictureKey { theme, format, .. } = key;
    if let Some(bytes) = page.pictures.find(&key) {
        return Ok(send(format, bytes));
    }
    // What is read for a picture takes memory, so nothing is read before its turn has come.
    let turn = page.pictures.turns.clone().acquire_owned().await;
    let turn = turn.map_err(|_| Reason::ShuttingDown.status("no more pictures are drawn"))?;
    let stored = read(page, &found, &picture).await?;
    let draw = move || sweep::draw(&found.spec, &picture, &Numbers::of(&found, &picture, stored), theme);
    let bytes = drawn(turn, format, draw).await?;
    page.pictures.keep(key, bytes.clone());
    Ok(send(format, bytes))
}

/// Draws on a thread of its own, off the threads that serve.
async fn drawn(
    turn: OwnedSemaphorePermit,
    format: ImageFormat,
    draw: impl FnOnce() -> Result<nadgrid_figures::Figure, SweepError> + Send + 'static,
) -> Result<Bytes, Status> {
    let drawn = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let figure = draw().map_err(unknown)?;
        match format {
            ImageFormat::Svg => Ok(Bytes::from(figure.svg().to_owned())),
            ImageFormat::Png => {
                figure.png().map(Bytes::from).map_err(|error| Reason::Internal.status(error.to_string()))
            }
        }
    });
    drawn.await.map_err(|panic| Reason::Internal.status(panic.to_string()))?
}

fn unknown(error: SweepError) -> Status {
    match error {
        SweepError::Read { .. } | SweepError::Unreadable { .. } => Reason::PayloadDamaged.status(error.to_string()),
        _ => Reason::ArtifactUnknown.status(error.to_string()),
    }
}

fn send(format: ImageFormat, bytes: Bytes) -> Response {
    let kind = match format {
        ImageFormat::Svg => "image/svg+xml",
        ImageFormat::Png => "image/png",
    };
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Opened by itself, the picture is a document, which is allowed nothing.
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:",
        ),
    ];
    (headers, bytes).into_response()
}

#[derive(Serialize)]
struct NadsRow {
    architecture: String,
    title: String,
    networks: u64,
    directions: u64,
    dimension: usize,
    singular_values: Vec<f64>,
    standard_errors: Vec<f64>,
    effective_rank: f64,
    anisotropy: f64,
}

#[derive(Serialize)]
struct NadsList {
    jobs: Vec<NadsRow>,
}

/// The part of a job's `spectrum.json` that the page shows.
#[derive(Deserialize)]
struct SpectrumFacts {
    effective_rank: f64,
    anisotropy: f64,
}

/// The spectra of complete NAD jobs, as numbers.
pub(super) async fn nads(
    State(page): State<Arc<Page>>,
    Extension(admitted): AdmittedExtension,
    Path(id): Path<String>,
) -> Result<Response, HttpError> {
    let found = find(&page, &admitted, &SweepId::new(id), |_| false).await?;
    let mut jobs = Vec::new();
    for job in found.jobs.iter().filter(|job| job.complete && job.shape.experiment == Experiment::Nads) {
        let of_job = Picture::find(&found.spec, "nads/spectra").map_err(unknown)?;
        let architecture = job.shape.architecture.clone();
        let numbers =
            read(&page, &found, &Picture { architectures: vec![architecture.clone()], ..of_job }).await?.artifacts;
        let vector = |file: &str| {
            let name = format!("{}/{file}", job.shape.name());
            let bytes = numbers.artifact(&name).map_err(unknown)?;
            let vector = parse_vector(&bytes, std::path::Path::new(&name));
            vector.map(|v| v.to_vec()).map_err(|error| Reason::PayloadDamaged.status(error.to_string()))
        };
        let facts = numbers.artifact(&format!("{}/spectrum.json", job.shape.name())).map_err(unknown)?;
        let facts: SpectrumFacts =
            serde_json::from_slice(&facts).map_err(|error| Reason::Internal.status(error.to_string()))?;
        let singular_values = vector("singular_values.npy")?;
        jobs.push(NadsRow {
            title: architecture::find(&architecture).map_or(architecture.clone(), |known| known.title.to_owned()),
            architecture,
            networks: job.shape.grid.networks,
            directions: found.spec.nad_count(),
            dimension: found.spec.shape().len(),
            standard_errors: vector("standard_errors.npy")?,
            singular_values,
            effective_rank: facts.effective_rank,
            anisotropy: facts.anisotropy,
        });
    }
    Ok(json(&NadsList { jobs }))
}

/// A picture of one NAD, in pixels and in frequency.
pub(super) async fn nad(
    State(page): State<Arc<Page>>,
    Extension(admitted): AdmittedExtension,
    Path((id, architecture, file)): Path<(String, String, String)>,
    Query(ThemeQuery { theme }): Query<ThemeQuery>,
) -> Result<Response, HttpError> {
    let (index, format) = format(&file)?;
    let name = format!("{}/{architecture}/nad_{index}", Experiment::Nads);
    let key = PictureKey { sweep: SweepId::new(id), name, theme: theme.into(), format, members_done: 0 };
    cached_or_drawn(&page, &admitted, key).await
}
