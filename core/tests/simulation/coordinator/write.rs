//! A batch on its way to the journal, and the crashes that may come between any two steps: compaction, death and the next start.

use super::{Batch, Command, Crash, Desk, Step};
use crate::faults::{Fault, Sight};
use crate::intake::Intake;
use crate::journal;
use crate::scenario::Mutation;
use crate::shadow::Shadow;
use crate::world::{Happening, World};
use nadgrid_core::ids::Digest;
use nadgrid_core::scheduler::{Action, Effects, Record, Scheduler};
use std::collections::{BTreeMap, BTreeSet};

impl World {
    /// Durable first, then everything else; unless a crash comes.
    pub(super) fn perform(&mut self, effects: Effects, questions: Vec<Command>) -> Result<(), String> {
        let Effects { records, actions } = effects;
        self.follow(&records)?;
        let crash = self.draw_crash(!records.is_empty());
        let batch = Batch { records, actions, questions, crash };
        if self.scenario.mutation == Mutation::DiscardsBeforeTheWrite {
            self.discard_early(&batch.actions);
        }
        if crash == Some(Crash::BeforeWrite) {
            return self.crash();
        }
        if self.scenario.mutation == Mutation::ActsBeforeTheWrite {
            self.oracle.promise(&batch.records)?;
        }
        let is_empty = batch.records.is_empty();
        self.coordinator.desk.as_mut().ok_or("down")?.writing = Some(batch);
        if is_empty {
            return self.written();
        }
        let slow = self.strikes(self.scenario.rates.slow_write, Fault::SlowWrite);
        let after = if slow { self.random.between(100, 5_000) } else { self.random.between(0, 5) };
        self.schedule(after, Happening::Desk(self.coordinator.start, Step::Written));
        Ok(())
    }

    fn discard_early(&mut self, actions: &[Action]) {
        let Some(scheduler) = self.coordinator.desk.as_ref().map(|desk| &desk.scheduler) else { return };
        for action in actions {
            let Action::Discard { blobs } = action else { continue };
            self.store.remove(blobs.clone(), scheduler.referenced());
        }
    }

    fn draw_crash(&mut self, writes: bool) -> Option<Crash> {
        if self.calm || !self.random.chance(self.scenario.rates.crash_in_batch) {
            return None;
        }
        let (crash, fault) = match self.random.below(if writes { 4 } else { 1 }) {
            0 => (Crash::AmidActions, Fault::CrashAmidActions),
            1 => (Crash::BeforeWrite, Fault::CrashBeforeWrite),
            2 => (Crash::Torn, Fault::TornTail),
            _ => (Crash::AfterWrite, Fault::CrashAfterWrite),
        };
        self.counts.fault(fault);
        Some(crash)
    }

    /// A batch has been written, or what a crash leaves of it.
    pub(super) fn written(&mut self) -> Result<(), String> {
        let batch = self.coordinator.desk.as_mut().and_then(|desk| desk.writing.take()).ok_or("nothing is written")?;
        if batch.crash == Some(Crash::Torn) {
            let share = self.random.unit();
            self.journal.append_torn(&journal::lines(&batch.records), share);
            return self.crash();
        }
        if !batch.records.is_empty() {
            self.journal.append(&journal::lines(&batch.records));
        }
        if batch.crash == Some(Crash::AfterWrite) {
            return self.crash();
        }
        if self.scenario.mutation != Mutation::ActsBeforeTheWrite {
            self.oracle.promise(&batch.records)?;
        }
        let done = match batch.crash {
            Some(Crash::AmidActions) => self.random.below(batch.actions.len() as u64 + 1) as usize,
            _ => batch.actions.len(),
        };
        batch.actions.into_iter().take(done).for_each(|action| self.act(action));
        if batch.crash.is_some() {
            return self.crash();
        }
        batch.questions.into_iter().for_each(|question| self.answer_question(question));
        if self.journal.frames >= self.scenario.compact_after {
            self.compact()?;
        }
        self.go_on();
        Ok(())
    }

    /// Looks into the queue, and sets the alarm.
    fn go_on(&mut self) {
        let (start, now, time) = (self.coordinator.start, self.clock(), self.time);
        let Some(desk) = &mut self.coordinator.desk else { return };
        let waits = !desk.queue.is_empty() && !desk.woken;
        desk.woken |= waits;
        let after = desk.scheduler.next_deadline().map(|at| at.0.saturating_sub(now.0).max(1));
        let due = after.filter(|after| desk.tick_at.is_none_or(|at| time + after < at || at < time));
        if let Some(after) = due {
            desk.tick_at = Some(time + after);
            self.schedule(after, Happening::Desk(start, Step::Tick));
        }
        if waits {
            self.schedule(0, Happening::Desk(start, Step::Take));
        }
    }

