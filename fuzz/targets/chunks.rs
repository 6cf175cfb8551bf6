//! The chunk decoder: whatever is announced and whatever comes, the payload is whole with its digest or refused, and no more
//! memory is taken than was announced.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nadgrid_core::ids::Digest;
use nadgrid_proto::chunks::{Assembler, chunks};

fuzz_target!(|input: (u64, u64, Option<String>, Vec<Vec<u8>>)| {
    let (size, limit, digest, pieces) = input;
    let whole = pieces.concat();
    let honest = digest.is_none();
    let size = if honest { whole.len() as u64 } else { size };
    let announced = digest.unwrap_or_else(|| Digest::of(&whole).to_string());
    let limit = limit.min(1 << 20);
    let Ok(mut assembler) = Assembler::new(size, limit, &announced) else { return };
    assert!(size <= limit);
    let pushed = pieces.iter().try_for_each(|piece| assembler.push(piece));
    match pushed.and_then(|()| assembler.finish()) {
        Ok((bytes, digest)) => {
            assert_eq!((bytes.len() as u64, digest), (size, Digest::of(&bytes)));
            assert_eq!(digest.to_string(), announced);
            assert_eq!(chunks(&bytes).flatten().collect::<Vec<_>>(), bytes);
        }
        Err(error) => assert!(!honest, "{error}"),
    }
});
