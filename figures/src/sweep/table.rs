//! Training runs and margins: as typed values, from outcomes, and from the coordinator's tables.
//!
//! Tables are comma-separated, their columns found by name. Absent: quotes, which no cell of them needs.

use nadgrid_core::{
    runs::Outcome,
    spec::{Direction, Experiment, Spec, Variant, Wave},
    statistics::quantile,
};

use super::SweepError;

/// The runs of one job, as far as they have ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Runs {
    /// Those that have ended, in any order.
    pub ended: Vec<Run>,
    /// The number of runs that the job has in all.
    pub all: u64,
}

/// One training run that has ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Run {
    /// The variant that it was trained on.
    pub variant: Variant,
    /// Its seed, from 0.
    pub seed: u64,
    /// Percent of the training samples; `None` when the run diverged.
    pub train_accuracy: Option<f64>,
    /// Percent of the test samples; `None` when the run diverged.
    pub test_accuracy: Option<f64>,
}

/// The margins of one network in one block of NADs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MarginRow {
    /// The block's first NAD.
    pub first_nad: u64,
    /// Lower quartile, median and upper quartile over the images; infinite where too many never left their class, `None` when
    /// the network diverged.
    pub quartiles: Option<[f64; 3]>,
}

impl Runs {
    /// The runs of a job that have ended, each given by its place in the job and its outcome, out of `all`. Places that the
    /// spec does not have are left out.
    pub fn new<'a>(
        spec: &Spec,
        experiment: Experiment,
        architecture: &str,
        outcomes: impl IntoIterator<Item = (u64, &'a Outcome)>,
        all: u64,
    ) -> Self {
        let ended = outcomes.into_iter().filter_map(|(place, outcome)| {
            let (variant, key) = spec.run(experiment, architecture, place)?;
            let [train_accuracy, test_accuracy] = [outcome.train_accuracy, outcome.test_accuracy].map(measured);
            Some(Run { variant, seed: key.run, train_accuracy, test_accuracy })
        });
        Self { ended: ended.collect(), all }
    }
}

impl MarginRow {
    /// The rows of a margins job from the outcomes of its runs that have ended.
    pub fn of_runs<'a>(spec: &Spec, outcomes: impl IntoIterator<Item = &'a Outcome>) -> Vec<Self> {
        let Some(experiment) = &spec.margins else { return Vec::new() };
        let images = (experiment.images as usize).max(1);
        let mut rows = Vec::new();
        for outcome in outcomes {
            for (block, margins) in outcome.extra.chunks_exact(images).enumerate() {
                let measured: Vec<f64> = margins.iter().copied().filter(|margin| !margin.is_nan()).collect();
                let quartiles = [0.25, 0.5, 0.75].map(|fraction| quantile(&measured, fraction));
                rows.push(Self {
                    first_nad: block as u64 * u64::from(experiment.stride),
                    quartiles: (!measured.is_empty()).then_some(quartiles),
                });
            }
        }
        rows
    }
}

/// The number of an outcome, unless it is none.
fn measured(number: f64) -> Option<f64> {
    (!number.is_nan()).then_some(number)
}

/// The runs of a complete job's table; `name` is what errors call it.
///
/// # Errors
/// [`SweepError::Unreadable`] when a column is missing or a cell is not understood.
pub(super) fn runs(experiment: Experiment, name: &str, bytes: &[u8]) -> Result<Runs, SweepError> {
    let label = if experiment == Experiment::Directional { "direction" } else { "set" };
    let table = ColumnTable::new(name, bytes, [label, "seed", "train_accuracy", "test_accuracy"])?;
    let ended = table.rows(|[label, seed, train, test]| {
        let variant = variant(experiment, label).ok_or_else(|| format!("{label:?} is no direction or set"))?;
        let seed = seed.parse().map_err(|_| format!("{seed:?} is no seed"))?;
        Ok(Run { variant, seed, train_accuracy: optional(train)?, test_accuracy: optional(test)? })
    })?;
    Ok(Runs { all: ended.len() as u64, ended })
}

/// The rows of a table of margins, network by network.
///
/// # Errors
/// [`SweepError::Unreadable`] when a column is missing or a cell is not understood.
pub(super) fn margins(name: &str, bytes: &[u8]) -> Result<Vec<MarginRow>, SweepError> {
    let table = ColumnTable::new(name, bytes, ["first_nad", "lower_quartile", "median", "upper_quartile"])?;
    table.rows(|[first, lower, median, upper]| {
        let first_nad = first.parse().map_err(|_| format!("{first:?} is no index"))?;
        let quartiles = match [optional(lower)?, optional(median)?, optional(upper)?] {
            [Some(lower), Some(median), Some(upper)] => Some([lower, median, upper]),
            _ => None,
        };
        Ok(MarginRow { first_nad, quartiles })
    })
}

