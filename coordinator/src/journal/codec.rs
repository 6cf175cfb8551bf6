//! How a batch of records becomes bytes: one line with a digest and a count, then one line of JSON for each record.
//!
//! The digest is of everything behind it, so a batch is whole or it is damaged: there is no record that looks right in one
//! that is not. Deliberately absent: repair. Databases commit a batch or they do not, so a damaged one is no torn tail, and
//! what was acknowledged must not be skipped in silence.

use nadgrid_core::ids::Digest;
use nadgrid_core::scheduler::Record;
use thiserror::Error;

/// Hexadecimal digits of a digest, and the space behind them.
const DIGEST: usize = 64;

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

/// A batch in the making.
#[derive(Debug, Default)]
pub struct Encoder {
    lines: Vec<u8>,
    records: u64,
}

impl Encoder {
    /// Adds a record.
    ///
    /// # Errors
    /// When it cannot be written as JSON; the batch is of no use then.
    pub fn push(&mut self, record: &Record) -> Result<(), serde_json::Error> {
        serde_json::to_writer(&mut self.lines, record)?;
        self.lines.push(b'\n');
        self.records += 1;
        Ok(())
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
    use nadgrid_core::ids::SweepId;
    use nadgrid_core::scheduler::Outcome;

    fn ended(message: &str) -> Record {
        let outcome = Outcome::Failed { message: message.to_owned() };
        Record::Ended { sweep: SweepId::new("s"), outcome, at: nadgrid_core::ids::Time(7) }
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
