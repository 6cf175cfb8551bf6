//! `sweep.json`: everything that is needed to understand a result folder, or to compute it again.
//!
//! Absent: host names, and paths but those of the spec; the same sweep fetched twice has the same record, but for the client's version.

use crate::error::{Error, said};
use crate::paths::{is_own_file, is_plain};
use nadgrid_core::PROTOCOL_VERSION;
use nadgrid_core::numerics::NumericsClass;
use nadgrid_core::spec::Spec;
use nadgrid_proto::v1;
use nadgrid_proto::views::{ArtifactView, InputView, JobView};
use prost_types::Timestamp;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// The record's name in a result folder.
pub const RECORD_FILE: &str = "sweep.json";
/// Raised when a key changes its meaning.
pub const RECORD_FORMAT: u32 = 2;

/// The record of a complete sweep.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// [`RECORD_FORMAT`].
    pub format: u32,
    /// The sweep's name.
    pub name: String,
    /// The sweep's id at its coordinator.
    pub id: String,
    /// BLAKE3 of the result: a function of the spec and the numerics class alone.
    pub digest: String,
    /// The spec with every default filled in.
    pub spec: Spec,
    /// The same as TOML, ready to be submitted again.
    pub spec_toml: String,
    /// The files that the spec names.
    pub inputs: Vec<InputView>,
    /// The numerics class that the bits depend on.
    pub numerics_class: NumericsClass,
    /// The versions of the programs that made it.
    pub versions: Versions,
    /// The times that it took.
    pub timings: Timings,
    /// The jobs, in the spec's order.
    pub jobs: Vec<JobView>,
    /// The coordinator's files.
    pub artifacts: Vec<ArtifactView>,
    /// Pictures drawn by the client.
    pub figures: Vec<String>,
}

/// Versions of the programs that made a result.
#[derive(Clone, Debug, Serialize)]
pub struct Versions {
    /// This library.
    pub client: String,
    /// The coordinator.
    pub coordinator: String,
    /// The workers' libtorch.
    pub libtorch: String,
    /// The wire protocol.
    pub protocol: u32,
}

/// The times of the sweep: moments in RFC 3339, durations in seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Timings {
    /// The time of submission.
    pub submitted_at: Option<String>,
    /// The first lease.
    pub started_at: Option<String>,
    /// The end.
    pub ended_at: Option<String>,
    /// From submission to the first lease.
    pub queued_seconds: Option<f64>,
    /// From the first lease to the end.
    pub seconds: Option<f64>,
    /// Spent by all slots on committed shards.
    pub slot_seconds: f64,
}

impl Record {
    /// The record of a complete sweep with these figures.
    ///
    /// # Errors
    /// [`Error::Contract`] when the coordinator's spec is not understood or the numerics class is missing.
    pub fn new(sweep: &v1::Sweep, figures: Vec<String>) -> Result<Self, Error> {
        let spec = read_spec(sweep)?;
        let class = sweep.numerics_class.clone().ok_or_else(|| lacking(sweep, "numerics class"))?;
        let numerics_class = NumericsClass::from(class);
        if sweep.digest.is_empty() {
            return Err(lacking(sweep, "digest"));
        }
        Ok(Self {
            format: RECORD_FORMAT,
            name: sweep.name.clone(),
            id: sweep.id.clone(),
            digest: sweep.digest.clone(),
            spec,
            spec_toml: sweep.spec.clone(),
            inputs: sweep.inputs.iter().map(InputView::from).collect(),
            versions: Versions {
                client: crate::VERSION.into(),
                coordinator: sweep.coordinator_version.clone(),
                libtorch: numerics_class.libtorch.clone(),
                protocol: PROTOCOL_VERSION,
            },
            numerics_class,
            timings: Timings::new(sweep),
            jobs: sweep.jobs.iter().map(JobView::from).collect(),
            artifacts: sweep.artifacts.iter().map(ArtifactView::from).collect(),
            figures,
        })
    }

    /// The file's bytes.
    pub fn to_json(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("a record holds only text and numbers");
        bytes.push(b'\n');
        bytes
    }
}

impl Timings {
    fn new(sweep: &v1::Sweep) -> Self {
        let [submitted, started, ended] = [&sweep.submitted_at, &sweep.started_at, &sweep.ended_at].map(Option::as_ref);
        let seconds = |from: Option<&Timestamp>, to: Option<&Timestamp>| Some(seconds_between(from?, to?));
        Self {
            submitted_at: submitted.map(ToString::to_string),
            started_at: started.map(ToString::to_string),
            ended_at: ended.map(ToString::to_string),
            queued_seconds: seconds(submitted, started),
            seconds: seconds(started, ended),
            slot_seconds: sweep.jobs.iter().map(|job| job.slot_seconds).sum(),
        }
    }
}

