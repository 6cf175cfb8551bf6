//! The live view of a sweep, as rows for a terminal of a given size.
//!
//! ```text
//! lenet  running for 12 s
//! nads/lenet         ━━━━━━━━━━━━━━━────────────  1,024/2,048   50 %  64.0 networks/s, 16 s left
//! directional/lenet  ───────────────────────────     0/1,500    0 %  waiting for its NADs
//! whole     12 %, 1,024 of 3,548 members, 64.0 members/s, 2 min 10 s left
//! notice    the worker gpu-box is set aside: wrong bits
//! workers   2 connected, 4 slots, 3 of them busy
//! failures  2 shards given out again; gpu-box said last: out of memory
//! ```
//! No row is wider than the terminal, and there are fewer rows than it has. Absent: clocks, terminals and estimates.

use super::totals::{SweepTotals, pace, parts, position, word};
use crate::cli::styled::{StyledRow, TextStyle, bar};
use crate::cli::tables::count;
use nadgrid_client::v1::{Job, JobState, Sweep, SweepState, Worker};
use nadgrid_client::{members_word, sweep_state};
use nadgrid_core::text::{duration, percent, thousands, whole_percent};

/// The width of a bar, in columns.
const BAR: std::ops::RangeInclusive<usize> = 8..=28;
/// The width of a percentage, in columns.
const PERCENT: usize = 7;
/// Most notices that are shown.
const MOST_NOTICES: usize = 4;

/// A sweep and what is known around it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProgressView<'a> {
    pub(crate) sweep: &'a Sweep,
    /// The coordinator's workers, where it tells them.
    pub(crate) workers: Option<&'a [Worker]>,
    /// The reason why the coordinator does not answer, where it does not.
    pub(crate) away: Option<&'a str>,
    /// Since it started; nothing when it has not.
    pub(crate) seconds: Option<f64>,
}

