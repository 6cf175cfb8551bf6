//! The central-difference gradient of one member at one point, and its plain forward pass.
//!
//! g_i = −[f(x+h·e_i) − f(x−h·e_i)]/(2h) for every pixel i, f being output 0 of the network in evaluation mode at
//! initialisation: batch norms have running mean 0 and variance 1, dropouts do nothing. Short chains of plain convolutions
//! go by the linearity of their layers (`patch`), every other network by windows of values (`graph`).
//! Deliberately absent: threads, memory between members, anything drawn at random.

use crate::graph::{EvaluatedWindows, WindowGraph};
use crate::patch::Chain;
use crate::simd::InstructionSet;
use crate::{KernelError, NotFinite};
use nadgrid_core::architecture::Network;

/// A network prepared for evaluation, with the memory it takes. Nothing of one member is left to the next.
pub struct CentralDifference(GradientEngine);

enum GradientEngine {
    Chain(Box<Chain>),
    Graph(Box<WindowGraph>),
}

impl CentralDifference {
    /// Prepares for a network, on the best instruction set that this machine has.
    ///
    /// # Errors
    /// [`KernelError::Unsupported`] when a map is larger than the kernels can address.
    pub fn new(network: &Network) -> Result<Self, KernelError> {
        Self::on(InstructionSet::best(), network)
    }

    /// Prepares for a network, on an instruction set of choice. The results are the same bits.
    ///
    /// # Errors
    /// As [`CentralDifference::new`].
    pub fn on(set: InstructionSet, network: &Network) -> Result<Self, KernelError> {
        Ok(Self(match Chain::on(set, network) {
            Some(chain) => GradientEngine::Chain(Box::new(chain)),
            None => GradientEngine::Graph(Box::new(WindowGraph::new(set, network, EvaluatedWindows::Reached)?)),
        }))
    }

    /// The network this is for.
    pub fn network(&self) -> &Network {
        match &self.0 {
            GradientEngine::Chain(chain) => chain.network(),
            GradientEngine::Graph(graph) => graph.network(),
        }
    }

    /// The gradient of the member with these parameters at `point`, into `out`; all three are flat, in
    /// PyTorch's order, `point` and `out` of the input's length.
    ///
    /// # Errors
    /// [`NotFinite`] with the first pixel whose gradient overflows.
    ///
    /// # Panics
    /// When a length is wrong.
    pub fn gradient(&mut self, parameters: &[f32], point: &[f32], step: f32, out: &mut [f32]) -> Result<(), NotFinite> {
        let pixels: Vec<usize> = (0..self.network().input().len()).collect();
        self.gradient_at(parameters, point, step, &pixels, out)
    }

    /// As [`CentralDifference::gradient`] at some pixels, indices into the flattened input: `out[i]` is at `pixels[i]`.
    /// The bits are those of the whole gradient.
    ///
    /// # Errors
    /// [`NotFinite`] with the first of the pixels whose gradient overflows.
    ///
    /// # Panics
    /// When a length is wrong or there is no such pixel.
    pub fn gradient_at(
        &mut self,
        parameters: &[f32],
        point: &[f32],
        step: f32,
        pixels: &[usize],
        out: &mut [f32],
    ) -> Result<(), NotFinite> {
        let inputs = self.network().input().len();
        assert_eq!(parameters.len(), self.network().parameter_count());
        assert_eq!((point.len(), out.len()), (inputs, pixels.len()));
        assert!(pixels.iter().all(|&pixel| pixel < inputs));
        match &mut self.0 {
            GradientEngine::Chain(chain) => {
                let mut all = vec![0.0; inputs];
                chain.gradient(parameters, point, step, &mut all);
                out.iter_mut().zip(pixels).for_each(|(out, &pixel)| *out = all[pixel]);
            }
            GradientEngine::Graph(graph) => graph.gradient(parameters, point, step, pixels, out),
        }
        match out.iter().position(|g| !g.is_finite()) {
            Some(at) => Err(NotFinite { pixel: pixels[at] }),
            None => Ok(()),
        }
    }

    /// The outputs of the member with these parameters for one input.
    ///
    /// # Panics
    /// When a length is wrong.
    pub fn forward(&mut self, parameters: &[f32], input: &[f32], outputs: &mut [f32]) {
        let network = self.network();
        assert_eq!(parameters.len(), network.parameter_count());
        assert_eq!((input.len(), outputs.len()), (network.input().len(), network.output().len()));
        match &mut self.0 {
            GradientEngine::Chain(chain) => chain.forward(parameters, input, outputs),
            GradientEngine::Graph(graph) => graph.forward(parameters, input, outputs),
        }
    }
}
