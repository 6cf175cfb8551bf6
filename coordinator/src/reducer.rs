//! The reduction of one job: partials merged along the fixed tree, then the NADs.
//!
//! NADs are the eigenvectors of the centred scatter matrix S = Σ(g−ḡ)(g−ḡ)ᵀ, so the singular values of the
//! centred gradient matrix are s = √eig(S) and the covariance's eigenvalues λ = eig(S)/(N−1)
//! (SCIENCE.md section 1). The digest of a job is of the merged moments, whose every bit is defined;
//! eigenvectors are derived from them and their last bits are those of the machine that computed them.

use crate::artifacts::{Store, StoreError};
use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::{Mat, Par};
use nadgrid_core::grid::Node;
use nadgrid_core::ids::Digest;
use nadgrid_core::moments::{Moments, PartialError};
use nadgrid_core::scheduler::{ArtifactRef, JobResult};
use nadgrid_core::spec::JobShape;
use nadgrid_core::tree::{Fold, TreeError, root};
use nadgrid_figures::npy;
use ndarray::{Array1, Array2};
use thiserror::Error;
use tokio::runtime::Handle;

/// A reduction that did not come to its end.
#[derive(Debug, Error)]
pub enum ReduceError {
    /// A partial is gone, damaged or no partial: it must be computed again.
    #[error("the partial of blocks {node:?} cannot be used: {cause}")]
    Partial {
        /// Which.
        node: Node,
        /// Why.
        cause: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The partials are not those of all blocks.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The eigendecomposition did not converge.
    #[error("the eigendecomposition of the {0} x {0} covariance did not converge")]
    Eigen(usize),
}

/// The NADs of merged moments.
pub struct Nads {
    /// Rows are NADs in order of decreasing eigenvalue: k x D with k = min(D, N − 1). In each, the component
    /// of largest magnitude is positive.
    pub directions: Array2<f32>,
    /// Singular values of the centred N x D gradient matrix, k.
    pub singular_values: Array1<f64>,
    /// Eigenvalues of the covariance (divisor N − 1), k.
    pub eigenvalues: Array1<f64>,
}

/// Merges a job's partials, computes its results and stores them. Blocks the thread: call it on a CPU pool.
///
/// # Errors
/// [`ReduceError`].
pub fn reduce(
    job: &JobShape,
    partials: &[(Node, Digest)],
    store: &Store,
    io: &Handle,
) -> Result<JobResult, ReduceError> {
    let moments = merge(job, partials, store, io)?;
    let digest = Digest::of(&moments.to_bytes());
    let nads = decompose(&moments)?;
    let files = [
        ("nads.npy", npy::to_bytes(&nads.directions)),
        ("singular_values.npy", npy::to_bytes(&nads.singular_values)),
        ("eigenvalues.npy", npy::to_bytes(&nads.eigenvalues)),
        ("mean.npy", npy::to_bytes(&Array1::from(moments.mean))),
    ];
    let mut artifacts = Vec::new();
    for (name, bytes) in files {
        let size = bytes.len() as u64;
        let name = format!("nads/{}/{name}", job.architecture);
        artifacts.push(ArtifactRef { name, size, digest: io.block_on(store.put(bytes))? });
    }
    Ok(JobResult { digest, artifacts })
}

/// Reads partials left to right and folds them: at most one matrix per level of the tree is held.
fn merge(job: &JobShape, partials: &[(Node, Digest)], store: &Store, io: &Handle) -> Result<Moments, ReduceError> {
    let total = job.grid.blocks();
    let mut fold = Fold::over_all(total, |left: Moments, right: Moments| left.merge(&right));
    for &(node, digest) in partials {
        let lost = |cause: String| ReduceError::Partial { node, cause };
        let bytes =
            io.block_on(store.get(digest)).map_err(|e| if e.is_loss() { lost(e.to_string()) } else { e.into() })?;
        let members = job.grid.members(node.blocks(total));
        let read = Moments::from_bytes(&bytes, job.dimension, members.end - members.start);
        fold.push(node, read.map_err(|e: PartialError| lost(e.to_string()))?)?;
    }
    Ok(fold.finish(root(total))?)
}

/// The eigendecomposition of the scatter matrix. Sequential, so that its bits do not depend on the number of
/// cores.
///
/// # Errors
/// [`ReduceError::Eigen`].
pub fn decompose(moments: &Moments) -> Result<Nads, ReduceError> {
    let d = moments.dimension();
    let scatter = unpack(moments);
    let mut eigenvalues = Diag::<f64>::zeros(d);
    let mut eigenvectors = Mat::<f64>::zeros(d, d);
    let memory = self_adjoint_evd_scratch::<f64>(d, ComputeEigenvectors::Yes, Par::Seq, Default::default());
    let mut memory = MemBuffer::new(memory);
    let stack = MemStack::new(&mut memory);
    let (values, vectors) = (eigenvalues.as_mut(), Some(eigenvectors.as_mut()));
    self_adjoint_evd(scatter.as_ref(), values, vectors, Par::Seq, stack, Default::default())
        .map_err(|_| ReduceError::Eigen(d))?;

    // Ascending from faer, descending here. Centring takes one direction away: the rank is at most N − 1.
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
    Ok(Nads {
        directions,
        singular_values: (0..k).map(|i| value(i).sqrt()).collect(),
        eigenvalues: (0..k).map(|i| value(i) / (moments.count - 1) as f64).collect(),
    })
}

/// The packed upper triangle by rows is the lower triangle by columns, which is the half that faer reads.
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
    use nadgrid_core::grid::Grid;
    use nadgrid_core::random::Stream;

    /// Rows x = A·z with z ~ N(0, I) and a known A = diag(4, 2, 1) Q for a rotation Q.
    fn rows(n: usize) -> (Vec<f32>, [[f64; 3]; 3]) {
        let (c, s) = (0.6, 0.8);
        let q = [[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]];
        let mut z = vec![0.0; 3 * n];
        Stream::new(1, &["test"], 0).fill_normal(&mut z);
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

    #[tokio::test(flavor = "multi_thread")]
    async fn a_damaged_partial_is_named_and_the_rest_reduces() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::local(folder.path()).unwrap();
        let (x, _) = rows(10);
        let grid = Grid { networks: 10, block_size: 4 };
        let job = JobShape { architecture: "lenet".into(), grid, dimension: 3, multiply_adds: 1, parameters: 1 };
        let mut partials = Vec::new();
        for block in 0..3u64 {
            let members = grid.members(block..block + 1);
            let moments = Moments::of_rows(&x[members.start as usize * 3..members.end as usize * 3], 3);
            partials.push((Node::block(block), store.put(moments.to_bytes()).await.unwrap()));
        }
        let run = |partials: Vec<(Node, Digest)>| {
            let (job, store) = (job.clone(), store.clone());
            tokio::task::spawn_blocking(move || reduce(&job, &partials, &store, &Handle::current()))
        };
        let result = run(partials.clone()).await.unwrap().unwrap();
        assert_eq!(result.artifacts.len(), 4);
        assert_eq!(run(partials.clone()).await.unwrap().unwrap(), result);
        assert!(matches!(run(partials[..2].to_vec()).await.unwrap(), Err(ReduceError::Tree(_))));
        store.remove(partials[1].1).await.unwrap();
        let error = run(partials.clone()).await.unwrap().unwrap_err();
        assert!(matches!(error, ReduceError::Partial { node, .. } if node == Node::block(1)), "{error}");
    }
}
