//! The reach of a change of the input: the window of a feature map that depends on it.

use super::{Conv2d, Layer, Network, Padding, Step};
use std::ops::Range;

/// A rectangle of a feature map, all channels; it may be empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// The rows that it covers.
    pub rows: Range<usize>,
    /// The columns that it covers.
    pub columns: Range<usize>,
}

impl Window {
    /// The window of one pixel.
    pub fn pixel(row: usize, column: usize) -> Self {
        Self { rows: row..row + 1, columns: column..column + 1 }
    }

    /// Returns the number of its positions.
    pub fn area(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    /// The smallest window that holds both.
    fn union(&self, other: &Self) -> Self {
        match (self.area(), other.area()) {
            (0, _) => other.clone(),
            (_, 0) => self.clone(),
            _ => Self { rows: union(&self.rows, &other.rows), columns: union(&self.columns, &other.columns) },
        }
    }
}

fn union(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    a.start.min(b.start)..a.end.max(b.end)
}

impl Step {
    /// The window of the layer's output that depends on `window` of its input; of each input, where there are two.
    pub fn reach(&self, window: &Window) -> Window {
        let (input, output) = (self.input, self.output);
        Window {
            rows: reach(&self.layer, &window.rows, input.height, output.height),
            columns: reach(&self.layer, &window.columns, input.width, output.width),
        }
    }

    /// Whether the layer works on maps, so that windows mean something on its output.
    pub fn is_spatial(&self) -> bool {
        !matches!(self.layer, Layer::Flatten | Layer::Linear { .. })
    }
}

/// The outputs, of `length`, along one axis that depend on `range` of the inputs, of `input`.
fn reach(layer: &Layer, range: &Range<usize>, input: usize, length: usize) -> Range<usize> {
    if range.is_empty() {
        return 0..0;
    }
    let (start, end) = match layer {
        Layer::Conv2d(Conv2d { kernel, stride, padding: Padding::Zeros(zeros), .. }) => {
            // Output o reads inputs o·stride − zeros … + kernel.
            let first = (range.start + zeros + 1).saturating_sub(*kernel).div_ceil(*stride);
            (first, (range.end - 1 + zeros) / stride + 1)
        }
        // A window that wraps around is no rectangle: the whole axis stands for it.
        Layer::Conv2d(Conv2d { kernel, stride, padding: Padding::Circular, .. }) => {
            match range.start + 1 >= *kernel && range.end <= input {
                true => ((range.start + 1 - kernel).div_ceil(*stride), (range.end - 1) / stride + 1),
                false => (0, length),
            }
        }
        Layer::MaxPool2d { size } | Layer::AvgPool2d { size } => (range.start / size, range.end.div_ceil(*size)),
        Layer::BatchNorm2d { .. } | Layer::Relu | Layer::Dropout { .. } | Layer::Add | Layer::Concat => {
            (range.start, range.end)
        }
        Layer::Flatten | Layer::Linear { .. } => (0, length),
    };
    let start = start.min(length);
    start..end.clamp(start, length)
}

impl Network {
    /// For every map, as [`Step::inputs`] counts them, the window that depends on a pixel of the input. Past a flatten it is
    /// the whole vector.
    pub fn windows(&self, pixel: Window) -> Vec<Window> {
        let mut windows = vec![pixel];
        for step in self.steps() {
            let reached = step.inputs.iter().map(|&map| step.reach(&windows[map]));
            let window = reached.reduce(|a, b| a.union(&b)).unwrap_or(Window { rows: 0..0, columns: 0..0 });
            windows.push(window);
        }
        windows
    }

    /// Multiply-adds of one member's whole central difference when only what a pixel reaches is evaluated:
    /// one dense pass, then for each pixel and sign the touched windows.
    pub fn central_difference_multiply_adds(&self) -> u64 {
        let input = self.input();
        let pixels = (0..input.height).flat_map(|row| (0..input.width).map(move |column| Window::pixel(row, column)));
        let touched: u64 = pixels.map(|pixel| self.touched_multiply_adds(pixel)).sum();
        self.multiply_adds() + 2 * input.channels as u64 * touched
    }

    fn touched_multiply_adds(&self, pixel: Window) -> u64 {
        let windows = self.windows(pixel);
        let products = self.steps().iter().enumerate().map(|(place, step)| match &step.layer {
            Layer::Conv2d(conv) => {
                let (read, reached) = (windows[step.inputs[0]].area(), windows[place + 1].area());
                // Where a convolution widens its window, changes of the input are fewer than outputs.
                let positions = if conv.stride == 1 { read.min(reached) } else { reached };
                conv.kernel * conv.kernel * positions * step.input.channels * step.output.channels
            }
            Layer::Linear { .. } => step.input.len() * step.output.len(),
            _ => 0,
        });
        products.sum::<usize>() as u64
    }
}

#[cfg(test)]
mod tests {
    use crate::architecture::{Network, Shape, Window, find};

    const INPUT: Shape = Shape { channels: 1, height: 32, width: 32 };

    fn network(name: &str) -> Network {
        find(name).unwrap().network(INPUT, 1).unwrap()
    }

    /// The windows of LeNet's maps before the flatten, the input's left out.
    fn windows(row: usize, column: usize) -> Vec<Window> {
        let mut windows = network("lenet").windows(Window::pixel(row, column));
        windows.drain(1..=6).collect()
    }

    /// The figures of SCIENCE.md: a pixel reaches 5 x 5 of the first layer and 7 x 7 of the second.
    #[test]
    fn a_pixel_reaches_what_it_should() {
        let reached = windows(16, 16);
        assert_eq!(reached[0].area(), 25);
        assert_eq!(reached[2].area(), 9);
        assert_eq!(reached[3], Window { rows: 2..9, columns: 2..9 });
    }

    #[test]
    fn a_corner_reaches_less() {
        let reached = windows(0, 31);
        assert_eq!(reached[0], Window { rows: 0..1, columns: 27..28 });
        assert_eq!(reached[3], Window { rows: 0..1, columns: 9..10 });
    }

    /// A 3 x 3 convolution with padding widens a window by one on every side; one of stride 2 halves it; a sum takes the wider.
    #[test]
    fn windows_follow_padding_strides_and_joins() {
        let resnet = network("resnet18");
        let reached = resnet.windows(Window::pixel(16, 16));
        let sides = |map: usize| (reached[map].rows.clone(), reached[map].columns.len());
        assert_eq!(sides(1), (15..18, 3));
        let first_sum = resnet.steps().iter().position(|step| step.layer.kind() == "add").unwrap();
        assert_eq!(sides(first_sum + 1), (13..20, 7));
        let halved = resnet.steps().iter().position(|step| step.output.height == 16).unwrap();
        // Rows 11..22 are reached before it; output o reads rows 2o − 1 … 2o + 1.
        assert_eq!(sides(halved + 1), (5..12, 7));
    }

    #[test]
    fn a_circular_window_that_wraps_is_the_whole_axis() {
        let reached = network("deep_linear").windows(Window::pixel(10, 1));
        assert_eq!(reached[1], Window { rows: 7..11, columns: 0..32 });
    }
}
