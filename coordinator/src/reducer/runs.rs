//! The table of a job's training runs, one line each in the order of the grid, and the margins that some runs measure.

use super::{Partials, ReduceError, ResultFiles};
use nadgrid_core::ids::Digest;
use nadgrid_core::runs::{Outcome, RunsError, RunsHasher, from_bytes};
use nadgrid_core::spec::{Experiment, JobShape, Spec};
use nadgrid_core::statistics::quantile;
use nadgrid_figures::npy;
use ndarray::Array3;
use std::fmt::Write;

/// Writes the runs of all partials into a table. Returns the digest and the result files. Each run becomes text as it is
/// read, since there may be millions.
pub(super) fn reduce(spec: &Spec, partials: &Partials<'_>, extra: usize) -> Result<(Digest, ResultFiles), ReduceError> {
    let job = partials.job;
    let mut hasher = RunsHasher::new(job.grid.networks, extra);
    let mut table = RunsTable::new(spec, job);
    let mut kept = Vec::new();
    let read = |bytes: &[u8], members: u64| {
        let runs = from_bytes(bytes, members, extra)?;
        runs.iter().for_each(|run| hasher.push(run));
        runs.iter().for_each(|run| table.push(run));
        kept.extend(runs.into_iter().filter(|_| job.experiment == Experiment::Margins));
        Ok::<(), RunsError>(())
    };
    partials.fold(read, |(), ()| ())?;
    let name = job.name();
    let mut files = vec![(format!("{name}.csv"), table.text.into_bytes())];
    if job.experiment == Experiment::Margins {
        files.extend(margins(spec, &name, &kept));
    }
    Ok((hasher.finish(), files))
}

/// A table with the columns architecture, direction (or set), its kind, index, k1 and k2, seed, accuracies in percent, losses in
/// nats, epochs, seconds, and the step at which the run diverged. Numbers that a run does not have are left empty.
struct RunsTable<'a> {
    spec: &'a Spec,
    job: &'a JobShape,
    runs: u64,
    text: String,
}

impl<'a> RunsTable<'a> {
    fn new(spec: &'a Spec, job: &'a JobShape) -> Self {
        let variant = if job.experiment == Experiment::Directional { "direction" } else { "set" };
        let text = format!(
            "architecture,{variant},kind,index,k1,k2,seed,train_accuracy,test_accuracy,train_loss,test_loss,epochs,seconds,\
             diverged_at\n"
        );
        Self { spec, job, runs: 0, text }
    }

    fn push(&mut self, run: &Outcome) {
        let Self { spec, job, runs, text } = self;
        let index = *runs;
        *runs += 1;
        let Some((variant, key)) = spec.run(job.experiment, &job.architecture, index) else { return };
        let numbers = [run.train_accuracy, run.test_accuracy, run.train_loss, run.test_loss].map(cell).join(",");
        let variant = variant.to_string();
        let diverged_at = run.diverged_at.map_or(String::new(), |step| step.to_string());
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{},{variant},{},{},{numbers},{},{:.3},{diverged_at}",
            job.architecture,
            typed(&variant),
            key.run,
            run.epochs,
            run.seconds
        );
    }
}

/// A label as the columns kind, index, k1 and k2: its word, and the index or the frequency that stands after it.
fn typed(label: &str) -> String {
    let words: Vec<&str> = label.split(' ').collect();
    match words[..] {
        [kind, index] => format!("{kind},{index},,"),
        [kind, k1, k2] => format!("{kind},,{k1},{k2}"),
        _ => format!("{label},,,"),
    }
}

fn cell(number: f64) -> String {
    if number.is_nan() { String::new() } else { number.to_string() }
}

/// The files of margins (runs x blocks x images, infinite if an image never left its class) and of their quartiles by block.
fn margins(spec: &Spec, name: &str, runs: &[Outcome]) -> ResultFiles {
    let Some(experiment) = &spec.margins else { return Vec::new() };
    let blocks = spec.subspaces() as usize;
    let images = experiment.images as usize;
    let all: Vec<f64> = runs.iter().flat_map(|run| run.extra.iter().copied()).collect();
    let mut text = "seed,first_nad,last_nad,lower_quartile,median,upper_quartile,images,unreached\n".to_owned();
    for (seed, run) in runs.iter().enumerate() {
        for (block, margins) in run.extra.chunks_exact(images).enumerate() {
            let first = block as u32 * experiment.stride;
            let measured: Vec<f64> = margins.iter().copied().filter(|margin| !margin.is_nan()).collect();
            let quartiles = [0.25, 0.5, 0.75].map(|fraction| cell(quantile(&measured, fraction))).join(",");
            let unreached = measured.iter().filter(|margin| margin.is_infinite()).count();
            let last = first + experiment.subspace - 1;
            let _ = writeln!(text, "{seed},{first},{last},{quartiles},{},{unreached}", measured.len());
        }
    }
    let mut files = vec![(format!("{name}_margins.csv"), text.into_bytes())];
    if let Ok(array) = Array3::from_shape_vec((runs.len(), blocks, images), all) {
        files.push((format!("{name}_margins.npy"), npy::to_bytes(&array)));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::typed;

    #[test]
    fn labels_are_columns() {
        for (label, columns) in [
            ("nad 12", "nad,12,,"),
            ("row 0", "row,0,,"),
            ("cos 2 -4", "cos,,2,-4"),
            ("sin 0 1", "sin,,0,1"),
            ("clean", "clean,,,"),
        ] {
            assert_eq!(typed(label), columns);
        }
    }
}
