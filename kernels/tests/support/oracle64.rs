//! A batch through a network in f64, by the definitions: training and evaluation mode, no dropout. Gradients are central
//! differences of it.

use nadgrid_core::architecture::{BATCH_NORM_EPS, Conv2d, Layer, Network, Padding, Shape, Step};

/// Parameters, running statistics and mode.
pub(crate) struct Oracle<'a> {
    pub(crate) network: &'a Network,
    pub(crate) parameters: Vec<f64>,
    /// Running means and variances; in training mode there are none.
    pub(crate) running: Option<(Vec<f64>, Vec<f64>)>,
}

impl Oracle<'_> {
    /// The outputs of a batch.
    pub(crate) fn forward(&self, batch: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let mut maps = vec![batch.to_vec()];
        for step in self.network.steps() {
            maps.push(self.layer(step, &maps));
        }
        maps.pop().unwrap()
    }

    /// The mean cross-entropy of a batch.
    pub(crate) fn loss(&self, batch: &[Vec<f64>], labels: &[u8]) -> f64 {
        let outputs = self.forward(batch);
        let losses = outputs.iter().zip(labels).map(|(logits, &label)| {
            logits.iter().map(|logit| logit.exp()).sum::<f64>().ln() - logits[usize::from(label)]
        });
        losses.sum::<f64>() / batch.len() as f64
    }

    fn tensor(&self, step: &Step, offset: usize) -> &[f64] {
        &self.parameters[self.network.parameters()[step.weight.unwrap() + offset].range.clone()]
    }

    fn layer(&self, step: &Step, maps: &[Vec<Vec<f64>>]) -> Vec<Vec<f64>> {
        let inputs = &maps[step.inputs[0]];
        if let Layer::BatchNorm2d { .. } = step.layer {
            return self.batch_norm(step, inputs);
        }
        let second = step.inputs.get(1).map(|&map| &maps[map]);
        let one = |(place, x): (usize, &Vec<f64>)| match &step.layer {
            Layer::Conv2d(conv) => self.convolution(step, conv, x),
            Layer::Linear { .. } => {
                let rows = self.tensor(step, 0).chunks(x.len()).zip(self.tensor(step, 1));
                rows.map(|(row, bias)| row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + bias).collect()
            }
            &Layer::MaxPool2d { size } => pool(step, size, x, |window| window.iter().copied().fold(f64::MIN, f64::max)),
            &Layer::AvgPool2d { size } => {
                pool(step, size, x, |window| window.iter().sum::<f64>() / window.len() as f64)
            }
            Layer::Relu => x.iter().map(|x| x.max(0.0)).collect(),
            Layer::Flatten | Layer::Dropout { .. } => x.clone(),
            Layer::Add => x.iter().zip(&second.unwrap()[place]).map(|(a, b)| a + b).collect(),
            Layer::Concat => [&x[..], &second.unwrap()[place]].concat(),
            Layer::BatchNorm2d { .. } => unreachable!(),
        };
        inputs.iter().enumerate().map(one).collect()
    }

    fn batch_norm(&self, step: &Step, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let area = step.input.height * step.input.width;
        let mut outputs = inputs.to_vec();
        for channel in 0..step.input.channels {
            let range = channel * area..(channel + 1) * area;
            let numbers: Vec<f64> = inputs.iter().flat_map(|x| x[range.clone()].iter().copied()).collect();
            let (mean, variance) = match &self.running {
                Some((means, variances)) => {
                    let place = step.statistics.clone().unwrap().start + channel;
                    (means[place], variances[place])
                }
                None => moments(&numbers),
            };
            let scale = self.tensor(step, 0)[channel] / (variance + f64::from(BATCH_NORM_EPS)).sqrt();
            let bias = self.tensor(step, 1)[channel];
            outputs.iter_mut().for_each(|x| x[range.clone()].iter_mut().for_each(|x| *x = (*x - mean) * scale + bias));
        }
        outputs
    }

    fn convolution(&self, step: &Step, conv: &Conv2d, x: &[f64]) -> Vec<f64> {
        let from = step.input;
        let to = step.output;
        let k = conv.kernel;
        let at = |channel: usize, row: isize, column: isize| {
            let height = from.height as isize;
            let width = from.width as isize;
            let (row, column) = match conv.padding {
                Padding::Circular => (row.rem_euclid(height), column.rem_euclid(width)),
                Padding::Zeros(zeros) => (row - zeros as isize, column - zeros as isize),
            };
            let inside = (0..height).contains(&row) && (0..width).contains(&column);
            if inside { x[(channel as isize * height + row) as usize * from.width + column as usize] } else { 0.0 }
        };
        let weights = self.tensor(step, 0);
        let mut out = Vec::with_capacity(to.len());
        for o in 0..to.channels {
            for (row, column) in positions(to) {
                let mut sum = if conv.bias { self.tensor(step, 1)[o] } else { 0.0 };
                for c in 0..from.channels {
                    for (i, j) in positions(Shape { channels: 1, height: k, width: k }) {
                        let row = row * conv.stride + i;
                        let column = column * conv.stride + j;
                        sum +=
                            weights[((o * from.channels + c) * k + i) * k + j] * at(c, row as isize, column as isize);
                    }
                }
                out.push(sum);
            }
        }
        out
    }
}

/// Mean and biased variance.
pub(crate) fn moments(numbers: &[f64]) -> (f64, f64) {
    let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
    (mean, numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / numbers.len() as f64)
}

fn pool(step: &Step, size: usize, x: &[f64], of: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let from = step.input;
    let to = step.output;
    let windows = (0..to.channels).flat_map(|c| positions(to).map(move |(row, column)| (c, row, column)));
    let window = |(c, row, column): (usize, usize, usize)| {
        let inside = positions(Shape { channels: 1, height: size, width: size });
        let at = |(i, j)| x[(c * from.height + row * size + i) * from.width + column * size + j];
        of(&inside.map(at).collect::<Vec<_>>())
    };
    windows.map(window).collect()
}

fn positions(shape: Shape) -> impl Iterator<Item = (usize, usize)> {
    (0..shape.height).flat_map(move |row| (0..shape.width).map(move |column| (row, column)))
}

/// The derivatives of `value` by `numbers`, central differences of step 1e-5: in f64 they err by about 1e-10 of the third
/// derivative and 1e-11 of the value.
pub(crate) fn derivatives(numbers: &[f64], mut value: impl FnMut(&[f64]) -> f64) -> Vec<f64> {
    let h = 1e-5;
    let mut moved = numbers.to_vec();
    let mut one = |place: usize| {
        moved[place] = numbers[place] + h;
        let plus = value(&moved);
        moved[place] = numbers[place] - h;
        let minus = value(&moved);
        moved[place] = numbers[place];
        (plus - minus) / (2.0 * h)
    };
    (0..numbers.len()).map(&mut one).collect()
}
