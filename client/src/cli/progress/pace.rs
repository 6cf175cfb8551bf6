//! How fast a sweep goes, and how long it will still take.
//!
//! ```text
//! rate of a job      members (networks or runs) a second, committed or under way, over the last half minute
//! cost of a job      lane-seconds of a member, by the committed shards
//! work of a sweep    Σ rate · cost over its jobs: the lanes that work for it
//! time left          Σ members left · cost, divided by that
//! ```
//! So a job of cheap members and one of dear members add up, and lanes that other sweeps have are not counted on.

use super::rate::Rate;
use nadgrid_client::members_word;
use nadgrid_client::v1::{Job, JobState, Sweep};
use nadgrid_core::text::duration;
use serde::Serialize;

/// The rates of a sweep's jobs.
#[derive(Debug, Default)]
pub(crate) struct Pace(Vec<Rate>);

/// A sweep as a whole, all jobs together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Whole {
    /// Networks and runs.
    pub(crate) members: u64,
    /// Committed.
    pub(crate) members_done: u64,
    /// Computed of shards that are still leased.
    pub(crate) members_in_flight: u64,
    pub(crate) members_per_second: Option<f64>,
    /// Nothing while it cannot be told.
    pub(crate) seconds_left: Option<f64>,
    /// Whether a job that has not begun yet comes on top of that.
    pub(crate) at_least: bool,
}

impl Pace {
    /// Of a sweep that is looked at once: the average since it started, `seconds` ago.
    pub(crate) fn since_start(sweep: &Sweep, seconds: Option<f64>) -> Self {
        let mut pace = Self::default();
        if let Some(seconds) = seconds.filter(|&seconds| seconds > 0.0) {
            pace.0 = sweep.jobs.iter().map(|_| Rate::default()).collect();
            pace.0.iter_mut().for_each(|rate| rate.observe(0.0, 0));
            pace.observe(seconds, sweep);
        }
        pace
    }

    /// Takes in how a sweep stands, so many seconds after some start.
    pub(crate) fn observe(&mut self, seconds: f64, sweep: &Sweep) {
        self.0.resize_with(sweep.jobs.len().max(self.0.len()), Rate::default);
        for (job, rate) in sweep.jobs.iter().zip(&mut self.0) {
            rate.observe(seconds, position(job));
        }
    }

    /// Members of a job per second; nothing until there was progress, and when there is nothing left.
    pub(crate) fn of(&self, place: usize, job: &Job) -> Option<f64> {
        self.0.get(place).and_then(Rate::per_second).filter(|_| left(job) > 0)
    }

    /// All jobs together.
    pub(crate) fn whole(&self, sweep: &Sweep) -> Whole {
        let sum = |of: fn(&Job) -> u64| sweep.jobs.iter().map(of).sum::<u64>();
        let rates = || sweep.jobs.iter().enumerate().map(|(place, job)| (job, self.of(place, job)));
        let rate: f64 = rates().filter_map(|(_, rate)| rate).sum();
        let is_open = !nadgrid_client::has_ended(sweep);
        let (seconds_left, at_least) = self.time_left(sweep).filter(|_| is_open).unzip();
        Whole {
            members: sum(|job| job.members),
            members_done: sum(|job| job.members_done.min(job.members)),
            members_in_flight: sum(|job| position(job) - job.members_done.min(job.members)),
            members_per_second: Some(rate).filter(|&rate| rate > 0.0 && is_open),
            seconds_left,
            at_least: at_least.unwrap_or(false),
        }
    }

    /// In seconds, and whether more will come on top.
    fn time_left(&self, sweep: &Sweep) -> Option<(f64, bool)> {
        let jobs: Vec<(&Job, Option<f64>)> =
            sweep.jobs.iter().enumerate().map(|(place, job)| (job, self.of(place, job))).collect();
        let unfinished: Vec<_> = jobs.into_iter().filter(|(job, _)| left(job) > 0).collect();
        if let [(job, rate)] = unfinished[..] {
            return rate.map(|rate| (left(job) as f64 / rate, false));
        }
        let (mut work, mut pending, mut unknown) = (0.0, 0.0, false);
        for (job, rate) in unfinished {
            match cost(job) {
                Some(cost) => {
                    work += rate.unwrap_or(0.0) * cost;
                    pending += left(job) as f64 * cost;
                }
                None => unknown = true,
            }
        }
        (work > 0.0).then(|| (pending / work, unknown))
    }
}

impl Whole {
    /// Members computed, committed or not, as a share of all.
    pub(crate) fn shares(&self) -> (f64, f64) {
        let share = |members: u64| members as f64 / self.members.max(1) as f64;
        (share(self.members_done), share(self.members_in_flight))
    }

