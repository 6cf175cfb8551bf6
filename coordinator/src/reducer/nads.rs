//! NADs from the partials of a job: eigenvectors of the centred scatter matrix S = Σ(g−ḡ)(g−ḡ)ᵀ.
//!
//! The singular values of the centred gradient matrix are s = √eig(S) and the covariance's eigenvalues λ = eig(S)/(N−1), N being
//! the number of gradients (SCIENCE.md section 1). A job's digest is that of the merged moments, whose every bit is defined;
//! the eigenvectors are derived from them, and their last bits depend on the machine.

use super::{Partials, ReduceError, ResultFiles};
use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::{Mat, Par};
use nadgrid_core::ids::Digest;
use nadgrid_core::moments::Moments;
use nadgrid_figures::npy;
use ndarray::{Array1, Array2};
use serde::Serialize;

/// The NADs of merged moments.
struct NadsDecomposition {
    /// The NADs as rows in order of decreasing eigenvalue, k x D with k = min(D, N − 1). The component of largest magnitude
    /// of each row is positive.
    directions: Array2<f32>,
    /// The k singular values of the centred N x D gradient matrix.
    singular_values: Array1<f64>,
    /// The k eigenvalues of the covariance (divisor N − 1).
    eigenvalues: Array1<f64>,
}

/// Merges moments of `points` gradients per member. Returns the digest and the result files.
pub(super) fn reduce(
    partials: &Partials<'_>,
    dimension: usize,
    points: u64,
) -> Result<(Digest, ResultFiles), ReduceError> {
    let moments = merge(partials, dimension, points)?;
    let digest = Digest::of(&moments.to_bytes());
    let nads = decompose(&moments)?;
    let spectrum = SpectrumSummary::new(&nads.eigenvalues, moments.count, dimension);
    let files = [
        ("nads.npy", npy::to_bytes(&nads.directions)),
        ("singular_values.npy", npy::to_bytes(&nads.singular_values)),
        ("standard_errors.npy", npy::to_bytes(&standard_errors(&nads.singular_values, moments.count))),
        ("eigenvalues.npy", npy::to_bytes(&nads.eigenvalues)),
        ("spectrum.json", spectrum.to_json()),
        ("mean.npy", npy::to_bytes(&Array1::from(moments.mean))),
    ];
    let folder = partials.job.name();
    Ok((digest, files.into_iter().map(|(file, bytes)| (format!("{folder}/{file}"), bytes)).collect()))
}

/// Merges the moments of all partials. Partials that workers put into a shared store are read here for the first time, so if
/// the merge is invalid, the error names the partial at fault.
pub(super) fn merge(partials: &Partials<'_>, dimension: usize, points: u64) -> Result<Moments, ReduceError> {
    let read = |bytes: &[u8], members: u64| Moments::from_bytes(bytes, dimension, members * points);
    let moments = partials.fold(read, |left: Moments, right| left.merge(&right))?;
    match moments.check() {
        Ok(()) => Ok(moments),
        Err(error) => {
            let check = |bytes: &[u8], members: u64| Moments::check_bytes(bytes, dimension, members * points);
            Err(partials.invalid_merge(&error, check)?)
        }
    }
}

/// The standard errors of singular values of n gradients, s/√(2(n−1)), from the asymptotic λ√(2/(n−1)) of an isolated
/// eigenvalue of a Gaussian sample (SCIENCE.md section 4, item 6). They are larger for gradients with heavier tails.
fn standard_errors(singular_values: &Array1<f64>, gradients: u64) -> Array1<f64> {
    singular_values / (2.0 * (gradients - 1) as f64).sqrt()
}

