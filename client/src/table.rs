//! The coordinator's tables of runs and of margins: comma-separated, their columns found by name.
//!
//! Absent: quotes, which no cell of them needs.

use crate::error::Error;
use nadgrid_core::spec::{Direction, Experiment, Variant, Wave};

/// One training run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Run {
    /// What it was trained on.
    pub(crate) variant: Variant,
    /// Percent; `None` when the run diverged.
    pub(crate) test_accuracy: Option<f64>,
}

/// The margins of one network in one block of NADs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Block {
    /// The block's first NAD.
    pub(crate) first_nad: u64,
    /// Lower quartile, median and upper quartile over the images; infinite where too many never left their class, `None` when
    /// the network diverged.
    pub(crate) quartiles: Option<[f64; 3]>,
}

/// The runs of an experiment's table; `name` is what errors call it.
///
/// # Errors
/// [`Error::Draw`] when a column is missing or a cell is not understood.
pub(crate) fn runs(experiment: Experiment, name: &str, bytes: &[u8]) -> Result<Vec<Run>, Error> {
    let label = if experiment == Experiment::Directional { "direction" } else { "set" };
    let table = Table::new(name, bytes, [label, "test_accuracy"])?;
    table.rows(|[label, accuracy]| {
        let variant = variant(experiment, label).ok_or_else(|| format!("{label:?} is no direction or set"))?;
        Ok(Run { variant, test_accuracy: optional(accuracy)? })
    })
}

/// The blocks of a table of margins, network by network.
///
/// # Errors
/// [`Error::Draw`] when a column is missing or a cell is not understood.
pub(crate) fn blocks(name: &str, bytes: &[u8]) -> Result<Vec<Block>, Error> {
    let table = Table::new(name, bytes, ["first_nad", "lower_quartile", "median", "upper_quartile"])?;
    table.rows(|[first, lower, median, upper]| {
        let first_nad = first.parse().map_err(|_| format!("{first:?} is no index"))?;
        let quartiles = match [optional(lower)?, optional(median)?, optional(upper)?] {
            [Some(lower), Some(median), Some(upper)] => Some([lower, median, upper]),
            _ => None,
        };
        Ok(Block { first_nad, quartiles })
    })
}

/// A number, or nothing in an empty cell.
fn optional(cell: &str) -> Result<Option<f64>, String> {
    if cell.is_empty() {
        return Ok(None);
    }
    cell.parse().map(Some).map_err(|_| format!("{cell:?} is no number"))
}

/// What a label stands for; the inverse of [`Variant`]'s `Display`.
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
struct Table<'a, const N: usize> {
    name: &'a str,
    text: &'a str,
    /// How many columns there are in all.
    width: usize,
    places: [usize; N],
}

impl<'a, const N: usize> Table<'a, N> {
    fn new(name: &'a str, bytes: &'a [u8], columns: [&str; N]) -> Result<Self, Error> {
        let text = std::str::from_utf8(bytes).map_err(|error| wrong(name, error))?;
        let header: Vec<&str> = text.lines().next().unwrap_or_default().split(',').collect();
        let mut places = [0; N];
        for (place, column) in places.iter_mut().zip(columns) {
            let found = header.iter().position(|name| *name == column);
            *place = found.ok_or_else(|| wrong(name, format!("no column {column:?} in its header {header:?}")))?;
        }
        Ok(Self { name, text, width: header.len(), places })
    }

    fn rows<T>(&self, read: impl Fn([&str; N]) -> Result<T, String>) -> Result<Vec<T>, Error> {
        let lines = self.text.lines().enumerate().skip(1);
        let row = |(line, text): (usize, &str)| {
            let cells: Vec<&str> = text.split(',').collect();
            let read = match cells.len() == self.width {
                true => read(self.places.map(|place| cells[place])),
                false => Err(format!("{} cells, expected {}", cells.len(), self.width)),
            };
            read.map_err(|error| wrong(self.name, format!("line {}: {error}", line + 1)))
        };
        lines.map(row).collect()
    }
}

fn wrong(name: &str, reason: impl ToString) -> Error {
    Error::Draw { what: name.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str =
        "architecture,direction,seed,train_accuracy,test_accuracy,train_loss,test_loss,epochs,seconds,diverged_at\n";

    #[test]
    fn columns_are_found_by_name_and_diverged_runs_have_no_accuracy() {
        let text = format!("{HEADER}lenet,cos 2 -4,0,99,80.25,0,0,20,1.5,\nlenet,nad 10,1,,,,,3,0.1,240\n");
        let read = runs(Experiment::Directional, "directional/lenet.csv", text.as_bytes()).unwrap();
        let cosine = Variant::Direction(Direction::Wave { wave: Wave::Cosine, k1: 2, k2: -4 });
        assert_eq!(read[0], Run { variant: cosine, test_accuracy: Some(80.25) });
        assert_eq!(read[1], Run { variant: Variant::Direction(Direction::Nad(10)), test_accuracy: None });
        let swapped = runs(Experiment::Poisoning, "x", b"test_accuracy,set\n17.5,nad 3\n").unwrap();
        assert_eq!(swapped, [Run { variant: Variant::Poisoned(3), test_accuracy: Some(17.5) }]);
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
        let read = blocks("m", text.as_bytes()).unwrap();
        assert_eq!(read[0], Block { first_nad: 0, quartiles: Some([0.5, 1.5, f64::INFINITY]) });
        assert_eq!(read[1], Block { first_nad: 32, quartiles: None });
    }

    #[test]
    fn what_is_no_such_table_is_told_with_its_line() {
        let said = |text: &str| runs(Experiment::Directional, "d.csv", text.as_bytes()).unwrap_err().to_string();
        assert!(said("").starts_with("d.csv: no column \"direction\""), "{}", said(""));
        assert_eq!(said("direction,test_accuracy\nnad 0,90\nnad 1\n"), "d.csv: line 3: 1 cells, expected 2");
        assert_eq!(said("direction,test_accuracy\nnad x,90\n"), "d.csv: line 2: \"nad x\" is no direction or set");
        assert_eq!(said("direction,test_accuracy\nnad 1,much\n"), "d.csv: line 2: \"much\" is no number");
    }
}