    /// For example `16 s`, or `> 16 s` where more comes on top.
    pub(crate) fn left(&self) -> Option<String> {
        let over = if self.at_least { "> " } else { "" };
        self.seconds_left.map(|seconds| format!("{over}{}", duration(seconds)))
    }
}

/// Members computed, committed or not. A shard that is computed twice does not make more than all.
pub(crate) fn position(job: &Job) -> u64 {
    (job.members_done + job.members_in_flight).min(job.members)
}

/// Members that are still to be computed.
fn left(job: &Job) -> u64 {
    let is_open = matches!(job.state(), JobState::Computing | JobState::Waiting | JobState::Unspecified);
    if is_open { job.members.saturating_sub(position(job) + job.members_failed) } else { 0 }
}

/// Lane-seconds of a member.
fn cost(job: &Job) -> Option<f64> {
    (job.members_done > 0 && job.lane_seconds > 0.0).then(|| job.lane_seconds / job.members_done as f64)
}

/// What the members of all these jobs are called.
pub(crate) fn word(jobs: &[Job]) -> &'static str {
    let mut words = jobs.iter().map(|job| members_word(&job.experiment));
    let first = words.next().unwrap_or("members");
    if words.all(|word| word == first) { first } else { "members" }
}

/// A rate per second in the unit that suits it: a training run may take an hour. `64.0 networks/s`, without members `64.0/s`.
pub(crate) fn pace(rate: f64, members: &str) -> String {
    let units = [(1.0, "s"), (60.0, "min")];
    let (scale, unit) = units.into_iter().find(|(scale, _)| rate * scale >= 1.0).unwrap_or((3600.0, "h"));
    let space = if members.is_empty() { "" } else { " " };
    format!("{:.1}{space}{members}/{unit}", rate * scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nadgrid_client::v1::SweepState;

    fn job(experiment: &str, members: u64, done: u64, lane_seconds: f64) -> Job {
        Job {
            experiment: experiment.into(),
            state: JobState::Computing.into(),
            members,
            members_done: done,
            lane_seconds,
            ..Default::default()
        }
    }

    fn sweep(jobs: Vec<Job>) -> Sweep {
        Sweep { jobs, state: SweepState::Running.into(), ..Default::default() }
    }

    #[test]
    fn one_job_takes_what_its_rate_says() {
        let whole = |sweep: &Sweep| Pace::since_start(sweep, Some(10.0)).whole(sweep);
        let told = whole(&sweep(vec![job("nads", 2048, 640, 20.0)]));
        assert_eq!((told.members_per_second, told.seconds_left), (Some(64.0), Some(22.0)));
        assert_eq!(told.left().as_deref(), Some("22 s"));
        let ended = Sweep { state: SweepState::Cancelled.into(), ..sweep(vec![job("nads", 2048, 640, 20.0)]) };
        assert_eq!((whole(&ended).members_per_second, whole(&ended).seconds_left), (None, None));
        let never = Pace::since_start(&ended, None);
        assert_eq!(never.of(0, &ended.jobs[0]), None);
    }

    /// 100 networks at 1 lane-second and 10 runs at 30: on two lanes, with half of each done, 50 + 150 lane-seconds are left.
    #[test]
    fn dear_and_cheap_members_add_up() {
        let both = sweep(vec![job("nads", 100, 50, 50.0), job("flipping", 10, 5, 150.0)]);
        let told = Pace::since_start(&both, Some(100.0)).whole(&both);
        assert_eq!((told.seconds_left, told.at_least), (Some(100.0), false));
        let begun = sweep(vec![job("nads", 100, 50, 50.0), job("flipping", 10, 0, 0.0)]);
        let told = Pace::since_start(&begun, Some(100.0)).whole(&begun);
        assert_eq!(told.left().as_deref(), Some("> 1 min 40 s"));
    }

    #[test]
    fn what_failed_for_good_is_not_waited_for() {
        let failed = Job { members_failed: 1408, ..job("nads", 2048, 640, 20.0) };
        let told = Pace::since_start(&sweep(vec![failed.clone()]), Some(10.0)).whole(&sweep(vec![failed]));
        assert_eq!((told.members_per_second, told.seconds_left), (None, None));
    }

    #[test]
    fn rates_are_in_the_unit_that_suits_them() {
        assert_eq!(pace(1024.0, "networks"), "1024.0 networks/s");
        assert_eq!(pace(0.5, "runs"), "30.0 runs/min");
        assert_eq!(pace(0.01, ""), "36.0/h");
        let of = |names: &[&str]| word(&names.iter().map(|name| job(name, 1, 0, 0.0)).collect::<Vec<_>>());
        assert_eq!(
            (of(&["nads"]), of(&["nads", "flipping"]), of(&["margins", "flipping"])),
            ("networks", "members", "runs")
        );
    }
}
