//! Labelled samples in memory, as training and evaluation take them.

/// Samples and their classes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dataset {
    /// Numbers per sample D: channels x height x width, in that order.
    pub dimension: usize,
    /// The inputs, n x D, row-major.
    pub inputs: Vec<f32>,
    /// n classes, from 0 on.
    pub labels: Vec<u8>,
}

impl Dataset {
    /// Samples n.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// A sample's numbers.
    ///
    /// # Panics
    /// When there is no such sample.
    pub fn input(&self, sample: usize) -> &[f32] {
        &self.inputs[sample * self.dimension..][..self.dimension]
    }
}
