//! The files that the specs name: a few images and NADs, made of a counter, and the specs themselves.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Bytes of a CIFAR-10 image and its label.
const RECORD: usize = 3073;
const TRAIN: usize = 1000;
const TEST: usize = 500;
/// Numbers of a NAD: one channel of 32 x 32 pixels.
const PLANE: usize = 1024;

/// Writes the images and the NADs.
pub(super) fn write(folder: &Path) -> Result<()> {
    let images = folder.join("images");
    fs::create_dir_all(&images).with_context(|| format!("cannot make {}", images.display()))?;
    for part in 1..=5 {
        fs::write(images.join(format!("data_batch_{part}.bin")), records(TRAIN / 5, part))?;
    }
    fs::write(images.join("test_batch.bin"), records(TEST, 6))?;
    fs::write(folder.join("nads.npy"), identity())?;
    Ok(())
}

/// A spec with these values in its blanks.
pub(super) fn spec(folder: &Path, text: &str, values: &[(&str, &str)]) -> Result<PathBuf> {
    let filled = values.iter().fold(text.to_owned(), |text, (blank, value)| {
        let filled = format!("= {value}");
        text.replace(&format!("= {blank}"), &filled)
    });
    let path = folder.join("spec.toml");
    fs::write(&path, format!("name = 'plans'\n{filled}\n"))?;
    Ok(path)
}

/// Images of noise whose brightness goes with the label, so that there is something to learn.
fn records(count: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let mut bytes = Vec::with_capacity(count * RECORD);
    for image in 0..count {
        let label = (image % 10) as u8;
        bytes.push(label);
        bytes.extend((1..RECORD).map(|_| next() / 2 + 12 * label));
    }
    bytes
}

/// Single pixels, as NumPy stores them.
fn identity() -> Vec<u8> {
    let header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': ({PLANE}, {PLANE}), }}");
    // The header ends on a multiple of 64 bytes.
    let length = (10 + header.len() + 1).next_multiple_of(64) - 10;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((length as u16).to_le_bytes());
    bytes.extend(format!("{header:<width$}\n", width = length - 1).into_bytes());
    for row in 0..PLANE {
        bytes.extend((0..PLANE).flat_map(|column| f64::from(u8::from(row == column)).to_le_bytes()));
    }
    bytes
}
