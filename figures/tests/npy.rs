//! `.npy` files: round trips, the other byte and memory orders, and files that must be refused.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use nadgrid_figures::npy::{self, NpyError};
use ndarray::{Array1, Array2, ArrayView2, array};
use proptest::prelude::*;

const NAME: &str = "some/file.npy";

fn matrix(bytes: &[u8]) -> Result<Array2<f64>, NpyError> {
    npy::parse_matrix(bytes, Path::new(NAME))
}

/// A version 1.0 file with this header dictionary and data.
fn file(descr: &str, fortran: bool, shape: &str, data: &[u8]) -> Vec<u8> {
    let fortran = if fortran { "True" } else { "False" };
    let dict = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
    let length = u16::try_from(dict.len()).unwrap().to_le_bytes();
    [b"\x93NUMPY\x01\x00".as_slice(), &length, dict.as_bytes(), data].concat()
}

proptest! {
    #[test]
    fn doubles_come_back_bit_for_bit(rows in 0_usize..5, columns in 0_usize..5, values in prop::collection::vec(-1e300..1e300, 16)) {
        let array = Array2::from_shape_fn((rows, columns), |(row, column)| values[row * 4 + column.min(3)]);
        prop_assert_eq!(matrix(&npy::to_bytes(&array)).unwrap(), array);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), cut in 0_usize..200) {
        let _ = matrix(&bytes);
        let good = npy::to_bytes(&array![[1.0, 2.0], [3.0, 4.0]]);
        prop_assert_eq!(matrix(&good[..cut.min(good.len())]).is_ok(), cut >= good.len());
    }
}

#[test]
fn singles_are_widened_exactly() {
    let array = array![0.1_f32, -2.5, 3e38];
    let read = npy::parse_vector(&npy::to_bytes(&array), Path::new(NAME)).unwrap();
    assert_eq!(read, array.mapv(f64::from));
}

#[test]
fn views_are_written_in_their_own_order() {
    let array = array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]];
    let transposed: ArrayView2<'_, f64> = array.t();
    assert_eq!(matrix(&npy::to_bytes(&transposed)).unwrap(), transposed);
}

#[test]
fn big_endian_singles_in_fortran_order_are_read() {
    let data: Vec<u8> = [1.0_f32, 4.0, 2.0, 5.0, 3.0, 6.0].iter().flat_map(|value| value.to_be_bytes()).collect();
    let expected = array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]];
    assert_eq!(matrix(&file(">f4", true, "(2, 3)", &data)).unwrap(), expected);
}

#[test]
fn a_file_is_read_from_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vector.npy");
    std::fs::write(&path, npy::to_bytes(&array![1.0, 2.0])).unwrap();
    assert_eq!(npy::read_vector(&path).unwrap(), array![1.0, 2.0]);
    let error = npy::read_vector(&folder.path().join("absent.npy")).unwrap_err();
    assert!(matches!(&error, NpyError::Read { .. }));
    assert!(error.to_string().contains("absent.npy"));
}

#[test]
fn other_files_are_refused_by_name() {
    let error = matrix(b"PK\x03\x04 a zip archive").unwrap_err();
    assert!(matches!(&error, NpyError::NotNpy { .. }));
    assert!(error.to_string().starts_with("some/file.npy: not a .npy file"), "{error}");
    assert!(matches!(matrix(b""), Err(NpyError::NotNpy { .. })));
}

#[test]
fn other_element_types_are_refused() {
    let bytes = |descr: &str| file(descr, false, "(1, 1)", &[0; 8]);
    for descr in ["<i8", "<f2", "<c8"] {
        let error = matrix(&bytes(descr)).unwrap_err();
        assert!(matches!(&error, NpyError::ElementType { .. }), "{descr}: {error}");
        assert!(error.to_string().contains(descr), "{error}");
    }
}

#[test]
fn the_other_dimensionality_is_refused() {
    let error = matrix(&npy::to_bytes(&Array1::<f64>::zeros(3))).unwrap_err();
    assert!(matches!(error, NpyError::Dimensions { ref shape, expected: 2, .. } if shape == &[3]));
    let bytes = npy::to_bytes(&Array2::<f32>::zeros((2, 3)));
    assert!(matches!(npy::parse_vector(&bytes, Path::new(NAME)), Err(NpyError::Dimensions { expected: 1, .. })));
}

#[test]
fn missing_data_is_counted() {
    let error = matrix(&file("<f8", false, "(2, 3)", &[0; 47])).unwrap_err();
    assert!(matches!(error, NpyError::Truncated { needed: 48, found: 47, .. }), "{error}");
    // Far more than memory holds: refused from the header alone.
    let error = matrix(&file("<f8", false, "(4000000000, 4000000000)", &[0; 8])).unwrap_err();
    assert!(matches!(error, NpyError::Truncated { .. }), "{error}");
}

#[test]
fn values_that_are_no_numbers_are_located() {
    let error = matrix(&npy::to_bytes(&array![[1.0, 2.0], [f64::NAN, 4.0]])).unwrap_err();
    assert!(matches!(error, NpyError::NotFinite { ref index, .. } if index == &[1, 0]));
    let error = npy::parse_vector(&npy::to_bytes(&array![0.0, f64::NEG_INFINITY]), Path::new(NAME)).unwrap_err();
    assert_eq!(error.to_string(), "some/file.npy: element [1] is -inf");
}
