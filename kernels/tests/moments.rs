//! The fast moments against core's obvious ones, to the bit.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use nadgrid_core::moments::Moments;
use nadgrid_kernels::{InstructionSet, moments_on};
use support::normal;

fn bits(moments: &Moments) -> (u64, Vec<u64>, Vec<u64>) {
    let bits = |numbers: &[f64]| numbers.iter().map(|x| x.to_bits()).collect();
    (moments.count, bits(&moments.mean), bits(&moments.scatter))
}

#[test]
fn moments_are_of_rows_to_the_bit() {
    for (case, (dimension, count)) in (1..=40)
        .map(|count| (7 * count % 101 + 1, count))
        .chain([(1, 1), (31, 5), (32, 8), (33, 9), (300, 32)])
        .enumerate()
    {
        let mut rows = normal(case as u64, dimension * count);
        rows.iter_mut().for_each(|g| *g += 3.0);
        let expected = bits(&Moments::of_rows(&rows, dimension));
        for set in InstructionSet::available() {
            let got = bits(&moments_on(set, &rows, dimension));
            assert!(got == expected, "{count} rows of {dimension} on {}", set.name());
        }
    }
}
