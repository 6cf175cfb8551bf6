//! Messages of the wire to and from the worker's own types.
//!
//! Deliberately absent: judgement. Numbers and names are taken as they are; whether a job has such a shard shows when its spec is
//! read.

use crate::phases::Phase;
use crate::shard::{InputFile, JobKey, ShardKey};
use crate::task::ComputedShard;
use crate::tasks::TaskReport;
use nadgrid_core::ids::{JobIndex, SweepId};
use nadgrid_core::scheduler::{FailureKind, ShardStand};
use nadgrid_proto::v1;
use nadgrid_proto::v1::session_request::Message;

impl From<v1::Shard> for ShardKey {
    fn from(shard: v1::Shard) -> Self {
        let v1::Shard { sweep_id, job, first_block, blocks } = shard;
        Self { job: JobKey { sweep: SweepId::new(sweep_id), job: JobIndex(job) }, first_block, blocks }
    }
}

impl From<&ShardKey> for v1::Shard {
    fn from(shard: &ShardKey) -> Self {
        let ShardKey { job: JobKey { sweep, job }, first_block, blocks } = shard;
        Self { sweep_id: sweep.to_string(), job: job.0, first_block: *first_block, blocks: *blocks }
    }
}

impl From<v1::ShardInput> for InputFile {
    fn from(input: v1::ShardInput) -> Self {
        let v1::ShardInput { role, name, size, digest } = input;
        Self { role, name, size, digest }
    }
}

impl From<&Phase> for v1::Step {
    fn from(phase: &Phase) -> Self {
        Self { name: phase.name.to_owned(), begin_us: phase.begin_us, end_us: phase.end_us }
    }
}

impl From<&ComputedShard> for v1::ShardResult {
    fn from(computed: &ComputedShard) -> Self {
        Self {
            shard: Some((&computed.task.shard).into()),
            numerics_class: Some((&computed.class).into()),
            data: computed.bytes.to_vec(),
            digest: computed.digest.to_string(),
            seconds: computed.seconds,
            steps: computed.phases.iter().map(Into::into).collect(),
            begin_seconds: computed.begin_seconds,
        }
    }
}

impl From<TaskReport> for Message {
    fn from(report: TaskReport) -> Self {
        match report {
            TaskReport::Progress { shard, stand } => {
                let ShardStand { blocks_done, fraction, seconds, begin_seconds } = stand;
                let shard = Some((&shard).into());
                Self::Progress(v1::Progress { shard, blocks_done, seconds, begin_seconds, fraction })
            }
            TaskReport::Computed { shard } => Self::Computed(v1::Computed { shard: Some((&shard).into()) }),
            TaskReport::Result(computed) => Self::Result((&*computed).into()),
            TaskReport::Failed { shard, fault } => Self::Failure(v1::Failure {
                shard: Some((&shard).into()),
                kind: failure_kind(fault.kind).into(),
                message: fault.message,
            }),
        }
    }
}

fn failure_kind(kind: FailureKind) -> v1::FailureKind {
    match kind {
        FailureKind::Spec => v1::FailureKind::Spec,
        FailureKind::Unfit => v1::FailureKind::Unfit,
        FailureKind::Task => v1::FailureKind::Task,
        FailureKind::Transient => v1::FailureKind::Transient,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shard that cannot be comes back as it came, so that the coordinator recognises it.
    #[test]
    fn shards_come_back_as_they_came() {
        for (first_block, blocks) in [(0, 4), (7, u64::MAX), (u64::MAX, 0)] {
            let shard = v1::Shard { sweep_id: "s".into(), job: 3, first_block, blocks };
            assert_eq!(v1::Shard::from(&ShardKey::from(shard.clone())), shard);
        }
    }

    #[test]
    fn failures_keep_their_kind() {
        for kind in [FailureKind::Spec, FailureKind::Unfit, FailureKind::Task, FailureKind::Transient] {
            assert_eq!(failure_kind(kind).to_core(), kind);
        }
    }
}
