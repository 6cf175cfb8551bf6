//! The journal's reader: any bytes are damage in words, or records that are written as they were read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nadgrid_core::ids::Digest;

// The codec needs no more of the coordinator than this.
#[path = "../../coordinator/src/journal/codec.rs"]
mod codec;

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    // The same behind a digest that is right, which no fuzzer would find.
    read(&[Digest::of(bytes).to_string().as_bytes(), b" ", bytes].concat());
});

fn read(bytes: &[u8]) {
    match codec::decode(bytes) {
        Err(damage) => assert!(!damage.to_string().is_empty()),
        Ok(records) => {
            let mut encoder = codec::Encoder::default();
            records.iter().for_each(|record| encoder.push(record).unwrap());
            let plain = encoder.finish();
            records.iter().for_each(|record| encoder.push_proven(record).unwrap());
            assert_eq!((encoder.records(), encoder.bytes() > 0), (records.len() as u64, !records.is_empty()));
            assert_eq!(plain, encoder.finish());
            let again = codec::decode(&plain).unwrap();
            assert_eq!(records, again);
        }
    }
}
