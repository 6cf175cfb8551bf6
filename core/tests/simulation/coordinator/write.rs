//! A batch on its way to the journal, and the crashes that may come between any two steps: compaction, death and the next start.

use super::{Crash, Running, Step, Write};
use crate::faults::{Fault, Sight};
use crate::intake::Intake;
use crate::journal;
use crate::peers::{EventCount, SimulatedPeers};
use crate::scenario::Mutation;
use crate::shadow::Shadow;
use crate::world::{Happening, World};
use nadgrid_core::ids::Digest;
use nadgrid_core::scheduler::{Action, Record, Scheduler};
use nadgrid_core::shell::{Shell, ShellBatch};
use std::collections::{BTreeMap, BTreeSet};

/// A write that takes no longer is not told to the scheduler, as in the event loop: milliseconds.
const UNNOTICED: u64 = 250;

impl World {
    /// Durable first, then everything else; unless a crash comes.
    pub(super) fn perform(&mut self) -> Result<(), String> {
        let batch = self.coordinator.running.as_mut().ok_or("down")?.shell.batch();
        let records = self.recorded(&batch);
        self.follow(&records)?;
        let is_empty = batch.records().is_empty();
        let crash = self.draw_crash(!is_empty);
        if self.scenario.mutation == Mutation::DiscardsBeforeTheWrite {
            self.discard_early(batch.actions());
        }
        if crash == Some(Crash::BeforeWrite) {
            return self.crash();
        }
        let lines = journal::lines(&records);
        let batch = match self.scenario.mutation {
            Mutation::AnswersBeforeTheWrite => {
                self.tell_all(batch, None)?;
                None
            }
            _ => Some(batch),
        };
        let write = Write { lines, batch, began: self.time, crash };
        self.coordinator.running.as_mut().ok_or("down")?.writing = Some(write);
        if is_empty {
            return self.written();
        }
        let slow = self.strikes(self.scenario.rates.slow_write, Fault::SlowWrite);
        let after = if slow { self.random.between(100, 5_000) } else { self.random.between(0, 5) };
        self.schedule(after, Happening::Coordinator(self.coordinator.start, Step::Written));
        Ok(())
    }

    /// A batch's records, but for those that a mutation hides.
    fn recorded(&self, batch: &ShellBatch<SimulatedPeers>) -> Vec<Record> {
        let mutation = self.scenario.mutation;
        batch.records().iter().filter(|record| !mutation.hides(record)).cloned().collect()
    }

    /// Tells everybody what follows from a batch, if nothing comes in between.
    fn tell_all(&mut self, batch: ShellBatch<SimulatedPeers>, crash: Option<Crash>) -> Result<(), String> {
        let records = self.recorded(&batch);
        self.oracle.promise(&records)?;
        let most = match crash {
            Some(Crash::AmidActions) => self.random.below(batch.outputs() as u64 + 1) as usize,
            _ => usize::MAX,
        };
        self.coordinator.running.as_mut().ok_or("down")?.shell.written(batch, &mut ());
        self.act_on_all(most)
    }

