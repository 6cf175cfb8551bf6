//! The encoding of a batch of records: one line with a digest and a count, then one line of JSON for each record.
//!
//! The digest is that of all bytes after it, so a batch is either intact or damaged as a whole. Deliberately absent: repair.
//! Databases commit a batch or they do not, so a damaged batch is not a torn write, and acknowledged records must not be
//! skipped silently.

use nadgrid_core::ids::Digest;
use nadgrid_core::scheduler::Record;
use serde_json::Value;
use thiserror::Error;

/// The number of hexadecimal digits of a digest.
const DIGEST: usize = 64;
/// The JSON of a number that is not finite, and of an empty field.
const NULL: &[u8] = b"null";
/// The most fields that an error names.
const MAX_NAMED: usize = 12;

/// The reasons why a batch cannot be read.
#[derive(Debug, Error)]
pub enum Damage {
    /// It does not begin with a digest and a count.
    #[error("it has no heading")]
    Heading,
    /// Bytes were changed or lost.
    #[error("its bytes differ from those that were written")]
    Digest,
    /// The number of records differs from that in the heading.
    #[error("its heading announces {announced} records, but it has {found}")]
    Count {
        /// The number in the heading.
        announced: u64,
        /// The number of lines.
        found: u64,
    },
    /// A record is unknown to this release.
    #[error("its record {number} cannot be read: {source}")]
    Record {
        /// The record's number, counted from 1.
        number: u64,
        /// The parser's error for this record.
        source: serde_json::Error,
    },
}

/// The reasons why a record cannot be written.
#[derive(Debug, Error)]
pub enum Unwritable {
    /// It cannot be represented in JSON.
    #[error("a record has no JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Reading it would give another record.
    #[error(
        "a record \"{kind}\" could not be read back ({why}); fields without a value: {fields}; numbers must be finite"
    )]
    Changed {
        /// The record's kind, as JSON names it.
        kind: String,
        /// The result of reading it back.
        why: String,
        /// The fields without a value in JSON: every number that is not finite, and every empty field.
        fields: String,
    },
}

/// Encodes a batch.
#[derive(Debug, Default)]
pub struct Encoder {
    lines: Vec<u8>,
    records: u64,
}

impl Encoder {
    /// Adds a record. In JSON a number that is not finite is `null`, so a line with that word is read back.
    ///
    /// # Errors
    /// [`Unwritable`] if the record cannot be written, or would be read as another; the encoder must not be used afterwards.
    pub fn push(&mut self, record: &Record) -> Result<(), Unwritable> {
        let line = self.line(record)?;
        if self.lines[line..].windows(NULL.len()).any(|word| word == NULL) {
            prove(record, &self.lines[line..])?;
        }
        Ok(())
    }

    /// Adds a record of a batch that replaces others: every line is read back.
    ///
    /// # Errors
    /// Those of [`Encoder::push`].
    pub fn push_proven(&mut self, record: &Record) -> Result<(), Unwritable> {
        let line = self.line(record)?;
        prove(record, &self.lines[line..])
    }

    /// Writes a record. Returns the offset of its line.
    fn line(&mut self, record: &Record) -> Result<usize, Unwritable> {
        let start = self.lines.len();
        serde_json::to_writer(&mut self.lines, record)?;
        self.lines.push(b'\n');
        self.records += 1;
        Ok(start)
    }

    /// The number of records so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The size so far.
    pub fn bytes(&self) -> usize {
        self.lines.len()
    }

    /// Returns the batch and empties the encoder.
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

/// Fails unless reading the line gives the record.
fn prove(record: &Record, line: &[u8]) -> Result<(), Unwritable> {
    let why = match serde_json::from_slice::<Record>(line) {
        Ok(read) if read == *record => return Ok(()),
        Ok(_) => "the result would differ".to_owned(),
        Err(error) => error.to_string(),
    };
    let value: Value = serde_json::from_slice(line)?;
    let mut fields = Vec::new();
    nulls(&value, String::new(), &mut fields);
    fields.truncate(MAX_NAMED);
    let kind = value["record"].as_str().unwrap_or_default().to_owned();
    Err(Unwritable::Changed { kind, why, fields: fields.join(", ") })
}

/// Collects the paths of fields without a value.
fn nulls(value: &Value, path: String, found: &mut Vec<String>) {
    match value {
        Value::Null => found.push(path),
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(index, value)| nulls(value, format!("{path}[{index}]"), found));
        }
        Value::Object(values) => {
            let dot = if path.is_empty() { "" } else { "." };
            values.iter().for_each(|(key, value)| nulls(value, format!("{path}{dot}{key}"), found));
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Decodes the records of a batch.
///
/// # Errors
/// [`Damage`]; it never panics, whatever the bytes are.
pub fn decode(batch: &[u8]) -> Result<Vec<Record>, Damage> {
    let (digest, rest) = batch.split_at_checked(DIGEST).ok_or(Damage::Heading)?;
    let digest = std::str::from_utf8(digest).ok().and_then(Digest::from_hex).ok_or(Damage::Heading)?;
    let rest = rest.strip_prefix(b" ").ok_or(Damage::Heading)?;
    if Digest::of(rest) != digest {
        return Err(Damage::Digest);
    }
    let end = rest.iter().position(|&byte| byte == b'\n').ok_or(Damage::Heading)?;
    let count = std::str::from_utf8(&rest[..end]).ok().and_then(|count| count.parse().ok());
    let announced = count.ok_or(Damage::Heading)?;
    let mut records = Vec::new();
    for line in rest[end + 1..].split_inclusive(|&byte| byte == b'\n') {
        let number = records.len() as u64 + 1;
        records.push(serde_json::from_slice(line).map_err(|source| Damage::Record { number, source })?);
    }
    let found = records.len() as u64;
    if found == announced { Ok(records) } else { Err(Damage::Count { announced, found }) }
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
            // A digest may also be written in capitals: only that bit does not matter.
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

    fn tally(slot_seconds: f64) -> Record {
        let tally = Tally { slot_seconds, ..Tally::default() };
        Record::Tally { sweep: SweepId::new("s"), job: JobIndex(1), tally }
    }

    #[test]
    fn a_number_that_is_not_finite_is_refused_by_name() {
        for number in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            for (record, kind, field) in [
                (tally(number), "\"tally\"", "tally.slot_seconds"),
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
        assert!(said(&format!("2\n{line}\n")).contains("announces 2 records, but it has 1"));
        assert!(said(&format!("2\n{line}\n{{}}\n")).contains("its record 2 cannot be read"));
        assert!(said("x\n").contains("heading") && said("1").contains("heading"));
        assert_eq!(decode(&sealed(&format!("1\n{line}\n"))).unwrap(), [ended("one")]);
    }
}