impl ProgressView<'_> {
    /// Everything, for a terminal of so many columns and lines.
    pub(crate) fn rows(&self, columns: usize, lines: usize) -> Vec<StyledRow> {
        let below = [self.whole(columns), self.notices(), self.workers(), self.failures()];
        let below: Vec<StyledRow> = below.into_iter().flatten().collect();
        // The head, and the line that the cursor waits on.
        let room = lines.saturating_sub(below.len() + 2).max(1);
        let rows = [self.head()].into_iter().chain(self.jobs(columns, room)).chain(below);
        rows.take(lines.saturating_sub(1).max(1)).map(|row| row.within(columns)).collect()
    }

    fn head(&self) -> StyledRow {
        let state = sweep_state(self.sweep);
        let since = match self.seconds {
            Some(seconds) if !nadgrid_client::has_ended(self.sweep) => format!(" for {}", duration(seconds)),
            Some(seconds) => format!(" after {}", duration(seconds)),
            None => String::new(),
        };
        let head = StyledRow::of(TextStyle::Strong, &self.sweep.name).and(TextStyle::Plain, "  ");
        let head = head.and(state_tone(self.sweep), state).and(TextStyle::Plain, since);
        match self.away {
            Some(reason) => head.and(TextStyle::Warn, format!("; the coordinator is away ({reason})")),
            None => head,
        }
    }

    /// A row for each job, at most `room`; of more, those that are under way come first and the rest are counted.
    pub(crate) fn jobs(&self, columns: usize, room: usize) -> Vec<StyledRow> {
        let jobs = &self.sweep.jobs;
        if jobs.len() <= room {
            return self.bars(&jobs.iter().collect::<Vec<_>>(), columns);
        }
        let mut order: Vec<(usize, &Job)> = jobs.iter().enumerate().collect();
        order.sort_by_key(|(_, job)| match job.state() {
            JobState::Computing | JobState::Reducing => (0, position(job) == 0),
            JobState::Incomplete => (1, false),
            JobState::Waiting | JobState::Unspecified => (2, false),
            JobState::Complete => (3, false),
        });
        let (shown, hidden) = order.split_at(room.saturating_sub(1));
        let mut shown: Vec<(usize, &Job)> = shown.to_vec();
        shown.sort_by_key(|(place, _)| *place);
        let complete = hidden.iter().filter(|(_, job)| job.state() == JobState::Complete).count();
        let more = match hidden.len() - complete {
            0 => format!("and {complete} more, complete"),
            open => format!("and {} more, {complete} of them complete", open + complete),
        };
        let shown: Vec<&Job> = shown.into_iter().map(|(_, job)| job).collect();
        self.bars(&shown, columns).into_iter().chain([StyledRow::of(TextStyle::Faint, more)]).collect()
    }

    /// Name, bar, counts, share and words of each job, in columns: the first layout in which all fit.
    fn bars(&self, jobs: &[&Job], columns: usize) -> Vec<StyledRow> {
        let told: Vec<Told<'_>> = jobs.iter().map(|job| Told::new(job, self.sweep.workers)).collect();
        let widest = |of: fn(&Told<'_>) -> usize| told.iter().map(of).max().unwrap_or(0);
        let names = widest(|it| it.name.chars().count()).min(columns / 3);
        let counts = widest(|it| it.counts.chars().count());
        let long = widest(|it| it.long.chars().count());
        let short = widest(|it| it.short.chars().count());
        // What else a row has: two spaces before each part, and the share.
        let fixed = names + 2 + PERCENT;
        let layouts = [(counts + 2, long + 2), (counts + 2, short + 2), (0, short + 2)];
        let fits = |&(counts, words): &(usize, usize)| fixed + counts + words + BAR.start() <= columns;
        let (counts, words) = layouts.into_iter().find(fits).unwrap_or(layouts[2]);
        let room = columns.saturating_sub(fixed + counts + words).clamp(*BAR.start(), *BAR.end());
        let row = |it: &Told<'_>| {
            let start = StyledRow::of(TextStyle::Plain, format!("{:<names$}  ", cut(&it.name, names)));
            let row = bar(start, room, it.done, it.under_way);
            let count = if counts > 0 { format!("{:>counts$}", it.counts) } else { String::new() };
            let said = if words > long { &it.long } else { &it.short };
            row.and(TextStyle::Faint, count)
                .and(TextStyle::Plain, it.percent())
                .and(it.tone, format!("  {said}"))
                .within(columns)
        };
        told.iter().map(row).collect()
    }

    /// Returns the totals of all jobs, where there are several.
    fn whole(&self, columns: usize) -> Vec<StyledRow> {
        if self.sweep.jobs.len() < 2 {
            return Vec::new();
        }
        let SweepTotals { members, computed, members_per_second } = SweepTotals::of(self.sweep);
        let word = word(&self.sweep.jobs);
        let left = self.sweep.seconds_left.map_or(String::new(), |left| format!(", {} left", duration(left)));
        let share = percent(self.sweep.progress);
        let counts = format!("{share}, {} of {} {word}", thousands(computed), thousands(members));
        let row = |word: &str| {
            let rate = members_per_second.map_or(String::new(), |rate| format!(", {}", pace(rate, word)));
            fact("whole", TextStyle::Plain, format!("{counts}{rate}{left}"))
        };
        let long = row(word);
        vec![if long.width() <= columns { long } else { row("") }]
    }

    /// Returns the coordinator's notices about the sweep.
    fn notices(&self) -> Vec<StyledRow> {
        let notices = &self.sweep.notices;
        let name = |place: usize| if place == 0 { "notice" } else { "" };
        let shown = notices.iter().take(MOST_NOTICES).enumerate();
        let mut rows: Vec<StyledRow> =
            shown.map(|(place, notice)| fact(name(place), TextStyle::Warn, notice)).collect();
        if let Some(more) = notices.len().checked_sub(MOST_NOTICES).filter(|&more| more > 0) {
            rows.push(fact("", TextStyle::Warn, format!("and {more} more")));
        }
        rows
    }

    fn workers(&self) -> Vec<StyledRow> {
        let Some(workers) = self.workers else { return Vec::new() };
        let here: Vec<&Worker> = workers.iter().filter(|worker| worker.connected).collect();
        let (unfit, fit): (Vec<&Worker>, Vec<&Worker>) = here.into_iter().partition(|worker| !worker.unfit.is_empty());
        let slots: u64 = fit.iter().map(|worker| u64::from(worker.slots)).sum();
        let busy: u64 = fit.iter().map(|worker| u64::from(worker.leases.min(worker.slots))).sum();
        let aside = if unfit.is_empty() { String::new() } else { format!(", {} set aside", unfit.len()) };
        vec![match fit.len() {
            0 => fact("workers", TextStyle::Warn, format!("none connected that can compute{aside}")),
            n => fact(
                "workers",
                TextStyle::Plain,
                format!("{n} connected, {}, {busy} busy{aside}", count(slots, "slot")),
            ),
        }]
    }

    fn failures(&self) -> Vec<StyledRow> {
        let jobs = &self.sweep.jobs;
        let retries: u64 = jobs.iter().map(|job| job.retries).sum();
        let lost: u64 = jobs.iter().map(|job| job.members_failed).sum();
        if retries + lost == 0 {
            return Vec::new();
        }
        let again = (retries > 0).then(|| format!("{} given out again", count(retries, "shard")));
        let failed = self.sweep.failures.len() as u64;
        let quarantined = (lost > 0)
            .then(|| format!("{} in quarantine ({} {})", count(failed, "shard"), thousands(lost), word(jobs)));
        let tone = if lost > 0 { TextStyle::Bad } else { TextStyle::Warn };
        let words: Vec<String> = [again, quarantined].into_iter().flatten().collect();
        let mut rows = vec![fact("failures", tone, words.join(", "))];
        rows.extend(self.last_error().map(|error| fact("", tone, error)));
        rows
    }

    /// Returns the error of a quarantined shard, else the latest error of a worker.
    fn last_error(&self) -> Option<String> {
        let for_good = self.sweep.failures.last();
        let for_good = for_good.map(|failure| format!("last for good: {}", failure.message));
        let said = self.workers.unwrap_or_default().iter().rev().find(|worker| !worker.last_error.is_empty());
        for_good.or_else(|| said.map(|worker| format!("{} said: {}", worker.name, worker.last_error)))
    }
}

