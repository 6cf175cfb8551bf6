//! One layer for all members at once, and what it needs: weights, running statistics.

use super::PopulationError;
use super::activations::Activations::{self, Features, Maps, Shared};
use super::difference::numbers;
use super::graph::{Graph, Mode};
use super::policy::Policy;
use nadgrid_core::architecture::{BATCH_NORM_EPS, BATCH_NORM_MOMENTUM, Conv2d, Layer, Network, Padding, Shape, Step};
use tch::{TchError, Tensor};

/// A layer's weights, in the shapes and of the kind in which it reads them.
pub(super) struct Loaded {
    /// Convolution `[K·out, in, k, k]`, linear `[K, in, out]`, batch norm `[K·C]`.
    weight: Tensor,
    /// `[K·out]`, linear `[K, 1, out]`.
    bias: Option<Tensor>,
}

/// The weights of all layers.
pub(super) struct Weights(Vec<Option<Loaded>>);

impl Weights {
    /// Cuts the members' flat parameters `[K, parameters]`. One cut for all, so that backward puts the gradient together at once.
    pub(super) fn cut(network: &Network, parameters: &Tensor, policy: &Policy) -> Result<Self, TchError> {
        let lengths: Vec<i64> = network.parameters().iter().map(|p| p.range.len() as i64).collect();
        let pieces = parameters.f_split_with_sizes(lengths, 1)?;
        let members = parameters.size().first().copied().unwrap_or(0);
        let load = |step: &Step| {
            let Some(weight) = step.weight else { return Ok(None) };
            let bias = network.bias(step).map(|_| &pieces[weight + 1]);
            Loaded::new(step, members, &pieces[weight], bias, policy).map(Some)
        };
        network.steps().iter().map(load).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn of(&self, step: usize) -> Option<&Loaded> {
        self.0[step].as_ref()
    }
}

impl Loaded {
    fn new(
        step: &Step,
        members: i64,
        weight: &Tensor,
        bias: Option<&Tensor>,
        policy: &Policy,
    ) -> Result<Self, TchError> {
        let inputs = step.input;
        let (weight, bias) = match &step.layer {
            Layer::Conv2d(Conv2d { kernel, .. }) => {
                let weight = weight.f_reshape([-1, inputs.channels as i64, *kernel as i64, *kernel as i64])?;
                (policy.narrow(&weight)?, bias.map(|b| policy.narrow(&b.f_reshape([-1])?)).transpose()?)
            }
            Layer::Linear { .. } => {
                let weight = weight.f_reshape([members, -1, inputs.len() as i64])?.f_transpose(1, 2)?;
                (policy.narrow(&weight)?, bias.map(|b| policy.narrow(&b.f_unsqueeze(1)?)).transpose()?)
            }
            _ => (weight.f_reshape([-1])?, bias.map(|b| b.f_reshape([-1])).transpose()?),
        };
        Ok(Self { weight, bias })
    }
}

/// Running mean and variance of every batch norm, each `[K·C]`.
pub(super) struct Statistics(Vec<Option<(Tensor, Tensor)>>);

impl Statistics {
    /// Means 0 and variances 1, beside these parameters.
    pub(super) fn new(network: &Network, parameters: &Tensor) -> Result<Self, TchError> {
        let members = parameters.size().first().copied().unwrap_or(0);
        let options = (parameters.f_kind()?, parameters.device());
        let of_step = |step: &Step| {
            let Some(channels) = step.statistics.as_ref().map(|range| range.len() as i64) else { return Ok(None) };
            let shape = [members * channels];
            Ok(Some((Tensor::f_zeros(shape, options)?, Tensor::f_ones(shape, options)?)))
        };
        network.steps().iter().map(of_step).collect::<Result<_, _>>().map(Self)
    }

