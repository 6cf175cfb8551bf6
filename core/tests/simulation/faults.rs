//! What goes wrong, and what is seen to happen because of it: everything is counted, so that a test can say that it was there.

/// Makes an enum that can be counted.
macro_rules! counted {
    ($(#[$doc:meta])* $name:ident { $($(#[$what:meta])* $kind:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[$what])* $kind),* }

        impl $name {
            /// All of them.
            pub(crate) const ALL: &[Self] = &[$(Self::$kind),*];
        }
    };
}

counted!(
    /// Something that goes wrong.
    Fault {
        /// The coordinator dies between two writes.
        CrashIdle,
        /// It dies before what it decided is written.
        CrashBeforeWrite,
        /// It dies in the middle of a write: the journal's tail is torn.
        TornTail,
        /// It dies after the write, before anybody is told.
        CrashAfterWrite,
        /// It dies when some are told and some are not.
        CrashAmidActions,
        /// It dies while it compacts the journal: the old one is left.
        CrashInCompactionOld,
        /// It dies when the compacted journal is there.
        CrashInCompactionNew,
        /// A reduction's result is lost with the coordinator.
        ReductionLost,
        /// A merge's result is lost with the coordinator.
        MergeLost,
        /// The store fails in the middle of a merge or reduction.
        StoreFails,
        /// A worker dies with all that it has.
        WorkerCrash,
        /// A worker is stopped for a while and goes on as if nothing had been.
        WorkerStop,
        /// A worker is asked to end.
        WorkerDrain,
        /// A worker finds that it cannot compute.
        WorkerUnfit,
        /// A worker's slots are many times slower than others.
        WorkerSlow,
        /// A worker's slot hangs, and its heart beats on.
        SlotHung,
        /// A result is not what the computation gives.
        Lie,
        /// A block fails here and now.
        TransientFailure,
        /// A block fails wherever it is computed.
        PoisonBlock,
        /// A block takes down whoever computes it.
        KillerBlock,
        /// A connection breaks with all that is under way.
        ConnectionBroken,
        /// A worker cannot reach the coordinator for a while.
        Partition,
        /// A request does not arrive.
        RequestLost,
        /// A request arrives twice.
        RequestDuplicated,
        /// A request takes longer than those after it.
        RequestDelayed,
        /// The answer to a request does not arrive.
        ReplyLost,
        /// A request arrives at a coordinator that was started after it was sent.
        RequestAcrossRestart,
        /// Something is said in a session that is over: another one has replaced it, or it was ended.
        StaleSession,
        /// A message is read whose connection is broken.
        WordsAfterTheBreak,
        /// A worker computes a shard in another class than it says it has.
        OtherClass,
        /// The journal cannot be compacted.
        CompactionFails,
        /// The coordinator's clock jumps forwards.
        ClockForward,
        /// The coordinator's clock jumps back.
        ClockBack,
        /// A stored blob is gone.
        BlobLost,
        /// A stored blob has changed.
        BlobDamaged,
        /// The disk is slow: a write takes long.
        SlowWrite,
        /// A grant is lost with its connection.
        GrantLost,
        /// A worker dies with a grant.
        HolderDied,
        /// A worker with a grant cannot reach the coordinator for a while.
        HolderCutOff,
        /// The coordinator dies while places are taken.
        CrashWithHolders,
        /// A worker's line is little faster than the slowest that is waited for.
        LineSlow,
        /// The store takes nothing for a while.
        StoreAway,
        /// The store takes long for a payload.
        StoreSlow,
        /// A payload is stored and reported twice.
        ReportedTwice,
    }
);

counted!(
    /// Something that the scheduler is there to do.
    Sight {
        /// Sweeps that ended with a digest.
        Complete,
        /// Sweeps that ended without some blocks.
        Incomplete,
        /// Sweeps that their users cancelled.
        Cancelled,
        /// Sweeps that were paused.
        Paused,
        /// Sweeps that were forgotten.
        Forgotten,
        /// Submissions that found their sweep there.
        Resubmitted,
        /// Reports that committed.
        Committed,
        /// Reports of what was committed.
        Duplicate,
        /// Reports of what was committed in part.
        Superseded,
        /// Reports that nobody needs.
        NotNeeded,
        /// Reports that were compared.
        Checked,
        /// Partials that were withdrawn.
        Withdrawn,
        /// Partials that were merged while their job was computed.
        Merged,
        /// Merged partials that were withdrawn with all their shards.
        MergedWithdrawn,
        /// Merges that were of what was withdrawn meanwhile, or of a sweep that has ended.
        MergeUnwanted,
        /// Shards that a second worker agreed on.
        Audited,
        /// Lies that were believed, since whoever lied was the only one to check it and brought the same twice.
        SelfAudited,
        /// Workers that were set aside because they were outvoted.
        Distrusted,
        /// Shards that were quarantined.
        Quarantined,
        /// Shards that went on from a checkpoint.
        Resumed,
        /// Shards that a worker brought along into a new session.
        Brought,
        /// Shards that were revoked.
        Revoked,
        /// Silent workers whose session was ended.
        Disconnected,
        /// Speculative leases of late shards.
        Speculated,
        /// Restarts of the coordinator.
        Restarts,
        /// Compactions of the journal.
        Compactions,
        /// Results that were refused since they were computed in another class.
        Refused,
        /// Assignments that did not repeat what their job is.
        JobRemembered,
        /// Batches of several commands with one write.
        GroupCommits,
        /// Shards that were computed again for a user.
        Verified,
        /// Payloads that waited for a place.
        WaitedForAPlace,
        /// Places that were given back since the payload was not wanted any more.
        GaveUpItsPlace,
        /// Transfers that were ended since too little came for too long.
        TooSlow,
        /// Payloads that the store did not take.
        StoreUnavailable,
        /// Results that were offered again after their connection had broken.
        OfferedAgain,
    }
);

/// How often each was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    faults: Vec<u64>,
    sights: Vec<u64>,
}

impl Default for Counts {
    fn default() -> Self {
        Self { faults: vec![0; Fault::ALL.len()], sights: vec![0; Sight::ALL.len()] }
    }
}

impl Counts {
    /// Counts a fault.
    pub(crate) fn fault(&mut self, fault: Fault) {
        self.faults[fault as usize] += 1;
    }

    /// Counts a sight.
    pub(crate) fn sight(&mut self, sight: Sight) {
        self.sights[sight as usize] += 1;
    }

    /// Faults of all kinds.
    pub(crate) fn faults(&self) -> u64 {
        self.faults.iter().sum()
    }

    /// How often this fault was.
    pub(crate) fn of(&self, fault: Fault) -> u64 {
        self.faults[fault as usize]
    }

    /// How often this was seen.
    pub(crate) fn seen(&self, sight: Sight) -> u64 {
        self.sights[sight as usize]
    }

    /// Adds those of another run.
    pub(crate) fn add(&mut self, other: &Self) {
        self.faults.iter_mut().zip(&other.faults).for_each(|(a, b)| *a += b);
        self.sights.iter_mut().zip(&other.sights).for_each(|(a, b)| *a += b);
    }

    /// One per line.
    pub(crate) fn table(&self) -> String {
        let faults = Fault::ALL.iter().map(|&fault| format!("{:>10} {fault:?}\n", self.of(fault)));
        let sights = Sight::ALL.iter().map(|&sight| format!("{:>10} {sight:?}\n", self.seen(sight)));
        faults.chain(sights).collect()
    }
}
