//! How far a change of the input reaches: the window of a feature map that depends on it.

use super::{Layer, Network, Step};
use std::ops::Range;

/// A rectangle of a feature map, all channels; it may be empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Rows.
    pub rows: Range<usize>,
    /// Columns.
    pub columns: Range<usize>,
}

impl Window {
    /// The window of one pixel.
    pub fn pixel(row: usize, column: usize) -> Self {
        Self { rows: row..row + 1, columns: column..column + 1 }
    }

    /// Positions in it.
    pub fn area(&self) -> usize {
        self.rows.len() * self.columns.len()
    }
}

impl Step {
    /// The window of the layer's output that depends on `window` of its input.
    pub fn reach(&self, window: &Window) -> Window {
        Window {
            rows: reach(&self.layer, &window.rows, self.output.height),
            columns: reach(&self.layer, &window.columns, self.output.width),
        }
    }

    /// Whether the layer works on maps, so that windows mean something on its output.
    pub fn is_spatial(&self) -> bool {
        !matches!(self.layer, Layer::Flatten | Layer::Linear { .. })
    }
}

/// The outputs, of `length`, along one axis that depend on `range` of the inputs.
fn reach(layer: &Layer, range: &Range<usize>, length: usize) -> Range<usize> {
    let (start, end) = match layer {
        Layer::Conv2d { kernel, .. } => (range.start.saturating_sub(kernel - 1), range.end),
        Layer::MaxPool2d { size } | Layer::AvgPool2d { size } => (range.start / size, range.end.div_ceil(*size)),
        Layer::Relu => (range.start, range.end),
        Layer::Flatten | Layer::Linear { .. } => (0, length),
    };
    let start = start.min(length);
    start..end.clamp(start, length)
}

impl Network {
    /// Multiply-adds of one member's whole central difference when only what a pixel reaches is evaluated:
    /// one dense pass, then for each pixel and sign the touched windows.
    pub fn central_difference_multiply_adds(&self) -> u64 {
        let input = self.input();
        let pixels = (0..input.height).flat_map(|row| (0..input.width).map(move |column| Window::pixel(row, column)));
        let touched: u64 = pixels.map(|pixel| self.touched_multiply_adds(pixel)).sum();
        self.multiply_adds() + 2 * input.channels as u64 * touched
    }

    fn touched_multiply_adds(&self, pixel: Window) -> u64 {
        let mut window = pixel;
        let mut dense = false;
        let mut sum = 0;
        for step in self.steps() {
            let reached = step.reach(&window);
            sum += match step.layer {
                Layer::Conv2d { kernel, .. } => {
                    let taps = kernel * kernel * window.area().min(reached.area());
                    taps * step.input.channels * step.output.channels
                }
                Layer::Linear { .. } if dense => step.input.len() * step.output.len(),
                // The first linear layer sees the flattened window of the last map.
                Layer::Linear { .. } => self.flattened_channels() * window.area() * step.output.len(),
                _ => 0,
            };
            dense |= matches!(step.layer, Layer::Linear { .. });
            if step.is_spatial() {
                window = reached;
            }
        }
        sum as u64
    }

    /// Channels of the map that is flattened.
    fn flattened_channels(&self) -> usize {
        let flatten = self.steps().iter().find(|step| matches!(step.layer, Layer::Flatten));
        flatten.map_or(1, |step| step.input.channels)
    }
}

#[cfg(test)]
mod tests {
    use crate::architecture::{Shape, Window, find};

    fn windows(row: usize, column: usize) -> Vec<Window> {
        let network = find("lenet").unwrap().network(Shape { channels: 1, height: 32, width: 32 }, 1).unwrap();
        let mut window = Window::pixel(row, column);
        let spatial = network.steps().iter().filter(|step| step.is_spatial());
        let reached = spatial.map(|step| {
            window = step.reach(&window);
            window.clone()
        });
        reached.collect()
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
}