/// A number, or nothing in an empty cell.
fn optional(cell: &str) -> Result<Option<f64>, String> {
    if cell.is_empty() {
        return Ok(None);
    }
    cell.parse().map(Some).map_err(|_| format!("{cell:?} is no number"))
}

/// Parses a label; the inverse of [`Variant`]'s `Display`.
fn variant(experiment: Experiment, label: &str) -> Option<Variant> {
    let words: Vec<&str> = label.split(' ').collect();
    let index = |word: &str| word.parse::<u64>().ok();
    let wave = |wave, k1: &str, k2: &str| Some(Direction::Wave { wave, k1: k1.parse().ok()?, k2: k2.parse().ok()? });
    if experiment == Experiment::Directional {
        let direction = match words[..] {
            ["cos", k1, k2] => wave(Wave::Cosine, k1, k2)?,
            ["sin", k1, k2] => wave(Wave::Sine, k1, k2)?,
            ["nad", at] => Direction::Nad(index(at)?),
            ["row", at] => Direction::Row(index(at)?),
            ["pixel", at] => Direction::Pixel(index(at)?),
            ["random", at] => Direction::Random(index(at)?),
            _ => return None,
        };
        return Some(Variant::Direction(direction));
    }
    match words[..] {
        ["clean"] => Some(Variant::Clean),
        ["nad", at] => Some(Variant::Poisoned(index(at)?)),
        ["original"] => Some(Variant::Original),
        ["flipped"] => Some(Variant::Flipped),
        ["trained"] => Some(Variant::Trained),
        _ => None,
    }
}

/// Some columns of a table.
struct ColumnTable<'a, const N: usize> {
    name: &'a str,
    text: &'a str,
    /// The number of columns in all.
    width: usize,
    places: [usize; N],
}

impl<'a, const N: usize> ColumnTable<'a, N> {
    fn new(name: &'a str, bytes: &'a [u8], columns: [&str; N]) -> Result<Self, SweepError> {
        let text = std::str::from_utf8(bytes).map_err(|error| SweepError::unreadable(name, error))?;
        let header: Vec<&str> = text.lines().next().unwrap_or_default().split(',').collect();
        let mut places = [0; N];
        for (place, column) in places.iter_mut().zip(columns) {
            let found = header.iter().position(|name| *name == column);
            *place = found.ok_or_else(|| {
                SweepError::unreadable(name, format!("no column {column:?} in its header {header:?}"))
            })?;
        }
        Ok(Self { name, text, width: header.len(), places })
    }

    fn rows<T>(&self, read: impl Fn([&str; N]) -> Result<T, String>) -> Result<Vec<T>, SweepError> {
        let mut rows = Vec::new();
        for (index, line) in self.text.lines().enumerate().skip(1) {
            let row = self.cells(line).and_then(&read);
            rows.push(row.map_err(|error| SweepError::unreadable(self.name, format!("line {}: {error}", index + 1)))?);
        }
        Ok(rows)
    }

