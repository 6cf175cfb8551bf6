//! `xtask/nullgpu/ceilings.toml`: the most that a network or a training step may ask of a GPU, so that what was
//! gained stays gained.
//!
//! Deliberately absent: ceilings on times, which depend on the machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::gpu_dry_run::work::Figures;

const FILE: &str = "xtask/nullgpu/ceilings.toml";

/// By case, then by unit.
#[derive(Deserialize, Serialize)]
#[serde(transparent)]
pub(super) struct Ceilings(BTreeMap<String, BTreeMap<String, Ceiling>>);

/// The most that is allowed of each.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Ceiling {
    launches: f64,
    copies: f64,
    blocking_copies: f64,
    copied_kib: f64,
    synchronisations: f64,
    peak_mib: f64,
}

impl Ceiling {
    fn of(figures: &Figures) -> Self {
        Self {
            launches: figures.totals.launches,
            copies: figures.totals.copies,
            blocking_copies: figures.totals.blocking_copies,
            copied_kib: figures.totals.bytes() / 1024.0,
            synchronisations: figures.totals.synchronisations,
            peak_mib: figures.peak_mib,
        }
    }

    fn numbers(&self) -> [(&'static str, f64); 6] {
        [
            ("launches", self.launches),
            ("copies", self.copies),
            ("blocking copies", self.blocking_copies),
            ("KiB copied", self.copied_kib),
            ("synchronisations", self.synchronisations),
            ("MiB of device memory", self.peak_mib),
        ]
    }

    /// A twentieth more of each, in hundredths.
    fn raised(&self) -> Self {
        let above = |number: f64| (number * 105.0).ceil() / 100.0;
        Self {
            launches: above(self.launches),
            copies: above(self.copies),
            blocking_copies: above(self.blocking_copies),
            copied_kib: above(self.copied_kib),
            synchronisations: above(self.synchronisations),
            peak_mib: above(self.peak_mib),
        }
    }
}

impl Ceilings {
    /// The table that is checked in.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let text = fs::read_to_string(root.join(FILE)).with_context(|| format!("cannot read {FILE}"))?;
        toml::from_str(&text).with_context(|| format!("in {FILE}"))
    }

    /// A table to check in, as text.
    pub(super) fn above(measured: &[Figures]) -> Result<String> {
        let mut table = BTreeMap::<String, BTreeMap<String, Ceiling>>::new();
        for figures in measured {
            let ceiling = Ceiling::of(figures).raised();
            table.entry(figures.case.clone()).or_default().insert(figures.unit.to_owned(), ceiling);
        }
        Ok(toml::to_string(&Self(table))?)
    }

    /// Returns the figures that are above their ceilings, or have none, in words.
    pub(super) fn exceeded(&self, measured: &[Figures]) -> Vec<String> {
        measured.iter().flat_map(|figures| self.exceeded_by(figures)).collect()
    }

    fn exceeded_by(&self, figures: &Figures) -> Vec<String> {
        let what = format!("{}, a {}", figures.case, figures.unit);
        let Some(ceiling) = self.0.get(&figures.case).and_then(|units| units.get(figures.unit)) else {
            return vec![format!("{what}: {FILE} has no ceiling for it")];
        };
        let pairs = Ceiling::of(figures).numbers().into_iter().zip(ceiling.numbers());
        let above = pairs.filter(|((_, found), (_, most))| found > most);
        above.map(|((number, found), (_, most))| format!("{what}: {found:.2} {number}, at most {most:.2}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu_dry_run::counts::Totals;

    fn figures(launches: f64) -> Figures {
        let totals = Totals { launches, bytes_to_host: 2048.0, ..Totals::default() };
        let case = "lenet nads".to_owned();
        let calls = BTreeMap::new();
        Figures { case, unit: "network", block: 32, totals, peak_mib: 100.0, slot_ms: 1.0, cpu_ms: 1.0, calls }
    }

    #[test]
    fn what_was_measured_is_below_its_own_ceilings_and_more_is_not() {
        let ceilings: Ceilings = toml::from_str(&Ceilings::above(&[figures(100.0)]).unwrap()).unwrap();
        assert_eq!(ceilings.exceeded(&[figures(100.0), figures(104.9)]), [""; 0]);
        assert_eq!(ceilings.exceeded(&[figures(106.0)]), ["lenet nads, a network: 106.00 launches, at most 105.00"]);
    }

    #[test]
    fn a_case_without_a_ceiling_is_no_pass() {
        let ceilings: Ceilings = toml::from_str("").unwrap();
        assert_eq!(ceilings.exceeded(&[figures(1.0)]).len(), 1);
    }
}
