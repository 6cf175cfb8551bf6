//! What the live view of a sweep shows, as rows for a terminal of a given size.
//!
//! ```text
//! lenet  running for 12 s
//! nads/lenet         ━━━━━━━━━━━━━━━────────────  1,024/2,048   50 %  64.0 networks/s, 16 s left
//! directional/lenet  ───────────────────────────     0/1,500    0 %  waiting for its NADs
//! whole     1,024 of 3,548 members (28 %), 64.0 members/s, > 16 s left
//! workers   2 connected, 4 lanes, 3 of them busy
//!           gpu-box is set aside: wrong bits
//! failures  2 shards given out again; gpu-box said last: out of memory
//! ```
//! No row is wider than the terminal, and there are fewer rows than it has. Absent: clocks and terminals.

use super::pace::{Pace, pace, position, word};
use crate::cli::ink::{Row, Tone, bar};
use crate::cli::tables::count;
use nadgrid_client::v1::{Job, JobState, Sweep, SweepState, Worker};
use nadgrid_client::{members_word, sweep_state};
use nadgrid_core::text::{duration, thousands};

/// Columns of a bar.
const BAR: std::ops::RangeInclusive<usize> = 8..=28;
/// Columns of a share.
const PERCENT: usize = 7;
/// Most workers that are named because they are set aside.
const MOST_UNFIT: usize = 3;

/// A sweep and what is known around it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub(crate) sweep: &'a Sweep,
    pub(crate) pace: &'a Pace,
    /// The coordinator's workers, where it tells them.
    pub(crate) workers: Option<&'a [Worker]>,
    /// Why the coordinator does not answer, where it does not.
    pub(crate) away: Option<&'a str>,
    /// Since it started; nothing when it has not.
    pub(crate) seconds: Option<f64>,
}