    /// The wanted cells of a line.
    fn cells(&self, line: &'a str) -> Result<[&'a str; N], String> {
        let cells: Vec<&str> = line.split(',').collect();
        if cells.len() != self.width {
            return Err(format!("{} cells, expected {}", cells.len(), self.width));
        }
        Ok(self.places.map(|place| cells[place]))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const HEADER: &str =
        "architecture,direction,seed,train_accuracy,test_accuracy,train_loss,test_loss,epochs,seconds,diverged_at\n";

    #[test]
    fn columns_are_found_by_name_and_diverged_runs_have_no_accuracy() {
        let text = format!("{HEADER}lenet,cos 2 -4,0,99,80.25,0,0,20,1.5,\nlenet,nad 10,1,,,,,3,0.1,240\n");
        let read = runs(Experiment::Directional, "directional/lenet.csv", text.as_bytes()).unwrap();
        let cosine = Variant::Direction(Direction::Wave { wave: Wave::Cosine, k1: 2, k2: -4 });
        let first = Run { variant: cosine, seed: 0, train_accuracy: Some(99.0), test_accuracy: Some(80.25) };
        let lost = Variant::Direction(Direction::Nad(10));
        let second = Run { variant: lost, seed: 1, train_accuracy: None, test_accuracy: None };
        assert_eq!(read, Runs { ended: vec![first, second], all: 2 });
        let swapped = runs(Experiment::Poisoning, "x", b"test_accuracy,train_accuracy,seed,set\n17.5,20,4,nad 3\n");
        let poisoned = Variant::Poisoned(3);
        let run = Run { variant: poisoned, seed: 4, train_accuracy: Some(20.0), test_accuracy: Some(17.5) };
        assert_eq!(swapped.unwrap().ended, [run]);
    }

    #[test]
    fn every_label_is_read_as_it_is_written() {
        let wave = |wave| Direction::Wave { wave, k1: -16, k2: 14 };
        let directions = [
            wave(Wave::Cosine),
            wave(Wave::Sine),
            Direction::Nad(7),
            Direction::Row(0),
            Direction::Pixel(1023),
            Direction::Random(5),
        ];
        for direction in directions.map(Variant::Direction) {
            assert_eq!(variant(Experiment::Directional, &direction.to_string()), Some(direction));
        }
        for set in [Variant::Clean, Variant::Poisoned(9), Variant::Original, Variant::Flipped, Variant::Trained] {
            assert_eq!(variant(Experiment::Poisoning, &set.to_string()), Some(set));
        }
    }

    #[test]
    fn margins_may_be_infinite_or_missing() {
        let text = "seed,first_nad,last_nad,lower_quartile,median,upper_quartile,images,unreached\n\
                    0,0,31,0.5,1.5,inf,100,30\n0,32,63,,,,0,0\n";
        let read = margins("m", text.as_bytes()).unwrap();
        assert_eq!(read[0], MarginRow { first_nad: 0, quartiles: Some([0.5, 1.5, f64::INFINITY]) });
        assert_eq!(read[1], MarginRow { first_nad: 32, quartiles: None });
    }

    #[test]
    fn what_is_no_such_table_is_told_with_its_line() {
        let said = |text: &str| runs(Experiment::Directional, "d.csv", text.as_bytes()).unwrap_err().to_string();
        assert!(said("").starts_with("d.csv: no column \"direction\""), "{}", said(""));
        let said = |line: &str| said(&format!("direction,seed,train_accuracy,test_accuracy\nnad 0,0,1,90\n{line}\n"));
        assert_eq!(said("nad 1"), "d.csv: line 3: 1 cells, expected 4");
        assert_eq!(said("nad x,0,1,90"), "d.csv: line 3: \"nad x\" is no direction or set");
        assert_eq!(said("nad 1,0,1,much"), "d.csv: line 3: \"much\" is no number");
        assert_eq!(said("nad 1,-1,1,90"), "d.csv: line 3: \"-1\" is no seed");
    }

    fn spec(experiment: &str) -> Spec {
        let head = "name = 'x'\narchitectures = ['lenet']\ninput = { channels = 3 }\ncifar10 = { path = 'c' }";
        Spec::from_toml(&format!("{head}\n{experiment}")).unwrap()
    }

    #[test]
    fn outcomes_are_runs_by_their_places() {
        let spec = spec("[flipping]\nbasis = { path = 'n' }\nseeds = 2");
        let well = Outcome { train_accuracy: 99.0, test_accuracy: 48.0, ..Outcome::default() };
        let lost = Outcome::diverged(3, 240);
        let runs = Runs::new(&spec, Experiment::Flipping, "lenet", [(3, &well), (0, &lost), (99, &well)], 4);
        let flipped = Run { variant: Variant::Flipped, seed: 1, train_accuracy: Some(99.0), test_accuracy: Some(48.0) };
        let original = Run { variant: Variant::Original, seed: 0, train_accuracy: None, test_accuracy: None };
        assert_eq!(runs, Runs { ended: vec![flipped, original], all: 4 });
    }

    #[test]
    fn margins_of_outcomes_are_quartiles_block_by_block() {
        let spec = spec("[margins]\nbasis = { path = 'n' }\nimages = 3\nsubspace = 512\nstride = 512");
        let extra = vec![3.0, 1.0, 2.0, f64::INFINITY, 1.0, f64::INFINITY];
        let rows = MarginRow::of_runs(&spec, [&Outcome { extra, ..Outcome::default() }]);
        assert_eq!(rows[0], MarginRow { first_nad: 0, quartiles: Some([1.5, 2.0, 2.5]) });
        assert_eq!((rows[1].first_nad, rows[1].quartiles.map(|of| of[1])), (512, Some(f64::INFINITY)));
        let lost = Outcome { extra: vec![f64::NAN; 6], ..Outcome::diverged(3, 240) };
        assert_eq!(MarginRow::of_runs(&spec, [&lost])[1], MarginRow { first_nad: 512, quartiles: None });
    }
}
