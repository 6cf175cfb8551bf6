//! Examines SQLite's write-ahead log before SQLite reads it.
//!
//! SQLite reads the log up to the first frame with a wrong checksum and takes the rest for the remains of a crash: after one
//! flipped bit all later transactions are ignored silently. But a transaction only begins when the one before it is on the
//! disk. So a frame that follows the end of a transaction proves that this transaction was written completely; if it is not
//! complete now, it was damaged since. Frames are chained by their checksums, which distinguishes a frame behind the damage
//! from an older leftover. Damage to the last transaction looks like a crash; [`super::mark`] detects it. Deliberately
//! absent: repair, and SQLite's index of the log, which SQLite rebuilds.
//!
//! The format: <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>.

use std::io::{self, ErrorKind, Read};
use thiserror::Error;

const HEADER: usize = 32;
const FRAME: usize = 24;
/// The first word of a log. Its last bit gives the byte order of checksums.
const MAGIC: u32 = 0x377f_0682;
const PAGES: std::ops::RangeInclusive<u32> = 512..=65_536;

/// The damage of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WalDamage {
    /// The header is damaged. SQLite would take the log for empty.
    #[error("its header differs from what was written")]
    Header,
    /// A frame is damaged. SQLite would ignore it and all later ones.
    #[error("its frame {number} differs from what was written, and later frames follow it")]
    Frame {
        /// The frame's number, counted from 1.
        number: u64,
    },
}

type Sums = (u32, u32);

/// The header of a log.
struct WalHeader {
    big_endian: bool,
    page: usize,
    salts: [u8; 8],
    sums: Sums,
}

impl WalHeader {
    /// Parses a header; `None` if the bytes are not one.
    fn of(bytes: &[u8; HEADER]) -> Option<Self> {
        let magic = word(bytes, 0);
        let page = word(bytes, 8);
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
            let mut one = word(words, 0);
            let mut two = word(words, 4);
            if !self.big_endian {
                one = one.swap_bytes();
                two = two.swap_bytes();
            }
            first = first.wrapping_add(one).wrapping_add(second);
            second = second.wrapping_add(two).wrapping_add(first);
        }
        (first, second)
    }

    /// The checksum of a frame that follows one with these sums.
    fn sums_of(&self, frame: &[u8; FRAME], page: &[u8], before: Sums) -> Sums {
        self.add(self.add(before, &frame[..8]), page)
    }

    /// Whether a frame ends a transaction, or did before a bit of the word for that was flipped.
    fn ended(&self, frame: &[u8; FRAME], page: &[u8], before: Sums) -> bool {
        word(frame, 4) != 0
            || (0..32).any(|bit| {
                let mut other = *frame;
                other[4 + bit / 8] ^= 1 << (bit % 8);
                self.sums_of(&other, page, before) == sums_at(frame, 16)
            })
    }
}

/// The state after the first invalid frame.
struct Broken {
    /// The number of the first invalid frame.
    number: u64,
    /// The checksums that the next frame may continue: the stored one, and the computed one if the stored one was damaged.
    before: [Sums; 2],
    /// Whether a transaction ended with it.
    ended: bool,
}

/// Examines a log. Returns its damage, if SQLite would ignore acknowledged transactions.
pub(super) fn examine(mut log: impl Read) -> io::Result<Option<WalDamage>> {
    let mut header = [0; HEADER];
    // SQLite creates the file before it writes the header, and waits for the header before it writes a frame.
    if !fill(&mut log, &mut header)? {
        return Ok(None);
    }
    let Some(head) = WalHeader::of(&header) else {
        let blank = header.iter().all(|&byte| byte == 0) && is_blank(log)?;
        return Ok((!blank).then_some(WalDamage::Header));
    };
    let mut frame = [0; FRAME];
    let mut page = vec![0; head.page];
    let mut sums = head.sums;
    let mut broken = None::<Broken>;
    let mut number = 0;
    while fill(&mut log, &mut frame)? && fill(&mut log, &mut page)? {
        number += 1;
        let current = frame[8..16] == head.salts;
        let stored = sums_at(&frame, 16);
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

/// Reads as many bytes as fit; false if the log ends before.
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
        let plain = WalHeader { big_endian: false, page: PAGE, salts: [1; 8], sums: (0, 0) };
        let mut sums = plain.add((0, 0), &bytes);
        let put = |bytes: &mut Vec<u8>, sums: Sums| {
            bytes.extend(sums.0.to_be_bytes());
            bytes.extend(sums.1.to_be_bytes());
        };
        put(&mut bytes, sums);
        for &(salt, number, ends) in frames {
            let mut frame = [0; FRAME];
            frame[3] = number;
            frame[7] = if ends { 4 } else { 0 };
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
