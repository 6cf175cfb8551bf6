//! The tables as files have them: our runs, the published grid of frequencies and the published accuracies along NADs.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result, bail, ensure};

/// Published cells are numbered from the frequency -16 in steps of 2 (SCIENCE.md, section 2).
const CENTRE: i64 = 8;
const SIDE: i64 = 32;

/// A cosine on the 32 x 32 grid, in periods along rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Frequency {
    k1: i64,
    k2: i64,
}

impl Frequency {
    /// The cell (x, y) of the published table, if there is one. Rows x > 8 of that table are copies, without the flip of columns
    /// that would make them right: a frequency there is the cosine of its negative, which has a cell of its own.
    pub(super) fn cell(self) -> Option<(i64, i64)> {
        if self.k1 % 2 != 0 || self.k2 % 2 != 0 {
            return None;
        }
        let Self { k1, k2 } = if wrap(self.k1) > 0 { Self { k1: -self.k1, k2: -self.k2 } } else { self };
        Some((wrap(k1) / 2 + CENTRE, wrap(k2) / 2 + CENTRE))
    }
}

/// Into -16..16: a frequency is defined modulo 32.
fn wrap(k: i64) -> i64 {
    (k + SIDE / 2).rem_euclid(SIDE) - SIDE / 2
}

/// The meaning of a direction's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PublishedDirection {
    Cosine(Frequency),
    /// The index of a NAD.
    Nad(u32),
}

impl fmt::Display for PublishedDirection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cosine(Frequency { k1, k2 }) => write!(f, "cos {k1} {k2}"),
            Self::Nad(index) => write!(f, "nad {index}"),
        }
    }
}

impl PublishedDirection {
    fn parse(label: &str) -> Result<Self> {
        let whole = |word: &str| word.parse().with_context(|| format!("{word:?} in {label:?} is no whole number"));
        match label.split_whitespace().collect::<Vec<_>>()[..] {
            ["cos", k1, k2] => Ok(Self::Cosine(Frequency { k1: whole(k1)?, k2: whole(k2)? })),
            ["row" | "nad", index] => {
                let index = whole(index)?;
                Ok(Self::Nad(u32::try_from(index).with_context(|| format!("{index} in {label:?} is no index"))?))
            }
            _ => bail!("{label:?} is neither `cos K1 K2` nor `row INDEX` nor `nad INDEX`"),
        }
    }
}

/// All runs along one direction.
#[derive(Debug, PartialEq)]
pub(super) struct Ours {
    pub(super) direction: PublishedDirection,
    /// Mean of the test accuracies, percent. Not a number if a run diverged.
    pub(super) accuracy: f64,
    pub(super) runs: usize,
}

/// Our `directional/ARCHITECTURE.csv`, averaged over seeds.
pub(super) fn ours(csv: &str) -> Result<Vec<Ours>> {
    let mut accuracies = BTreeMap::<_, Vec<f64>>::new();
    for row in rows(csv, &["direction", "test_accuracy"])? {
        let [direction, accuracy] = row[..] else { bail!("a row of {} fields", row.len()) };
        // Empty where a run diverged.
        let accuracy = if accuracy.is_empty() { f64::NAN } else { number(accuracy)? };
        accuracies.entry(PublishedDirection::parse(direction)?).or_default().push(accuracy);
    }
    let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
    let ours = accuracies.into_iter();
    Ok(ours.map(|(direction, of)| Ours { direction, accuracy: mean(&of), runs: of.len() }).collect())
}

/// LeNet's published accuracies by cell, of the rows that are no copies.
pub(super) fn dft(csv: &str) -> Result<BTreeMap<(i64, i64), f64>> {
    let mut cells = BTreeMap::new();
    for row in rows(csv, &["x", "y", "acc_ln"])? {
        let [x, y, accuracy] = row[..] else { bail!("a row of {} fields", row.len()) };
        let cell = (x.parse::<i64>()?, y.parse::<i64>()?);
        if cell.0 <= CENTRE {
            cells.insert(cell, number(accuracy)?);
        }
    }
    Ok(cells)
}

/// LeNet's published accuracies by index of the NAD: 0 to 10 and every fourth from there, the others being interpolated.
pub(super) fn nads(csv: &str) -> Result<BTreeMap<u32, f64>> {
    let mut indices = BTreeMap::new();
    for row in rows(csv, &["index", "acc_ln"])? {
        let [index, accuracy] = row[..] else { bail!("a row of {} fields", row.len()) };
        let index: u32 = index.parse().with_context(|| format!("{index:?} is no index"))?;
        if index <= 10 || index % 4 == 2 {
            indices.insert(index, number(accuracy)?);
        }
    }
    Ok(indices)
}

fn number(field: &str) -> Result<f64> {
    field.parse().with_context(|| format!("{field:?} is no number"))
}

