//! CIFAR-10 in its standard binary format: records of one label byte and 3,072 pixel bytes, the red plane, the green, the
//! blue, each of 32 rows of 32.
//!
//! Deliberately absent: files (bytes come in with the name of where they came from) and a fixed number of records, so that
//! a subset is as good as the whole.

use crate::architecture::Shape;
use crate::dataset::Dataset;
use thiserror::Error;

/// The shape of an image.
pub const SHAPE: Shape = Shape { channels: 3, height: 32, width: 32 };
/// Labels are 0 … 9.
pub const CLASSES: usize = 10;
/// Means of the training images' red, green and blue, pixels in [0, 1], as everyone rounds them.
pub const MEAN: [f32; 3] = [0.4914, 0.4822, 0.4465];
/// Their standard deviations.
pub const STD: [f32; 3] = [0.247, 0.243, 0.261];
/// Name of the file of test images.
pub const TEST_FILE: &str = "test_batch.bin";

const PIXELS: usize = SHAPE.len();
/// Bytes of an image and its label.
const RECORD: usize = 1 + PIXELS;

/// Whether a file of this name holds training images: `data_batch_1.bin`, `data_batch_2.bin` and so on.
pub fn is_training_file(name: &str) -> bool {
    let number = name.strip_prefix("data_batch_").and_then(|rest| rest.strip_suffix(".bin"));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Bytes that are no CIFAR-10 images.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Cifar10Error {
    /// No bytes at all.
    #[error("{name}: the file is empty, expected records of {RECORD} bytes, at least one")]
    Empty {
        /// The name of the file.
        name: String,
    },
    /// The last record is not whole.
    #[error("{name}: {bytes} bytes are not whole records of {RECORD} bytes: {left} are left after {records} records")]
    Length {
        /// The name of the file.
        name: String,
        /// The number of bytes.
        bytes: usize,
        /// The number of whole records in them.
        records: usize,
        /// The number of bytes after these records.
        left: usize,
    },
    /// A label that is no class.
    #[error("{name}: the label of record {record} (counted from 0) is {label}, expected 0 to 9")]
    Label {
        /// The name of the file.
        name: String,
        /// The number of the record.
        record: usize,
        /// Its label.
        label: u8,
    },
}

/// Images as bytes, a quarter of what they take as numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Images {
    /// n x 3 x 32 x 32.
    pixels: Vec<u8>,
    /// The classes of n images, 0 … 9.
    labels: Vec<u8>,
}

/// Reads the bytes of a file; `name` is what errors call it.
///
/// # Errors
/// [`Cifar10Error`] when the bytes are not one or more whole records with labels up to 9.
pub fn parse(bytes: &[u8], name: &str) -> Result<Images, Cifar10Error> {
    let name = || name.to_owned();
    let (records, left) = (bytes.len() / RECORD, bytes.len() % RECORD);
    if bytes.is_empty() {
        return Err(Cifar10Error::Empty { name: name() });
    }
    if left != 0 {
        return Err(Cifar10Error::Length { name: name(), bytes: bytes.len(), records, left });
    }
    let mut images = Images { pixels: Vec::with_capacity(records * PIXELS), labels: Vec::with_capacity(records) };
    for (record, bytes) in bytes.chunks_exact(RECORD).enumerate() {
        let label = bytes[0];
        if usize::from(label) >= CLASSES {
            return Err(Cifar10Error::Label { name: name(), record, label });
        }
        images.labels.push(label);
        images.pixels.extend(&bytes[1..]);
    }
    Ok(images)
}

impl Images {
    /// The images of several files, one after the other.
    pub fn concat(files: impl IntoIterator<Item = Self>) -> Self {
        files.into_iter().fold(Self::default(), |mut all, file| {
            all.pixels.extend(file.pixels);
            all.labels.extend(file.labels);
            all
        })
    }

    /// Images n.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// As samples with pixels in [0, 1], byte / 255.
    pub fn dataset(&self) -> Dataset {
        let inputs = self.pixels.iter().map(|&byte| f32::from(byte) / 255.0).collect();
        Dataset { dimension: PIXELS, inputs, labels: self.labels.clone() }
    }
}

/// (x − [`MEAN`]) / [`STD`] on every channel.
///
/// # Panics
/// When the samples are not of [`SHAPE`].
pub fn normalise(data: &mut Dataset) {
    assert_eq!(data.dimension, PIXELS, "numbers of a CIFAR-10 image");
    for (place, plane) in data.inputs.chunks_exact_mut(SHAPE.height * SHAPE.width).enumerate() {
        let (mean, deviation) = (MEAN[place % SHAPE.channels], STD[place % SHAPE.channels]);
        plane.iter_mut().for_each(|x| *x = (*x - mean) / deviation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record whose pixels are their place modulo 256.
    fn record(label: u8) -> Vec<u8> {
        std::iter::once(label).chain((0..PIXELS).map(|place| place as u8)).collect()
    }

    #[test]
    fn records_become_images_with_pixels_from_0_to_1() {
        let file = parse(&[record(3), record(9)].concat(), "a").unwrap();
        let all = Images::concat([file, parse(&record(0), "b").unwrap()]);
        let data = all.dataset();
        assert_eq!((all.len(), data.len(), data.dimension), (3, 3, 3072));
        assert_eq!(data.labels, [3, 9, 0]);
        assert_eq!(data.input(1)[..3], [0.0, 1.0 / 255.0, 2.0 / 255.0]);
        assert_eq!(data.input(2)[255], 1.0);
    }

    #[test]
    fn each_channel_is_normalised_by_its_own_numbers() {
        let mut data = parse(&record(1), "a").unwrap().dataset();
        normalise(&mut data);
        for (channel, (mean, std)) in [(0.4914, 0.247), (0.4822, 0.243), (0.4465, 0.261)].into_iter().enumerate() {
            let expected = (51.0 / 255.0 - mean) / std;
            assert!((f64::from(data.input(0)[channel * 1024 + 51]) - expected).abs() < 1e-6, "channel {channel}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_the_files_name() {
        let said = |bytes: &[u8]| parse(bytes, "data_batch_2.bin").unwrap_err().to_string();
        assert_eq!(said(&[]), "data_batch_2.bin: the file is empty, expected records of 3073 bytes, at least one");
        let long = [record(0), vec![1; 7]].concat();
        assert_eq!(
            said(&long),
            "data_batch_2.bin: 3080 bytes are not whole records of 3073 bytes: 7 are left after 1 records"
        );
        let label = [record(9), record(10)].concat();
        assert_eq!(said(&label), "data_batch_2.bin: the label of record 1 (counted from 0) is 10, expected 0 to 9");
    }

    #[test]
    fn training_files_are_known_by_their_names() {
        assert!(["data_batch_1.bin", "data_batch_12.bin"].into_iter().all(is_training_file));
        let others = ["data_batch_.bin", "data_batch_x.bin", "data_batch_1.bin.gz", "batches.meta.txt", TEST_FILE];
        assert!(!others.into_iter().any(is_training_file));
    }
}
