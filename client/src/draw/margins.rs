//! How far away trained networks put their decision boundaries, block of NADs by block.

use super::{Drawing, Files, artifact, title};
use crate::error::Error;
use crate::table::{self, Block};
use nadgrid_core::spec::{Experiment, Margins};
use nadgrid_figures::{MarginBlock, MarginCurve, MarginSeries, margin_curve};
use std::collections::BTreeMap;

/// Draws one curve for all architectures. Quartiles are means over the seeds; a block of a network in which one of them is not
/// a finite number is left out.
pub(super) fn draw(
    experiment: &Margins,
    architectures: &[String],
    files: &Files,
    to: &mut Drawing,
) -> Result<(), Error> {
    let name = "margins/curve";
    let (mut curves, mut all, mut drawn) = (Vec::new(), 0, 0);
    for architecture in architectures {
        let file = format!("{}/{architecture}_margins.csv", Experiment::Margins);
        let blocks = table::blocks(&file, artifact(files, &file)?)?;
        all += blocks.len();
        let finite: Vec<(u64, [f64; 3])> = blocks.iter().filter_map(finite).collect();
        drawn += finite.len();
        curves.push((title(architecture), over_seeds(&finite)));
    }
    let filled = curves.iter().filter(|(_, blocks)| !blocks.is_empty());
    let series: Vec<MarginSeries<'_>> = filled.map(|(name, blocks)| MarginSeries { name, blocks }).collect();
    if series.is_empty() {
        to.notes.push(format!("{name} is not drawn: none of its {all} blocks has finite quartiles"));
        return Ok(());
    }
    let Margins { subspace, images, seeds, .. } = experiment;
    let left_out = match all - drawn {
        0 => String::new(),
        lost => format!(" · {lost} of {all} blocks with infinite or missing quartiles are left out"),
    };
    let figure = margin_curve(&MarginCurve {
        title: "Margins along NADs",
        subtitle: &format!("blocks of {subspace} NADs · {images} images · seeds: {seeds}{left_out}"),
        series: &series,
    });
    to.add(name, figure);
    Ok(())
}

fn finite(block: &Block) -> Option<(u64, [f64; 3])> {
    let quartiles = block.quartiles.filter(|quartiles| quartiles.iter().all(|value| value.is_finite()))?;
    Some((block.first_nad, quartiles))
}

fn over_seeds(blocks: &[(u64, [f64; 3])]) -> Vec<MarginBlock> {
    let mut sums: BTreeMap<u64, (f64, [f64; 3])> = BTreeMap::new();
    for &(first, quartiles) in blocks {
        let (count, sum) = sums.entry(first).or_default();
        *count += 1.0;
        sum.iter_mut().zip(quartiles).for_each(|(sum, value)| *sum += value);
    }
    let mean = |(first_index, (count, sum)): (u64, (f64, [f64; 3]))| {
        let [lower_quartile, median, upper_quartile] = sum.map(|sum| sum / count);
        MarginBlock { first_index, median, lower_quartile, upper_quartile }
    };
    sums.into_iter().map(mean).collect()
}