/// A spectrum in a few numbers.
#[derive(Debug, Serialize)]
struct SpectrumSummary {
    /// The number of gradients N.
    gradients: u64,
    /// The number of input pixels D.
    dimension: usize,
    /// The total variance Σλ = E‖g − ḡ‖².
    total_variance: f64,
    /// exp(−Σ p ln p) with p = λ/Σλ (Roy and Vetterli 2007): D if all eigenvalues are equal, 1 if only one is not zero.
    effective_rank: f64,
    /// 1 − (effective rank − 1)/(D − 1): 0 if all eigenvalues are equal, 1 if only one is not zero. A finite sample of an
    /// isotropic distribution lies above 0, by the spread that Marchenko and Pastur describe.
    anisotropy: f64,
    /// The formula of `standard_errors.npy`.
    standard_errors: &'static str,
}

impl SpectrumSummary {
    fn new(eigenvalues: &Array1<f64>, gradients: u64, dimension: usize) -> Self {
        let total_variance = eigenvalues.sum();
        let entropy: f64 =
            eigenvalues.iter().map(|value| value / total_variance).filter(|p| *p > 0.0).map(|p| -p * p.ln()).sum();
        let effective_rank = if total_variance > 0.0 { entropy.exp() } else { 0.0 };
        let anisotropy = if dimension > 1 { 1.0 - (effective_rank - 1.0) / (dimension - 1) as f64 } else { 0.0 };
        let standard_errors = "s / sqrt(2 (gradients - 1)): asymptotic, of a Gaussian sample";
        Self { gradients, dimension, total_variance, effective_rank, anisotropy, standard_errors }
    }

    fn to_json(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("numbers and text");
        bytes.push(b'\n');
        bytes
    }
}

/// Computes the eigendecomposition of the scatter matrix on one thread, so that its bits do not depend on the number of
/// cores.
///
/// # Errors
/// [`ReduceError::Eigen`].
fn decompose(moments: &Moments) -> Result<NadsDecomposition, ReduceError> {
    let d = moments.dimension();
    let scatter = unpack(moments);
    let mut eigenvalues = Diag::<f64>::zeros(d);
    let mut eigenvectors = Mat::<f64>::zeros(d, d);
    let memory = self_adjoint_evd_scratch::<f64>(d, ComputeEigenvectors::Yes, Par::Seq, Default::default());
    let mut memory = MemBuffer::new(memory);
    let stack = MemStack::new(&mut memory);
    let values = eigenvalues.as_mut();
    let vectors = Some(eigenvectors.as_mut());
    self_adjoint_evd(scatter.as_ref(), values, vectors, Par::Seq, stack, Default::default())
        .map_err(|_| ReduceError::Eigen(d))?;

    // faer's order is ascending, the result's descending. Centring removes one direction: the rank is at most N − 1.
    let k = d.min(usize::try_from(moments.count - 1).unwrap_or(d));
    let value = |i: usize| eigenvalues.column_vector()[d - 1 - i].max(0.0);
    let mut directions = Array2::<f32>::zeros((k, d));
    for (i, mut row) in directions.rows_mut().into_iter().enumerate() {
        let column = eigenvectors.col(d - 1 - i);
        let largest = column.iter().fold(0.0f64, |held, &v| if v.abs() > held.abs() { v } else { held });
        for (out, v) in row.iter_mut().zip(column.iter()) {
            *out = (v * largest.signum()) as f32;
        }
    }
    Ok(NadsDecomposition {
        directions,
        singular_values: (0..k).map(|i| value(i).sqrt()).collect(),
        eigenvalues: (0..k).map(|i| value(i) / (moments.count - 1) as f64).collect(),
    })
}

/// Unpacks the scatter matrix. Its packed upper triangle by rows is the lower triangle by columns, the half that faer reads.
fn unpack(moments: &Moments) -> Mat<f64> {
    let d = moments.dimension();
    let mut scatter = Mat::zeros(d, d);
    let mut packed = moments.scatter.iter();
    for column in 0..d {
        for row in column..d {
            scatter[(row, column)] = packed.next().copied().unwrap_or_default();
        }
    }
    scatter
}

