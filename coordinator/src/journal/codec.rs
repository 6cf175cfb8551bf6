//! How a batch of records becomes bytes: one line with a digest and a count, then one line of JSON for each record.
//!
//! The digest is of everything behind it, so a batch is whole or it is damaged: there is no record that looks right in one
//! that is not. Deliberately absent: repair. Databases commit a batch or they do not, so a damaged one is no torn tail, and
//! what was acknowledged must not be skipped in silence.

use nadgrid_core::ids::Digest;
use nadgrid_core::scheduler::Record;
use serde_json::Value;
use thiserror::Error;

/// Hexadecimal digits of a digest, and the space behind them.
const DIGEST: usize = 64;
/// What JSON has in the place of a number that is infinite or none, and of a field that is empty.
const NULL: &[u8] = b"null";
/// Fields that an error names.
const NAMED: usize = 12;

/// Why a batch cannot be read.
#[derive(Debug, Error)]
pub enum Damage {
    /// It does not begin with a digest and a count.
    #[error("it has no heading")]
    Heading,
    /// Bytes were changed or lost.
    #[error("its bytes are not those that were written")]
    Digest,
    /// There are more or fewer records than it says.
    #[error("it says that it has {said} records and has {found}")]
    Count {
        /// By its heading.
        said: u64,
        /// Lines that are there.
        found: u64,
    },
    /// A record that this release does not know.
    #[error("record {place} in it cannot be read: {source}")]
    Record {
        /// Counted from 1.
        place: u64,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// Why a record cannot be written.
#[derive(Debug, Error)]
pub enum Unwritable {
    /// It has no JSON.
    #[error("a record has no JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// It would not come back.
    #[error(
        "a record \"{kind}\" would not be read as it is ({why}); fields without a value: {fields}; a number has to be finite"
    )]
    Changed {
        /// Which record, as JSON names it.
        kind: String,
        /// What reading it gives.
        why: String,
        /// The fields that have no value in JSON: every number that is not finite, and what is empty.
        fields: String,
    },
}

/// A batch in the making.
#[derive(Debug, Default)]
pub struct Encoder {
    lines: Vec<u8>,
    records: u64,
}

impl Encoder {
    /// Adds a record. JSON has nothing but `null` for a number that is not finite, so a line with that word is read again.
    ///
    /// # Errors
    /// When it cannot be written as JSON, or not so that it is read as it is; the batch is of no use then.
    pub fn push(&mut self, record: &Record) -> Result<(), Unwritable> {
        let line = self.line(record)?;
        if self.lines[line..].windows(NULL.len()).any(|word| word == NULL) {
            prove(record, &self.lines[line..])?;
        }
        Ok(())
    }

    /// Adds a record that is to replace others: every line is read again.
    ///
    /// # Errors
    /// As [`Encoder::push`].
    pub fn push_proven(&mut self, record: &Record) -> Result<(), Unwritable> {
        let line = self.line(record)?;
        prove(record, &self.lines[line..])
    }

    /// Writes a record; returns where its line begins.
    fn line(&mut self, record: &Record) -> Result<usize, Unwritable> {
        let start = self.lines.len();
        serde_json::to_writer(&mut self.lines, record)?;
        self.lines.push(b'\n');
        self.records += 1;
        Ok(start)
    }

    /// How many records it holds.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Its size so far.
    pub fn bytes(&self) -> usize {
        self.lines.len()
    }

    /// The batch. The encoder is empty again.
    pub fn finish(&mut self) -> Vec<u8> {
        let lines = std::mem::take(&mut self.lines);
        let count = format!("{}\n", std::mem::take(&mut self.records));
        let mut batch = Vec::with_capacity(DIGEST + 1 + count.len() + lines.len());
        batch.resize(DIGEST + 1, b' ');
        batch.extend_from_slice(count.as_bytes());
        batch.extend_from_slice(&lines);
        let digest = Digest::of(&batch[DIGEST + 1..]).to_string();
        batch[..DIGEST].copy_from_slice(digest.as_bytes());
        batch
    }
}

/// Fails unless this line is read as this record.
fn prove(record: &Record, line: &[u8]) -> Result<(), Unwritable> {
    let why = match serde_json::from_slice::<Record>(line) {
        Ok(read) if read == *record => return Ok(()),
        Ok(_) => "it would be another".to_owned(),
        Err(error) => error.to_string(),
    };
    let value: Value = serde_json::from_slice(line)?;
    let mut fields = Vec::new();
    nulls(&value, String::new(), &mut fields);
    fields.truncate(NAMED);
    let kind = value["record"].as_str().unwrap_or_default().to_owned();
    Err(Unwritable::Changed { kind, why, fields: fields.join(", ") })
}

