//! A batch of pixels: the windows that they reach, plus and minus apart, and the memory of these and of the base maps.
//!
//! A window's positions are consecutive rows of its map's buffer, row by row; windows follow one another in the order of
//! pixels, plus before minus.

use super::program::{FeatureMap, GraphProgram};
use super::window::WindowSlot;
use crate::simd::Line;
use crate::span::AxisSpan;
use nadgrid_core::architecture::{Network, Window};

/// The pixels that are evaluated at one time, with their windows of every map.
#[derive(Clone, Debug, Default)]
pub(crate) struct PixelBatch {
    /// Flat indices (channel, row, column) into the input.
    pub(crate) pixels: Vec<usize>,
    /// For every map, two for every pixel.
    pub(crate) places: Vec<Vec<WindowSlot>>,
}

/// The windows that are evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EvaluatedWindows {
    /// Those that a pixel reaches.
    Reached,
    /// Whole maps, to compare with.
    #[cfg(test)]
    Whole,
}

impl PixelBatch {
    /// Rows of a map's buffer that are in use.
    pub(crate) fn rows(&self, map: usize) -> usize {
        self.places[map].last().map_or(0, |place| place.start + place.area())
    }

    /// No pixel: one place for every map, all of it, where the base is evaluated.
    pub(crate) fn whole(program: &GraphProgram) -> Self {
        let place = |map: &FeatureMap| {
            let rows = AxisSpan { start: 0, end: map.shape.height };
            vec![WindowSlot { rows, columns: AxisSpan { start: 0, end: map.shape.width }, start: 0 }]
        };
        Self { pixels: Vec::new(), places: program.maps.iter().map(place).collect() }
    }

    /// Takes the first of `pixels` whose windows fit into `budget` vectors, one at least. Returns the others.
    pub(crate) fn take<'a>(
        &mut self,
        network: &Network,
        program: &GraphProgram,
        windows: EvaluatedWindows,
        budget: usize,
        pixels: &'a [usize],
    ) -> &'a [usize] {
        self.pixels.clear();
        self.places.resize(program.maps.len(), Vec::new());
        self.places.iter_mut().for_each(Vec::clear);
        let mut rest = pixels;
        while let [pixel, others @ ..] = rest {
            self.push(network, program, windows, *pixel);
            if self.pixels.len() > 1 && self.size(program) > budget {
                self.pop();
                break;
            }
            rest = others;
        }
        rest
    }

    fn push(&mut self, network: &Network, program: &GraphProgram, windows: EvaluatedWindows, pixel: usize) {
        let input = network.input();
        let position = pixel % (input.height * input.width);
        let reached = network.windows(Window::pixel(position / input.width, position % input.width));
        for (at, map) in program.maps.iter().enumerate() {
            let window = &reached[map.window_of];
            let (rows, columns) = match windows {
                EvaluatedWindows::Reached if window.area() == 0 => Default::default(),
                EvaluatedWindows::Reached => (AxisSpan::from(&window.rows), AxisSpan::from(&window.columns)),
                #[cfg(test)]
                EvaluatedWindows::Whole if at > 0 => {
                    (AxisSpan::from(&(0..map.shape.height)), AxisSpan::from(&(0..map.shape.width)))
                }
                #[cfg(test)]
                EvaluatedWindows::Whole => (AxisSpan::from(&window.rows), AxisSpan::from(&window.columns)),
            };
            for _ in 0..2 {
                let start = self.rows(at);
                self.places[at].push(WindowSlot { rows, columns, start });
            }
        }
        self.pixels.push(pixel);
    }

    fn pop(&mut self) {
        self.pixels.pop();
        for places in &mut self.places {
            places.truncate(2 * self.pixels.len());
        }
    }

    /// Vectors of all windows, shared buffers not counted twice.
    fn size(&self, program: &GraphProgram) -> usize {
        let mut slots = vec![0; program.slots];
        for (at, map) in program.maps.iter().enumerate() {
            slots[map.slot] = slots[map.slot].max(self.rows(at) * map.lines());
        }
        slots.iter().sum()
    }
}

/// The numbers of all maps.
pub(crate) struct GraphMemory {
    /// The base maps, each after one position of zeros.
    pub(crate) bases: Vec<Vec<Line>>,
    /// The windows' buffers.
    pub(crate) slots: Vec<Vec<Line>>,
}

impl GraphMemory {
    pub(crate) fn new(program: &GraphProgram) -> Self {
        let base = |map: &FeatureMap| vec![Line::ZERO; map.lines() + map.all_lines()];
        Self { bases: program.maps.iter().map(base).collect(), slots: vec![Vec::new(); program.slots] }
    }

    /// Makes room for a batch.
    pub(crate) fn fit(&mut self, program: &GraphProgram, batch: &PixelBatch) {
        for (at, map) in program.maps.iter().enumerate() {
            let slot = &mut self.slots[map.slot];
            let need = batch.rows(at) * map.lines();
            if slot.len() < need {
                slot.resize(need, Line::ZERO);
            }
        }
    }
}