#[cfg(test)]
mod tests {
    use super::*;
    use nadgrid_core::random::Stream;

    /// Rows x = A·z with z ~ N(0, I) and a known A = diag(4, 2, 1) Q for a rotation Q.
    fn rows(n: usize) -> (Vec<f32>, [[f64; 3]; 3]) {
        normal_rows(n, 0)
    }

    fn normal_rows(n: usize, sample: u64) -> (Vec<f32>, [[f64; 3]; 3]) {
        let c = 0.6;
        let s = 0.8;
        let q = [[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]];
        let mut z = vec![0.0; 3 * n];
        Stream::new(1, &["test"], sample).fill_normal(&mut z);
        let x = z.chunks(3).flat_map(|z| {
            let scaled = [4.0 * f64::from(z[0]), 2.0 * f64::from(z[1]), f64::from(z[2])];
            [0, 1, 2].map(|j| (0..3).map(|i| scaled[i] * q[i][j]).sum::<f64>() as f32)
        });
        (x.collect(), q)
    }

    #[test]
    fn directions_and_eigenvalues_are_those_of_the_covariance() {
        let n = 20_000;
        let (x, q) = rows(n);
        let nads = decompose(&Moments::of_rows(&x, 3)).unwrap();
        for (i, variance) in [16.0, 4.0, 1.0].into_iter().enumerate() {
            // Five standard errors of an eigenvalue: λ√(2/N).
            let tolerance = 5.0 * variance * (2.0 / n as f64).sqrt();
            assert!((nads.eigenvalues[i] - variance).abs() < tolerance, "{}", nads.eigenvalues);
            let s = (nads.eigenvalues[i] * (n - 1) as f64).sqrt();
            assert!((nads.singular_values[i] / s - 1.0).abs() < 1e-12);
            let cosine: f64 = (0..3).map(|j| f64::from(nads.directions[(i, j)]) * q[i][j]).sum();
            assert!(cosine.abs() > 0.999, "{cosine}");
            let row = nads.directions.row(i);
            let largest = row.iter().fold(0.0f32, |a, &v| if v.abs() > a.abs() { v } else { a });
            assert!(largest > 0.0);
        }
    }

    #[test]
    fn few_networks_give_few_directions() {
        let nads = decompose(&Moments::of_rows(&[1.0, 0.0, 0.0, 0.0, 2.0, 0.0], 3)).unwrap();
        assert_eq!((nads.directions.dim(), nads.singular_values.len()), ((1, 3), 1));
    }

    #[test]
    fn a_spectrum_is_summed_up() {
        let even = SpectrumSummary::new(&Array1::from(vec![2.0; 4]), 100, 4);
        assert!((even.effective_rank - 4.0).abs() < 1e-12 && even.anisotropy.abs() < 1e-12);
        let single = SpectrumSummary::new(&Array1::from(vec![3.0, 0.0, 0.0]), 100, 3);
        assert!((single.effective_rank - 1.0).abs() < 1e-12 && (single.anisotropy - 1.0).abs() < 1e-12);
        assert_eq!(single.total_variance, 3.0);
    }

    /// Standard errors against the spread of singular values over independent samples.
    #[test]
    fn standard_errors_are_those_of_repeated_samples() {
        let n = 400;
        let repeats = 200;
        let largest: Vec<f64> = (0..repeats)
            .map(|sample| decompose(&Moments::of_rows(&normal_rows(n, sample).0, 3)).unwrap().singular_values[0])
            .collect();
        let mean = largest.iter().sum::<f64>() / f64::from(repeats as u32);
        let spread = (largest.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / f64::from(repeats as u32 - 1)).sqrt();
        let claimed = standard_errors(&Array1::from(vec![mean]), n as u64)[0];
        // A standard deviation of 200 values is known to 1/√400 = 5 %; three of these.
        assert!((spread / claimed - 1.0).abs() < 0.15, "{spread} against {claimed}");
    }
}
