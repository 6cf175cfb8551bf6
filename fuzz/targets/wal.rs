//! What looks at SQLite's write-ahead log: no bytes make it panic; of a log as SQLite writes it, whatever is cut off looks like a
//! crash, and a bit that is flipped before the last transaction is noticed.

#![no_main]

use libfuzzer_sys::fuzz_target;

// It needs no more of the coordinator than this.
#[path = "../../coordinator/src/journal/wal.rs"]
mod wal;

const HEADER: usize = 32;
const FRAME: usize = 24;
const PAGE: usize = 512;

/// A frame: its page, what the page is filled with, and whether it ends a transaction.
type Frame = (u8, u8, bool);

fuzz_target!(|input: (&[u8], bool, Vec<Frame>, usize, usize)| {
    let (bytes, big_endian, mut frames, cut, bit) = input;
    let _ = wal::examine(bytes).unwrap();

    frames.truncate(64);
    let mut log = written(big_endian, &frames);
    let cut = cut % (log.len() + 1);
    assert_eq!(wal::examine(&log[..cut]).unwrap(), None, "cut at {cut}");

    let bit = bit % (8 * log.len());
    log[bit / 8] ^= 1 << (bit % 8);
    let found = wal::examine(&log[..]).unwrap();
    if bit / 8 < HEADER {
        assert_eq!(found, Some(wal::WalDamage::Header), "bit {bit}");
        return;
    }
    let flipped = (bit / 8 - HEADER) / (FRAME + PAGE);
    // Only a frame that follows the end of a transaction proves that it was written whole.
    if let Some(end) = frames.iter().rposition(|frame| frame.2).filter(|&end| flipped <= end && end + 1 < frames.len())
    {
        assert!(found.is_some(), "bit {bit} of frame {flipped}, a transaction ends with {end}");
    }
});

/// A log as SQLite writes it.
fn written(big_endian: bool, frames: &[Frame]) -> Vec<u8> {
    let magic = 0x377f_0682 | u32::from(big_endian);
    let mut log = [magic, 3_007_000, PAGE as u32, 0, 7, 8].map(u32::to_be_bytes).concat();
    let mut sums = add(big_endian, (0, 0), &log);
    put(&mut log, sums);
    for &(page, content, ends) in frames {
        let begin = log.len();
        for word in [u32::from(page) + 1, if ends { 9 } else { 0 }] {
            log.extend(word.to_be_bytes());
        }
        sums = add(big_endian, sums, &log[begin..]);
        log.extend([7_u32, 8].map(u32::to_be_bytes).concat());
        let content = [content; PAGE];
        sums = add(big_endian, sums, &content);
        put(&mut log, sums);
        log.extend(content);
    }
    log
}

fn put(log: &mut Vec<u8>, (first, second): (u32, u32)) {
    log.extend(first.to_be_bytes());
    log.extend(second.to_be_bytes());
}

fn add(big_endian: bool, (mut first, mut second): (u32, u32), bytes: &[u8]) -> (u32, u32) {
    let word = |bytes: &[u8]| {
        let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
        if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    };
    for pair in bytes.chunks_exact(8) {
        first = first.wrapping_add(word(&pair[..4])).wrapping_add(second);
        second = second.wrapping_add(word(&pair[4..])).wrapping_add(first);
    }
    (first, second)
}
