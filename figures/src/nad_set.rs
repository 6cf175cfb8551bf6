//! A set of NADs together with what belongs to it: singular values and the number of networks.
//!
//! [`NadSet::open`] knows the two places where sets are found. A *result folder* (`DIR/nads/ARCHITECTURE`) holds
//! `nads.npy` and `singular_values.npy`, and its sweep's `DIR/sweep.json` says how many networks were drawn. A
//! *published file* `X_NADs.npy` has its singular values beside it in `X_eigenvals.npy` (the authors' name; they are
//! singular values), and nothing says how many networks: [`NadSet::with_networks`] does. Absent: any fetching, and any
//! guess at the number of networks.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use ndarray::{Array1, Array2};
use thiserror::Error;

use crate::{
    comparison::{CompareError, Comparison, compare, singular_value_ratios},
    npy::{self, NpyError},
};

const NADS_FILE: &str = "nads.npy";
const SINGULAR_VALUES_FILE: &str = "singular_values.npy";
const SWEEP_FILE: &str = "../../sweep.json";
const NETWORKS_POINTER: &str = "/spec/nads/networks";
const POINTS_POINTER: &str = "/spec/nads/points";

/// The reason why a set could not be opened.
#[derive(Debug, Error)]
pub enum NadSetError {
    /// An array could not be read.
    #[error(transparent)]
    Npy(#[from] NpyError),
    /// `sweep.json` is there, but could not be read.
    #[error("{file}: {source}")]
    ReadSweep {
        /// The name of the file, as messages have it.
        file: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// `sweep.json` is not JSON.
    #[error("{file}: {source}")]
    ParseSweep {
        /// The name of the file, as messages have it.
        file: PathBuf,
        /// The place where it stops being JSON.
        source: serde_json::Error,
    },
    /// `sweep.json` gives a number of networks that is none.
    #[error("{file}: spec.nads.networks is {found}, not a count")]
    Networks {
        /// The name of the file, as messages have it.
        file: PathBuf,
        /// The value found, as JSON.
        found: String,
    },
    /// There are fewer singular values than NADs.
    #[error("{path}: {nads} NADs, but only {singular_values} singular values")]
    SingularValues {
        /// The file or folder that was opened.
        path: PathBuf,
        /// The number of NADs.
        nads: usize,
        /// The number of singular values.
        singular_values: usize,
    },
}

/// NADs and what is known of their origin.
#[derive(Clone, Debug, PartialEq)]
pub struct NadSet {
    /// k × D, one NAD a row, in order of decreasing singular value.
    pub nads: Array2<f64>,
    /// Singular values of the centred gradient matrix, at least one for each NAD.
    pub singular_values: Option<Array1<f64>>,
    /// N, the number of networks whose gradients were sampled.
    pub networks: Option<u64>,
    /// Points at which each network's gradient was sampled.
    pub points: u64,
}

impl NadSet {
    /// A set of which only the directions are known.
    pub fn new(nads: Array2<f64>) -> Self {
        Self { nads, singular_values: None, networks: None, points: 1 }
    }

    /// Opens a result folder or a `.npy` file, with what lies beside it (see the module's header).
    ///
    /// # Errors
    /// A file is missing, damaged or contradicts another. Singular values and `sweep.json` may be absent.
    pub fn open(path: &Path) -> Result<Self, NadSetError> {
        let (nads, singular_values, sweep) = if path.is_dir() {
            (path.join(NADS_FILE), Some(path.join(SINGULAR_VALUES_FILE)), Some(path.join(SWEEP_FILE)))
        } else {
            (path.to_owned(), published_singular_values(path), None)
        };
        let nads = npy::read_matrix(&nads)?;
        let singular_values =
            singular_values.filter(|file| file.exists()).map(|file| npy::read_vector(&file)).transpose()?;
        if let Some(found) = singular_values.as_ref().map(Array1::len).filter(|&found| found < nads.nrows()) {
            return Err(NadSetError::SingularValues {
                path: path.to_owned(),
                nads: nads.nrows(),
                singular_values: found,
            });
        }
        let sampled = sweep.map(|file| sweep_sample(&file)).transpose()?.flatten();
        let (networks, points) = sampled.map_or((None, 1), |(networks, points)| (Some(networks), points));
        Ok(Self { nads, singular_values, networks, points })
    }

    /// The same set with N stated, over whatever was found beside it.
    #[must_use]
    pub fn with_networks(self, networks: u64) -> Self {
        Self { networks: Some(networks), ..self }
    }

    /// The same set with its singular values stated.
    #[must_use]
    pub fn with_singular_values(self, singular_values: Array1<f64>) -> Self {
        Self { singular_values: Some(singular_values), ..self }
    }

    /// Rows of the gradient matrix, which the singular values grow with: every network gives a gradient at every point.
    pub fn gradients(&self) -> Option<u64> {
        self.networks.map(|networks| networks.saturating_mul(self.points))
    }

    /// Compares with another set: subspaces, and singular values where both have them.
    ///
    /// # Errors
    /// Those of [`compare`].
    pub fn compare(&self, other: &Self) -> Result<Comparison, CompareError> {
        let comparison = compare(self.nads.view(), other.nads.view())?;
        let singular_values = match (&self.singular_values, &other.singular_values) {
            (Some(a), Some(b)) => singular_value_ratios(a.view(), self.gradients(), b.view(), other.gradients()),
            _ => Vec::new(),
        };
        Ok(Comparison { singular_values, ..comparison })
    }
}

/// `X_eigenvals.npy` for `X_NADs.npy`.
fn published_singular_values(path: &Path) -> Option<PathBuf> {
    let stem = path.file_name()?.to_str()?.strip_suffix("_NADs.npy")?;
    Some(path.with_file_name(format!("{stem}_eigenvals.npy")))
}

/// N and points from a sweep's record; `None` where the record, or N in it, is absent. Older records have one point.
fn sweep_sample(file: &Path) -> Result<Option<(u64, u64)>, NadSetError> {
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(NadSetError::ReadSweep { file: file.to_owned(), source }),
    };
    let sweep: serde_json::Value =
        serde_json::from_slice(&text).map_err(|source| NadSetError::ParseSweep { file: file.to_owned(), source })?;
    match sweep.pointer(NETWORKS_POINTER) {
        None | Some(serde_json::Value::Null) => Ok(None),
        Some(found) => match found.as_u64() {
            Some(networks) => {
                let points = sweep.pointer(POINTS_POINTER).and_then(serde_json::Value::as_u64).unwrap_or(1);
                Ok(Some((networks, points)))
            }
            None => Err(NadSetError::Networks { file: file.to_owned(), found: found.to_string() }),
        },
    }
}
