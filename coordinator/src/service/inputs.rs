//! The files that specs name: they are received, and checked before a sweep is accepted.
//!
//! An invalid file is reported when the sweep is submitted, as a violation of the key that names it.

use super::receive::{Announced, Receiver, UploadKind, UploadPart};
use super::sweeps::Sweeps;
use super::{MAX_REPEATED, invalid, store_failed};
use crate::access::{Admitted, Caller, UploadQuota};
use crate::artifacts::{BlobLease, Store, StoreError};
use crate::event_loop::CoordinatorHandle;
use crate::transfers::TransferOffer;
use nadgrid_core::cifar10;
use nadgrid_core::ids::{Digest, SweepId};
use nadgrid_core::scheduler::{SweepOutcome, SweepState};
use nadgrid_core::spec::{ImageSet, InputRef, Inputs, Spec, SpecError, Upload, nads_file};
use nadgrid_core::text;
use nadgrid_figures::npy;
use nadgrid_proto::chunks::ChunkError;
use nadgrid_proto::status::{Reason, refused_spec};
use nadgrid_proto::v1::{self, upload_input_request::Part as RequestPart, upload_input_response::Message};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tonic::Status;

/// The largest file: all training images of CIFAR-10 in one file have 154 MB.
const MAX_BYTES: u64 = 256 << 20;
/// The most files of a sweep.
const MAX_INPUTS: usize = 1000;
/// The field that contains the files, in all requests.
const FIELD: &str = "inputs";

/// The messages of `UploadInput`.
pub(super) struct InputUpload;

impl UploadKind for InputUpload {
    type HeaderMessage = v1::InputHeader;
    type RequestMessage = v1::UploadInputRequest;
    type ResponseMessage = v1::UploadInputResponse;

    fn part(request: v1::UploadInputRequest) -> Option<UploadPart<v1::InputHeader>> {
        Some(match request.part? {
            RequestPart::Header(header) => UploadPart::Header(header),
            RequestPart::Data(data) => UploadPart::Data(data),
        })
    }

    fn grant(grant: v1::Grant) -> v1::UploadInputResponse {
        v1::UploadInputResponse { message: Some(Message::Grant(grant)) }
    }
}

/// Receives one file, unless it is already stored.
pub(super) async fn receive(
    sweeps: &Sweeps,
    admitted: &Admitted,
    mut receiver: Receiver<InputUpload>,
) -> Result<v1::UploadInputResponse, Status> {
    let header = receiver.header().await?;
    let size = header.size;
    let limit = MAX_BYTES;
    if size > limit {
        let message = format!("header.size: {}", ChunkError::TooLarge { size, limit });
        return Err(invalid(message));
    }
    let announced = Announced::new(size, &header.digest)?;
    let reserved = Reserved::new(sweeps, &admitted.caller, &announced)?;
    let offer = TransferOffer { caller: admitted.turn(), sweep: None, size };
    let ticket = receiver.place(&sweeps.uploads, offer).await?;
    // A file that is found is kept until it is submitted. One that is stored now is kept because it is young.
    let found = sweeps.store.lease([announced.digest]).await;
    let is_there = sweeps.store.has(announced.digest, size).await.map_err(|error| store_failed(&error))?;
    if is_there {
        found.into_iter().for_each(|lease| sweeps.found.keep(lease));
    } else {
        drop(found);
        drop(receiver.payload(&announced, ticket).await?.store(&sweeps.store).await?);
    }
    reserved.keep();
    Ok(v1::UploadInputResponse { message: Some(Message::Stored(header)) })
}

/// Files that were found in the store when they were uploaded again. They may be old, so they are leased until they are
/// submitted, or for as long as a file that was stored at that moment would be kept.
pub(crate) struct FoundBlobs {
    age: Duration,
    leases: Mutex<HashMap<Digest, (BlobLease, Instant)>>,
}

impl FoundBlobs {
    pub(crate) fn new(age: Duration) -> Self {
        Self { age, leases: Mutex::default() }
    }

    fn keep(&self, found: BlobLease) {
        self.lock().insert(found.digest(), (found, Instant::now()));
    }