    /// Those of these members, `[K, S]` each, beside their parameters.
    pub(super) fn of_members(
        network: &Network,
        parameters: &Tensor,
        means: &[f32],
        variances: &[f32],
    ) -> Result<Self, TchError> {
        let statistics = Self::new(network, parameters)?;
        let all = network.statistics_count();
        for (step, both) in network.steps().iter().zip(&statistics.0) {
            let (Some(range), Some((mean, variance))) = (&step.statistics, both) else { continue };
            for (to, from) in [(mean, means), (variance, variances)] {
                let own: Vec<f32> = from.chunks_exact(all).flat_map(|member| &member[range.clone()]).copied().collect();
                to.shallow_clone().f_copy_(&Tensor::f_from_slice(&own)?)?;
            }
        }
        Ok(statistics)
    }

    /// The running means and variances of all members, `[K, S]` each.
    pub(super) fn members(&self, network: &Network, members: usize) -> Result<(Vec<f32>, Vec<f32>), PopulationError> {
        let all = network.statistics_count();
        let (mut means, mut variances) = (vec![0.0; members * all], vec![0.0; members * all]);
        for (step, both) in network.steps().iter().zip(&self.0) {
            let (Some(range), Some((mean, variance))) = (&step.statistics, both) else { continue };
            for (from, to) in [(mean, &mut means), (variance, &mut variances)] {
                let own = numbers::<f32>(from)?;
                for (own, to) in own.chunks_exact(range.len()).zip(to.chunks_exact_mut(all)) {
                    to[range.clone()].copy_from_slice(own);
                }
            }
        }
        Ok((means, variances))
    }