/// In whole nanoseconds first: two moments of this century differ by less than a float can tell them apart.
fn seconds_between(from: &Timestamp, to: &Timestamp) -> f64 {
    let nanoseconds = |at: &Timestamp| i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos);
    (nanoseconds(to) - nanoseconds(from)).max(0) as f64 / 1e9
}

/// The sweep's spec.
pub(crate) fn read_spec(sweep: &v1::Sweep) -> Result<Spec, Error> {
    Spec::from_toml(&sweep.spec)
        .map_err(|e| Error::Contract(said(&format!("the spec of sweep {} is from another version: {e}", sweep.id))))
}

fn lacking(sweep: &v1::Sweep, what: &str) -> Error {
    Error::Contract(format!("sweep {} is complete, but has no {what}", sweep.id))
}

/// The files that the record of an earlier sweep lists, itself included. An unreadable record lists none: what it
/// stood for is then left alone. So it is with a symbolic link, which may lead to anything.
pub(crate) fn recorded_files(record: &Path) -> BTreeSet<String> {
    let read = is_own_file(record).then(|| std::fs::read(record).ok()).flatten();
    let Some(earlier) = read.and_then(|text| serde_json::from_slice::<Value>(&text).ok()) else {
        return BTreeSet::new();
    };
    let list = |key: &str| earlier[key].as_array().cloned().unwrap_or_default();
    let artifacts = list("artifacts").into_iter().map(|artifact| artifact["name"].clone());
    let names = artifacts.chain(list("figures")).filter_map(|name| name.as_str().map(str::to_owned));
    names.filter(|name| is_plain(name)).chain([RECORD_FILE.to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep() -> v1::Sweep {
        let at = |seconds, nanos| Some(Timestamp { seconds, nanos });
        let class = v1::NumericsClass { device: "cpu".into(), libtorch: "2.11.0".into(), ..Default::default() };
        let spec = Spec::from_toml("name = 'x'\narchitectures = ['lenet']\n[nads]\nnetworks = 2048").unwrap();
        v1::Sweep {
            id: "s-1".into(),
            name: "x".into(),
            spec: spec.to_toml(),
            digest: "ab".into(),
            numerics_class: Some(class),
            jobs: vec![v1::Job { experiment: "nads".into(), slot_seconds: 3.5, ..Default::default() }],
            inputs: vec![v1::Input { name: "nads.npy".into(), size: 7, digest: "ef".into() }],
            artifacts: vec![v1::Artifact { name: "nads/lenet/nads.npy".into(), size: 3, digest: "cd".into() }],
            submitted_at: at(1_700_000_000, 0),
            started_at: at(1_700_000_002, 0),
            ended_at: at(1_700_000_003, 500_000_000),
            ..Default::default()
        }
    }

    #[test]
    fn the_record_says_what_was_computed_by_whom_and_how_long_it_took() {
        let record = Record::new(&sweep(), vec!["nads/lenet/figure.svg".into()]).unwrap();
        let json: Value = serde_json::from_slice(&record.to_json()).unwrap();
        // The figures crate finds the number of networks here.
        assert_eq!(json.pointer("/spec/nads/networks").unwrap(), 2048);
        assert_eq!(json["versions"]["libtorch"], "2.11.0");
        assert_eq!(json["timings"]["seconds"], 1.5);
        assert_eq!(json["timings"]["queued_seconds"], 2.0);
        assert_eq!(json["timings"]["submitted_at"], "2023-11-14T22:13:20Z");
        assert_eq!((&json["jobs"][0]["slot_seconds"], &json["jobs"][0]["experiment"]), (&3.5.into(), &"nads".into()));
        assert_eq!(json["inputs"][0], serde_json::json!({ "name": "nads.npy", "size": 7, "digest": "ef" }));
        let text = Spec::from_toml(json["spec_toml"].as_str().unwrap()).unwrap();
        assert_eq!(text, record.spec);
    }

    #[test]
    fn a_record_lists_its_own_files_and_nothing_outside() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(RECORD_FILE);
        assert!(recorded_files(&path).is_empty());
        let record = Record::new(&sweep(), vec!["nads/lenet/figure.svg".into(), "../escaped".into()]).unwrap();
        std::fs::write(&path, record.to_json()).unwrap();
        let files: Vec<String> = recorded_files(&path).into_iter().collect();
        assert_eq!(files, ["nads/lenet/figure.svg", "nads/lenet/nads.npy", "sweep.json"]);
        std::fs::write(&path, "no json").unwrap();
        assert!(recorded_files(&path).is_empty());
    }

    #[test]
    fn a_complete_sweep_without_its_digest_or_class_breaks_the_contract() {
        for broken in [
            v1::Sweep { digest: String::new(), ..sweep() },
            v1::Sweep { numerics_class: None, ..sweep() },
            v1::Sweep { spec: "name = 3".into(), ..sweep() },
        ] {
            assert!(matches!(Record::new(&broken, Vec::new()), Err(Error::Contract(_))));
        }
    }
}