    /// Ends the leases of files that were found long ago.
    pub(crate) fn forget_old(&self) {
        self.lock().retain(|_, (_, since)| since.elapsed() < self.age);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, (BlobLease, Instant)>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a file among its user's unused uploads, until it turns out that it is not received.
struct Reserved<'a> {
    quota: &'a UploadQuota,
    caller: &'a Caller,
    digest: Digest,
    /// Whether it was already counted.
    known: bool,
    received: bool,
}

impl<'a> Reserved<'a> {
    fn new(sweeps: &'a Sweeps, caller: &'a Caller, announced: &Announced) -> Result<Self, Status> {
        let Announced { size, digest } = *announced;
        let quota = &sweeps.upload_quota;
        let known = quota.reserve(caller, digest, size)?;
        Ok(Self { quota, caller, digest, known, received: false })
    }

    fn keep(mut self) {
        self.received = true;
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if !self.received && !self.known {
            self.quota.release(self.caller, self.digest);
        }
    }
}

fn internal(error: impl ToString) -> Status {
    Reason::Internal.status(error.to_string())
}

/// Resolves the files of a spec, and the NADs of earlier sweeps that it names. All of them are valid and in the store.
///
/// # Errors
/// `SPEC_INVALID` with the key that is wrong, or `INPUT_MISSING` if a file must be uploaded first.
pub(super) async fn resolve(
    coordinator: &CoordinatorHandle,
    store: &Store,
    caller: &Caller,
    spec: &Spec,
    given: Inputs,
) -> Result<Inputs, Status> {
    if given.len() > MAX_INPUTS {
        return Err(invalid(format!("{FIELD}: {} files, at most {MAX_INPUTS} are accepted", given.len())));
    }
    let mut resolved = Inputs::new();
    for upload in spec.uploads() {
        match &upload {
            Upload::Directions { field, path, dimension, largest } => {
                let input = *given.get(path).ok_or_else(|| missing(field, path, "was not uploaded with the spec"))?;
                check_directions(store, field, path, input, *dimension, *largest).await?;
                resolved.insert(path.clone(), input);
            }
            Upload::Cifar10 { path } => resolved.extend(check_images(store, spec, path, &given).await?),
            Upload::Sweep { field, sweep, architecture, dimension, largest } => {
                let input = earlier_nads(coordinator, caller, field, sweep, architecture).await?;
                let name = format!("{} of sweep {sweep}", nads_file(architecture));
                check_directions(store, field, &name, input, *dimension, *largest).await?;
                resolved.insert(upload.name(), input);
            }
        }
    }
    match given.keys().find(|name| !resolved.contains_key(*name)) {
        Some(name) => {
            Err(invalid(format!("{FIELD}[{:?}]: the spec names no such file", text::clean(name, MAX_REPEATED))))
        }
        None => Ok(resolved),
    }
}

/// The NADs of a complete sweep of the caller's own.
async fn earlier_nads(
    coordinator: &CoordinatorHandle,
    caller: &Caller,
    field: &str,
    sweep: &str,
    architecture: &str,
) -> Result<InputRef, Status> {
    let id = SweepId::new(sweep);
    let name = nads_file(architecture);
    let caller = caller.clone();
    let found = coordinator
        .query(move |scheduler, _| {
            // Another user's sweep is treated like one that does not exist.
            let own = scheduler.owner(&id).is_some_and(|owner| caller.sees(owner));
            let state = own.then(|| scheduler.sweep(&id).map(|view| view.state)).flatten();
            (state, scheduler.artifact(&id, &name).map(|a| InputRef { size: a.size, digest: a.digest }))
        })
        .await?;
    let accepted = match found {
        (Some(SweepState::Ended(SweepOutcome::Complete { .. })), Some(input)) => return Ok(input),
        (None, _) => "there is no such sweep".to_owned(),
        (Some(SweepState::Ended(SweepOutcome::Complete { .. })), None) => {
            format!("that sweep has no NADs of {architecture}")
        }
        (Some(SweepState::Ended(SweepOutcome::Incomplete { .. })), Some(input)) => return Ok(input),
        (Some(SweepState::Ended(SweepOutcome::Incomplete { message })), None) => {
            format!("that sweep is incomplete: {message}")
        }
        (Some(SweepState::Ended(SweepOutcome::Failed { message })), _) => format!("that sweep failed: {message}"),
        (Some(SweepState::Ended(SweepOutcome::Cancelled)), _) => "that sweep was cancelled".to_owned(),
        (Some(_), _) => "that sweep is not complete yet".to_owned(),
    };
    Err(refused(&format!("{field}.sweep"), sweep, accepted))
}

/// Checks that a file has enough rows of D finite numbers.
async fn check_directions(
    store: &Store,
    field: &str,
    path: &str,
    input: InputRef,
    dimension: usize,
    largest: Option<u64>,
) -> Result<(), Status> {
    let bytes = read(store, field, path, input).await?;
    let name = path.to_owned();
    let parsed = tokio::task::spawn_blocking(move || npy::parse_matrix(&bytes, Path::new(&name)));
    let matrix = parsed.await.map_err(internal)?.map_err(|error| refused(field, path, error.to_string()))?;
    let (rows, columns) = matrix.dim();
    if columns != dimension || rows == 0 {
        let accepted = format!("its shape is {rows} x {columns}; rows of {dimension} numbers are required");
        return Err(refused(field, path, accepted));
    }
    if let Some(largest) = largest.filter(|&largest| largest >= rows as u64) {
        let accepted = format!("row {largest} is requested, but the last of {path:?} is {}", rows - 1);
        return Err(refused(&format!("{field}.indices"), &largest.to_string(), accepted));
    }
    match matrix.rows().into_iter().position(|row| row.iter().all(|&v| v == 0.0)) {
        Some(row) => Err(refused(field, path, format!("row {row} is zero and not a direction"))),
        None => Ok(()),
    }
}

/// Checks the files of the CIFAR-10 folder: at least one of training images and one of test images, all valid.
async fn check_images(store: &Store, spec: &Spec, path: &str, given: &Inputs) -> Result<Inputs, Status> {
    let files: Vec<_> = spec.cifar10_files(given).map(|(part, name, input)| (part, name.to_owned(), *input)).collect();
    let has = |part| files.iter().any(|(own, ..)| *own == part);
    if !has(ImageSet::Train) || !has(ImageSet::Test) {
        let what = format!("its data_batch_*.bin and {} were not all uploaded with the spec", cifar10::TEST_FILE);
        return Err(missing("cifar10.path", path, &what));
    }
    let mut test_images = 0;
    for (part, name, input) in &files {
        let bytes = read(store, "cifar10.path", name, *input).await?;
        let file = name.clone();
        let parsed = tokio::task::spawn_blocking(move || cifar10::parse(&bytes, &file).map(|images| images.len()));
        let images = parsed.await.map_err(internal)?.map_err(|e| refused("cifar10.path", path, e.to_string()))?;
        test_images += if *part == ImageSet::Test { images } else { 0 };
    }
    if let Some(margins) = spec.margins.as_ref().filter(|margins| margins.images as usize > test_images) {
        let accepted = format!("at most {test_images}, the images of the test set");
        return Err(refused("margins.images", &margins.images.to_string(), accepted));
    }
    Ok(files.into_iter().map(|(_, name, input)| (name, input)).collect())
}

async fn read(store: &Store, field: &str, name: &str, input: InputRef) -> Result<Vec<u8>, Status> {
    match store.get(input.digest).await {
        Ok(bytes) if bytes.len() as u64 == input.size => Ok(bytes),
        Ok(bytes) => {
            Err(invalid(format!("{FIELD}[{name:?}].size = {}: the file has {} bytes", input.size, bytes.len())))
        }
        Err(StoreError::Missing(digest)) => Err(missing(field, name, &format!("({digest}) is not in the store"))),
        Err(error) if error.is_loss() => Err(missing(field, name, &error.to_string())),
        Err(error) => Err(store_failed(&error)),
    }
}

fn refused(field: &str, value: &str, accepted: String) -> Status {
    refused_spec(&SpecError::of(field, &format!("{value:?}"), accepted))
}

fn missing(field: &str, path: &str, what: &str) -> Status {
    let message =
        format!("{field}: {path:?} {what}; upload it with UploadInput and name it in {FIELD} (nadgrid does both)");
    Reason::InputMissing.status(message)
}