    /// One member's, of `members`.
    pub(super) fn of_member(&self, member: i64, members: i64) -> Result<Self, TchError> {
        let own = |all: &Tensor| {
            let channels = all.size().first().copied().unwrap_or(0) / members;
            all.f_narrow(0, member * channels, channels)
        };
        let of_step = |both: &Option<(Tensor, Tensor)>| {
            both.as_ref().map(|(mean, variance)| Ok((own(mean)?, own(variance)?))).transpose()
        };
        self.0.iter().map(of_step).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn of(&self, step: usize) -> Option<&(Tensor, Tensor)> {
        self.0[step].as_ref()
    }
}

/// A layer in its place, with what it needs.
pub(super) struct Place<'a> {
    pub(super) graph: &'a Graph,
    pub(super) index: usize,
    pub(super) step: &'a Step,
    pub(super) weights: Option<&'a Loaded>,
    pub(super) statistics: Option<&'a (Tensor, Tensor)>,
}

impl Place<'_> {
    /// What comes out for what is read, one or two maps.
    pub(super) fn apply(&self, read: Vec<Activations>, mode: &mut Mode<'_>) -> Result<Activations, TchError> {
        let mut read = read.into_iter();
        let missing = || TchError::Shape("an input or a weight is missing".to_owned());
        let first = read.next().ok_or_else(missing)?;
        match &self.step.layer {
            Layer::Conv2d(conv) => self.convolve(conv, self.weights.ok_or_else(missing)?, first),
            Layer::Linear { .. } => self.product(self.weights.ok_or_else(missing)?, first),
            Layer::BatchNorm2d { .. } => {
                let statistics = self.statistics.ok_or_else(missing)?;
                self.normalise(self.weights.ok_or_else(missing)?, statistics, first, matches!(mode, Mode::Training(_)))
            }
            Layer::Relu => first.map(|t| t.f_relu()),
            Layer::Dropout { .. } => match mode {
                Mode::Evaluation => Ok(first),
                Mode::Training(dropout) => {
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
            Layer::Flatten => first.features(self.graph.members).map(Features),
            Layer::Add => self.add(first, read.next().ok_or_else(missing)?),
            Layer::Concat => self.concat(first, read.next().ok_or_else(missing)?),
        }
    }

    fn convolve(&self, conv: &Conv2d, weights: &Loaded, before: Activations) -> Result<Activations, TchError> {
        // Where every member sees the same input it is one plain convolution with all members' channels.
        let (input, groups) = match before {
            Shared(t) => (t, 1),
            before => (before.maps(self.graph.members, self.step.input)?, self.graph.members),
        };
        let policy = &self.graph.policy;
        let (input, zeros) = match conv.padding {
            Padding::Zeros(zeros) => (policy.narrow(&input)?, zeros as i64),
            Padding::Circular => (wrap(&policy.narrow(&input)?, conv.kernel as i64 - 1)?, 0),
        };
        let (stride, bias) = ([conv.stride as i64; 2], weights.bias.as_ref());
        if groups > 1 && policy.unfolds && is_unfolded(self.step.input.channels, conv.kernel) {
            let bias = bias.map(|bias| bias.f_view([1, -1, 1, 1])).transpose()?;
            let sums = self.unfolded(conv, &input, &weights.weight, zeros)?;
            return policy.widen(&bias.map_or_else(|| Ok(sums.shallow_clone()), |bias| sums.f_add(&bias))?).map(Maps);
        }
        policy.widen(&input.f_conv2d(&weights.weight, bias, stride, [zeros; 2], [1, 1], groups)?).map(Maps)
    }

    /// The convolution of every member's channels, without bias, as one batch of products: for every input and member its weights
    /// `[out, in·k·k]` by the map's windows `[in·k·k, positions]`. With the inputs outside and the members inside, as maps lie, the
    /// windows and the sums need no transposing; the weights, repeated for every input, are small beside the windows.
    fn unfolded(&self, conv: &Conv2d, input: &Tensor, weight: &Tensor, zeros: i64) -> Result<Tensor, TchError> {
        let members = self.graph.members;
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

    fn product(&self, weights: &Loaded, before: Activations) -> Result<Activations, TchError> {
        let policy = &self.graph.policy;
        let features = policy.narrow(&before.features(self.graph.members)?)?;
        let mut products = features.f_bmm(&weights.weight)?;
        if let Some(bias) = &weights.bias {
            products = products.f_add_(bias)?;
        }
        policy.widen(&products).map(Features)
    }

    /// Statistics are a channel's, and a channel is one member's: plain batch norm is every member's own.
    fn normalise(
        &self,
        weights: &Loaded,
        statistics: &(Tensor, Tensor),
        before: Activations,
        training: bool,
    ) -> Result<Activations, TchError> {
        let maps = before.maps(self.graph.members, self.step.input)?;
        let (mean, variance) = statistics;
        let (momentum, eps) = (decimal(BATCH_NORM_MOMENTUM), decimal(BATCH_NORM_EPS));
        let (weight, bias) = (Some(&weights.weight), weights.bias.as_ref());
        maps.f_batch_norm(weight, bias, Some(mean), Some(variance), training, momentum, eps, true).map(Maps)
    }

    fn drop(&self, before: Activations, mask: Option<Tensor>) -> Result<Activations, TchError> {
        let Some(mask) = mask else { return Ok(before) };
        let members = self.graph.members;
        let device = |t: &Tensor| mask.f_to_device_(t.device(), self.graph.policy.kind, false, false);
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
                let (members, shape) = (self.graph.members, self.step.input);
                a.maps(members, shape)?.f_add(&b.maps(members, shape)?).map(Maps)
            }
        }
    }

    /// Every member's channels of both maps side by side.
    fn concat(&self, a: Activations, b: Activations) -> Result<Activations, TchError> {
        let (members, first, whole) = (self.graph.members, self.step.input, self.step.output);
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

    /// Pooling needs rows and columns.
    fn spatial(&self, before: Activations) -> Result<Activations, TchError> {
        match before {
            Features(_) => before.maps(self.graph.members, self.step.input).map(Maps),
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

/// The map with its first rows and columns once more at its ends, `more` of each, as on a torus.
pub(super) fn wrap(maps: &Tensor, more: i64) -> Result<Tensor, TchError> {
    let size = maps.size();
    let [height, width] = [size[2], size[3]];
    let times = |length: i64| (length + more + length - 1) / length;
    let tiled = maps.f_repeat([1, 1, times(height), times(width)])?;
    tiled.f_narrow(2, 0, height + more)?.f_narrow(3, 0, width + more)?.f_contiguous()
}

/// The number that a constant of f32 is written as: PyTorch's own constants are f64.
pub(super) fn decimal(constant: f32) -> f64 {
    constant.to_string().parse().unwrap_or(f64::from(constant))
}