/// Returns the words of a job's row.
struct Told<'a> {
    job: &'a Job,
    name: String,
    counts: String,
    long: String,
    short: String,
    /// Settled and under way, as shares of 1.
    done: f64,
    under_way: f64,
    tone: TextStyle,
}

impl<'a> Told<'a> {
    fn new(job: &'a Job, workers: u32) -> Self {
        let (done, under_way) = parts(job.progress, job.members, job.members_in_flight);
        Self {
            job,
            name: name(job),
            counts: format!("{}/{}", thousands(position(job)), thousands(job.members)),
            long: words(job, workers, members_word(&job.experiment)),
            short: words(job, workers, ""),
            done,
            under_way,
            tone: if job.state() == JobState::Incomplete { TextStyle::Bad } else { TextStyle::Plain },
        }
    }

    /// Of so many columns: [`PERCENT`].
    fn percent(&self) -> String {
        format!("  {:>3} %", whole_percent(self.job.progress))
    }
}

/// Returns the style of a sweep's state.
pub(crate) fn state_tone(sweep: &Sweep) -> TextStyle {
    match sweep.state() {
        SweepState::Complete => TextStyle::Good,
        SweepState::Failed | SweepState::Incomplete => TextStyle::Bad,
        SweepState::Cancelled => TextStyle::Faint,
        _ if sweep.paused => TextStyle::Warn,
        SweepState::Running => TextStyle::Accent,
        _ => TextStyle::Plain,
    }
}

fn fact(name: &str, tone: TextStyle, words: impl AsRef<str>) -> StyledRow {
    StyledRow::of(TextStyle::Faint, format!("{name:<10}")).and(tone, words)
}

