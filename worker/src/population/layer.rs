//! One layer for all members at once.

use super::activations::Activations::{self, Features, Maps, Shared};
use super::mode::LayerMode;
use super::policy::Policy;
use super::weights::LayerWeights;
use nadgrid_core::architecture::{BATCH_NORM_EPS, BATCH_NORM_MOMENTUM, Conv2d, Layer, Padding, Shape, Step};
use tch::{TchError, Tensor};

/// A layer of a network, with everything but the maps that it reads.
pub(super) struct LayerInputs<'a> {
    /// Members K that are computed together.
    pub(super) members: i64,
    pub(super) policy: &'a Policy,
    /// The layer's index in its network.
    pub(super) index: usize,
    pub(super) step: &'a Step,
    pub(super) weights: Option<&'a LayerWeights>,
    pub(super) statistics: Option<&'a (Tensor, Tensor)>,
}

impl LayerInputs<'_> {
    /// Computes the layer's output from the one or two maps that it reads.
    pub(super) fn apply(&self, read: Vec<Activations>, mode: &mut LayerMode<'_>) -> Result<Activations, TchError> {
        let mut read = read.into_iter();
        let missing = || TchError::Shape("an input or a weight is missing".to_owned());
        let first = read.next().ok_or_else(missing)?;
        match &self.step.layer {
            Layer::Conv2d(conv) => self.convolve(conv, self.weights.ok_or_else(missing)?, first),
            Layer::Linear { .. } => self.product(self.weights.ok_or_else(missing)?, first),
            Layer::BatchNorm2d { .. } => {
                let statistics = self.statistics.ok_or_else(missing)?;
                self.normalise(
                    self.weights.ok_or_else(missing)?,
                    statistics,
                    first,
                    matches!(mode, LayerMode::Training(_)),
                )
            }
            Layer::Relu => first.map(|t| t.f_relu()),
            Layer::Dropout { .. } => match mode {
                LayerMode::Evaluation => Ok(first),
                LayerMode::Training(dropout) => {
                    let mask = dropout.mask(self.index, self.batch(&first))?;
                    self.drop(first, mask)
                }
            },
            Layer::MaxPool2d { size } => {
                let window = [*size as i64; 2];
                self.spatial(first)?.map(|t| t.f_max_pool2d(window, window, [0, 0], [1, 1], false))
            }
            Layer::AvgPool2d { size } => {
                let window = [*size as i64; 2];
                self.spatial(first)?.map(|t| t.f_avg_pool2d(window, window, [0, 0], false, true, None))
            }
            Layer::Flatten => first.features(self.members).map(Features),
            Layer::Add => self.add(first, read.next().ok_or_else(missing)?),
            Layer::Concat => self.concat(first, read.next().ok_or_else(missing)?),
        }
    }

    fn convolve(&self, conv: &Conv2d, weights: &LayerWeights, before: Activations) -> Result<Activations, TchError> {
        // Where every member sees the same input it is one plain convolution with all members' channels.
        let (input, groups) = match before {
            Shared(t) => (t, 1),
            before => (before.maps(self.members, self.step.input)?, self.members),
        };
        let policy = self.policy;
        let (input, zeros) = match conv.padding {
            Padding::Zeros(zeros) => (policy.narrow(&input)?, zeros as i64),
            Padding::Circular => (wrap(&policy.narrow(&input)?, conv.kernel as i64 - 1)?, 0),
        };
        let stride = [conv.stride as i64; 2];
        let bias = weights.bias.as_ref();
        if groups > 1 && policy.unfolds && is_unfolded(self.step.input.channels, conv.kernel) {
            let bias = bias.map(|bias| bias.f_view([1, -1, 1, 1])).transpose()?;
            let sums = self.unfolded(conv, &input, &weights.weight, zeros)?;
            return policy.widen(&bias.map_or_else(|| Ok(sums.shallow_clone()), |bias| sums.f_add(&bias))?).map(Maps);
        }
        policy.widen(&input.f_conv2d(&weights.weight, bias, stride, [zeros; 2], [1, 1], groups)?).map(Maps)
    }

    /// Computes the convolution of every member's channels, without bias, as one batch of products: for every input and member its
    /// weights `[out, in·k·k]` by the map's windows `[in·k·k, positions]`. With the inputs outside and the members inside, as maps
    /// lie, the windows and the sums need no transposing; the weights, repeated for every input, are small beside the windows.
    fn unfolded(&self, conv: &Conv2d, input: &Tensor, weight: &Tensor, zeros: i64) -> Result<Tensor, TchError> {
        let members = self.members;
        let [channels, outputs] = [self.step.input.channels, conv.channels].map(|n| n as i64);
        let size = input.size();
        let [batch, _, height, width] = size[..] else {
            return Err(TchError::Shape(format!("a map of {} dimensions", size.len())));
        };
        let window = [conv.kernel as i64; 2];
        // On a GPU libtorch unfolds one input after the other, so here all inputs' channels are one's.
        let maps = input.f_reshape([1, batch * members * channels, height, width])?;
        let windows = maps.f_im2col(window, [1, 1], [zeros; 2], [conv.stride as i64; 2])?;
        let windows = windows.f_view([batch * members, channels * window[0] * window[1], -1])?;
        let own = weight.f_view([1, members, outputs, -1])?.f_expand([batch, -1, -1, -1], false)?;
        let sums = own.f_reshape([batch * members, outputs, -1])?.f_bmm(&windows)?;
        let [rows, columns] = [self.step.output.height, self.step.output.width].map(|n| n as i64);
        sums.f_view([batch, members * outputs, rows, columns])
    }

    fn product(&self, weights: &LayerWeights, before: Activations) -> Result<Activations, TchError> {
        let policy = self.policy;
        let features = policy.narrow(&before.features(self.members)?)?;
        let mut products = features.f_bmm(&weights.weight)?;
        if let Some(bias) = &weights.bias {
            products = products.f_add_(bias)?;
        }
        policy.widen(&products).map(Features)
    }

    /// Normalises every channel by its statistics. A channel belongs to one member, so plain batch norm is every member's own.
    fn normalise(
        &self,
        weights: &LayerWeights,
        statistics: &(Tensor, Tensor),
        before: Activations,
        training: bool,
    ) -> Result<Activations, TchError> {
        let maps = before.maps(self.members, self.step.input)?;
        let (mean, variance) = statistics;
        let momentum = decimal(BATCH_NORM_MOMENTUM);
        let eps = decimal(BATCH_NORM_EPS);
        let weight = Some(&weights.weight);
        let bias = weights.bias.as_ref();
        maps.f_batch_norm(weight, bias, Some(mean), Some(variance), training, momentum, eps, true).map(Maps)
    }

    fn drop(&self, before: Activations, mask: Option<Tensor>) -> Result<Activations, TchError> {
        let Some(mask) = mask else { return Ok(before) };
        let members = self.members;
        let device = |t: &Tensor| mask.f_to_device_(t.device(), self.policy.kind, false, false);
        match before {
            Features(t) => t.f_mul(&device(&t)?).map(Features),
            before => {
                let maps = before.maps(members, self.step.input)?;
                let mask = Features(device(&maps)?).maps(members, self.step.input)?;
                maps.f_mul(&mask).map(Maps)
            }
        }
    }

    fn add(&self, a: Activations, b: Activations) -> Result<Activations, TchError> {
        match (a, b) {
            (Features(a), Features(b)) => a.f_add(&b).map(Features),
            (a, b) => {
                let members = self.members;
                let shape = self.step.input;
                a.maps(members, shape)?.f_add(&b.maps(members, shape)?).map(Maps)
            }
        }
    }

    /// Puts every member's channels of both maps side by side.
    fn concat(&self, a: Activations, b: Activations) -> Result<Activations, TchError> {
        let members = self.members;
        let first = self.step.input;
        let whole = self.step.output;
        let second = Shape { channels: whole.channels - first.channels, ..first };
        let [height, width] = [first.height, first.width].map(|n| n as i64);
        // Of up to four dimensions libtorch has one fast kernel, of five a slow one for each operand.
        let split = |maps: Activations, shape: Shape| {
            let shape_of = [-1, members, shape.len() as i64];
            maps.maps(members, shape)?.f_reshape(shape_of)
        };
        let joined = Tensor::f_cat(&[split(a, first)?, split(b, second)?], 2)?;
        joined.f_reshape([-1, members * whole.channels as i64, height, width]).map(Maps)
    }

    /// Reshapes to maps, since pooling needs rows and columns.
    fn spatial(&self, before: Activations) -> Result<Activations, TchError> {
        match before {
            Features(_) => before.maps(self.members, self.step.input).map(Maps),
            before => Ok(before),
        }
    }

    fn batch(&self, before: &Activations) -> i64 {
        match before {
            Features(t) => t.size().get(1).copied().unwrap_or(0),
            Shared(t) | Maps(t) => t.size().first().copied().unwrap_or(0),
        }
    }
}

/// Whether a grouped convolution is computed by unfolding: of up to 8 channels a group and up to 256 numbers a window. For a single
/// channel libtorch has a depthwise kernel of its own and for a few cuDNN has grouped ones; both are far slower on a GPU than a
/// product. For more channels the windows would take more memory than cuDNN, and cuDNN is good at those.
pub(super) fn is_unfolded(channels: usize, kernel: usize) -> bool {
    channels <= 8 && channels * kernel * kernel <= 256
}

/// Returns the map with its first rows and columns repeated at its ends, `more` of each, as on a torus.
pub(super) fn wrap(maps: &Tensor, more: i64) -> Result<Tensor, TchError> {
    let size = maps.size();
    let [height, width] = [size[2], size[3]];
    let times = |length: i64| (length + more + length - 1) / length;
    let tiled = maps.f_repeat([1, 1, times(height), times(width)])?;
    tiled.f_narrow(2, 0, height + more)?.f_narrow(3, 0, width + more)?.f_contiguous()
}

/// Returns the f64 of an f32 constant's decimal form, since PyTorch's own constants are f64.
pub(super) fn decimal(constant: f32) -> f64 {
    constant.to_string().parse().unwrap_or(f64::from(constant))
}