/// The named columns of every row. Fields hold no comma and are not quoted.
fn rows<'a>(csv: &'a str, columns: &[&str]) -> Result<Vec<Vec<&'a str>>> {
    let mut lines = csv.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let place = |column: &&str| {
        let place = header.iter().position(|found| found == column);
        place.with_context(|| format!("no column {column:?}, only {}", header.join(", ")))
    };
    let places = columns.iter().map(place).collect::<Result<Vec<_>>>()?;
    let pick = |(index, line): (usize, &'a str)| {
        let fields: Vec<&str> = line.split(',').collect();
        ensure!(
            fields.len() == header.len(),
            "line {}: {} fields instead of {}",
            index + 2,
            fields.len(),
            header.len()
        );
        Ok(places.iter().map(|place| fields[*place]).collect())
    };
    lines.enumerate().map(pick).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const HEADER: &str =
        "architecture,direction,seed,train_accuracy,test_accuracy,train_loss,test_loss,epochs,seconds,diverged_at";

    fn published(name: &str) -> String {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/published");
        std::fs::read_to_string(folder.join(name)).expect("the published table")
    }

    fn cell(k1: i64, k2: i64) -> Option<(i64, i64)> {
        Frequency { k1, k2 }.cell()
    }

    #[test]
    fn frequencies_find_their_cells() {
        assert_eq!(cell(0, 0), Some((8, 8)), "the constant");
        assert_eq!(cell(-16, -16), Some((0, 0)), "Nyquist");
        assert_eq!(cell(16, 16), Some((0, 0)), "Nyquist again");
        assert_eq!(cell(-2, 4), Some((7, 10)));
        assert_eq!(cell(2, -4), Some((7, 10)), "a copied row: the cosine of the negative");
        assert_eq!(
            (cell(0, 6), cell(0, -6)),
            (Some((8, 11)), Some((8, 5))),
            "the pairs of row 8 are runs of their own"
        );
        assert_eq!(cell(-2, 16), Some((7, 0)));
        assert_eq!((cell(1, 0), cell(2, 3)), (None, None), "odd frequencies were not measured");
    }

    #[test]
    fn every_independent_cell_is_reached_and_no_other() {
        let table = dft(&published("dft_accuracies_logreg_lenet.csv")).expect("well-formed");
        let even = || (-16..=14).step_by(2);
        let reached: std::collections::BTreeSet<_> =
            even().flat_map(|k1| even().filter_map(move |k2| cell(k1, k2))).collect();
        assert_eq!(reached.len(), 144);
        assert!(reached.iter().eq(table.keys()));
    }

    /// SCIENCE.md, section 2: the accuracies that are quoted there, to their last digit.
    #[test]
    fn published_tables_hold_what_the_paper_shows() {
        let dft = dft(&published("dft_accuracies_logreg_lenet.csv")).expect("well-formed");
        let at = |k1, k2| dft[&cell(k1, k2).expect("a cell")];
        assert!((at(0, 0) - 72.5).abs() < 0.1 && (at(2, 0) - 80.3).abs() < 0.1);
        let nads = nads(&published("nad_accuracies_lenet.csv")).expect("well-formed");
        assert_eq!(nads.len(), 264, "measurements among 1,023 rows");
        assert_eq!(format!("{:.2} {:.2}", nads[&0], nads[&50]), "100.00 89.96");
        assert!(!nads.contains_key(&11), "interpolated");
    }

    #[test]
    fn seeds_are_averaged() {
        let csv = format!(
            "{HEADER}\nlenet,cos 2 -4,0,70,60.5,0.6,0.7,20,3.1,\nlenet,row 10,0,99,98,0.1,0.1,20,3,\nlenet,cos 2 -4,1,70,61.5,0.6,0.7,20,3.1,\n"
        );
        let cosine = PublishedDirection::Cosine(Frequency { k1: 2, k2: -4 });
        let expected = [
            Ours { direction: cosine, accuracy: 61.0, runs: 2 },
            Ours { direction: PublishedDirection::Nad(10), accuracy: 98.0, runs: 1 },
        ];
        assert_eq!(ours(&csv).expect("well-formed"), expected);
        assert_eq!(cosine.to_string(), "cos 2 -4");
    }

    #[test]
    fn a_diverged_run_leaves_no_mean() {
        let csv = format!("{HEADER}\nlenet,nad 3,0,,,,,1,3.1,80\nlenet,nad 3,1,70,61.5,0.6,0.7,20,3.1,\n");
        assert!(ours(&csv).expect("well-formed")[0].accuracy.is_nan());
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let told = |csv: String| format!("{:#}", ours(&csv).expect_err("not readable"));
        assert!(told("architecture,direction\n".into()).contains("test_accuracy"));
        assert!(told(format!("{HEADER}\nlenet,cos 2\n")).contains("line 2: 2 fields instead of 10"));
        assert!(told(format!("{HEADER}\nlenet,sin 2 3,0,1,2,3,4,5,6,\n")).contains("sin 2 3"));
        assert!(told(format!("{HEADER}\nlenet,cos 2 x,0,1,2,3,4,5,6,\n")).contains("\"x\""));
        assert!(told(format!("{HEADER}\nlenet,row -1,0,1,2,3,4,5,6,\n")).contains("-1"));
        assert!(told(format!("{HEADER}\nlenet,row 1,0,1,high,3,4,5,6,\n")).contains("high"));
    }
}