/// Returns a job's name, for example `nads/lenet`.
pub(crate) fn name(job: &Job) -> String {
    format!("{}/{}", job.experiment, job.architecture)
}

fn cut(words: &str, columns: usize) -> String {
    let row = StyledRow::of(TextStyle::Plain, words).within(columns);
    row.to_terminal(false)
}

/// Returns the progress: the rate and the time left, or what it waits for. Without a word for members it is short.
pub(crate) fn words(job: &Job, workers: u32, members: &str) -> String {
    let or_short = |long: &str, short: &str| if members.is_empty() { short.to_owned() } else { long.to_owned() };
    let left = job.seconds_left.map(|seconds| format!("{} left", duration(seconds)));
    let rate = Some(job.members_per_second).filter(|&rate| rate > 0.0).map(|rate| pace(rate, members));
    match job.state() {
        JobState::Complete => "complete".into(),
        JobState::Reducing => ["reducing".into()].into_iter().chain(left).collect::<Vec<_>>().join(", "),
        JobState::Waiting => or_short("waiting for its NADs", "needs NADs"),
        JobState::Incomplete => "incomplete".into(),
        _ if workers == 0 => or_short("waiting for a worker", "no worker"),
        _ if rate.is_some() || left.is_some() => rate.into_iter().chain(left).collect::<Vec<_>>().join(", "),
        _ if position(job) == 0 => or_short("waiting for its first shard", "not begun"),
        _ => "computing".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nadgrid_client::v1::ShardFailure;

    fn job(experiment: &str, state: JobState, done: u64) -> Job {
        let computes = state == JobState::Computing && done > 0;
        Job {
            experiment: experiment.into(),
            architecture: "lenet".into(),
            state: state.into(),
            members: 2048,
            members_done: done,
            progress: done as f64 / 2048.0,
            seconds_left: computes.then_some(10.0),
            members_per_second: if computes { 102.4 } else { 0.0 },
            ..Default::default()
        }
    }

    fn sweep(jobs: Vec<Job>) -> Sweep {
        let state = SweepState::Running.into();
        let seconds_left = Some(75.0);
        Sweep { name: "demo".into(), state, jobs, workers: 1, progress: 0.125, seconds_left, ..Default::default() }
    }

    fn shown(sweep: &Sweep, workers: &[Worker], columns: usize, lines: usize) -> Vec<String> {
        let view = ProgressView { sweep, workers: Some(workers), away: None, seconds: Some(10.0) };
        view.rows(columns, lines).iter().map(|row| row.to_terminal(false)).collect()
    }

    fn worker(name: &str, unfit: &str) -> Worker {
        let name = name.into();
        let unfit = unfit.into();
        Worker { name, unfit, connected: true, slots: 4, leases: 3, ..Default::default() }
    }

    #[test]
    fn a_wide_terminal_tells_everything() {
        let jobs = vec![job("nads", JobState::Computing, 1024), job("directional", JobState::Waiting, 0)];
        let aside = "the worker b is set aside: wrong bits".to_owned();
        let sweep = Sweep { notices: vec![aside], ..sweep(jobs) };
        let rows = shown(&sweep, &[worker("a", ""), worker("b", "wrong bits")], 100, 30);
        assert_eq!(rows[0], "demo  running for 10 s");
        assert!(rows[1].starts_with("nads/lenet         ━━━"), "{rows:#?}");
        assert!(rows[1].ends_with("  1,024/2,048   50 %  102.4 networks/s, 10 s left"), "{rows:#?}");
        assert!(rows[2].contains("    0/2,048    0 %  waiting for its NADs"), "{rows:#?}");
        assert_eq!(rows[3], "whole     12 %, 1,024 of 4,096 members, 102.4 members/s, 1 min 15 s left");
        assert_eq!(rows[4], "notice    the worker b is set aside: wrong bits");
        assert_eq!(rows[5], "workers   1 connected, 4 slots, 3 busy, 1 set aside");
        assert_eq!(rows.len(), 6);
    }

    #[test]
    fn a_narrow_terminal_loses_counts_before_the_bar_and_nothing_wraps() {
        let jobs = vec![job("nads", JobState::Computing, 1024), job("directional", JobState::Computing, 3)];
        let sweep = sweep(jobs);
        let rows = shown(&sweep, &[worker("a", "")], 60, 20);
        assert!(rows[1].contains("━━━") && rows[1].ends_with("50 %  102.4/s, 10 s left"), "{rows:#?}");
        assert!(!rows[1].contains("1,024/2,048"), "{rows:#?}");
        for (columns, lines) in (1..120).flat_map(|columns| [(columns, 1), (columns, 4), (columns, 30)]) {
            let view = ProgressView { sweep: &sweep, workers: None, away: Some("x"), seconds: None };
            let rows = view.rows(columns, lines);
            assert!(rows.iter().all(|row| row.width() <= columns) && rows.len() < lines.max(2), "{columns} x {lines}");
        }
    }

    #[test]
    fn of_many_jobs_those_under_way_are_shown() {
        let mut jobs = vec![job("nads", JobState::Complete, 2048); 20];
        jobs.push(job("directional", JobState::Computing, 5));
        let rows = shown(&sweep(jobs), &[], 100, 12);
        assert!(rows.len() < 12, "{rows:#?}");
        assert!(rows.iter().any(|row| row.starts_with("directional/lenet")), "{rows:#?}");
        assert!(rows.iter().any(|row| row.starts_with("and 14 more, complete")), "{rows:#?}");
    }

    #[test]
    fn failures_say_how_many_and_the_last_one() {
        let failed = Job { retries: 2, members_failed: 32, ..job("nads", JobState::Computing, 64) };
        let mut sweep = sweep(vec![failed]);
        let said = Worker { last_error: "out of memory".into(), ..worker("gpu", "") };
        let rows = shown(&sweep, std::slice::from_ref(&said), 100, 30).join("\n");
        assert!(rows.contains("failures  2 shards given out again, 0 shards in quarantine (32 networks)"), "{rows}");
        assert!(rows.contains("          gpu said: out of memory"), "{rows}");
        sweep.failures.push(ShardFailure { message: "NaN".into(), ..Default::default() });
        let rows = shown(&sweep, &[said], 100, 30).join("\n");
        assert!(rows.contains("1 shard in quarantine") && rows.contains("last for good: NaN"), "{rows}");
    }

    #[test]
    fn words_tell_the_rate_or_what_is_waited_for() {
        let computing = Job { seconds_left: Some(16.0), ..job("nads", JobState::Computing, 1024) };
        assert_eq!(words(&computing, 1, "networks"), "102.4 networks/s, 16 s left");
        assert_eq!(words(&computing, 0, "networks"), "waiting for a worker");
        let paused = Job { seconds_left: None, ..computing.clone() };
        assert_eq!(words(&paused, 1, ""), "102.4/s");
        assert_eq!(words(&Job { members_per_second: 0.0, ..paused }, 1, ""), "computing");
        assert_eq!(words(&job("nads", JobState::Computing, 0), 1, "networks"), "waiting for its first shard");
        assert_eq!(words(&job("nads", JobState::Waiting, 0), 1, ""), "needs NADs");
        assert_eq!(words(&job("nads", JobState::Reducing, 2048), 0, ""), "reducing");
        let reducing = Job { state: JobState::Reducing.into(), seconds_left: Some(0.4), ..computing };
        assert_eq!(words(&reducing, 1, ""), "reducing, 0.4 s left");
    }

    #[test]
    fn notices_are_told_below_the_jobs_and_not_without_end() {
        let notices = (1..=6).map(|n| format!("reason {n}")).collect();
        let sweep = Sweep { notices, ..sweep(vec![job("nads", JobState::Computing, 5)]) };
        let rows = shown(&sweep, &[], 80, 30);
        assert_eq!(rows[2], "notice    reason 1");
        assert_eq!((rows[5].as_str(), rows[6].as_str()), ("          reason 4", "          and 2 more"), "{rows:#?}");
    }
}
