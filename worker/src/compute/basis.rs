//! NADs from `.npy` files: a matrix k x D of f32 or f64.
//!
//! The coordinator has checked the file before it accepted the sweep, so errors here are short.
//! Deliberately absent: other shapes and types, and drawing, for which the `figures` crate has a reader of its own.

use npyz::{NpyFile, Order};

/// Rows of D numbers, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct NadMatrix {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) numbers: Vec<f64>,
}

impl NadMatrix {
    /// Returns a row, if there is one of this index.
    pub(super) fn row(&self, index: u64) -> Option<&[f64]> {
        let start = usize::try_from(index).ok()?.checked_mul(self.columns)?;
        self.numbers.get(start..start.checked_add(self.columns)?)
    }

    /// Reads the bytes of a `.npy` file.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let file = NpyFile::new(bytes).map_err(|e| e.to_string())?;
        let &[rows, columns] = file.shape() else { return Err(format!("its shape is {:?}, not k x D", file.shape())) };
        let rows = rows as usize;
        let columns = columns as usize;
        let order = file.order();
        let numbers = match file.try_data::<f64>() {
            Ok(numbers) => numbers.collect::<Result<Vec<f64>, _>>(),
            Err(file) => {
                let narrow = file.try_data::<f32>().map_err(|_| "it holds neither f4 nor f8".to_owned())?;
                narrow.map(|number| number.map(f64::from)).collect()
            }
        };
        let numbers = numbers.map_err(|e| e.to_string())?;
        if numbers.len() != rows * columns {
            return Err(format!("{} numbers for {rows} x {columns}", numbers.len()));
        }
        let numbers = match order {
            Order::C => numbers,
            Order::Fortran => {
                (0..rows * columns).map(|index| numbers[index % columns * rows + index / columns]).collect()
            }
        };
        Ok(Self { rows, columns, numbers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use npyz::{AutoSerialize, WriterBuilder};

    fn file<T: AutoSerialize + Copy>(shape: &[u64], order: Order, numbers: &[T]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let options = npyz::WriteOptions::new().default_dtype().order(order).shape(shape).writer(&mut bytes);
        let mut writer = options.begin_nd().unwrap();
        writer.extend(numbers.iter().copied()).unwrap();
        writer.finish().unwrap();
        bytes
    }

    #[test]
    fn either_type_and_either_order_give_one_matrix() {
        let expected = NadMatrix { rows: 2, columns: 3, numbers: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0] };
        let wide = file(&[2, 3], Order::C, &[1f64, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let narrow = file(&[2, 3], Order::Fortran, &[1f32, 4.0, 2.0, 5.0, 3.0, 6.0]);
        assert_eq!(NadMatrix::parse(&wide), Ok(expected.clone()));
        assert_eq!(NadMatrix::parse(&narrow), Ok(expected.clone()));
        assert_eq!((expected.row(1), expected.row(2)), (Some(&[4.0, 5.0, 6.0][..]), None));
    }

    #[test]
    fn other_arrays_are_refused() {
        assert!(NadMatrix::parse(b"no array").is_err());
        assert!(NadMatrix::parse(&file(&[3], Order::C, &[1f64, 2.0, 3.0])).unwrap_err().contains("[3]"));
        assert!(NadMatrix::parse(&file(&[1, 2], Order::C, &[1i32, 2])).unwrap_err().contains("f8"));
    }
}
