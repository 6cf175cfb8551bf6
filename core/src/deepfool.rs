//! Margins in a subspace: how far an input has to move inside it until the network predicts another class. DeepFool, with
//! its steps projected on the subspace (SCIENCE.md section 3).
//!
//! All images that still keep their class take a step together, so that an engine sees few large batches. The way that an image
//! went is held as coordinates in the subspace, in f64. Deliberately absent: clipping to the range of pixels.

use crate::training::Classifier;

/// The limits of a search: its steps, and how far it goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// The largest number of steps.
    pub steps: u32,
    /// The length of the shortest step.
    pub least_step: f64,
    /// The share of its length by which the way is overdone, to cross the boundary rather than reach it.
    pub overshoot: f64,
}

impl Limits {
    /// Those of the published code.
    pub const PUBLISHED: Self = Self { steps: 100, least_step: 1e-4, overshoot: 0.02 };
}

/// The margins of n inputs (n x `dimension`, row-major) in the span of the rows of `subspace` (m x `dimension`), which must be
/// orthonormal: ‖r‖₂ of the way r, overshoot included, after which the class is another than at the start.
///
/// A step goes to the class k that minimises |f_k − f_0| / ‖S(∇f_k − ∇f_0)‖, f_0 the logit of the class predicted at the start
/// and S the matrix of rows, along Sᵀ S(∇f_k − ∇f_0), by that minimum or the least step.
///
/// The margin is infinite when no class has a gradient in the subspace, and when the class is still the same after the last step.
///
/// # Errors
/// The classifier's own.
///
/// # Panics
/// When `inputs` or `subspace` are not whole rows.
pub fn margins<C: Classifier>(
    classifier: &mut C,
    inputs: &[f32],
    dimension: usize,
    subspace: &[f64],
    limits: &Limits,
) -> Result<Vec<f64>, C::Error> {
    for (what, numbers) in [("inputs", inputs.len()), ("subspace", subspace.len())] {
        assert!(numbers.is_multiple_of(dimension), "{what}: {numbers} numbers are no whole rows of {dimension}");
    }
    let space = Subspace { dimension, rows: subspace };
    let mut walkers: Vec<Walker<'_>> =
        inputs.chunks_exact(dimension).enumerate().map(|(image, input)| Walker::new(image, input, &space)).collect();
    evaluate(classifier, &mut walkers)?;
    walkers.iter_mut().for_each(|walker| walker.class = walker.predicted());
    let mut margins = vec![f64::INFINITY; walkers.len()];
    for _ in 0..limits.steps {
        let steps = nearest(classifier, &space, &walkers)?;
        let moved = walkers.into_iter().zip(steps).filter_map(|(walker, step)| Some(walker.go(&space, &step?, limits)));
        walkers = moved.collect();
        evaluate(classifier, &mut walkers)?;
        walkers.retain(|walker| {
            let stays = walker.predicted() == walker.class;
            if !stays {
                margins[walker.image] = (1.0 + limits.overshoot) * norm(&walker.way);
            }
            stays
        });
        if walkers.is_empty() {
            break;
        }
    }
    Ok(margins)
}

/// An image on its way.
struct Walker<'a> {
    /// The index of the image.
    image: usize,
    /// The image itself, where the way starts.
    input: &'a [f32],
    /// The class predicted there.
    class: usize,
    /// The way gone, without the overshoot, in coordinates of the subspace.
    way: Vec<f64>,
    /// The point it has reached, overshoot included.
    point: Vec<f32>,
    /// The logits at that point.
    logits: Vec<f32>,
}

impl<'a> Walker<'a> {
    fn new(image: usize, input: &'a [f32], space: &Subspace<'_>) -> Self {
        let way = vec![0.0; space.rows.len() / space.dimension];
        Self { image, input, class: 0, way, point: input.to_vec(), logits: Vec::new() }
    }

    /// The class of the largest logit, the first of equal ones.
    fn predicted(&self) -> usize {
        (1..self.logits.len()).fold(0, |best, k| if self.logits[k] > self.logits[best] { k } else { best })
    }

