//! A batch of pixels: the windows that they reach, plus and minus apart, and the memory of these and of the base maps.
//!
//! A window's positions are consecutive rows of its map's buffer, row by row; windows follow one another in the order of
//! pixels, plus before minus.

use super::program::{Map, Program};
use crate::plan::Span;
use crate::simd::Line;
use nadgrid_core::architecture::{Network, Window};

/// A window and the row of its buffer where it starts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    pub(crate) rows: Span,
    pub(crate) columns: Span,
    pub(crate) start: usize,
}

impl Place {
    fn area(&self) -> usize {
        self.rows.len() * self.columns.len()
    }
}

/// What is evaluated at one time: the pixels' windows of every map.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    /// Flat indices (channel, row, column) into the input.
    pub(crate) pixels: Vec<usize>,
    /// For every map, two for every pixel.
    pub(crate) places: Vec<Vec<Place>>,
}

/// Which windows are evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Windows {
    /// Those that a pixel reaches.
    Reached,
    /// Whole maps, to compare with.
    #[cfg(test)]
    Whole,
}

impl Batch {
    /// Rows of a map's buffer that are in use.
    pub(crate) fn rows(&self, map: usize) -> usize {
        self.places[map].last().map_or(0, |place| place.start + place.area())
    }

    /// No pixel: one place for every map, all of it, where the base is evaluated.
    pub(crate) fn whole(program: &Program) -> Self {
        let place = |map: &Map| {
            let rows = Span { start: 0, end: map.shape.height };
            vec![Place { rows, columns: Span { start: 0, end: map.shape.width }, start: 0 }]
        };
        Self { pixels: Vec::new(), places: program.maps.iter().map(place).collect() }
    }

    /// Takes the first of `pixels` whose windows fit into `budget` vectors, one at least. Returns the others.
    pub(crate) fn take<'a>(
        &mut self,
        network: &Network,
        program: &Program,
        windows: Windows,
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

    fn push(&mut self, network: &Network, program: &Program, windows: Windows, pixel: usize) {
        let input = network.input();
        let position = pixel % (input.height * input.width);
        let reached = network.windows(Window::pixel(position / input.width, position % input.width));
        for (at, map) in program.maps.iter().enumerate() {
            let window = &reached[map.window_of];
            let (rows, columns) = match windows {
                Windows::Reached if window.area() == 0 => Default::default(),
                Windows::Reached => (Span::from(&window.rows), Span::from(&window.columns)),
                #[cfg(test)]
                Windows::Whole if at > 0 => (Span::from(&(0..map.shape.height)), Span::from(&(0..map.shape.width))),
                #[cfg(test)]
                Windows::Whole => (Span::from(&window.rows), Span::from(&window.columns)),
            };
            for _ in 0..2 {
                let start = self.rows(at);
                self.places[at].push(Place { rows, columns, start });
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
    fn size(&self, program: &Program) -> usize {
        let mut slots = vec![0; program.slots];
        for (at, map) in program.maps.iter().enumerate() {
            slots[map.slot] = slots[map.slot].max(self.rows(at) * map.lines());
        }
        slots.iter().sum()
    }
}

/// The numbers of all maps.
pub(crate) struct Memory {
    /// The base maps, each after one position of zeros.
    pub(crate) bases: Vec<Vec<Line>>,
    /// The windows' buffers.
    pub(crate) slots: Vec<Vec<Line>>,
}

impl Memory {
    pub(crate) fn new(program: &Program) -> Self {
        let base = |map: &Map| vec![Line::ZERO; map.lines() + map.all_lines()];
        Self { bases: program.maps.iter().map(base).collect(), slots: vec![Vec::new(); program.slots] }
    }

    /// Makes room for a batch.
    pub(crate) fn fit(&mut self, program: &Program, batch: &Batch) {
        for (at, map) in program.maps.iter().enumerate() {
            let (slot, need) = (&mut self.slots[map.slot], batch.rows(at) * map.lines());
            if slot.len() < need {
                slot.resize(need, Line::ZERO);
            }
        }
    }
}
