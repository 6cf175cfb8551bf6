//! The distances at which trained networks put their decision boundaries, block of NADs by block.

use std::collections::BTreeMap;

use nadgrid_core::spec::{Experiment, Spec};

use super::{MarginRow, Picture, Source, SweepError, runs::MeasuredJob, title};
use crate::{Figure, MarginBlock, MarginCurve, MarginSeries, Theme, margin_curve};

/// Draws one curve for all architectures. Quartiles are means over the seeds; a block of a network in which one of them is not
/// a finite number is left out.
pub(super) fn draw(spec: &Spec, picture: &Picture, source: &impl Source, theme: Theme) -> Result<Figure, SweepError> {
    let name = &picture.name;
    let mut curves = Vec::new();
    let mut all = 0;
    let mut drawn = 0;
    for architecture in &picture.architectures {
        let rows = source.margins(architecture)?;
        all += rows.len();
        let finite: Vec<(u64, [f64; 3])> = rows.iter().filter_map(finite).collect();
        drawn += finite.len();
        curves.push((title(architecture), over_seeds(&finite)));
    }
    let jobs = MeasuredJob::read(picture, Experiment::Margins, source)?;
    let filled = curves.iter().filter(|(_, blocks)| !blocks.is_empty());
    let series: Vec<MarginSeries<'_>> = filled.map(|(name, blocks)| MarginSeries { name, blocks }).collect();
    if series.is_empty() {
        let reason = match all {
            0 => "no run of it has ended so far".to_owned(),
            all => format!("none of its {all} blocks has finite quartiles"),
        };
        return Err(SweepError::nothing(name, reason));
    }
    let setting = spec.margins.as_ref().map_or(String::new(), |margins| {
        format!("blocks of {} NADs · {} images · seeds: {}", margins.subspace, margins.images, margins.seeds)
    });
    let left_out = match all - drawn {
        0 => String::new(),
        lost => format!(" · {lost} of {all} blocks with infinite or missing quartiles are left out"),
    };
    let subtitle = format!("{setting}{left_out}{}", MeasuredJob::so_far(&jobs));
    let curve = MarginCurve { title: &picture.title, subtitle: &subtitle, series: &series };
    margin_curve(&curve, theme).map_err(|source| SweepError::Figure { name: name.clone(), source })
}

fn finite(row: &MarginRow) -> Option<(u64, [f64; 3])> {
    let quartiles = row.quartiles.filter(|quartiles| quartiles.iter().all(|value| value.is_finite()))?;
    Some((row.first_nad, quartiles))
}

fn over_seeds(blocks: &[(u64, [f64; 3])]) -> Vec<MarginBlock> {
    let mut sums: BTreeMap<u64, (f64, [f64; 3])> = BTreeMap::new();
    for &(first, quartiles) in blocks {
        let (count, sum) = sums.entry(first).or_default();
        *count += 1.0;
        sum.iter_mut().zip(quartiles).for_each(|(sum, value)| *sum += value);
    }
    let means = sums.into_iter().map(|(first_index, (count, sum))| {
        let [lower_quartile, median, upper_quartile] = sum.map(|sum| sum / count);
        MarginBlock { first_index, median, lower_quartile, upper_quartile }
    });
    means.collect()
}