    /// The same image one step on.
    fn go(mut self, space: &Subspace<'_>, step: &Step, limits: &Limits) -> Self {
        let scale = step.distance.max(limits.least_step) / norm(&step.gradient);
        self.way.iter_mut().zip(&step.gradient).for_each(|(way, g)| *way += scale * g);
        let moved = space.vector(&self.way);
        let from = self.input.iter().zip(moved);
        self.point = from.map(|(&x, r)| (f64::from(x) + (1.0 + limits.overshoot) * r) as f32).collect();
        self
    }
}

/// A step to the boundary of one class, were the network linear.
struct Step {
    /// |f_k − f_0| / ‖gradient‖.
    distance: f64,
    /// The gradient in the subspace, S(∇f_k − ∇f_0).
    gradient: Vec<f64>,
}

/// An orthonormal basis.
struct Subspace<'a> {
    dimension: usize,
    rows: &'a [f64],
}

impl Subspace<'_> {
    /// Returns the coordinates S·v.
    fn coordinates(&self, v: &[f32]) -> Vec<f64> {
        self.rows.chunks_exact(self.dimension).map(|row| dot(row, v)).collect()
    }

    /// Returns the vector Sᵀ·coordinates.
    fn vector(&self, coordinates: &[f64]) -> Vec<f64> {
        let mut out = vec![0.0; self.dimension];
        for (row, c) in self.rows.chunks_exact(self.dimension).zip(coordinates) {
            out.iter_mut().zip(row).for_each(|(out, x)| *out += c * x);
        }
        out
    }
}