    fn discard_early(&mut self, actions: &[Action]) {
        let Some(running) = &self.coordinator.running else { return };
        for action in actions {
            let Action::Discard { blobs } = action else { continue };
            self.store.remove(running.shell.unneeded(blobs.clone()));
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
        let running = self.coordinator.running.as_mut();
        let Write { lines, batch, began, crash } =
            running.and_then(|running| running.writing.take()).ok_or("nothing is written")?;
        if crash == Some(Crash::Torn) {
            let share = self.random.unit();
            self.journal.append_torn(&lines, share);
            return self.crash();
        }
        if !lines.is_empty() {
            self.journal.append(&lines);
        }
        if crash == Some(Crash::AfterWrite) {
            return self.crash();
        }
        let took = self.time - began;
        if let Some(running) = self.coordinator.running.as_mut().filter(|_| took > UNNOTICED) {
            running.shell.was_deaf(took);
        }
        if let Some(batch) = batch {
            self.tell_all(batch, crash)?;
        }
        if crash.is_some() {
            return self.crash();
        }
        self.check_length()?;
        if self.coordinator.running.as_mut().is_some_and(|running| running.shell.is_compaction_due()) {
            self.compact()?;
        }
        self.go_on();
        Ok(())
    }

    /// The shell counts the journal's records as they are.
    fn check_length(&self) -> Result<(), String> {
        if self.scenario.mutation.hides_records() {
            return Ok(());
        }
        let counted = self.coordinator.running.as_ref().map(|running| running.shell.journalled());
        if counted.is_some_and(|counted| counted != self.journal.records) {
            return Err(format!("the journal has {} records, the shell counts {counted:?}", self.journal.records));
        }
        Ok(())
    }

    /// Looks into the queue, and sets the alarm.
    fn go_on(&mut self) {
        let (start, now, time) = (self.coordinator.start, self.clock(), self.time);
        let Some(running) = &mut self.coordinator.running else { return };
        let waits = !running.queue.is_empty() && !running.woken;
        running.woken |= waits;
        let after = running.shell.next_deadline().map(|at| at.0.saturating_sub(now.0).max(1));
        let due = after.filter(|after| running.tick_at.is_none_or(|at| time + after < at || at < time));
        if let Some(after) = due {
            running.tick_at = Some(time + after);
            self.schedule(after, Happening::Coordinator(start, Step::Tick));
        }
        if waits {
            self.schedule(0, Happening::Coordinator(start, Step::Take));
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
        if self.scenario.mutation == Mutation::CompactionDropsARecord
            && let Some(place) = records.iter().position(|record| matches!(record, Record::Committed { .. }))
        {
            records.remove(place);
        }
        let crash = !self.calm && self.random.chance(self.scenario.rates.crash_in_compaction);
        if crash && self.random.chance(0.5) {
            self.counts.fault(Fault::CrashInCompactionOld);
            return self.crash();
        }
        if self.strikes(self.scenario.rates.compaction_fails, Fault::CompactionFails) {
            self.coordinator.running.as_mut().ok_or("down")?.shell.not_compacted();
            return Ok(());
        }
        let lines = journal::lines(&records);
        self.journal.replace(&lines);
        self.coordinator.running.as_mut().ok_or("down")?.shell.compacted(lines.len() as u64);
        self.oracle.compacted(lines);
        self.counts.sight(Sight::Compactions);
        if crash {
            self.counts.fault(Fault::CrashInCompactionNew);
            return self.crash();
        }
        self.check_length()
    }

    /// The coordinator dies; a write that is under way comes to its end, or not, or in part.
    pub(crate) fn crash_from_outside(&mut self) -> bool {
        let Some(running) = &mut self.coordinator.running else { return false };
        if let Some(write) = running.writing.take() {
            match self.random.below(3) {
                0 => {}
                1 => {
                    let share = self.random.unit();
                    self.journal.append_torn(&write.lines, share);
                }
                _ => self.journal.append(&write.lines),
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
        self.coordinator.running = None;
        self.coordinator.start += 1;
        self.break_all_connections();
        let after = self.random.between(10, 30_000);
        self.schedule(after, Happening::Coordinator(self.coordinator.start, Step::Start));
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
        let mut shell = Shell::new(scheduler, self.journal.records, self.scenario.compaction);
        shell.resume(now);
        shell.scheduler().sanity_check()?;
        let needed: BTreeSet<Digest> = shell.scheduler().referenced().collect();
        if let Some(missing) = self.store.missing(needed.iter().copied()) {
            return Err(format!("{missing} is needed and not in the store"));
        }
        self.store.collect_orphans(&needed);
        let due = self.recorded(shell.open_batch());
        self.trace(|_| format!("the coordinator starts: {due:?}"));
        self.coordinator.running = Some(Running {
            shell,
            queue: Vec::new(),
            woken: false,
            writing: None,
            listening: BTreeMap::new(),
            newest: BTreeMap::new(),
            heard: EventCount::default(),
            verifying: Vec::new(),
            given_up: BTreeSet::new(),
            intake: Intake::new(&self.scenario.plane),
            tick_at: None,
            latest: now.0,
        });
        due.iter().try_for_each(|record| self.decided(record, None))?;
        self.perform()
    }
}
