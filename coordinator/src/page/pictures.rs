//! Pictures of a sweep as far as it has come, drawn when they are asked for by the code that draws the command line's.
//!
//! Numbers come from the artifacts of jobs that are complete, and from the committed partials of those that are not.

use super::api::Asked;
use super::{Page, Refused, json};
use crate::access::Admitted;
use crate::service;
use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header;
use nadgrid_core::architecture;
use nadgrid_core::ids::{JobIndex, SweepId};
use nadgrid_core::runs::{Outcome, from_bytes};
use nadgrid_core::scheduler::{ArtifactRef, Committed, JobState, PartialBytes, StoredPartial, SweepView};
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

/// Pictures that are drawn at once; others wait.
const DRAWN_AT_ONCE: usize = 2;
/// Pictures that are kept.
const KEPT: usize = 96;

/// Drawn pictures, so that ten people who look at a sweep are not ten times the work.
pub(crate) struct Pictures {
    places: Arc<Semaphore>,
    kept: Mutex<VecDeque<(Key, Bytes)>>,
}

/// What a picture shows, and how far that was.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    sweep: SweepId,
    name: String,
    theme: Theme,
    format: Format,
    members_done: u64,
}

impl Default for Pictures {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(DRAWN_AT_ONCE)), kept: Mutex::default() }
    }
}