/// Every walker's points in one batch.
fn points(walkers: &[Walker<'_>]) -> Vec<f32> {
    walkers.iter().flat_map(|walker| walker.point.iter().copied()).collect()
}

/// Predicts where the walkers are.
fn evaluate<C: Classifier>(classifier: &mut C, walkers: &mut [Walker<'_>]) -> Result<(), C::Error> {
    if walkers.is_empty() {
        return Ok(());
    }
    let logits = classifier.logits(&points(walkers))?;
    let classes = logits.len() / walkers.len();
    walkers.iter_mut().zip(logits.chunks_exact(classes)).for_each(|(walker, logits)| walker.logits = logits.to_vec());
    Ok(())
}

/// Every walker's step to its nearest class; none where no class has a gradient in the subspace. The classifier is asked once, for
/// all walkers and all of their other classes.
fn nearest<C: Classifier>(
    classifier: &mut C,
    space: &Subspace<'_>,
    walkers: &[Walker<'_>],
) -> Result<Vec<Option<Step>>, C::Error> {
    let classes = walkers.first().map_or(0, |walker| walker.logits.len());
    let mut steps: Vec<Option<Step>> = walkers.iter().map(|_| None).collect();
    let of_offset = |offset: usize| {
        let mut cotangents = vec![0.0; walkers.len() * classes];
        for (walker, cotangent) in walkers.iter().zip(cotangents.chunks_exact_mut(classes)) {
            cotangent[walker.class] = -1.0;
            cotangent[(walker.class + offset) % classes] = 1.0;
        }
        cotangents
    };
    let cotangents: Vec<Vec<f32>> = (1..classes).map(of_offset).collect();
    classifier.each_input_gradients(&points(walkers), &cotangents, &mut |set, first, gradients| {
        let offset = set + 1;
        let theirs = walkers[first..].iter().zip(&mut steps[first..]);
        for ((walker, step), gradient) in theirs.zip(gradients.chunks_exact(space.dimension)) {
            let gradient = space.coordinates(gradient);
            let logit = |k: usize| f64::from(walker.logits[k]);
            let gap = logit((walker.class + offset) % classes) - logit(walker.class);
            let distance = gap.abs() / norm(&gradient);
            // No gradient at all makes the distance infinite or no number.
            if distance.is_finite() && step.as_ref().is_none_or(|best| distance < best.distance) {
                *step = Some(Step { distance, gradient });
            }
        }
    })?;
    Ok(steps)
}

/// A scalar product: eight chains, summed in order, so that they run beside each other.
fn dot(a: &[f64], b: &[f32]) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for i in 0..8 {
            sums[i] += a[i] * f64::from(b[i]);
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, &b)| a * f64::from(b)).sum();
    sums.iter().sum::<f64>() + rest
}

fn norm(v: &[f64]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    /// logits = V·relu(W·x + a) + b with `hidden` units; a linear network when there are none (logits = V·x + b).
    struct Toy {
        dimension: usize,
        hidden: Vec<Vec<f32>>,
        shifts: Vec<f32>,
        output: Vec<Vec<f32>>,
        biases: Vec<f32>,
        /// Inputs of every call.
        calls: Vec<usize>,
    }

    fn product(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    impl Toy {
        fn linear(output: Vec<Vec<f32>>, biases: Vec<f32>) -> Self {
            let dimension = output[0].len();
            Self { dimension, hidden: Vec::new(), shifts: Vec::new(), output, biases, calls: Vec::new() }
        }

        fn features(&self, x: &[f32]) -> Vec<f32> {
            if self.hidden.is_empty() {
                return x.to_vec();
            }
            self.hidden.iter().zip(&self.shifts).map(|(w, a)| (product(w, x) + a).max(0.0)).collect()
        }

        fn gradient(&self, x: &[f32], cotangent: &[f32]) -> Vec<f32> {
            let mut out = vec![0.0; self.dimension];
            let features = self.features(x);
            for (row, c) in self.output.iter().zip(cotangent) {
                for (j, v) in row.iter().enumerate() {
                    match self.hidden.get(j) {
                        None => out[j] += c * v,
                        Some(w) if features[j] > 0.0 => out.iter_mut().zip(w).for_each(|(o, w)| *o += c * v * w),
                        Some(_) => {}
                    }
                }
            }
            out
        }
    }

    impl Classifier for Toy {
        type Error = Infallible;

        fn logits(&mut self, inputs: &[f32]) -> Result<Vec<f32>, Infallible> {
            self.calls.push(inputs.len() / self.dimension);
            let logits = inputs.chunks_exact(self.dimension).flat_map(|x| {
                let features = self.features(x);
                let logit = move |(row, b): (&Vec<f32>, &f32)| product(row, &features) + b;
                self.output.iter().zip(&self.biases).map(logit)
            });
            Ok(logits.collect())
        }

        fn input_gradients(&mut self, inputs: &[f32], cotangents: &[f32]) -> Result<Vec<f32>, Infallible> {
            let cotangents = cotangents.chunks_exact(self.output.len());
            let rows = inputs.chunks_exact(self.dimension).zip(cotangents);
            Ok(rows.flat_map(|(x, c)| self.gradient(x, c)).collect())
        }
    }

    /// Numbers in [−1, 1) that look random.
    fn noise(n: usize, salt: usize) -> Vec<f32> {
        (0..n).map(|i| ((i + 1 + 1000 * salt) * 2_654_435_761 % 1_000_003) as f32 / 500_001.5 - 1.0).collect()
    }

    /// The first rows of the 4 x 4 Hadamard matrix, on each of two blocks of 4: orthonormal rows of R⁸.
    fn subspace(rows: usize) -> Vec<f64> {
        let sign = |i: usize, j: usize| if (i & j).count_ones().is_multiple_of(2) { 0.5 } else { -0.5 };
        let entry = |r: usize, c: usize| if r % 2 == c / 4 { sign(r / 2, c % 4) } else { 0.0 };
        (0..rows).flat_map(|r| (0..8).map(move |c| entry(r, c))).collect()
    }

    /// |f_k − f_0| / ‖S(w_k − w_0)‖, the least over k.
    fn closed_form(toy: &mut Toy, x: &[f32], space: &[f64]) -> f64 {
        let logits = toy.logits(x).unwrap();
        let top = (0..logits.len()).fold(0, |best, k| if logits[k] > logits[best] { k } else { best });
        let distance = |k: usize| {
            let w: Vec<f64> = toy.output[k].iter().zip(&toy.output[top]).map(|(a, b)| f64::from(a - b)).collect();
            let on = |row: &[f64]| row.iter().zip(&w).map(|(a, b)| a * b).sum::<f64>();
            f64::from(logits[top] - logits[k]) / space.chunks_exact(8).map(|row| on(row).powi(2)).sum::<f64>().sqrt()
        };
        (0..logits.len()).filter(|&k| k != top).map(distance).fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn margins_of_a_linear_network_are_the_closed_form_with_the_overshoot() {
        let output = (0..5).map(|k| noise(8, k)).collect();
        let mut toy = Toy::linear(output, noise(5, 9));
        let inputs = noise(8 * 30, 7);
        for rows in [1, 3, 8] {
            let space = subspace(rows);
            toy.calls.clear();
            let found = margins(&mut toy, &inputs, 8, &space, &Limits::PUBLISHED).unwrap();
            // One call for the start, one after the one step that a linear network needs.
            assert_eq!(toy.calls, [30, 30]);
            for (x, margin) in inputs.chunks_exact(8).zip(found) {
                let expected = 1.02 * closed_form(&mut toy, x, &space);
                assert!((margin / expected - 1.0).abs() < 1e-4, "{rows} rows: {margin}, expected {expected}");
            }
        }
    }

    /// f_1 − f_0 = relu(x₀) + relu(x₁) − 1 in R²: the margin along x₀ is 1 from (0.2, −1) less 0.2, and no step leads there
    /// from x₀ < 0, where both units are off.
    #[test]
    fn a_relu_network_is_followed_through_its_pieces() {
        let mut toy = Toy {
            hidden: vec![vec![1.0, 0.0], vec![0.0, 1.0]],
            shifts: vec![0.0; 2],
            dimension: 2,
            ..Toy::linear(vec![vec![0.0, 0.0], vec![1.0, 1.0]], vec![1.0, 0.0])
        };
        let inputs = [0.2, -1.0, -0.5, -1.0, 0.1, 0.4];
        let found = margins(&mut toy, &inputs, 2, &[1.0, 0.0], &Limits::PUBLISHED).unwrap();
        assert!((found[0] - 1.02 * 0.8).abs() < 1e-5, "{found:?}");
        assert_eq!(found[1], f64::INFINITY);
        assert!((found[2] - 1.02 * 0.5).abs() < 1e-5, "{found:?}");
        // In the whole plane the third image goes along the diagonal; its way and no other leads to the margin.
        let plane = margins(&mut toy, &inputs[4..], 2, &[1.0, 0.0, 0.0, 1.0], &Limits::PUBLISHED).unwrap();
        assert!((plane[0] - 1.02 * 0.5 / 2f64.sqrt()).abs() < 1e-5, "{plane:?}");
    }

    /// f_1 − f_0 = −|x| − 1 is nowhere positive: steps go to and fro for ever.
    #[test]
    fn who_does_not_arrive_within_the_limit_has_an_infinite_margin() {
        let mut toy = Toy {
            hidden: vec![vec![1.0], vec![-1.0]],
            shifts: vec![0.0; 2],
            dimension: 1,
            ..Toy::linear(vec![vec![0.0, 0.0], vec![-1.0, -1.0]], vec![1.0, 0.0])
        };
        let limits = Limits { steps: 7, ..Limits::PUBLISHED };
        assert_eq!(margins(&mut toy, &[0.5], 1, &[1.0], &limits).unwrap(), [f64::INFINITY]);
        assert_eq!(toy.calls.len(), 8, "one call for the start and one a step");
    }

    #[test]
    fn a_subspace_without_gradient_is_impossible_and_costs_no_steps() {
        let output = vec![vec![0.3, 0.0, 0.0], vec![0.0, 0.0, 0.0]];
        let mut toy = Toy::linear(output, vec![0.0, 0.0]);
        let space = [0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
        let found = margins(&mut toy, &[1.0, 2.0, 3.0], 3, &space, &Limits::PUBLISHED).unwrap();
        assert_eq!(found, [f64::INFINITY]);
        assert_eq!(toy.calls, [1]);
        assert_eq!(margins(&mut toy, &[], 3, &space, &Limits::PUBLISHED).unwrap(), [0.0; 0]);
    }

    /// An input on the boundary still moves by the least step.
    #[test]
    fn no_step_is_shorter_than_the_least() {
        let mut toy = Toy::linear(vec![vec![0.0], vec![1.0]], vec![0.0, 0.0]);
        let found = margins(&mut toy, &[0.0], 1, &[1.0], &Limits::PUBLISHED).unwrap();
        assert!((found[0] - 1.02e-4).abs() < 1e-12, "{found:?}");
    }
}