    /// Puts a snapshot in the place of the journal.
    fn compact(&mut self) -> Result<(), String> {
        let Some(scheduler) = self.coordinator.scheduler() else { return Ok(()) };
        self.oracle.agrees(scheduler)?;
        let mut records: Vec<Record> = scheduler.snapshot().collect();
        let mut replica = scheduler.replica();
        let replayed = records.iter().try_for_each(|record| replica.replay(record.clone()));
        replayed.and_then(|()| replica.end()).map_err(|difference| difference.to_string())?;
        self.shadow = Shadow::of(self.scenario.settings, records.iter().cloned());
        self.follow(&[])?;
        if self.scenario.mutation == Mutation::CompactionLosesACommit
            && let Some(place) = records.iter().position(|record| matches!(record, Record::Committed { .. }))
        {
            records.remove(place);
        }
        let crash = !self.calm && self.random.chance(self.scenario.rates.crash_in_compaction);
        if crash && self.random.chance(0.5) {
            self.counts.fault(Fault::CrashInCompactionOld);
            return self.crash();
        }
        let lines = journal::lines(&records);
        self.journal.replace(&lines);
        self.oracle.compacted(lines);
        self.counts.sight(Sight::Compactions);
        if crash {
            self.counts.fault(Fault::CrashInCompactionNew);
            return self.crash();
        }
        Ok(())
    }

    /// The coordinator dies; a write that is under way comes to its end, or not, or in part.
    pub(crate) fn crash_from_outside(&mut self) -> bool {
        let Some(desk) = &mut self.coordinator.desk else { return false };
        if let Some(batch) = desk.writing.take() {
            match self.random.below(3) {
                0 => {}
                1 => {
                    let share = self.random.unit();
                    self.journal.append_torn(&journal::lines(&batch.records), share);
                }
                _ => self.journal.append(&journal::lines(&batch.records)),
            }
        }
        self.crash().is_ok()
    }

    fn crash(&mut self) -> Result<(), String> {
        self.trace(|_| "the coordinator dies".to_owned());
        if self.coordinator.intake().is_some_and(|intake| intake.holders() > 0) {
            self.counts.fault(Fault::CrashWithHolders);
        }
        if self.scenario.mutation == Mutation::JournalLosesABatch {
            self.journal.lose_last();
        }
        self.coordinator.desk = None;
        self.coordinator.start += 1;
        self.break_all_connections();
        let after = self.random.between(10, 30_000);
        self.schedule(after, Happening::Desk(self.coordinator.start, Step::Start));
        Ok(())
    }

    pub(super) fn start_coordinator(&mut self) -> Result<(), String> {
        let records = self.journal.read();
        if self.coordinator.start > 0 {
            self.counts.sight(Sight::Restarts);
            self.oracle.restarted(&records)?;
        }
        self.shadow = Shadow::of(self.scenario.settings, records.iter().cloned());
        let mut scheduler = Scheduler::new(self.scenario.settings);
        records.into_iter().for_each(|record| scheduler.replay(record));
        self.oracle.agrees(&scheduler)?;
        let now = self.clock();
        let effects = scheduler.resume(now);
        scheduler.sanity_check()?;
        let needed: BTreeSet<Digest> = scheduler.referenced().collect();
        if let Some(missing) = self.store.missing(needed.iter().copied()) {
            return Err(format!("{missing} is needed and not in the store"));
        }
        self.store.collect_orphans(&needed);
        self.trace(|_| format!("the coordinator starts: {effects:?}"));
        self.coordinator.desk = Some(Desk {
            scheduler,
            queue: Vec::new(),
            woken: false,
            writing: None,
            askers: BTreeMap::new(),
            requests: 0,
            sessions: BTreeMap::new(),
            verifications: BTreeMap::new(),
            intake: Intake::new(&self.scenario.plane),
            tick_at: None,
            latest: now.0,
        });
        for record in &effects.records {
            self.note(record);
            self.oracle.decided(record, &self.scenario)?;
        }
        self.perform(effects, Vec::new())
    }
}
