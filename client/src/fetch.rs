//! A complete sweep as a folder of files.
//!
//! ```text
//! DIR/sweep.json                      the record
//! DIR/nads/ARCHITECTURE/*.npy         as the coordinator made them
//! DIR/nads/ARCHITECTURE/figure.*      drawn here
//! ```
//! That the folder can be written is known before the first byte is fetched; until everything is there, nothing is.

use crate::client::Client;
use crate::draw::{Drawing, Spectrum, draw};
use crate::error::Error;
use crate::record::{RECORD_FILE, Record, read_spec};
use crate::staging::Staging;
use crate::views::sweep_state;
use nadgrid_core::spec::Spec;
use nadgrid_proto::chunks::ChunkError;
use nadgrid_proto::v1::{Artifact, Sweep, SweepState};
use std::path::Path;

/// What was fetched.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// As it was written to `sweep.json`.
    pub record: Record,
    /// One per architecture, in the spec's order.
    pub architectures: Vec<FetchedArchitecture>,
}

/// One architecture's result.
#[derive(Clone, Debug)]
pub struct FetchedArchitecture {
    /// Its name.
    pub architecture: String,
    /// Its spectrum.
    pub spectrum: Spectrum,
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
    let mut arrays = Arrays::default();
    for artifact in &sweep.artifacts {
        let bytes = read_announced(client, id, artifact).await?;
        staging.write(&artifact.name, &bytes)?;
        arrays.keep(&artifact.name, bytes);
    }
    let mut figures = Vec::new();
    let mut architectures = Vec::new();
    for architecture in &spec.architectures {
        let drawing = arrays.draw(&spec, architecture).await?;
        for (file, bytes) in [("figure.png", &drawing.png[..]), ("figure.svg", drawing.svg.as_bytes())] {
            let name = format!("nads/{architecture}/{file}");
            staging.write(&name, bytes)?;
            figures.push(name);
        }
        architectures.push(FetchedArchitecture { architecture: architecture.clone(), spectrum: drawing.spectrum });
    }
    let record = Record::new(&sweep, figures)?;
    staging.write(RECORD_FILE, &record.to_json())?;
    staging.publish()?;
    Ok(Fetched { record, architectures })
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
        SweepState::Failed => ended("failed"),
        SweepState::Cancelled => ended("was cancelled"),
        _ => Err(Error::Unfinished { id, state: sweep_state(sweep) }),
    }
}

/// The bytes of an artifact, which are those that the sweep announced.
async fn read_announced(client: &Client, id: &str, artifact: &Artifact) -> Result<Vec<u8>, Error> {
    let (bytes, actual) = client.read_artifact(id, &artifact.name).await?;
    let damaged = |source| Err(Error::Damaged { name: artifact.name.clone(), source });
    match nadgrid_core::ids::Digest::from_hex(&artifact.digest) {
        None => damaged(ChunkError::Digest(artifact.digest.clone())),
        Some(expected) if expected != actual => damaged(ChunkError::Damaged { expected, actual }),
        Some(_) => Ok(bytes),
    }
}

/// The arrays that figures are drawn from.
#[derive(Default)]
struct Arrays(std::collections::BTreeMap<String, Vec<u8>>);

impl Arrays {
    fn keep(&mut self, name: &str, bytes: Vec<u8>) {
        if name.ends_with("/nads.npy") || name.ends_with("/singular_values.npy") {
            self.0.insert(name.to_owned(), bytes);
        }
    }

    /// Draws on a thread of its own: a signal must not wait for a picture.
    async fn draw(&mut self, spec: &Spec, architecture: &str) -> Result<Drawing, Error> {
        let nads = self.take(architecture, "nads.npy")?;
        let singular_values = self.take(architecture, "singular_values.npy")?;
        let (spec, name) = (spec.clone(), architecture.to_owned());
        let drawn = tokio::task::spawn_blocking(move || draw(&spec, &name, &nads, &singular_values)).await;
        drawn.unwrap_or_else(|e| Err(Error::Draw { what: format!("figure of {architecture}"), reason: e.to_string() }))
    }

    fn take(&mut self, architecture: &str, file: &str) -> Result<Vec<u8>, Error> {
        let name = format!("nads/{architecture}/{file}");
        self.0.remove(&name).ok_or_else(|| Error::Contract(format!("the sweep has no artifact {name}")))
    }
}

#[cfg(test)]
mod tests;
