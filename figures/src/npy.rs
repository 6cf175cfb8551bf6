//! `.npy` arrays in and out: 1-D and 2-D, `f32` or `f64`, either memory order, either byte order.
//!
//! Everything is widened to `f64` on the way in, which is exact. Absent: integers, half precision, pickled objects,
//! `.npz` archives and memory maps. A file is read whole, and its length is checked against its header before any
//! element is.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use ndarray::{Array, Array1, Array2, ArrayBase, ArrayD, Data, Dimension, Ix2, IxDyn, ShapeBuilder};
use npyz::{DType, NpyFile, NpyHeader, Order, TypeChar, WriterBuilder};
use thiserror::Error;

/// The reason why an array could not be read; every variant names the file.
#[derive(Debug, Error)]
pub enum NpyError {
    /// The file could not be opened or read.
    #[error("{file}: {source}")]
    Read {
        /// The name of the file, as messages have it.
        file: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The bytes do not begin with a readable `.npy` header.
    #[error("{file}: not a .npy file: {reason}")]
    NotNpy {
        /// The name of the file, as messages have it.
        file: PathBuf,
        /// The flaw of the header.
        reason: String,
    },
    /// The elements are not `f32` or `f64`.
    #[error("{file}: holds elements of type {found}, not f4 or f8")]
    ElementType {
        /// The name of the file, as messages have it.
        file: PathBuf,
        /// The `descr` found in the header.
        found: String,
    },
    /// The array has another number of dimensions.
    #[error("{file}: has shape {shape:?}, but {expected} dimension(s) are needed")]
    Dimensions {
        /// The name of the file, as messages have it.
        file: PathBuf,
        /// The shape found.
        shape: Vec<u64>,
        /// The number of dimensions that the caller expects.
        expected: usize,
    },
    /// There are fewer bytes of data than the header announces.
    #[error("{file}: truncated: {found} bytes of data where shape {shape:?} needs {needed}")]
    Truncated {
        /// The name of the file, as messages have it.
        file: PathBuf,
        /// The shape in the header.
        shape: Vec<u64>,
        /// Bytes that shape needs.
        needed: u128,
        /// The number of bytes after the header.
        found: usize,
    },
    /// There is no such row.
    #[error("{file}: has no row {row}; accepted is 0 to {}", .rows.saturating_sub(1))]
    Row {
        /// The name of the file, as messages have it.
        file: PathBuf,
        /// The row that was asked for.
        row: u64,
        /// The number that the file has.
        rows: u64,
    },
    /// An element is infinite or not a number.
    #[error("{file}: element {index:?} is {value}")]
    NotFinite {
        /// The name of the file, as messages have it.
        file: PathBuf,
        /// Its index, first axis first.
        index: Vec<usize>,
        /// Its value.
        value: f64,
    },
}

/// Reads a 2-D array.
///
/// # Errors
/// Any [`NpyError`].
pub fn read_matrix(path: &Path) -> Result<Array2<f64>, NpyError> {
    parse(&read_bytes(path)?, path)
}

/// Reads a 1-D array.
///
/// # Errors
/// Any [`NpyError`].
pub fn read_vector(path: &Path) -> Result<Array1<f64>, NpyError> {
    parse(&read_bytes(path)?, path)
}

/// Reads a 2-D array from the bytes of a `.npy` file; `name` stands for it in errors.
///
/// # Errors
/// Any [`NpyError`] but [`NpyError::Read`].
pub fn parse_matrix(bytes: &[u8], name: &Path) -> Result<Array2<f64>, NpyError> {
    parse(bytes, name)
}

/// Reads a 1-D array from the bytes of a `.npy` file; `name` stands for it in errors.
///
/// # Errors
/// Any [`NpyError`] but [`NpyError::Read`].
pub fn parse_vector(bytes: &[u8], name: &Path) -> Result<Array1<f64>, NpyError> {
    parse(bytes, name)
}

/// Reads one row of a 2-D array from the bytes of a `.npy` file, and decodes no other where rows lie in one piece (C order);
/// `name` stands for it in errors.
///
/// # Errors
/// Any [`NpyError`] but [`NpyError::Read`].
pub fn parse_row(bytes: &[u8], name: &Path, row: u64) -> Result<Array1<f64>, NpyError> {
    let (header, data, element_bytes) = checked_header(bytes, name, Ix2::NDIM)?;
    let file = || name.to_owned();
    let [rows, columns] = [0, 1].map(|axis: usize| header.shape().get(axis).copied().unwrap_or(0));
    if row >= rows {
        return Err(NpyError::Row { file: file(), row, rows });
    }
    if header.order() != Order::C {
        return Ok(parse_matrix(bytes, name)?.row(row as usize).to_owned());
    }
    let npy = NpyFile::with_header(header, io::Cursor::new(data));
    let values = match element_bytes {
        4 => read_range::<f32>(npy, row * columns, columns).map(|values| values.into_iter().map(f64::from).collect()),
        _ => read_range::<f64>(npy, row * columns, columns),
    };
    let values: Vec<f64> = values.map_err(|error| NpyError::NotNpy { file: file(), reason: error.to_string() })?;
    match values.iter().position(|value| !value.is_finite()) {
        Some(column) => {
            Err(NpyError::NotFinite { file: file(), index: vec![row as usize, column], value: values[column] })
        }
        None => Ok(Array1::from(values)),
    }
}

/// `count` elements from `first` on; the length of the data has been checked.
fn read_range<T: npyz::Deserialize>(npy: NpyFile<io::Cursor<&[u8]>>, first: u64, count: u64) -> io::Result<Vec<T>> {
    let mut reader = npy.data::<T>().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    reader.seek_to(first)?;
    reader.take(count as usize).collect()
}

/// The bytes of a `.npy` file (C order, this machine's byte order) holding `array`, an array of `f32` or `f64`.
pub fn to_bytes<A, S, D>(array: &ArrayBase<S, D>) -> Vec<u8>
where
    A: npyz::AutoSerialize + Copy,
    S: Data<Elem = A>,
    D: Dimension,
{
    let shape: Vec<u64> = array.shape().iter().map(|&extent| extent as u64).collect();
    let mut bytes = Vec::new();
    npyz::WriteOptions::new()
        .default_dtype()
        .shape(&shape)
        .writer(&mut bytes)
        .begin_nd()
        .and_then(|mut writer| {
            writer.extend(array.iter().copied())?;
            writer.finish()
        })
        .expect("writing to memory cannot fail");
    bytes
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, NpyError> {
    fs::read(path).map_err(|source| NpyError::Read { file: path.to_owned(), source })
}

/// The header, the data after it, and the bytes of an element: floats, in so many dimensions, and all there.
fn checked_header<'a>(
    bytes: &'a [u8],
    name: &Path,
    dimensions: Option<usize>,
) -> Result<(NpyHeader, &'a [u8], u128), NpyError> {
    let file = || name.to_owned();
    let mut data = bytes;
    let header = NpyHeader::from_reader(&mut data)
        .map_err(|error| NpyError::NotNpy { file: file(), reason: error.to_string() })?;
    let element_bytes = float_bytes(&header.dtype())
        .ok_or_else(|| NpyError::ElementType { file: file(), found: header.dtype().descr() })?;
    let shape = header.shape().to_vec();
    if let Some(expected) = dimensions.filter(|&expected| expected != shape.len()) {
        return Err(NpyError::Dimensions { file: file(), shape, expected });
    }
    let needed = shape.iter().fold(element_bytes, |bytes, &extent| bytes.saturating_mul(u128::from(extent)));
    if needed > data.len() as u128 {
        return Err(NpyError::Truncated { file: file(), shape, needed, found: data.len() });
    }
    Ok((header, data, element_bytes))
}

fn parse<D: Dimension>(bytes: &[u8], name: &Path) -> Result<Array<f64, D>, NpyError> {
    let file = || name.to_owned();
    let (header, data, element_bytes) = checked_header(bytes, name, D::NDIM)?;
    let array = decode(header, data, element_bytes)
        .map_err(|error| NpyError::NotNpy { file: file(), reason: error.to_string() })?;
    match array.iter().enumerate().find(|(_, value)| !value.is_finite()) {
        Some((flat, &value)) => Err(NpyError::NotFinite { file: file(), index: unravel(flat, array.shape()), value }),
        None => Ok(array),
    }
}

/// The array behind a header whose dimensions and length have been checked.
fn decode<D: Dimension>(
    header: NpyHeader,
    data: &[u8],
    element_bytes: u128,
) -> Result<Array<f64, D>, Box<dyn std::error::Error>> {
    let extents = header.shape().iter().map(|&extent| usize::try_from(extent)).collect::<Result<Vec<_>, _>>()?;
    let shape = IxDyn(&extents).set_f(header.order() == Order::Fortran);
    let npy = NpyFile::with_header(header, data);
    let values = match element_bytes {
        4 => npy.into_vec::<f32>()?.into_iter().map(f64::from).collect(),
        _ => npy.into_vec::<f64>()?,
    };
    Ok(ArrayD::from_shape_vec(shape, values)?.into_dimensionality()?)
}

/// 4 or 8 for a floating-point element of that size, `None` for every other type.
fn float_bytes(dtype: &DType) -> Option<u128> {
    match dtype {
        DType::Plain(plain) if plain.type_char() == TypeChar::Float => {
            Some(u128::from(plain.size_field())).filter(|bytes| matches!(bytes, 4 | 8))
        }
        _ => None,
    }
}

/// The index of the `flat`-th element in C order.
fn unravel(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (axis, &extent) in shape.iter().enumerate().rev() {
        index[axis] = flat % extent;
        flat /= extent;
    }
    index
}