/// Collects the paths of what has no value.
fn nulls(value: &Value, path: String, found: &mut Vec<String>) {
    match value {
        Value::Null => found.push(path),
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(place, value)| nulls(value, format!("{path}[{place}]"), found));
        }
        Value::Object(values) => {
            let dot = if path.is_empty() { "" } else { "." };
            values.iter().for_each(|(key, value)| nulls(value, format!("{path}{dot}{key}"), found));
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The records of a batch.
///
/// # Errors
/// [`Damage`], whatever the bytes are.
pub fn decode(batch: &[u8]) -> Result<Vec<Record>, Damage> {
    let (digest, rest) = batch.split_at_checked(DIGEST).ok_or(Damage::Heading)?;
    let digest = std::str::from_utf8(digest).ok().and_then(Digest::from_hex).ok_or(Damage::Heading)?;
    let rest = rest.strip_prefix(b" ").ok_or(Damage::Heading)?;
    if Digest::of(rest) != digest {
        return Err(Damage::Digest);
    }
    let end = rest.iter().position(|&byte| byte == b'\n').ok_or(Damage::Heading)?;
    let said = std::str::from_utf8(&rest[..end]).ok().and_then(|count| count.parse().ok()).ok_or(Damage::Heading)?;
    let mut records = Vec::new();
    for line in rest[end + 1..].split_inclusive(|&byte| byte == b'\n') {
        let place = records.len() as u64 + 1;
        records.push(serde_json::from_slice(line).map_err(|source| Damage::Record { place, source })?);
    }
    let found = records.len() as u64;
    if found == said { Ok(records) } else { Err(Damage::Count { said, found }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nadgrid_core::ids::{JobIndex, SweepId, Time};
    use nadgrid_core::numerics::NumericsClass;
    use nadgrid_core::scheduler::{FairShare, SweepOutcome, Tally};
    use nadgrid_core::spec::{Inputs, Spec};

    fn ended(message: &str) -> Record {
        let outcome = SweepOutcome::Failed { message: message.to_owned() };
        Record::Ended { sweep: SweepId::new("s"), outcome, at: Time(7) }
    }

    fn batch(records: &[Record]) -> Vec<u8> {
        let mut encoder = Encoder::default();
        records.iter().for_each(|record| encoder.push(record).unwrap());
        encoder.finish()
    }

    /// A batch with this heading and these lines, and a digest that is right.
    fn sealed(rest: &str) -> Vec<u8> {
        format!("{} {rest}", Digest::of(rest.as_bytes())).into_bytes()
    }

    #[test]
    fn records_come_back() {
        let records = [ended("two\nlines, \u{0} and \"quotes\""), ended("")];
        assert_eq!(decode(&batch(&records)).unwrap(), records);
        assert_eq!(decode(&batch(&[])).unwrap(), []);
    }

    #[test]
    fn no_cut_and_no_flipped_bit_goes_unnoticed() {
        let whole = batch(&[ended("one"), ended("two")]);
        for length in 0..whole.len() {
            assert!(decode(&whole[..length]).is_err(), "cut at {length}");
        }
        for bit in 0..8 * whole.len() {
            let mut changed = whole.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            // A digest may be written in capitals as well: that is the one bit that says nothing.
            let same = changed.eq_ignore_ascii_case(&whole) && bit / 8 < DIGEST;
            assert!(same || decode(&changed).is_err(), "bit {bit}");
        }
    }

    fn submitted(weight: f64) -> Record {
        let text = "name = 't'\narchitectures = ['logreg']\n[nads]\nnetworks = 8\nblock_size = 4";
        Record::Submitted {
            sweep: SweepId::new("s"),
            number: 1,
            owner: String::new(),
            key: None,
            share: FairShare { weight, ..FairShare::default() },
            spec: Box::new(Spec::from_toml(text).unwrap()),
            inputs: Inputs::new(),
            at: Time(7),
        }
    }

    fn tally(lane_seconds: f64) -> Record {
        let tally = Tally { lane_seconds, ..Tally::default() };
        Record::Tally { sweep: SweepId::new("s"), job: JobIndex(1), tally }
    }

    #[test]
    fn a_number_that_is_not_finite_is_refused_by_name() {
        for number in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            for (record, kind, field) in [
                (tally(number), "\"tally\"", "tally.lane_seconds"),
                (submitted(number), "\"submitted\"", "share.weight"),
            ] {
                let pushed = [Encoder::default().push(&record), Encoder::default().push_proven(&record)];
                for refused in pushed.map(|pushed| pushed.unwrap_err().to_string()) {
                    assert!(refused.contains(kind) && refused.contains(field), "{refused}");
                }
            }
        }
    }

    #[test]
    fn every_other_number_and_every_empty_field_comes_back() {
        let numbers = [0.0, -0.0, f64::MIN_POSITIVE / 4.0, 0.1 + 0.2, f64::MAX, -f64::MAX];
        let class = NumericsClass {
            device: "null".into(),
            arithmetic: String::new(),
            evaluation: "patch".into(),
            libtorch: "2.11.0".into(),
            precision: "fp32".into(),
            kernels: u32::MAX,
        };
        let started = Record::Started { sweep: SweepId::new("null"), class, at: Time(u64::MAX) };
        let records: Vec<Record> = numbers.iter().flat_map(|&n| [tally(n), submitted(n)]).chain([started]).collect();
        let mut encoder = Encoder::default();
        records.iter().for_each(|record| encoder.push(record).unwrap());
        let plain = encoder.finish();
        records.iter().for_each(|record| encoder.push_proven(record).unwrap());
        assert_eq!(encoder.finish(), plain);
        assert_eq!(decode(&plain).unwrap(), records);
    }

    #[test]
    fn what_is_wrong_under_a_right_digest_is_said() {
        let line = serde_json::to_string(&ended("one")).unwrap();
        let said = |rest: &str| decode(&sealed(rest)).unwrap_err().to_string();
        assert!(said(&format!("2\n{line}\n")).contains("says that it has 2 records and has 1"));
        assert!(said(&format!("2\n{line}\n{{}}\n")).contains("record 2 in it"));
        assert!(said("x\n").contains("heading") && said("1").contains("heading"));
        assert_eq!(decode(&sealed(&format!("1\n{line}\n"))).unwrap(), [ended("one")]);
    }
}