impl View<'_> {
    /// Everything, for a terminal of so many columns and lines.
    pub(crate) fn rows(&self, columns: usize, lines: usize) -> Vec<Row> {
        let below: Vec<Row> = [self.whole(columns), self.workers(), self.failures()].into_iter().flatten().collect();
        // The head, and the line that the cursor waits on.
        let room = lines.saturating_sub(below.len() + 2).max(1);
        let rows = [self.head()].into_iter().chain(self.jobs(columns, room)).chain(below);
        rows.take(lines.saturating_sub(1).max(1)).map(|row| row.within(columns)).collect()
    }

    fn head(&self) -> Row {
        let state = sweep_state(self.sweep);
        let since = match self.seconds {
            Some(seconds) if !nadgrid_client::has_ended(self.sweep) => format!(" for {}", duration(seconds)),
            Some(seconds) => format!(" after {}", duration(seconds)),
            None => String::new(),
        };
        let head = Row::of(Tone::Strong, &self.sweep.name).and(Tone::Plain, "  ");
        let head = head.and(state_tone(self.sweep), state).and(Tone::Plain, since);
        match self.away {
            Some(reason) => head.and(Tone::Warn, format!("; the coordinator is away ({reason})")),
            None => head,
        }
    }

    /// A row for each job, at most `room`; of more, those that are under way come first and the rest are counted.
    pub(crate) fn jobs(&self, columns: usize, room: usize) -> Vec<Row> {
        let jobs = &self.sweep.jobs;
        let all = jobs.iter().enumerate();
        if jobs.len() <= room {
            return self.bars(&all.collect::<Vec<_>>(), columns);
        }
        let mut order: Vec<(usize, &Job)> = all.collect();
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
        self.bars(&shown, columns).into_iter().chain([Row::of(Tone::Faint, more)]).collect()
    }

    /// Name, bar, counts, share and words of each job, in columns: the first layout in which all fit.
    fn bars(&self, jobs: &[(usize, &Job)], columns: usize) -> Vec<Row> {
        let workers = self.sweep.workers;
        let told = jobs.iter().map(|&(place, job)| Told::new(job, workers, self.pace.of(place, job)));
        let told: Vec<Told<'_>> = told.collect();
        let widest = |of: fn(&Told<'_>) -> usize| told.iter().map(of).max().unwrap_or(0);
        let names = widest(|it| it.name.chars().count()).min(columns / 3);
        let counts = widest(|it| it.counts.chars().count());
        let (long, short) = (widest(|it| it.long.chars().count()), widest(|it| it.short.chars().count()));
        // What else a row has: two spaces before each part, and the share.
        let fixed = names + 2 + PERCENT;
        let layouts = [(counts + 2, long + 2), (counts + 2, short + 2), (0, short + 2)];
        let fits = |&(counts, words): &(usize, usize)| fixed + counts + words + BAR.start() <= columns;
        let (counts, words) = layouts.into_iter().find(fits).unwrap_or(layouts[2]);
        let room = columns.saturating_sub(fixed + counts + words).clamp(*BAR.start(), *BAR.end());
        let row = |it: &Told<'_>| {
            let start = Row::of(Tone::Plain, format!("{:<names$}  ", cut(&it.name, names)));
            let row = bar(start, room, it.done, it.under_way);
            let count = if counts > 0 { format!("{:>counts$}", it.counts) } else { String::new() };
            let said = if words > long { &it.long } else { &it.short };
            row.and(Tone::Faint, count).and(Tone::Plain, it.percent()).and(it.tone, format!("  {said}")).within(columns)
        };
        told.iter().map(row).collect()
    }

    /// Where there are several jobs, what they are together.
    fn whole(&self, columns: usize) -> Vec<Row> {
        if self.sweep.jobs.len() < 2 {
            return Vec::new();
        }
        let whole = self.pace.whole(self.sweep);
        let (done, under_way) = whole.shares();
        let (at, of, members) = (whole.members_done + whole.members_in_flight, whole.members, word(&self.sweep.jobs));
        let percent = (100.0 * (done + under_way)) as u64;
        let left = whole.left().map_or(String::new(), |left| format!(", {left} left"));
        let counts = format!("{} of {} {members} ({percent} %)", thousands(at), thousands(of));
        let row = |members: &str| {
            let rate = whole.members_per_second.map_or(String::new(), |rate| format!(", {}", pace(rate, members)));
            fact("whole", Tone::Plain, format!("{counts}{rate}{left}"))
        };
        let long = row(members);
        vec![if long.width() <= columns { long } else { row("") }]
    }

    fn workers(&self) -> Vec<Row> {
        let Some(workers) = self.workers else { return Vec::new() };
        let here: Vec<&Worker> = workers.iter().filter(|worker| worker.connected).collect();
        let (unfit, fit): (Vec<&Worker>, Vec<&Worker>) = here.into_iter().partition(|worker| !worker.unfit.is_empty());
        let lanes: u64 = fit.iter().map(|worker| u64::from(worker.lanes)).sum();
        let busy: u64 = fit.iter().map(|worker| u64::from(worker.leases.min(worker.lanes))).sum();
        let mut rows = vec![match fit.len() {
            0 => fact("workers", Tone::Warn, "none is connected that can compute"),
            n => fact("workers", Tone::Plain, format!("{n} connected, {}, {busy} busy", count(lanes, "lane"))),
        }];
        let named = unfit.iter().take(MOST_UNFIT);
        rows.extend(named.map(|worker| fact("", Tone::Bad, format!("{} is set aside: {}", worker.name, worker.unfit))));
        if let Some(more) = unfit.len().checked_sub(MOST_UNFIT).filter(|&more| more > 0) {
            rows.push(fact("", Tone::Bad, format!("{more} more are set aside")));
        }
        rows
    }

    fn failures(&self) -> Vec<Row> {
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
        let tone = if lost > 0 { Tone::Bad } else { Tone::Warn };
        let words: Vec<String> = [again, quarantined].into_iter().flatten().collect();
        let mut rows = vec![fact("failures", tone, words.join(", "))];
        rows.extend(self.last_error().map(|error| fact("", tone, error)));
        rows
    }

    /// What a shard failed with for good, else what a worker said last.
    fn last_error(&self) -> Option<String> {
        let for_good = self.sweep.failures.last();
        let for_good = for_good.map(|failure| format!("last for good: {}", failure.message));
        let said = self.workers.unwrap_or_default().iter().rev().find(|worker| !worker.last_error.is_empty());
        for_good.or_else(|| said.map(|worker| format!("{} said: {}", worker.name, worker.last_error)))
    }
}

/// What a job's row says.
struct Told<'a> {
    job: &'a Job,
    name: String,
    counts: String,
    long: String,
    short: String,
    /// Committed and under way, as shares of 1.
    done: f64,
    under_way: f64,
    tone: Tone,
}

impl<'a> Told<'a> {
    fn new(job: &'a Job, workers: u32, rate: Option<f64>) -> Self {
        let share = |members: u64| members as f64 / job.members.max(1) as f64;
        let done = share(job.members_done.min(job.members));
        Self {
            job,
            name: name(job),
            counts: format!("{}/{}", thousands(position(job)), thousands(job.members)),
            long: words(job, workers, rate, members_word(&job.experiment)),
            short: words(job, workers, rate, ""),
            done,
            under_way: share(position(job)) - done,
            tone: if job.state() == JobState::Incomplete { Tone::Bad } else { Tone::Plain },
        }
    }

    /// Of so many columns: [`PERCENT`].
    fn percent(&self) -> String {
        format!("  {:>3} %", 100 * position(self.job) / self.job.members.max(1))
    }
}

