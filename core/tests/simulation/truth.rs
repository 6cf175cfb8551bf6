//! What blocks yield: symbols instead of sums, so that a wrong order, a missing block or one that counts twice shows.
//!
//! The value of a block is a digest of all that it depends on, two values merge to the digest of both in their order, and the
//! expected result of a job is the fold of a single worker that was never interrupted.

use nadgrid_core::grid::Node;
use nadgrid_core::ids::{Digest, JobIndex};
use nadgrid_core::numerics::NumericsClass;
use nadgrid_core::spec::{BasisSource, Inputs, Spec};
use nadgrid_core::tree::{Fold, root};

/// What a block depends on besides its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Coordinates {
    pub(crate) spec: String,
    pub(crate) class: NumericsClass,
    pub(crate) job: JobIndex,
    /// The result that the job builds on.
    pub(crate) basis: Option<Digest>,
}

impl Coordinates {
    /// What a block yields.
    pub(crate) fn block(&self, block: u64) -> Digest {
        let Self { spec, class, job, basis } = self;
        Digest::of(format!("{spec} {} {} {basis:?} {block}", class.arithmetic, job.0).as_bytes())
    }
}

/// Two values in one.
pub(crate) fn merge(left: Digest, right: Digest) -> Digest {
    Digest::of([left.0, right.0].as_flattened())
}

/// The value of a shard from those of its blocks.
pub(crate) fn fold(node: Node, total: u64, values: &[Digest]) -> Digest {
    let mut fold = Fold::below(node, total, merge);
    for (block, &value) in node.blocks(total).zip(values) {
        fold.push(Node::block(block), value).expect("blocks in order");
    }
    fold.finish(node).expect("all blocks")
}

/// A partial's bytes: its value, and how long it took, which is another number each time.
pub(crate) fn partial_bytes(value: Digest, nonce: u64) -> Vec<u8> {
    [&value.0[..], &nonce.to_le_bytes()].concat()
}

/// A merged partial's bytes: nothing but its value.
pub(crate) fn merged_bytes(value: Digest) -> Vec<u8> {
    partial_bytes(value, 0)
}

/// The value in a partial's bytes.
pub(crate) fn value_of(bytes: &[u8]) -> Option<Digest> {
    bytes.first_chunk().map(|value| Digest(*value))
}

/// The bytes of a job's result file, on which others build.
pub(crate) fn artifact_bytes(value: Digest) -> Vec<u8> {
    format!("eigenvectors of {value}").into_bytes()
}

/// The digests of a sweep's jobs, each computed by one worker of the class from the first block to the last.
pub(crate) fn expected_jobs(spec: &Spec, class: &NumericsClass) -> Vec<Digest> {
    let mut digests: Vec<Digest> = Vec::new();
    for (index, shape) in spec.jobs(&Inputs::new()).iter().enumerate() {
        let basis = match shape.basis {
            BasisSource::Job(needed) => Some(Digest::of(&artifact_bytes(digests[needed.0 as usize]))),
            _ => None,
        };
        let job = JobIndex(index as u32);
        let coordinates = Coordinates { spec: spec.name.clone(), class: class.clone(), job, basis };
        let total = shape.grid.blocks();
        let values: Vec<Digest> = (0..total).map(|block| coordinates.block(block)).collect();
        digests.push(fold(root(total), total, &values));
    }
    digests
}

/// The digest of a complete sweep.
pub(crate) fn expected_sweep(spec: &Spec, class: &NumericsClass) -> Digest {
    let jobs = spec.jobs(&Inputs::new());
    let lines = jobs.iter().zip(expected_jobs(spec, class)).map(|(job, digest)| format!("{} {digest}\n", job.name()));
    Digest::of(lines.collect::<String>().as_bytes())
}
