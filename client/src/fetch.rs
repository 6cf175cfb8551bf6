//! A complete sweep as a folder of files.
//!
//! ```text
//! DIR/sweep.json                      the record
//! DIR/EXPERIMENT/...                  as the coordinator made them, and figures drawn here
//! ```
//! That the folder can be written is known before the first byte is fetched; until everything is there, nothing is. Files are written as
//! they come, and read again to be drawn: one at a time is in memory.

use crate::client::Client;
use crate::error::Error;
use crate::paths::ensure_plain;
use crate::record::{RECORD_FILE, Record, read_spec};
use crate::result_folder::FolderFiles;
use crate::staging::Staging;
use nadgrid_core::spec::Spec;
use nadgrid_core::text::bytes;
use nadgrid_figures::sweep::{Drawing, JobResult, draw_all};
use nadgrid_proto::chunks::ChunkError;
use nadgrid_proto::v1::{Artifact, Sweep, SweepState};
use nadgrid_proto::views::sweep_state;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The result of a fetch.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// As it was written to `sweep.json`.
    pub record: Record,
    /// One per job, in the sweep's order.
    pub results: Vec<JobResult>,
    /// The pictures that could not be drawn and the reasons, a line each.
    pub notes: Vec<String>,
}

/// Fetches a complete sweep into the folder `out`, draws its figures, and gives what the record says.
///
/// # Errors
/// [`Error::Unfinished`], [`Error::Ended`], [`Error::Damaged`], [`Error::Io`] and those of a call. Then `out` is as it
/// was before.
pub async fn fetch(client: &Client, id: &str, out: &Path) -> Result<Fetched, Error> {
    let mut staging = Staging::new(out)?;
    let sweep = client.get(id).await?;
    ensure_complete(&sweep)?;
    let spec = read_spec(&sweep)?;
    sweep.artifacts.iter().try_for_each(|artifact| ensure_plain(&artifact.name))?;
    ensure_room(out, &sweep.artifacts)?;
    for artifact in &sweep.artifacts {
        let bytes = read_announced(client, id, artifact).await?;
        staging.write(&artifact.name, &bytes)?;
    }
    let Drawing { figures, results, notes } = draw_aside(spec, staging.hidden().to_owned()).await?;
    for (name, bytes) in &figures {
        staging.write(name, bytes)?;
    }
    let record = Record::new(&sweep, figures.into_keys().collect())?;
    staging.write(RECORD_FILE, &record.to_json())?;
    staging.publish()?;
    Ok(Fetched { record, results, notes })
}

/// Draws on a thread of its own: a signal must not wait for a picture.
async fn draw_aside(spec: Spec, folder: PathBuf) -> Result<Drawing, Error> {
    let drawn = tokio::task::spawn_blocking(move || draw_all(&spec, &FolderFiles(folder))).await;
    drawn
        .map(|drawing| Ok(drawing?))
        .unwrap_or_else(|error| Err(Error::Draw { what: "the figures".into(), reason: error.to_string() }))
}

impl Fetched {
    /// Names of all files, the record first.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let artifacts = self.record.artifacts.iter().map(|artifact| artifact.name.as_str());
        [RECORD_FILE].into_iter().chain(artifacts).chain(self.record.figures.iter().map(String::as_str))
    }
}

/// Checks that the sweep has a result.
///
/// # Errors
/// [`Error::Unfinished`], [`Error::Ended`].
pub fn ensure_complete(sweep: &Sweep) -> Result<(), Error> {
    let id = sweep.id.clone();
    let ended = |state| Err(Error::Ended { id: sweep.id.clone(), state, message: sweep.message.clone() });
    match sweep.state() {
        SweepState::Complete => Ok(()),
        SweepState::Incomplete => ended("is incomplete"),
        SweepState::Failed => ended("failed"),
        SweepState::Cancelled => ended("was cancelled"),
        _ => Err(Error::Unfinished { id, state: sweep_state(sweep) }),
    }
}

/// Checks that files of the announced sizes fit on the disk of a folder.
fn ensure_room(out: &Path, artifacts: &[Artifact]) -> Result<(), Error> {
    let needed = artifacts.iter().fold(0_u64, |sum, artifact| sum.saturating_add(artifact.size));
    // What cannot be asked is left to the writing.
    let Ok(disk) = rustix::fs::statvfs(out) else { return Ok(()) };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if needed <= free {
        return Ok(());
    }
    let words = format!("the sweep's files have {}, and {} are free", bytes(needed), bytes(free));
    Err(Error::io(out, "write into it")(io::Error::new(ErrorKind::StorageFull, words)))
}

/// The bytes of an artifact, which are those that the sweep announced.
async fn read_announced(client: &Client, id: &str, artifact: &Artifact) -> Result<Vec<u8>, Error> {
    let (bytes, actual) = client.read_announced(id, artifact).await?;
    let damaged = |source| Err(Error::Damaged { name: artifact.name.clone(), source });
    match nadgrid_core::ids::Digest::from_hex(&artifact.digest) {
        None => damaged(ChunkError::Digest(artifact.digest.clone())),
        Some(expected) if expected != actual => damaged(ChunkError::Damaged { expected, actual }),
        Some(_) => Ok(bytes),
    }
}

#[cfg(test)]
mod tests;