impl Pictures {
    fn kept(&self) -> MutexGuard<'_, VecDeque<(Key, Bytes)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, key: &Key) -> Option<Bytes> {
        self.kept().iter().find(|(known, _)| known == key).map(|(_, bytes)| bytes.clone())
    }

    fn keep(&self, key: Key, bytes: Bytes) {
        let mut kept = self.kept();
        kept.push_back((key, bytes));
        if kept.len() > KEPT {
            kept.pop_front();
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Svg,
    Png,
}

/// The name of a picture and what it is wanted as.
fn format(file: &str) -> Result<(&str, Format), Status> {
    let unknown = || Reason::RequestInvalid.status(format!("{file:?}: a picture ends with .svg or .png"));
    let (name, ending) = file.rsplit_once('.').ok_or_else(unknown)?;
    match ending {
        "svg" => Ok((name, Format::Svg)),
        "png" => Ok((name, Format::Png)),
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
pub(super) struct Look {
    #[serde(default)]
    theme: ThemeName,
}

/// A job whose numbers are wanted.
struct Job {
    shape: JobShape,
    complete: bool,
    members_done: u64,
    committed: Option<Committed>,
}

impl Job {
    /// Whether a picture shows its runs as far as there are any.
    fn is_shown(&self, picture: &Picture) -> bool {
        !self.complete && is_of(picture, &self.shape) && matches!(self.shape.payload, Payload::Runs { .. })
    }
}

/// A sweep, and the jobs that a choice picks.
struct Found {
    spec: Arc<Spec>,
    artifacts: Vec<ArtifactRef>,
    jobs: Vec<Job>,
}

/// Finds a sweep that is the caller's.
async fn find(
    page: &Page,
    admitted: &Admitted,
    id: &SweepId,
    choice: impl Fn(&JobShape) -> bool + Send + 'static,
) -> Result<Found, Status> {
    page.sweeps.own(&admitted.caller, id).await?;
    let asked = id.clone();
    let found = page.desk.read(move |durable| {
        let told = durable.sweep(&asked)?;
        let SweepView { spec, jobs, .. } = told.view().clone();
        let artifacts = durable.artifacts(&asked);
        let job = |(place, job): (usize, nadgrid_core::scheduler::JobView)| {
            let complete = job.state == JobState::Complete;
            let wanted = !complete && choice(&job.shape) && matches!(job.shape.payload, Payload::Runs { .. });
            let committed = wanted.then(|| durable.committed(&asked, JobIndex(place as u32))).flatten();
            Job { shape: job.shape, complete, members_done: job.members_done, committed }
        };
        Some(Found { spec, artifacts, jobs: jobs.into_iter().enumerate().map(job).collect() })
    });
    found.await?.ok_or_else(|| service::unknown(id.as_str()))
}

/// Numbers of the jobs that a picture shows.
#[derive(Default)]
struct Numbers {
    artifacts: Files,
    /// By the job's name, those that are not complete.
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

/// What a picture is drawn from, as it is stored.
#[derive(Default)]
struct Stored {
    artifacts: Files,
    /// Of jobs that are not complete: the job's place among those that were found, members, and their outcomes' bytes.
    partials: Vec<(usize, Range<u64>, Vec<u8>)>,
}

/// Reads what a picture is drawn from. What an artifact or partial lacks is missing from the picture, or the picture is.
async fn read(page: &Page, found: &Found, picture: &Picture) -> Result<Stored, Status> {
    let mut stored = Stored::default();
    for (place, job) in found.jobs.iter().enumerate().filter(|(_, job)| job.is_shown(picture)) {
        let partials: Vec<StoredPartial> = job.committed.iter().flat_map(Committed::partials).collect();
        for StoredPartial { node, bytes } in partials {
            let bytes = match &bytes {
                PartialBytes::Inline(bytes) => bytes.to_vec(),
                // It is computed again, if need be; until then the picture has fewer runs.
                PartialBytes::Stored(digest) => page.sweeps.store.get(*digest).await.unwrap_or_default(),
            };
            let grid = &job.shape.grid;
            stored.partials.push((place, grid.members(node.blocks(grid.blocks())), bytes));
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
    /// Computes them, which may take a while where there are many runs.
    fn of(found: &Found, picture: &Picture, stored: Stored) -> Self {
        let mut outcomes: BTreeMap<usize, Vec<(u64, Outcome)>> = BTreeMap::new();
        for (place, members, bytes) in stored.partials {
            let Payload::Runs { extra, .. } = found.jobs[place].shape.payload else { continue };
            let runs = from_bytes(&bytes, members.end - members.start, extra).unwrap_or_default();
            outcomes.entry(place).or_default().extend(members.zip(runs));
        }
        let mut numbers = Self { artifacts: stored.artifacts, ..Self::default() };
        for (place, job) in found.jobs.iter().enumerate().filter(|(_, job)| job.is_shown(picture)) {
            let outcomes = outcomes.remove(&place).unwrap_or_default();
            let JobShape { experiment, architecture, grid, .. } = &job.shape;
            let pairs = outcomes.iter().map(|(place, outcome)| (*place, outcome));
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
struct Listed {
    name: String,
    title: String,
    kind: PictureKind,
    /// Where it shows one job alone.
    job: Option<String>,
    complete: bool,
    members_done: u64,
}

#[derive(Serialize)]
struct List {
    pictures: Vec<Listed>,
}

/// What can be drawn now.
pub(super) async fn list(
    State(page): State<Arc<Page>>,
    Extension(admitted): Asked,
    Path(id): Path<String>,
) -> Result<Response, Refused> {
    let found = find(&page, &admitted, &SweepId::new(id), |_| false).await?;
    let listed = |picture: Picture| {
        let jobs: Vec<&Job> = found.jobs.iter().filter(|job| is_of(&picture, &job.shape)).collect();
        let complete = jobs.iter().all(|job| job.complete);
        let members_done = jobs.iter().map(|job| job.members_done).sum();
        let drawn = if picture.kind == PictureKind::Nads { complete } else { members_done > 0 };
        let Picture { name, title, kind, .. } = picture;
        let job = if let [job] = jobs[..] { Some(job.shape.name()) } else { None };
        drawn.then_some(Listed { name, title, kind, job, complete, members_done })
    };
    Ok(json(&List { pictures: sweep::pictures(&found.spec).into_iter().filter_map(listed).collect() }))
}

/// One picture.
pub(super) async fn one(
    State(page): State<Arc<Page>>,
    Extension(admitted): Asked,
    Path((id, file)): Path<(String, String)>,
    Query(Look { theme }): Query<Look>,
) -> Result<Response, Refused> {
    let (name, format) = format(&file)?;
    // The page's short name of a picture that is none of one job.
    let name = if name == "spectra" { "nads/spectra" } else { name };
    named(&page, &admitted, SweepId::new(id), (name, format), theme.into()).await
}

/// The picture of a name, drawn or kept.
async fn named(
    page: &Page,
    admitted: &Admitted,
    sweep_id: SweepId,
    (name, format): (&str, Format),
    theme: Theme,
) -> Result<Response, Refused> {
    let asked = name.to_owned();
    let found = find(page, admitted, &sweep_id, move |shape| asked.starts_with(shape.experiment.as_str())).await?;
    let picture = Picture::find(&found.spec, name).map_err(unknown)?;
    let members_done = found.jobs.iter().filter(|job| is_of(&picture, &job.shape)).map(|job| job.members_done).sum();
    let key = Key { sweep: sweep_id, name: name.to_owned(), theme, format, members_done };
    if let Some(bytes) = page.pictures.find(&key) {
        return Ok(send(format, bytes));
    }
    // What is read for a picture takes memory: whoever waits for a place has read nothing.
    let place = page.pictures.places.clone().acquire_owned().await;
    let place = place.map_err(|_| Reason::ShuttingDown.status("nothing is drawn any more"))?;
    let stored = read(page, &found, &picture).await?;
    let draw = move || sweep::draw(&found.spec, &picture, &Numbers::of(&found, &picture, stored), theme);
    let bytes = drawn(place, format, draw).await?;
    page.pictures.keep(key, bytes.clone());
    Ok(send(format, bytes))
}

/// Draws off the threads that serve.
async fn drawn(
    place: OwnedSemaphorePermit,
    format: Format,
    draw: impl FnOnce() -> Result<nadgrid_figures::Figure, SweepError> + Send + 'static,
) -> Result<Bytes, Status> {
    let drawn = tokio::task::spawn_blocking(move || {
        let _place = place;
        let figure = draw().map_err(unknown)?;
        match format {
            Format::Svg => Ok(Bytes::from(figure.svg().to_owned())),
            Format::Png => figure.png().map(Bytes::from).map_err(|error| Reason::Internal.status(error.to_string())),
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

fn send(format: Format, bytes: Bytes) -> Response {
    let kind = match format {
        Format::Svg => "image/svg+xml",
        Format::Png => "image/png",
    };
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Opened by itself it is a document: it may do nothing.
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

/// Of a job's `spectrum.json`.
#[derive(Deserialize)]
struct Facts {
    effective_rank: f64,
    anisotropy: f64,
}

/// Spectra of the NAD jobs that are complete, as numbers.
pub(super) async fn nads(
    State(page): State<Arc<Page>>,
    Extension(admitted): Asked,
    Path(id): Path<String>,
) -> Result<Response, Refused> {
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
        let facts: Facts =
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

/// One NAD, in pixels and in frequency.
pub(super) async fn nad(
    State(page): State<Arc<Page>>,
    Extension(admitted): Asked,
    Path((id, architecture, file)): Path<(String, String, String)>,
    Query(Look { theme }): Query<Look>,
) -> Result<Response, Refused> {
    let (index, format) = format(&file)?;
    let name = format!("{}/{architecture}/nad_{index}", Experiment::Nads);
    named(&page, &admitted, SweepId::new(id), (&name, format), theme.into()).await
}
