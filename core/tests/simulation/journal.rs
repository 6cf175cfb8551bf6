//! The journal in memory: frames of records as JSON, of which the last may be torn by a crash.

use nadgrid_core::ids::Digest;
use nadgrid_core::scheduler::Record;

/// Bytes of a frame's length, and of its checksum.
const LENGTH: usize = 4;
const CHECKSUM: usize = 8;

/// What is on the disk.
#[derive(Default)]
pub(crate) struct Journal {
    bytes: Vec<u8>,
    /// Records in whole frames.
    pub(crate) records: u64,
}

/// Records as lines.
pub(crate) fn lines(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| serde_json::to_string(record).expect("records are JSON")).collect()
}

/// A frame: length, checksum, lines.
fn frame(lines: &[String]) -> Vec<u8> {
    let payload = lines.join("\n");
    let checksum = &Digest::of(payload.as_bytes()).0[..CHECKSUM];
    [&(payload.len() as u32).to_le_bytes()[..], checksum, payload.as_bytes()].concat()
}

/// The first frame's payload and what follows it, if it is whole.
fn split_frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH>()?;
    let (checksum, rest) = rest.split_first_chunk::<CHECKSUM>()?;
    let (payload, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    (Digest::of(payload).0[..CHECKSUM] == checksum[..]).then_some((payload, rest))
}

impl Journal {
    /// Appends a batch; it is durable.
    pub(crate) fn append(&mut self, lines: &[String]) {
        self.bytes.extend(frame(lines));
        self.records += lines.len() as u64;
    }

    /// Appends a batch of which only a part gets to the disk: `share` of its bytes, not all.
    pub(crate) fn append_torn(&mut self, lines: &[String], share: f64) {
        let frame = frame(lines);
        let kept = (frame.len() as f64 * share) as usize;
        self.bytes.extend(&frame[..kept.min(frame.len() - 1)]);
    }

    /// Puts other records in the place of all.
    pub(crate) fn replace(&mut self, lines: &[String]) {
        self.bytes = frame(lines);
        self.records = lines.len() as u64;
    }

    /// Takes the last batch away: what no journal may do.
    pub(crate) fn lose_last(&mut self) {
        let (mut rest, mut last) = (&self.bytes[..], 0);
        while let Some((_, after)) = split_frame(rest) {
            last = self.bytes.len() - rest.len();
            rest = after;
        }
        self.bytes.truncate(last);
    }

    /// Every whole record; a torn tail is cut off.
    pub(crate) fn read(&mut self) -> Vec<Record> {
        let mut records = Vec::new();
        let mut rest = &self.bytes[..];
        while let Some((payload, after)) = split_frame(rest) {
            let lines = payload.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
            records.extend(lines.map(|line| serde_json::from_slice::<Record>(line).expect("a record")));
            rest = after;
        }
        let whole = self.bytes.len() - rest.len();
        self.bytes.truncate(whole);
        self.records = records.len() as u64;
        records
    }
}

#[test]
fn torn_tails_are_cut_off_and_nothing_else() {
    use nadgrid_core::ids::SweepId;
    let record = |name: &str| Record::Forgotten { sweep: SweepId::new(name) };
    let batch = |names: &[&str]| lines(&names.iter().map(|name| record(name)).collect::<Vec<_>>());
    for share in [0.0, 0.1, 0.5, 0.99, 1.0] {
        let mut journal = Journal::default();
        journal.append(&batch(&["a", "b"]));
        journal.append_torn(&batch(&["c", "d"]), share);
        assert_eq!(journal.read(), [record("a"), record("b")]);
        journal.append(&batch(&["e"]));
        assert_eq!(journal.read(), [record("a"), record("b"), record("e")]);
        journal.lose_last();
        assert_eq!(journal.read(), [record("a"), record("b")]);
        journal.replace(&batch(&["f"]));
        assert_eq!(journal.read(), [record("f")]);
    }
}
