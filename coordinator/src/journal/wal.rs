//! Looks at SQLite's write-ahead log before SQLite reads it.
//!
//! SQLite reads the log up to the first frame whose checksum is wrong and takes the rest to be what a crash left: one flipped
//! bit, and everything behind it is gone without a word. But a transaction is only begun when the one before it is on the disk.
//! So a frame that follows the end of a transaction proves that this transaction was written whole, and if it is not whole now,
//! it was damaged since. Frames are chained by their checksums, which is how a frame behind the damage is known to be no
//! leftover. Damage of the last transaction looks like a crash; what it took is noticed by [`super::mark`]. Deliberately absent:
//! repair, and SQLite's index of the log, which is made anew.
//!
//! The format: <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>.

use std::io::{self, ErrorKind, Read};
use thiserror::Error;

const HEADER: usize = 32;
const FRAME: usize = 24;
/// The last bit of the first word says in which order checksums take bytes.
const MAGIC: u32 = 0x377f_0682;
const PAGES: std::ops::RangeInclusive<u32> = 512..=65_536;

/// What is wrong with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WalDamage {
    /// SQLite would take the log to be empty.
    #[error("its header is not what was written")]
    Header,
    /// SQLite would read only what comes before.
    #[error("frame {number} of it is not what was written, and frames that were written later follow it")]
    Frame {
        /// Counted from 1.
        number: u64,
    },
}

type Sums = (u32, u32);

/// A log's header.
struct Head {
    big_endian: bool,
    page: usize,
    salts: [u8; 8],
    sums: Sums,
}

impl Head {
    /// `None` when it is not one.
    fn of(bytes: &[u8; HEADER]) -> Option<Self> {
        let (magic, page) = (word(bytes, 0), word(bytes, 8));
        if magic & !1 != MAGIC || !PAGES.contains(&page) || !page.is_power_of_two() {
            return None;
        }
        let mut salts = [0; 8];
        salts.copy_from_slice(&bytes[16..24]);
        let head = Self { big_endian: magic & 1 == 1, page: page as usize, salts, sums: sums_at(bytes, 24) };
        (head.add((0, 0), &bytes[..24]) == head.sums).then_some(head)
    }

    /// SQLite's checksum, continued over these bytes.
    fn add(&self, (mut first, mut second): Sums, bytes: &[u8]) -> Sums {
        for words in bytes.chunks_exact(8) {
            let (mut one, mut two) = (word(words, 0), word(words, 4));
            if !self.big_endian {
                (one, two) = (one.swap_bytes(), two.swap_bytes());
            }
            first = first.wrapping_add(one).wrapping_add(second);
            second = second.wrapping_add(two).wrapping_add(first);
        }
        (first, second)
    }

    /// What a frame's checksum has to be behind one with these sums.
    fn sums_of(&self, frame: &[u8; FRAME], page: &[u8], before: Sums) -> Sums {
        self.add(self.add(before, &frame[..8]), page)
    }

    /// Whether a frame ends a transaction, or did before a bit of the word that says so was flipped.
    fn ended(&self, frame: &[u8; FRAME], page: &[u8], before: Sums) -> bool {
        word(frame, 4) != 0
            || (0..32).any(|bit| {
                let mut other = *frame;
                other[4 + bit / 8] ^= 1 << (bit % 8);
                self.sums_of(&other, page, before) == sums_at(frame, 16)
            })
    }
}

/// What is known once a frame was not valid.
struct Broken {
    /// The first such frame.
    number: u64,
    /// What the next frame may follow: this one's checksum as it is there, and as it would be had that been damaged.
    before: [Sums; 2],
    /// Whether a transaction ended with it.
    ended: bool,
}

/// Looks at a log.
pub(super) fn examine(mut log: impl Read) -> io::Result<Option<WalDamage>> {
    let mut header = [0; HEADER];
    // SQLite makes the file before it writes the header, and waits for the header before it writes a frame.
    if !fill(&mut log, &mut header)? {
        return Ok(None);
    }
    let Some(head) = Head::of(&header) else {
        let blank = header.iter().all(|&byte| byte == 0) && is_blank(log)?;
        return Ok((!blank).then_some(WalDamage::Header));
    };
    let (mut frame, mut page) = ([0; FRAME], vec![0; head.page]);
    let (mut sums, mut broken, mut number) = (head.sums, None::<Broken>, 0);
    while fill(&mut log, &mut frame)? && fill(&mut log, &mut page)? {
        number += 1;
        let (current, stored) = (frame[8..16] == head.salts, sums_at(&frame, 16));
        let Some(past) = &mut broken else {
            let computed = head.sums_of(&frame, &page, sums);
            if current && word(&frame, 0) != 0 && computed == stored {
                sums = stored;
            } else {
                let ended = head.ended(&frame, &page, sums);
                broken = Some(Broken { number, before: [stored, computed], ended });
            }
            continue;
        };
        let follows = |before: &Sums| current && head.sums_of(&frame, &page, *before) == stored;
        if past.ended && past.before.iter().any(follows) {
            return Ok(Some(WalDamage::Frame { number: past.number }));
        }
        past.before = [stored; 2];
        past.ended = word(&frame, 4) != 0;
    }
    Ok(None)
}