/// How good news a sweep's state is.
pub(crate) fn state_tone(sweep: &Sweep) -> Tone {
    match sweep.state() {
        SweepState::Complete => Tone::Good,
        SweepState::Failed | SweepState::Incomplete => Tone::Bad,
        SweepState::Cancelled => Tone::Faint,
        _ if sweep.paused => Tone::Warn,
        SweepState::Running => Tone::Accent,
        _ => Tone::Plain,
    }
}

fn fact(name: &str, tone: Tone, words: impl AsRef<str>) -> Row {
    Row::of(Tone::Faint, format!("{name:<10}")).and(tone, words)
}

/// For example `nads/lenet`.
pub(crate) fn name(job: &Job) -> String {
    format!("{}/{}", job.experiment, job.architecture)
}

fn cut(words: &str, columns: usize) -> String {
    let row = Row::of(Tone::Plain, words).within(columns);
    row.to_terminal(false)
}

/// How it goes: the rate and the time left, or what it waits for. Without a word for members it is short.
pub(crate) fn words(job: &Job, workers: u32, rate: Option<f64>, members: &str) -> String {
    let or_short = |long: &str, short: &str| if members.is_empty() { short.to_owned() } else { long.to_owned() };
    match (job.state(), rate) {
        (JobState::Complete, _) => "complete".into(),
        (JobState::Reducing, _) => "reducing".into(),
        (JobState::Waiting, _) => or_short("waiting for its NADs", "needs NADs"),
        (JobState::Incomplete, _) => "incomplete".into(),
        (_, _) if workers == 0 => or_short("waiting for a worker", "no worker"),
        (_, Some(rate)) => {
            let left = (job.members - position(job)) as f64 / rate;
            format!("{}, {} left", pace(rate, members), duration(left))
        }
        (_, None) if position(job) == 0 => or_short("waiting for its first shard", "not begun"),
        (_, None) => "computing".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nadgrid_client::v1::ShardFailure;

    fn job(experiment: &str, state: JobState, done: u64) -> Job {
        Job {
            experiment: experiment.into(),
            architecture: "lenet".into(),
            state: state.into(),
            members: 2048,
            members_done: done,
            lane_seconds: done as f64,
            ..Default::default()
        }
    }

    fn sweep(jobs: Vec<Job>) -> Sweep {
        Sweep { name: "demo".into(), state: SweepState::Running.into(), jobs, workers: 1, ..Default::default() }
    }

    fn shown(sweep: &Sweep, workers: &[Worker], columns: usize, lines: usize) -> Vec<String> {
        let pace = Pace::since_start(sweep, Some(10.0));
        let view = View { sweep, pace: &pace, workers: Some(workers), away: None, seconds: Some(10.0) };
        view.rows(columns, lines).iter().map(|row| row.to_terminal(false)).collect()
    }

    fn worker(name: &str, unfit: &str) -> Worker {
        let (name, unfit) = (name.into(), unfit.into());
        Worker { name, unfit, connected: true, lanes: 4, leases: 3, ..Default::default() }
    }

    #[test]
    fn a_wide_terminal_tells_everything() {
        let jobs = vec![job("nads", JobState::Computing, 1024), job("directional", JobState::Waiting, 0)];
        let rows = shown(&sweep(jobs), &[worker("a", ""), worker("b", "wrong bits")], 100, 30);
        assert_eq!(rows[0], "demo  running for 10 s");
        assert!(rows[1].starts_with("nads/lenet         ━━━"), "{rows:#?}");
        assert!(rows[1].ends_with("  1,024/2,048   50 %  102.4 networks/s, 10 s left"), "{rows:#?}");
        assert!(rows[2].contains("    0/2,048    0 %  waiting for its NADs"), "{rows:#?}");
        assert_eq!(rows[3], "whole     1,024 of 4,096 members (25 %), 102.4 members/s, > 10 s left");
        assert_eq!(rows[4], "workers   1 connected, 4 lanes, 3 busy");
        assert_eq!(rows[5], "          b is set aside: wrong bits");
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
            let pace = Pace::since_start(&sweep, Some(10.0));
            let view = View { sweep: &sweep, pace: &pace, workers: None, away: Some("x"), seconds: None };
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
        let computing = job("nads", JobState::Computing, 1024);
        assert_eq!(words(&computing, 1, Some(64.0), "networks"), "64.0 networks/s, 16 s left");
        assert_eq!(words(&computing, 0, Some(64.0), "networks"), "waiting for a worker");
        assert_eq!(words(&job("nads", JobState::Computing, 0), 1, None, "networks"), "waiting for its first shard");
        assert_eq!(words(&job("nads", JobState::Waiting, 0), 1, None, ""), "needs NADs");
        assert_eq!(words(&job("nads", JobState::Reducing, 2048), 0, None, ""), "reducing");
        let runs = job("flipping", JobState::Computing, 2000);
        assert_eq!(words(&runs, 1, Some(0.5), "runs"), "30.0 runs/min, 1 min 36 s left");
    }
}
