//! A result folder, as `fetch` fills it: the record of a sweep beside its artifacts.
//!
//! Absent: the network, and writing.

use crate::error::Error;
use crate::record::{RECORD_FILE, RECORD_FORMAT};
use nadgrid_core::spec::{Spec, SpecError};
use nadgrid_figures::sweep::{Source, SweepError};
use serde_json::Value;
use std::borrow::Cow;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A result folder that pictures can be drawn from.
#[derive(Clone, Debug)]
pub struct ResultFolder {
    files: FolderFiles,
    spec: Spec,
}

/// The files of a folder, read when they are asked for: no more than one is in memory.
#[derive(Clone, Debug)]
pub(crate) struct FolderFiles(pub(crate) PathBuf);

impl ResultFolder {
    /// Opens the folder: reads its record.
    ///
    /// # Errors
    /// [`Error::Io`] when there is no record, [`Error::Draw`] when it is not understood. Both name the file.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(RECORD_FILE);
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(no_record(folder)),
            read => read.map_err(Error::io(&path, "read"))?,
        };
        let spec = read_spec(&bytes).map_err(|reason| Error::Draw { what: path.display().to_string(), reason })?;
        Ok(Self { files: FolderFiles(folder.to_owned()), spec })
    }

    /// The sweep's spec.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }
}

impl Source for ResultFolder {
    fn artifact(&self, name: &str) -> Result<Cow<'_, [u8]>, SweepError> {
        self.files.artifact(name)
    }
}

impl Source for FolderFiles {
    fn artifact(&self, name: &str) -> Result<Cow<'_, [u8]>, SweepError> {
        match std::fs::read(self.0.join(name)) {
            Ok(bytes) => Ok(Cow::Owned(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(SweepError::Missing { name: name.to_owned() }),
            Err(source) => Err(SweepError::Read { name: name.to_owned(), source }),
        }
    }
}

/// A folder without a record; people name one inside a result folder first.
fn no_record(folder: &Path) -> Error {
    let above = folder.ancestors().skip(1).find(|above| above.join(RECORD_FILE).is_file());
    let hint = above.map_or(String::new(), |above| format!("; did you mean {}?", above.display()));
    let reason = if folder.is_dir() {
        format!("not a result folder: it has no {RECORD_FILE}{hint}; `nadgrid run` and `nadgrid fetch` create one")
    } else {
        format!("no such folder{hint}")
    };
    Error::Draw { what: folder.display().to_string(), reason }
}

fn read_spec(record: &[u8]) -> Result<Spec, String> {
    let record: Value = serde_json::from_slice(record).map_err(|error| format!("no JSON: {error}"))?;
    match record["format"].as_u64() {
        Some(format) if format == u64::from(RECORD_FORMAT) => {}
        _ => return Err(format!("format is {}; accepted is {RECORD_FORMAT}", record["format"])),
    }
    let text = record["spec_toml"]
        .as_str()
        .ok_or_else(|| format!("spec_toml is {}; accepted is the spec as text", record["spec_toml"]))?;
    let said = |error: SpecError| {
        let violations: Vec<String> = error.violations.iter().map(ToString::to_string).collect();
        format!("spec_toml is invalid: {}", violations.join("; "))
    };
    Spec::from_toml(text).map_err(said)
}