/// Reads as many bytes as fit; false when the log ends before.
fn fill(log: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match log.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_blank(mut log: impl Read) -> io::Result<bool> {
    let mut bytes = [0; 4096];
    loop {
        match log.read(&mut bytes)? {
            0 => return Ok(true),
            count if bytes[..count].iter().any(|&byte| byte != 0) => return Ok(false),
            _ => {}
        }
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |word, &byte| word << 8 | u32::from(byte))
}

fn sums_at(bytes: &[u8], at: usize) -> Sums {
    (word(bytes, at), word(bytes, at + 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 512;

    /// A log as SQLite writes it: of each frame its salts, its page's number and whether it ends a transaction.
    fn log(frames: &[(u8, u8, bool)]) -> Vec<u8> {
        let mut bytes = [MAGIC, 3_007_000, PAGE as u32, 0, 0, 0].map(u32::to_be_bytes).concat();
        bytes[16..24].fill(1);
        let plain = Head { big_endian: false, page: PAGE, salts: [1; 8], sums: (0, 0) };
        let mut sums = plain.add((0, 0), &bytes);
        let put = |bytes: &mut Vec<u8>, sums: Sums| {
            bytes.extend(sums.0.to_be_bytes());
            bytes.extend(sums.1.to_be_bytes());
        };
        put(&mut bytes, sums);
        for &(salt, number, ends) in frames {
            let mut frame = [0; FRAME];
            (frame[3], frame[7]) = (number, if ends { 4 } else { 0 });
            frame[8..16].fill(salt);
            let page = [number.wrapping_mul(37) ^ salt; PAGE];
            sums = plain.sums_of(&frame, &page, sums);
            bytes.extend_from_slice(&frame[..16]);
            put(&mut bytes, sums);
            bytes.extend_from_slice(&page);
        }
        bytes
    }

    fn at(frame: usize) -> usize {
        HEADER + frame * (FRAME + PAGE)
    }

    #[test]
    fn whole_logs_torn_logs_and_leftovers_are_as_they_should_be() {
        assert_eq!(examine(&b""[..]).unwrap(), None);
        assert_eq!(examine(&[0_u8; 5_000][..]).unwrap(), None, "it was never written");
        let whole = log(&[(1, 1, false), (1, 2, true), (1, 1, true), (1, 2, false), (1, 3, false), (1, 4, true)]);
        for length in 0..=whole.len() {
            assert_eq!(examine(&whole[..length]).unwrap(), None, "cut at {length}");
        }
        // The last transaction in any order: each frame of it whole, half there, or not there.
        for state in 0..27_usize {
            let mut torn = whole.clone();
            for (frame, digit) in [(3, 1), (4, 3), (5, 9)] {
                let missing = match state / digit % 3 {
                    0 => continue,
                    1 => at(frame) + FRAME + PAGE / 2..at(frame + 1),
                    _ => at(frame)..at(frame + 1),
                };
                torn[missing].fill(0);
            }
            assert_eq!(examine(&torn[..]).unwrap(), None, "state {state}");
        }
        // Behind what was written since it was begun anew lies what was written before.
        assert_eq!(examine(&log(&[(1, 1, true), (9, 2, true), (9, 3, true), (9, 4, true)])[..]).unwrap(), None);
    }

    #[test]
    fn a_flipped_bit_is_noticed_unless_it_is_in_the_last_transaction() {
        let whole = log(&[(1, 1, false), (1, 2, true), (1, 1, true), (1, 2, false), (1, 4, true)]);
        for bit in 0..8 * whole.len() {
            let mut changed = whole.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let found = examine(&changed[..]).unwrap();
            let frame = (0..5).rfind(|&frame| bit / 8 >= at(frame));
            match frame {
                None => assert_eq!(found, Some(WalDamage::Header), "bit {bit}"),
                Some(frame @ 0..=2) => {
                    assert_eq!(found, Some(WalDamage::Frame { number: frame as u64 + 1 }), "bit {bit}");
                }
                // A frame of the last transaction that seems to end it is noticed as well.
                Some(_) => assert!(found.is_none_or(|found| found == WalDamage::Frame { number: 4 }), "bit {bit}"),
            }
        }
    }
}
